//! The error of this crate.

use onecopy_arena::ArenaError;
use onecopy_collections::container::ContainerError;
use onecopy_collections::queue::QueueError;

use crate::dtype::DTypeError;
use crate::{HandleError, PipeError};

/// Failure of an operation on shared arrays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Of the arena.
    #[error(transparent)]
    Arena(#[from] ArenaError),
    /// Of a handle that is not one, or does not fit.
    #[error(transparent)]
    Handle(#[from] HandleError),
    /// Of a queue.
    #[error(transparent)]
    Queue(QueueError),
    /// Of a dictionary or list.
    #[error(transparent)]
    Container(ContainerError),
    /// Of a pipe.
    #[error(transparent)]
    Pipe(#[from] PipeError),
    /// Of a data type.
    #[error(transparent)]
    DType(#[from] DTypeError),
    /// Of a setting in the environment.
    #[error("environment variable {name}={value:?}: {reason}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A name that cannot be one.
    #[error("{0}")]
    Name(String),
    /// A name under which something is published already.
    #[error("name {0:?} is taken; choose another, unpublish it, or say replace=True")]
    NameTaken(String),
    /// A name under which there is an arena already.
    #[error("there is an arena of the name {0:?}; leave create=True out to open it, or choose another name")]
    ArenaExists(String),
    /// A name that leads to an arena of another version.
    #[error("name {name:?} is taken: {reason}, or choose another name")]
    NameForeign {
        /// It.
        name: String,
        /// Why it leads nowhere.
        reason: String,
    },
    /// A name under which there is nothing.
    #[error("nothing has the name {name:?}; the names that can be seen from here are {known:?}")]
    NameUnknown {
        /// It.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// Of the runtime directory.
    #[error(transparent)]
    Os(#[from] onecopy_os::OsError),
    /// A size that does not fit the array.
    #[error("{0}")]
    Shape(String),
}

impl From<QueueError> for Error {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Arena(error) => Self::Arena(error),
            other => Self::Queue(other),
        }
    }
}

impl From<ContainerError> for Error {
    fn from(error: ContainerError) -> Self {
        match error {
            ContainerError::Arena(error) => Self::Arena(error),
            other => Self::Container(other),
        }
    }
}
