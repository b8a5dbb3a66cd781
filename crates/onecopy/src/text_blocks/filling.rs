//! Where the records of a text are collected until they are a block: written by threads that read, taken by another.

use std::collections::VecDeque;
use std::io;
use std::ops::RangeInclusive;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use onecopy_arena::{Arena, Draft};
use onecopy_text::{Batch, Expected, Progress, Sink, Summary};

use super::{BlockSize, Part};
use crate::doorbell::Doorbell;
use crate::tables::write_lines;
use crate::{Error, LoadError};

/// Bytes of blocks that may be under way at a time, filled or being filled: no more than all threads are busy with, as new
/// memory is slow.
pub(super) const AHEAD_BYTES: u64 = 2 << 20;
/// As blocks: one that is taken while the next is filled, and of small ones not so many that it takes long to make them.
const AHEAD: RangeInclusive<u64> = 2..=64;

/// Blocks of a text that is long.
const MANY: u64 = 8;

/// What the threads that read have in common with the one that takes.
pub(super) struct Shared {
    arena: &'static Arena,
    size: BlockSize,
    with_lines: bool,
    pub(super) progress: Progress,
    pub(super) state: Mutex<State>,
    /// For those who wait for room.
    pub(super) changed: Condvar,
    /// For the one that takes.
    pub(super) bell: Arc<Doorbell>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) record_size: usize,
    /// Records of a block; known when the reading has begun, as those are that follow.
    records: u64,
    /// More records than this will not come.
    most: Option<u64>,
    /// About how many will.
    expected: Option<u64>,
    names: Option<Vec<String>>,
    /// Number of the block at the front.
    first: u64,
    filling: VecDeque<Filling>,
    pub(super) end: Option<Result<Summary, LoadError>>,
    text_bytes: Option<u64>,
    /// Nobody takes any more.
    pub(super) abandoned: bool,
    /// What is wrong with the text is before this record.
    wanted: Option<u64>,
}

struct Filling {
    drafts: Arc<Drafts>,
    written: u64,
}

struct Drafts {
    records: Draft,
    lines: Option<Draft>,
}

impl State {
    /// Bytes of a block that is not the last.
    fn whole(&self) -> u64 {
        self.records.saturating_mul(self.record_size as u64)
    }

    /// Blocks that may be under way.
    pub(super) fn ahead(&self) -> u64 {
        (AHEAD_BYTES / self.whole().max(1)).clamp(*AHEAD.start(), *AHEAD.end())
    }

    /// Whether the memory of block `number` will be used often enough for huge pages: again and again, as blocks are dropped
    /// and others come.
    fn is_long(&self, number: u64) -> bool {
        number >= MANY || self.expected.is_some_and(|expected| expected / self.records.max(1) >= MANY)
    }

    /// Whether all has been read, and the block at the front is what is left.
    fn is_at_the_last(&self) -> bool {
        matches!(self.end, Some(Ok(_))) && self.filling.front().is_some_and(|front| front.written > 0)
    }
}

