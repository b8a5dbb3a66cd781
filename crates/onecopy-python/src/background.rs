//! Arrays into places of an open file, by threads that need no Python: they run while another has it.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use onecopy::Mode;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use rustix::io::Errno;

use crate::array::locate;
use crate::files::{begin_writeback, os_error};
use crate::ndarray::{HeldBytes, NdArray};
use crate::reads::borrowed;
use crate::text::TextBlocks;
use crate::writes::{Staging, Target};

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<BackgroundWriter>()
}

/// The disk has something from each; or it works for some while others copy.
const THREADS: usize = 4;
/// How often a wait looks for Ctrl-C.
const TICK: Duration = Duration::from_millis(50);

/// Write arrays to a file in the order in which they are given, a few at a time.
///
/// `fd` is open for writing. `direct` is a second descriptor of the file, opened with `O_DIRECT`, or -1: what can goes
/// through it, past the page cache. Both are duplicated.
#[pyclass(module = "onecopy._native", frozen)]
struct BackgroundWriter {
    /// None when it is closed: its descriptors are then closed, too, and what they lock is free.
    work: Mutex<Option<Arc<Work>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Threads do not come along when a process forks.
    process: u32,
}

struct Work {
    file: OwnedFd,
    direct: Option<OwnedFd>,
    staging: Staging,
    state: Mutex<State>,
    /// There is something to write, or nothing will come any more.
    begun: Condvar,
    /// Something has been written.
    written: Condvar,
}

#[derive(Default)]
struct State {
    /// All that has not been settled, in order.
    pending: VecDeque<Pending>,
    /// How many of these, from the front, have been begun.
    begun: usize,
    /// Settled before them.
    settled: u64,
    /// How many bytes of these `settle` has not answered yet.
    untold: u64,
    /// Threads that wait for something to do.
    idle: usize,
    closed: bool,
}

struct Pending {
    /// None while they are being written, and afterwards where they could go.
    bytes: Option<HeldBytes>,
    len: usize,
    position: u64,
    stage: bool,
    outcome: Option<Result<(), Failure>>,
}

#[derive(Clone, Copy)]
enum Failure {
    System(Errno),
    Panic,
}

impl Pending {
    fn new(bytes: HeldBytes, position: u64, stage: bool) -> Self {
        Self { len: bytes.len(), bytes: Some(bytes), position, stage, outcome: None }
    }
}

#[pymethods]
impl BackgroundWriter {
    #[new]
    #[pyo3(signature = (fd, direct, /))]
    fn new(fd: i32, direct: i32) -> PyResult<Self> {
        let file = borrowed(fd)?.try_clone_to_owned()?;
        let direct = if direct >= 0 { Some(borrowed(direct)?.try_clone_to_owned()?) } else { None };
        let (begun, written) = (Condvar::new(), Condvar::new());
        let work = Work { file, direct, staging: Staging::default(), state: Mutex::default(), begun, written };
        Ok(Self { work: Mutex::new(Some(Arc::new(work))), threads: Mutex::default(), process: std::process::id() })
    }

    /// Begin to write a contiguous array, which nobody may change until it is settled, from byte `position` of the file on.
    #[pyo3(signature = (array, position, /))]
    fn submit(&self, array: &Bound<'_, PyAny>, position: u64) -> PyResult<()> {
        let work = self.work()?;
        let array = NdArray::of(array)?;
        let place = locate(&array);
        // The allocators of private memory ask for huge pages by themselves, and the disk fetches from these as they are.
        let stage = place.as_ref().is_some_and(|place| !place.block.is_in_huge_pages());
        // A block is free for the next one as soon as it is written. A private view of one has memory of its own.
        let block = place.filter(|place| place.mode != Mode::CopyOnWrite).map(|place| place.block);
        let held = array.hold_bytes(block);
        let Some(bytes) = held else { return Err(PyValueError::new_err("the array is not contiguous")) };
        self.begin(array.py(), &work, Pending::new(bytes, position, stage));
        Ok(())
    }

    /// Begin to write the blocks of a text one behind the other from byte `position` of the file on, with no more than
    /// `keep` of them left to write, until it ends, a block would go beyond byte `room`, or some time has passed;
    /// also when all of it has just been read.
    ///
    /// Answer how many rows and bytes they had; and how many bytes the next one has, as far as that is known, or None at the
    /// end. Python has no part in this: a block is written as soon as it is parsed.
    #[pyo3(signature = (text, position, room, keep, /))]
    fn submit_text(
        &self,
        text: &Bound<'_, TextBlocks>,
        mut position: u64,
        room: u64,
        keep: usize,
    ) -> PyResult<(u64, u64, Option<u64>)> {
        let (py, text, work) = (text.py(), text.get(), self.work()?);
        let (began, start, mut rows) = (Instant::now(), position, 0);
        let was_read = text.is_read();
        while began.elapsed() < TICK && text.is_read() == was_read {
            let Some(part) = text.take(py)? else { return Ok((rows, position - start, None)) };
            let len = part.block.len();
            if position.saturating_add(len) > room {
                text.put_back(part);
                return Ok((rows, position - start, Some(len)));
            }
            let stage = !part.block.is_in_huge_pages();
            self.begin(py, &work, Pending::new(HeldBytes::of_block(part.block), position, stage));
            position += len;
            rows += part.records;
            work.settle(py, keep)?;
        }
        Ok((rows, position - start, Some(0)))
    }

