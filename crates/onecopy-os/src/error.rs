//! Failure of a system call, with what was being done.

use std::io;

/// A system call that failed, and what it was asked to do.
#[derive(Debug, thiserror::Error)]
#[error("{action}: {source}")]
pub struct OsError {
    /// What was being done, for a person.
    pub action: String,
    /// The error of the system.
    pub source: io::Error,
}

impl OsError {
    pub(crate) fn new(action: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self { action: action.into(), source: source.into() }
    }

    pub(crate) fn last(action: impl Into<String>) -> Self {
        Self::new(action, io::Error::last_os_error())
    }

    /// The kind of the system's error.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}
