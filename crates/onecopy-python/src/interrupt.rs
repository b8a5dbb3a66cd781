//! Long work without the GIL that answers Ctrl-C.

use std::time::{Duration, Instant};

use onecopy::{ArenaError, Error};
use pyo3::prelude::*;

use crate::errors::to_python;

/// How often work that runs looks for signals. Taking the GIL for it may cost a few milliseconds where threads compete.
const LOOK: Duration = Duration::from_millis(20);

/// Looks for signals now and then, and keeps what a handler raised.
struct Watch {
    last: Instant,
    raised: Option<PyErr>,
}

impl Watch {
    fn has_signal(&mut self) -> bool {
        if self.raised.is_none() && self.last.elapsed() >= LOOK {
            // Not at all when the interpreter has ended meanwhile, under a daemon thread.
            self.raised = Python::try_attach(|py| py.check_signals().err()).flatten();
            self.last = Instant::now();
        }
        self.raised.is_some()
    }
}

/// Runs `work` without the GIL. It is given a function to ask now and then whether to stop; when it stops for that, the
/// error is what the signal's handler raised.
pub(crate) fn interruptibly<T: Send>(
    py: Python<'_>,
    work: impl FnOnce(&mut dyn FnMut() -> bool) -> Result<T, Error> + Send,
) -> PyResult<T> {
    let (done, raised) = py.detach(|| {
        let mut watch = Watch { last: Instant::now(), raised: None };
        (work(&mut || watch.has_signal()), watch.raised)
    });
    match (done, raised) {
        (Err(Error::Arena(ArenaError::Interrupted)), Some(raised)) => Err(raised),
        (done, _) => done.map_err(|error| to_python(py, &error)),
    }
}
