//! Records that somebody else has to finish: one batch after the other, in the order of the text.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use onecopy_os::LongTimeSlices;
use onecopy_text::{
    Batch, Expected, Options, Progress, RawField, RawTarget, ReadError, Schema, Sink, Source, Summary, read,
};

use crate::doorbell::Doorbell;

/// Reads a text into a sink; records with raw fields go through `in_order`, if there is one.
///
/// Whoever takes, finishes or writes what is read here needs the processor for a moment only, but at once: while it waits,
/// the disk does.
pub(crate) fn read_into(
    sink: &impl Sink,
    in_order: Option<&InOrder>,
    source: Source<'_>,
    schema: &Schema,
    options: &Options,
    progress: &Progress,
) -> Result<Summary, ReadError> {
    let _long = LongTimeSlices::begin();
    match in_order {
        Some(in_order) => read(source, schema, options, &in_order.before(sink), progress),
        None => read(source, schema, options, sink, progress),
    }
}

/// Where threads that read wait until their records have been finished.
///
/// Each thread waits with one batch, so that no more is in memory than that, and none waits for a later one.
#[derive(Debug, Default)]
pub struct InOrder {
    state: Mutex<State>,
    changed: Condvar,
    /// Rung when there is a batch, for one that does not wait in [`next`](Self::next).
    bell: Option<Arc<Doorbell>>,
}

/// A batch of records whose raw elements are still to be made.
#[derive(Debug)]
pub struct Unfinished {
    /// Index of the first record.
    pub first_record: u64,
    /// The records.
    pub records: Vec<u8>,
    /// The raw fields, record by record.
    pub raw: Vec<RawField>,
    /// Their texts, one behind the other.
    pub raw_text: Vec<u8>,
}

/// What there is to do.
#[derive(Debug)]
pub enum Next {
    /// To be finished, and given back by [`InOrder::finish`].
    Batch(Unfinished),
    /// Nothing came in the given time.
    Nothing,
    /// All has been done.
    End,
}

#[derive(Debug, Default)]
struct State {
    targets: Vec<RawTarget>,
    record_size: usize,
    /// The record that comes next.
    next: u64,
    waiting: BTreeMap<u64, Unfinished>,
    finished: BTreeMap<u64, Vec<u8>>,
    /// No record from this one on is wanted.
    end: Option<u64>,
    refused: bool,
    ended: bool,
}

impl InOrder {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn ringing(bell: Arc<Doorbell>) -> Self {
        Self { bell: Some(bell), ..Self::default() }
    }

