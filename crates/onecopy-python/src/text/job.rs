//! A load on threads of its own, while the thread that has Python looks for signals, reports progress, and converts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::{Builder, scope};
use std::time::{Duration, Instant};

use onecopy::text::{Options, Progress, ReadError, Schema};
use onecopy::{InOrder, LoadError, LoadedText, Next, load_text};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::Text;
use super::converters::{Converters, Filler};

/// How often a running load looks for Ctrl-C and reports its progress.
const TICK: Duration = Duration::from_millis(50);

pub(super) type Loaded = Result<LoadedText, LoadError>;

/// Runs `work` on another thread, while this one looks for signals and reports progress. The error is that of a signal
/// handler or of `tick`; it cancels `progress`, and `work` has to end by that.
pub(super) fn watch<T: Send>(
    py: Python<'_>,
    progress: &Progress,
    tick: Option<&Py<PyAny>>,
    work: impl Fn() -> T + Sync,
) -> PyResult<T> {
    let reported = AtomicU64::new(0);
    let mut ticker = Ticker::new(progress, tick, &reported);
    let work = &work;
    let (done, interruption) = py.detach(|| {
        scope(|scope| {
            let (done, finished) = channel();
            if Builder::new().name("onecopy-load".into()).spawn_scoped(scope, move || drop(done.send(work()))).is_err()
            {
                // Without a thread to spare (`ulimit -v`) nobody looks for signals meanwhile.
                return (Some(work()), None);
            }
            let mut interruption = None;
            loop {
                match finished.recv_timeout(TICK) {
                    Ok(done) => return (Some(done), interruption),
                    // Only a panic ends the thread without an answer; the scope passes it on.
                    Err(RecvTimeoutError::Disconnected) => return (None, interruption),
                    Err(RecvTimeoutError::Timeout) if interruption.is_some() => {}
                    Err(RecvTimeoutError::Timeout) => {
                        // Not at all when the interpreter has ended meanwhile, under a daemon thread.
                        interruption = Python::try_attach(|py| ticker.run(py).err()).flatten();
                        if interruption.is_some() {
                            progress.cancel();
                        }
                    }
                }
            }
        })
    });
    if let Some(interruption) = interruption {
        return Err(interruption);
    }
    ticker.run(py)?;
    done.ok_or_else(ended)
}

fn ended() -> PyErr {
    PyRuntimeError::new_err("the thread that loads has ended")
}

/// One text to load.
pub(super) struct Job<'a> {
    pub(super) text: Text<'a>,
    pub(super) stored: Option<u64>,
    pub(super) schema: &'a Schema,
    pub(super) options: &'a Options,
    pub(super) progress: &'a Progress,
}

impl Job<'_> {
    pub(super) fn run(&self, in_order: Option<&InOrder>) -> Loaded {
        let arena = onecopy::session().map_err(|error| match error {
            onecopy::Error::Arena(error) => LoadError::Arena(error),
            other => LoadError::Read(ReadError::Options { message: other.to_string() }),
        })?;
        load_text(arena, self.text.source(), self.stored, self.schema, self.options, self.progress, in_order)
    }

    /// Runs on another thread, while this one calls the converters. The error is theirs, or as above.
    pub(super) fn run_with_converters(
        &self,
        py: Python<'_>,
        converters: &Converters,
        tick: Option<&Py<PyAny>>,
    ) -> PyResult<Loaded> {
        let reported = AtomicU64::new(0);
        let mut ticker = Ticker::new(self.progress, tick, &reported);
        let batches = &InOrder::new();
        scope(|scope| {
            let read = move || {
                let _end = End(batches);
                self.run(Some(batches))
            };
            let reader = Builder::new().name("onecopy-load".into()).spawn_scoped(scope, read).map_err(PyErr::from)?;
            let converted = self.convert_all(py, converters, batches, &mut ticker);
            if converted.is_err() {
                self.progress.cancel();
                batches.refuse();
            }
            let loaded = py.detach(|| reader.join());
            converted?;
            ticker.run(py)?;
            loaded.map_err(|_| ended())
        })
    }

    fn convert_all(
        &self,
        py: Python<'_>,
        converters: &Converters,
        batches: &InOrder,
        ticker: &mut Ticker<'_>,
    ) -> PyResult<()> {
        let file = self.text.source().name().to_owned();
        let mut filler = None;
        loop {
            match py.detach(|| batches.next(TICK)) {
                Next::End => return Ok(()),
                Next::Nothing => {}
                Next::Batch(mut batch) => {
                    let filler = filler.get_or_insert_with(|| Filler::new(py, converters, &file, batches));
                    filler.fill(&mut batch).map_err(|failed| failed.error)?;
                    batches.finish(batch);
                }
            }
            ticker.run_if_due(py)?;
        }
    }
}

/// Says that no more batches come when the thread that reads ends, also by a panic.
struct End<'a>(&'a InOrder);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Looks for signals, and tells Python how far the reading has come.
pub(super) struct Ticker<'a> {
    progress: &'a Progress,
    tick: Option<&'a Py<PyAny>>,
    reported: &'a AtomicU64,
    last: Instant,
}

impl<'a> Ticker<'a> {
    /// `reported` is how many bytes `tick` knows of.
    pub(super) fn new(progress: &'a Progress, tick: Option<&'a Py<PyAny>>, reported: &'a AtomicU64) -> Self {
        Self { progress, tick, reported, last: Instant::now() }
    }

    /// The error is that of a signal handler, or of `tick`.
    pub(super) fn run(&mut self, py: Python<'_>) -> PyResult<()> {
        self.last = Instant::now();
        py.check_signals()?;
        let read = self.progress.bytes_read();
        let before = self.reported.swap(read, Ordering::Relaxed);
        if let Some(tick) = self.tick {
            tick.call1(py, (read.saturating_sub(before),))?;
        }
        Ok(())
    }

    /// Does it if the last time was a while ago; looks for signals in any case.
    pub(super) fn run_if_due(&mut self, py: Python<'_>) -> PyResult<()> {
        if self.last.elapsed() < TICK { py.check_signals() } else { self.run(py) }
    }
}