impl Shared {
    pub(super) fn new(arena: &'static Arena, size: BlockSize, with_lines: bool) -> Result<Arc<Self>, Error> {
        if size == BlockSize::Records(0) {
            return Err(Error::Shape("blocks of 0 records have no end; give at least 1".into()));
        }
        let (progress, state, changed) = (Progress::new(), Mutex::default(), Condvar::new());
        Ok(Arc::new(Self { arena, size, with_lines, progress, state, changed, bell: Arc::default() }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next block, the error, or the end, as far as they are there.
    pub(super) fn look(&self) -> Option<Result<Option<Part>, LoadError>> {
        let mut state = self.lock();
        let full = state.whole();
        if state.filling.front().is_some_and(|front| front.written == full) || state.is_at_the_last() {
            return Some(self.finish_front(state).map(Some));
        }
        // Told once; after that there is nothing more, also not what has been read behind an error.
        let end = state.end.replace(Ok(Summary::default()));
        if end.is_none() {
            state.end = None;
            return None;
        }
        state.filling.clear();
        end.map(|end| end.map(|_| None))
    }

    pub(super) fn names(&self) -> Option<Vec<String>> {
        self.lock().names.clone()
    }

    /// Bytes of a record, and records of a block that is not the last.
    fn sizes(&self) -> (usize, u64) {
        let state = self.lock();
        (state.record_size, state.records)
    }

    pub(super) fn is_read(&self) -> bool {
        self.lock().end.is_some()
    }

    pub(super) fn text_bytes(&self) -> Option<u64> {
        self.lock().text_bytes
    }

    pub(super) fn end(&self, outcome: Result<Summary, LoadError>) {
        let mut state = self.lock();
        state.text_bytes = outcome.as_ref().ok().map(|summary| summary.bytes_text);
        state.end = Some(outcome);
    }

    /// Says that nobody takes any more.
    pub(super) fn abandon(&self) {
        self.progress.cancel();
        self.lock().abandoned = true;
        self.changed.notify_all();
    }

    fn finish_front(&self, mut state: MutexGuard<'_, State>) -> Result<Part, LoadError> {
        let record_size = state.record_size;
        let front = state.filling.pop_front().expect("looked at by the caller");
        state.first += 1;
        drop(state);
        self.changed.notify_all();
        let mut drafts = front.drafts;
        // Whoever wrote the last record may be about to let go of it.
        let drafts = loop {
            match Arc::try_unwrap(drafts) {
                Ok(drafts) => break drafts,
                Err(shared) => drafts = shared,
            }
            std::thread::yield_now();
        };
        let records = front.written / record_size.max(1) as u64;
        let lines = drafts.lines.map(|lines| lines.finish(records * size_of::<u64>() as u64)).transpose()?;
        Ok(Part { block: drafts.records.finish(front.written)?, lines, records, record_size })
    }

    /// The drafts of a block; waits until it may be begun. None if its records from `record` on are not wanted.
    fn drafts_of(&self, number: u64, record: u64) -> io::Result<Option<Arc<Drafts>>> {
        let mut state = self.lock();
        let is_wanted = |state: &State| state.wanted.is_none_or(|end| record < end);
        while number >= state.first + state.ahead() && !state.abandoned && is_wanted(&state) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.abandoned {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if !is_wanted(&state) {
            return Ok(None);
        }
        let place = (number - state.first) as usize;
        while state.filling.len() <= place {
            // A block may be wanted that is longer than all of the text.
            let room = state.most.map_or(state.records, |most| most.min(state.records));
            let bytes = |size: usize| room.saturating_mul(size as u64);
            let draft = |bytes| self.arena.draft(bytes, bytes).map_err(io::Error::other);
            let records = if state.is_long(number) {
                self.arena.draft_in_huge_pages(bytes(state.record_size)).map_err(io::Error::other)?
            } else {
                draft(bytes(state.record_size))?
            };
            let lines = self.with_lines.then(|| draft(bytes(size_of::<u64>())));
            let drafts = Arc::new(Drafts { records, lines: lines.transpose()? });
            state.filling.push_back(Filling { drafts, written: 0 });
        }
        Ok(Some(Arc::clone(&state.filling[place].drafts)))
    }

    fn note_written(&self, number: u64, bytes: usize) {
        let mut state = self.lock();
        let place = (number - state.first) as usize;
        state.filling[place].written += bytes as u64;
        let full = state.filling[place].written == state.whole();
        drop(state);
        if full {
            self.bell.ring();
        }
    }
}

impl Sink for Shared {
    fn begin(&self, expected: &Expected) -> io::Result<()> {
        let mut state = self.lock();
        state.records = self.size.records(expected.record_size as u64);
        (state.record_size, state.most) = (expected.record_size, expected.at_most);
        state.expected = expected.estimate;
        state.names.clone_from(&expected.names);
        Ok(())
    }

    fn write(&self, batch: &Batch<'_>) -> io::Result<()> {
        let (record_size, whole) = self.sizes();
        let (mut records, mut lines, mut at) = (batch.records, batch.lines, batch.first_record);
        while !records.is_empty() {
            let (number, inside) = (at / whole, at % whole);
            let count = (whole - inside).min((records.len() / record_size) as u64);
            let (now, rest) = records.split_at(count as usize * record_size);
            let Some(drafts) = self.drafts_of(number, at)? else { return Ok(()) };
            if let Some(draft) = &drafts.lines {
                let (now, rest) = lines.split_at(count as usize);
                write_lines(draft, inside, now)?;
                lines = rest;
            }
            drafts.records.write_at(inside * record_size as u64, now).map_err(io::Error::other)?;
            drop(drafts);
            self.note_written(number, now.len());
            (records, at) = (rest, at + count);
        }
        Ok(())
    }

    fn fill(&self, first_record: u64, most: usize, make: &mut dyn FnMut(&mut [u8]) -> usize) -> io::Result<bool> {
        let (record_size, whole) = self.sizes();
        let (number, inside) = (first_record / whole, first_record % whole);
        let count = (whole - inside).min(most as u64);
        let Some(drafts) = self.drafts_of(number, first_record)? else { return Ok(false) };
        let size = record_size as u64;
        let made = drafts.records.fill(inside * size, (count * size) as usize, make);
        drop(drafts);
        if let Some(made) = made {
            self.note_written(number, made * record_size);
        }
        Ok(made.is_some())
    }

    fn end_before(&self, record: u64) {
        let mut state = self.lock();
        state.wanted = Some(state.wanted.map_or(record, |end| end.min(record)));
        drop(state);
        self.changed.notify_all();
    }
}

/// Wakes who waits when the reader ends, also by a panic.
pub(super) struct Alarm<'a>(pub(super) &'a Shared);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if state.end.is_none() {
            state.end = Some(Err(LoadError::Panicked));
        }
        drop(state);
        self.0.changed.notify_all();
        self.0.bell.ring();
    }
}
