//! A text of any length as a row of blocks: threads parse ahead of whoever takes them, by a few blocks and no further.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use onecopy_arena::{Arena, Block, Draft};
use onecopy_os::OsError;
use onecopy_text::{Expected, Options, Progress, Schema, Sink, Source, Summary, read};

use crate::{Error, LoadError};

/// Blocks that may be under way at a time: one that is taken, and others that are filled meanwhile.
const AHEAD: u64 = 3;

/// How often a wait asks whether to stop.
const TICK: Duration = Duration::from_millis(50);

/// The records of a text, so many at a time, in the order of the text.
///
/// Memory is bounded by a few blocks, however long the text is. What is wrong with the text is told in its place: the
/// whole blocks before come first. A block can be kept, sent and dropped as any other.
///
/// ```
/// use onecopy::TextBlocks;
/// use onecopy::text::{Options, Scalar, Schema, Source};
///
/// let source = Source::stream("numbers", &b"1\n2\n3\n"[..]);
/// let rows = Schema::rows(Scalar::I32);
/// let blocks = TextBlocks::start(onecopy::session()?, source, rows, Options::default(), 2)?;
/// let lengths: Vec<u64> = std::iter::from_fn(|| blocks.take(&mut || false).unwrap()).map(|part| part.records).collect();
/// assert_eq!(lengths, [2, 1]);
/// # Ok::<(), onecopy::Error>(())
/// ```
pub struct TextBlocks {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
    /// Threads do not come along when a process forks.
    process: u32,
}

/// Some records of a text.
#[derive(Debug)]
pub struct Part {
    /// Their bytes.
    pub block: Block,
    /// How many they are.
    pub records: u64,
    /// Bytes of each.
    pub record_size: usize,
}

struct Shared {
    arena: &'static Arena,
    records: u64,
    progress: Progress,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    record_size: usize,
    /// Number of the block at the front.
    first: u64,
    filling: VecDeque<Filling>,
    end: Option<Result<Summary, LoadError>>,
    /// Nobody takes any more.
    abandoned: bool,
}

struct Filling {
    draft: Arc<Draft>,
    written: u64,
}

