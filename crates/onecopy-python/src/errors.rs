//! Rust errors as the Python exceptions of `onecopy._errors`, which are classes written in Python so that they pickle
//! and carry their figures.

use onecopy::{ArenaError, Error, PipeError, QueueError, Trouble};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Converts an error of the Rust API.
pub(crate) fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    match error {
        Error::Arena(error) => arena_error(py, error),
        Error::Handle(_) => raise(py, "InvalidHandleError", error),
        Error::Queue(QueueError::Closed) => raise(py, "ShutDownError", error),
        Error::Pipe(error) => pipe_error(*error),
        Error::DType(_) => pyo3::exceptions::PyTypeError::new_err(error.to_string()),
        Error::NameTaken(_) | Error::ArenaExists(_) => raise(py, "NameTakenError", error),
        Error::NameUnknown { .. } => raise(py, "NameUnknownError", error),
        Error::NameForeign { .. } => raise(py, "ForeignArenaError", error),
        Error::Os(_) => raise(py, "ArenaError", error),
        Error::Setting { .. } | Error::Shape(_) | Error::Name(_) | Error::Queue(QueueError::TooManyDone) => {
            pyo3::exceptions::PyValueError::new_err(error.to_string())
        }
        _ => raise(py, "OnecopyError", error),
    }
}

/// The exception that a connection of `multiprocessing` raises.
fn pipe_error(error: PipeError) -> PyErr {
    use pyo3::exceptions::{PyBrokenPipeError, PyEOFError, PyOSError};
    match error {
        PipeError::EndOfFile => PyEOFError::new_err(error.to_string()),
        PipeError::Broken => PyBrokenPipeError::new_err((libc::EPIPE, error.to_string())),
        _ => PyOSError::new_err(error.to_string()),
    }
}

/// Converts an error of the arena.
pub(crate) fn arena_error(py: Python<'_>, error: &ArenaError) -> PyErr {
    match error {
        ArenaError::OutOfMemory { asked, free, limit, bound, .. } => {
            out_of_memory(py, error, (*asked, *free, *limit), bound)
        }
        ArenaError::TableFull { what, capacity, .. } => {
            out_of_memory(py, error, (1, 0, u64::from(*capacity)), &format!("the arena's table of {what}"))
        }
        ArenaError::Interrupted => pyo3::exceptions::PyKeyboardInterrupt::new_err(()),
        ArenaError::Stale { .. } => raise(py, "StaleHandleError", error),
        ArenaError::InvalidHandle(_) => raise(py, "InvalidHandleError", error),
        ArenaError::Exists(_) => raise(py, "NameTakenError", error),
        ArenaError::NotThere(_) => raise(py, "NameUnknownError", error),
        ArenaError::OtherVersion { .. }
        | ArenaError::Unfinished
        | ArenaError::Foreign(_)
        | ArenaError::AtPath { trouble: Trouble::Foreign, .. } => raise(py, "ForeignArenaError", error),
        ArenaError::Damaged(_) | ArenaError::AtPath { trouble: Trouble::Damaged, .. } => {
            raise(py, "DamagedArenaError", error)
        }
        _ => raise(py, "ArenaError", error),
    }
}

fn out_of_memory(py: Python<'_>, error: &ArenaError, (asked, free, limit): (u64, u64, u64), bound: &str) -> PyErr {
    let attributes = PyDict::new(py);
    let filled = [("asked", asked), ("free", free), ("limit", limit)]
        .into_iter()
        .try_for_each(|(name, figure)| attributes.set_item(name, figure))
        .and_then(|()| attributes.set_item("bound", bound));
    filled.map_or_else(|e| e, |()| raise_with(py, "OutOfMemoryError", error, Some(&attributes)))
}

/// The exception `name(message)`.
pub(crate) fn raise(py: Python<'_>, name: &str, message: &impl ToString) -> PyErr {
    raise_with(py, name, message, None)
}

/// The exception `name(message, **attributes)`; where even that fails, what failed.
pub(crate) fn raise_with(
    py: Python<'_>,
    name: &str,
    message: &impl ToString,
    attributes: Option<&Bound<'_, PyDict>>,
) -> PyErr {
    let made = py
        .import("onecopy._errors")
        .and_then(|module| module.getattr(name))
        .and_then(|class| class.call((message.to_string(),), attributes));
    made.map_or_else(|error| error, PyErr::from_value)
}

/// `result.map_err(to_python)`, where the GIL is held.
pub(crate) trait OrRaise<T> {
    /// The value, or the Python exception for the error.
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T, E: Into<Error>> OrRaise<T> for Result<T, E> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| to_python(py, &error.into()))
    }
}
