//! The error of this crate.

use onecopy_arena::ArenaError;

use crate::HandleError;
use crate::dtype::DTypeError;

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
    /// A size that does not fit the array.
    #[error("{0}")]
    Shape(String),
}