    /// Wait until no more than `keep` arrays are left to write; answer how many bytes the others had that were not
    /// answered yet, and raise what went wrong with one of them.
    #[pyo3(signature = (keep, /))]
    fn settle(&self, py: Python<'_>, keep: usize) -> PyResult<u64> {
        let work = self.work()?;
        work.settle(py, keep)?;
        Ok(std::mem::take(&mut work.lock().untold))
    }

    /// Give up what has not been begun, wait for the rest, and close the descriptors.
    fn close(&self, py: Python<'_>) {
        drop(py.detach(|| self.end()));
    }
}

impl BackgroundWriter {
    fn work(&self) -> PyResult<Arc<Work>> {
        if self.process != std::process::id() {
            let message = "the file is being written by the parent of this process; open it anew here";
            return Err(PyRuntimeError::new_err(message));
        }
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        work.clone().ok_or_else(|| PyValueError::new_err("the writer is closed"))
    }

    fn begin(&self, py: Python<'_>, work: &Arc<Work>, next: Pending) {
        let mut state = work.lock();
        state.pending.push_back(next);
        let is_short_of_threads = state.idle < state.pending.len() - state.begun;
        drop(state);
        work.begun.notify_one();
        if is_short_of_threads {
            self.start_thread(py, work);
        }
    }

    /// Where the system has no thread to spare (`ulimit -u`), those that there are do all; the first one is this one.
    fn start_thread(&self, py: Python<'_>, work: &Arc<Work>) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if threads.len() >= THREADS {
            return;
        }
        let its = Arc::clone(work);
        match Builder::new().name("onecopy-write".into()).spawn(move || its.run(Until::Closed)) {
            Ok(thread) => threads.push(thread),
            Err(_) if threads.is_empty() => py.detach(|| work.run(Until::Begun)),
            Err(_) => {}
        }
    }

    /// Has the threads end, and waits for them: where they are of this process. The arrays that are left should go where
    /// there is Python.
    fn end(&self) -> Option<Arc<Work>> {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        if self.process == std::process::id() {
            work.close();
            for thread in threads {
                // A panic was told by `settle`, or nobody asked.
                let _ = thread.join();
            }
        } else {
            std::mem::forget(threads);
        }
        Some(work)
    }
}

impl Drop for BackgroundWriter {
    fn drop(&mut self) {
        drop(self.end());
    }
}

/// How long a thread writes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    Closed,
    /// Nothing is left to begin.
    Begun,
}

impl Work {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the threads; what has not been begun never is.
    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.begun = state.pending.len();
        drop(state);
        self.begun.notify_all();
    }

    /// Writes one array after the other.
    fn run(&self, until: Until) {
        let target = Target { file: self.file.as_fd(), direct: self.direct.as_ref().map(AsFd::as_fd) };
        let mut state = self.lock();
        loop {
            while state.begun >= state.pending.len() {
                if state.closed || until == Until::Begun {
                    return;
                }
                state.idle += 1;
                state = self.begun.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
            let number = state.settled + state.begun as u64;
            let begun = state.begun;
            let next = &mut state.pending[begun];
            let (bytes, position, stage) = (next.bytes.take(), next.position, next.stage);
            state.begun += 1;
            drop(state);
            let write =
                || bytes.as_ref().map_or(Ok(()), |bytes| target.write(bytes.get(), position, stage, &self.staging));
            let written = catch_unwind(AssertUnwindSafe(write));
            // What went through the page cache.
            begin_writeback(self.file.as_fd());
            let rest = bytes.and_then(HeldBytes::let_go);
            state = self.lock();
            let place = (number - state.settled) as usize;
            state.pending[place].bytes = rest;
            state.pending[place].outcome =
                Some(written.map_err(|_| Failure::Panic).and_then(|outcome| outcome.map_err(Failure::System)));
            self.written.notify_all();
        }
    }

    /// Waits until no more than `keep` arrays are left; the error is what went wrong with one, or that of a signal handler.
    fn settle(&self, py: Python<'_>, keep: usize) -> PyResult<()> {
        loop {
            let (done, left) = self.take_written();
            // Here, where there is Python: the arrays may go.
            drop(done);
            match left {
                Err(failure) => return Err(failure.into()),
                Ok(left) if left <= keep => return Ok(()),
                Ok(_) => py.detach(|| self.wait_for_first()),
            }
            py.check_signals()?;
        }
    }

    /// Takes what has been written from the front; and answers how much is left, or that the first of these failed.
    fn take_written(&self) -> (Vec<Pending>, Result<usize, Failure>) {
        let mut state = self.lock();
        let done = state.pending.iter().take_while(|pending| matches!(pending.outcome, Some(Ok(())))).count();
        let taken: Vec<_> = state.pending.drain(..done).collect();
        state.begun -= done;
        state.settled += done as u64;
        state.untold += taken.iter().map(|pending| pending.len as u64).sum::<u64>();
        match state.pending.front().and_then(|first| first.outcome) {
            Some(Err(failure)) => (taken, Err(failure)),
            _ => (taken, Ok(state.pending.len())),
        }
    }

    /// Waits for the first array, but not for long.
    fn wait_for_first(&self) {
        let is_under_way = |state: &mut State| state.pending.front().is_some_and(|first| first.outcome.is_none());
        let _ = self.written.wait_timeout_while(self.lock(), TICK, is_under_way);
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::System(errno) => os_error(errno),
            Failure::Panic => PyRuntimeError::new_err(
                "a thread that writes has ended early; this is an error of onecopy: please report it",
            ),
        }
    }
}