    /// The next records in the order of the text; waits for them for at most `timeout`.
    pub fn next(&self, timeout: Duration) -> Next {
        let state = self.lock();
        let idle = |state: &mut State| !state.waiting.contains_key(&state.next) && !state.ended;
        let waited = self.changed.wait_timeout_while(state, timeout, idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let next = state.next;
        match state.waiting.remove(&next) {
            Some(batch) => Next::Batch(batch),
            None if state.ended => Next::End,
            None => Next::Nothing,
        }
    }

    /// The elements to make, in the order of the raw fields of a record; and the bytes of a record.
    pub fn targets(&self) -> (Vec<RawTarget>, usize) {
        let state = self.lock();
        (state.targets.clone(), state.record_size)
    }

    /// Gives back the batch that [`next`](Self::next) gave last.
    pub fn finish(&self, batch: Unfinished) {
        let mut state = self.lock();
        state.next += batch.records.len().checked_div(state.record_size).unwrap_or(0) as u64;
        state.finished.insert(batch.first_record, batch.records);
        drop(state);
        self.changed.notify_all();
    }

    /// Gives back a batch of which only the first `records` have been finished, and ends the reading behind them.
    pub fn end_after(&self, mut batch: Unfinished, records: usize) {
        let mut state = self.lock();
        batch.records.truncate(records * state.record_size);
        state.finished.insert(batch.first_record, batch.records);
        state.refused = true;
        drop(state);
        self.changed.notify_all();
    }

    /// Ends the reading: a batch cannot be finished.
    pub fn refuse(&self) {
        self.lock().refused = true;
        self.changed.notify_all();
    }

    /// Says that no more will come.
    pub fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// A sink that gives to `inner` what has been finished.
    pub(crate) fn before<'a, S: Sink>(&'a self, inner: &'a S) -> impl Sink + 'a {
        Finished { in_order: self, inner }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Finished<'a, S> {
    in_order: &'a InOrder,
    inner: &'a S,
}

impl<S: Sink> Sink for Finished<'_, S> {
    fn begin(&self, expected: &Expected) -> io::Result<()> {
        let mut state = self.in_order.lock();
        state.targets.clone_from(&expected.raw);
        state.record_size = expected.record_size;
        drop(state);
        self.inner.begin(expected)
    }

    fn write(&self, batch: &Batch<'_>) -> io::Result<()> {
        if batch.records.is_empty() {
            return Ok(());
        }
        let Batch { first_record, records, lines, raw, raw_text } = *batch;
        let unfinished =
            Unfinished { first_record, records: records.into(), raw: raw.into(), raw_text: raw_text.into() };
        let mut state = self.in_order.lock();
        state.waiting.insert(first_record, unfinished);
        self.in_order.changed.notify_all();
        if let Some(bell) = &self.in_order.bell {
            bell.ring();
        }
        loop {
            if let Some(finished) = state.finished.remove(&first_record) {
                let whole = finished.len().checked_div(state.record_size).unwrap_or(0);
                drop(state);
                let lines = &lines[..whole.min(lines.len())];
                self.inner.write(&Batch { first_record, records: &finished, lines, raw: &[], raw_text: &[] })?;
                let is_all = finished.len() == records.len();
                return if is_all { Ok(()) } else { Err(io::ErrorKind::Interrupted.into()) };
            }
            if state.refused {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if state.end.is_some_and(|end| first_record >= end) {
                state.waiting.remove(&first_record);
                return Ok(());
            }
            state = self.in_order.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn end_before(&self, record: u64) {
        let mut state = self.in_order.lock();
        state.end = Some(state.end.map_or(record, |end| end.min(record)));
        drop(state);
        self.in_order.changed.notify_all();
        self.inner.end_before(record);
    }
}

#[cfg(test)]
mod tests {
    use onecopy_text::{MemorySink, Options, Progress, Raw, Scalar, Schema, Source, read};

    use super::*;

    const SOON: Duration = Duration::from_secs(60);
    const FLAW: u32 = 505;

    /// Reads numbers that are doubled by hand, as long as that is done.
    fn double(text: &str, stop_at: Option<u64>) -> (Vec<u8>, Result<(), String>) {
        let options = Options { raw: Raw::All, threads: 3, block_size: 50, ..Options::default() };
        let (sink, progress, in_order) = (MemorySink::new(), Progress::new(), InOrder::new());
        let outcome = std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let before = in_order.before(&sink);
                let outcome =
                    read(Source::memory("t", text.as_bytes()), &Schema::rows(Scalar::U8), &options, &before, &progress);
                in_order.end();
                outcome
            });
            let mut expected = 0;
            loop {
                match in_order.next(SOON) {
                    Next::Batch(mut batch) => {
                        assert_eq!((batch.first_record, in_order.targets().1), (expected, 1));
                        expected += batch.records.len() as u64;
                        while expected == u64::from(FLAW) && in_order.lock().waiting.is_empty() {
                            // Another thread is to wait behind the flaw before that is noticed.
                            std::thread::yield_now();
                        }
                        if stop_at.is_some_and(|stop| expected > stop) {
                            in_order.refuse();
                            continue;
                        }
                        let mut start = 0;
                        for (record, field) in batch.records.iter_mut().zip(&batch.raw) {
                            let text = str::from_utf8(&batch.raw_text[start..field.end]).unwrap();
                            *record = text.parse::<u8>().unwrap() * 2;
                            start = field.end;
                        }
                        in_order.finish(batch);
                    }
                    Next::Nothing => panic!("nothing comes"),
                    Next::End => break,
                }
            }
            reader.join().unwrap()
        });
        (sink.into_bytes(), outcome.map(drop).map_err(|error| error.to_string()))
    }

    #[test]
    fn batches_come_in_order_and_all_are_finished() {
        let text = (0..1000).map(|i| (i % 100).to_string()).collect::<Vec<_>>().join("\n");
        let (bytes, outcome) = double(&text, None);
        outcome.unwrap();
        assert_eq!(bytes, (0..1000).map(|i| (i % 100 * 2) as u8).collect::<Vec<_>>());
    }

    #[test]
    fn a_flaw_or_a_refusal_releases_all_that_wait() {
        let line = |i: u32| if i == FLAW { "1 2".to_owned() } else { (i % 100).to_string() };
        let text = (0..1000).map(line).collect::<Vec<_>>().join("\n");
        let (bytes, outcome) = double(&text, None);
        assert!(outcome.unwrap_err().starts_with("t:506:"));
        assert_eq!(bytes.len(), FLAW as usize);
        let (bytes, outcome) = double(&text, Some(100));
        outcome.unwrap_err();
        assert!(bytes.len() <= 100);
    }
}
