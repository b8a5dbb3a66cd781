//! Parallel reader of delimited text into packed records.

mod block;
mod convert;
mod dialect;
mod error;
mod index;
mod kernels;
mod layout;
mod options;
mod parser;
mod plan;
mod preamble;
mod progress;
mod read;
mod relay;
mod sample;
mod sink;
mod source;

pub use error::{Compression, FieldError, FieldId, FieldProblem, Location, ReadError};
pub use layout::{Field, Layout, LayoutError, Scalar, Schema, Unit};
pub use options::{Column, Encoding, Missing, Options};
pub use progress::Progress;
pub use read::{Summary, read};
pub use sample::Sample;
pub use sink::{Expected, MemorySink, Sink};
pub use source::Source;