impl TextBlocks {
    /// Begins to read `source`, `records` at a time.
    pub fn start(
        arena: &'static Arena,
        source: Source<'static>,
        schema: Schema,
        options: Options,
        records: u64,
    ) -> Result<Self, Error> {
        if records == 0 {
            return Err(Error::Shape("blocks of 0 records have no end; give at least 1".into()));
        }
        let shared = Arc::new(Shared {
            arena,
            records,
            progress: Progress::new(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let inside = Arc::clone(&shared);
        let work = move || {
            let _alarm = Alarm(&inside);
            let outcome = read(source, &schema, &options, &*inside, &inside.progress);
            inside.lock().end = Some(outcome.map_err(LoadError::from));
        };
        let reader = Builder::new().name("onecopy-blocks".into()).spawn(work);
        let reader = reader.map_err(|source| OsError { action: "start a thread that reads text".into(), source })?;
        Ok(Self { shared, reader: Some(reader), process: std::process::id() })
    }

    /// The next records; none after the last. While it waits it asks every 50 ms whether to stop: the error is then
    /// [`LoadError::Interrupted`], and the next call goes on.
    pub fn take(&self, stop: &mut dyn FnMut() -> bool) -> Result<Option<Part>, LoadError> {
        if self.process != std::process::id() {
            return Err(LoadError::Forked);
        }
        let mut state = self.shared.lock();
        loop {
            let full = state.whole(self.shared.records);
            if state.filling.front().is_some_and(|front| front.written == full) || state.is_at_the_last() {
                return self.shared.finish_front(state).map(Some);
            }
            if state.end.is_some() {
                // Told once; after that there is nothing more, also not what has been read behind an error.
                state.filling.clear();
                let end = state.end.replace(Ok(Summary::default()));
                return end.unwrap_or_else(|| Ok(Summary::default())).map(|_| None);
            }
            let waited = self.shared.changed.wait_timeout(state, TICK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if stop() {
                return Err(LoadError::Interrupted);
            }
        }
    }

    /// How far the reading has come.
    pub fn progress(&self) -> &Progress {
        &self.shared.progress
    }
}

impl State {
    /// Bytes of a block that is not the last.
    fn whole(&self, records: u64) -> u64 {
        records * self.record_size as u64
    }

    /// Whether all has been read, and the block at the front is what is left.
    fn is_at_the_last(&self) -> bool {
        matches!(self.end, Some(Ok(_))) && self.filling.front().is_some_and(|front| front.written > 0)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish_front(&self, mut state: MutexGuard<'_, State>) -> Result<Part, LoadError> {
        let record_size = state.record_size;
        let front = state.filling.pop_front().expect("looked at by the caller");
        state.first += 1;
        drop(state);
        self.changed.notify_all();
        let mut draft = front.draft;
        // Whoever wrote the last record may be about to let go of it.
        let draft = loop {
            match Arc::try_unwrap(draft) {
                Ok(draft) => break draft,
                Err(shared) => draft = shared,
            }
            std::thread::yield_now();
        };
        let block = draft.finish(front.written)?;
        Ok(Part { block, records: front.written / record_size.max(1) as u64, record_size })
    }

    /// The draft of a block; waits until it may be begun.
    fn draft_of(&self, number: u64) -> io::Result<Arc<Draft>> {
        let mut state = self.lock();
        while number >= state.first + AHEAD && !state.abandoned {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.abandoned {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let place = (number - state.first) as usize;
        while state.filling.len() <= place {
            let size = state.whole(self.records);
            let draft = self.arena.draft(size, size).map_err(io::Error::other)?;
            state.filling.push_back(Filling { draft: Arc::new(draft), written: 0 });
        }
        Ok(Arc::clone(&state.filling[place].draft))
    }

    fn note_written(&self, number: u64, bytes: usize) {
        let mut state = self.lock();
        let place = (number - state.first) as usize;
        state.filling[place].written += bytes as u64;
        let full = state.filling[place].written == state.whole(self.records);
        drop(state);
        if full {
            self.changed.notify_all();
        }
    }
}

impl Sink for Shared {
    fn begin(&self, expected: &Expected) -> io::Result<()> {
        self.lock().record_size = expected.record_size;
        Ok(())
    }

    fn write(&self, first_record: u64, mut records: &[u8]) -> io::Result<()> {
        let record_size = self.lock().record_size;
        let mut at = first_record;
        while !records.is_empty() {
            let (number, inside) = (at / self.records, at % self.records);
            let count = (self.records - inside).min((records.len() / record_size) as u64);
            let (now, rest) = records.split_at(count as usize * record_size);
            let draft = self.draft_of(number)?;
            draft.write_at(inside * record_size as u64, now).map_err(io::Error::other)?;
            drop(draft);
            self.note_written(number, now.len());
            (records, at) = (rest, at + count);
        }
        Ok(())
    }
}

/// Wakes who waits when the reader ends, also by a panic.
struct Alarm<'a>(&'a Shared);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if state.end.is_none() {
            state.end = Some(Err(LoadError::Panicked));
        }
        drop(state);
        self.0.changed.notify_all();
    }
}

impl Drop for TextBlocks {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            // The thread, and the lock that it may have held, are the parent's.
            std::mem::forget(self.reader.take());
            return;
        }
        self.shared.progress.cancel();
        self.shared.lock().abandoned = true;
        self.shared.changed.notify_all();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use onecopy_arena::Options as ArenaOptions;
    use onecopy_text::Scalar;
    use proptest::prelude::*;

    use super::*;

    fn arena() -> &'static Arena {
        Arena::create(ArenaOptions { limit: Some(64 << 20), warm: Some(0) }).unwrap()
    }

    fn numbers(count: u64) -> String {
        (0..count).fold(String::new(), |mut text, n| {
            writeln!(text, "{n}").unwrap();
            text
        })
    }

    fn start(arena: &'static Arena, text: String, threads: usize, records: u64) -> TextBlocks {
        let source = Source::stream("test.txt", io::Cursor::new(text));
        let options = Options { threads, block_size: 100, ..Options::default() };
        TextBlocks::start(arena, source, Schema::rows(Scalar::U64), options, records).unwrap()
    }

    fn next(blocks: &TextBlocks) -> Result<Option<Vec<u64>>, LoadError> {
        let part = blocks.take(&mut || false)?;
        Ok(part.map(|part| {
            assert_eq!(part.block.len(), part.records * part.record_size as u64);
            let bytes = part.block.read_at(0, part.block.len()).unwrap();
            bytes.chunks_exact(8).map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap())).collect()
        }))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn parts_are_whole_and_in_order(count in 0_u64..3000, records in 1_u64..700, threads in 1_usize..4) {
            let blocks = start(arena(), numbers(count), threads, records);
            let parts: Vec<_> = std::iter::from_fn(|| next(&blocks).unwrap()).collect();
            prop_assert!(parts.iter().rev().skip(1).all(|part| part.len() as u64 == records));
            prop_assert_eq!(parts.concat(), (0..count).collect::<Vec<_>>());
            prop_assert!(next(&blocks).unwrap().is_none());
        }
    }

    #[test]
    fn an_error_comes_in_its_place_and_once() {
        let blocks = start(arena(), numbers(250) + "x\n" + &numbers(500), 3, 100);
        assert_eq!(next(&blocks).unwrap().unwrap().len(), 100);
        assert_eq!(next(&blocks).unwrap().unwrap().len(), 100);
        assert!(next(&blocks).unwrap_err().to_string().starts_with("test.txt:251:1: could not convert string 'x'"));
        assert!(next(&blocks).unwrap().is_none());
    }

    #[test]
    fn memory_is_bounded_and_comes_back() {
        let arena = arena();
        let blocks = start(arena, numbers(200_000), 2, 1000);
        for _ in 0..100 {
            next(&blocks).unwrap().unwrap();
            let used = arena.stats().unwrap().used_bytes;
            assert!(used <= (AHEAD + 1) * 8000 + 4096, "{used}");
        }
        drop(blocks);
        assert_eq!(arena.stats().unwrap().blocks, 0);
    }

    #[test]
    fn a_wait_can_be_given_up_and_taken_up_again() {
        let (reader, mut writer) = io::pipe().unwrap();
        let source = Source::stream("pipe", reader);
        let options = Options { threads: 1, ..Options::default() };
        let blocks = TextBlocks::start(arena(), source, Schema::rows(Scalar::U64), options, 1).unwrap();
        assert!(matches!(blocks.take(&mut || true), Err(LoadError::Interrupted)));
        io::Write::write_all(&mut writer, b"7\n").unwrap();
        drop(writer);
        assert_eq!(next(&blocks).unwrap().unwrap(), [7]);
        assert!(next(&blocks).unwrap().is_none());
    }

    #[test]
    fn more_than_there_is_memory_for_is_the_arenas_error() {
        let blocks = start(arena(), numbers(10), 1, 1 << 40);
        assert!(matches!(next(&blocks), Err(LoadError::Arena(onecopy_arena::ArenaError::OutOfMemory { .. }))));
    }
}
