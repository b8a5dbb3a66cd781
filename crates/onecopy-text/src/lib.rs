//! Parallel reader of delimited text into packed records.
//!
//! [`read`] takes a [`Source`] (a file, a pipe, bytes in memory; plain, gzip, BGZF, zstd, bzip2 or xz), the [`Options`] of the
//! dialect, which are those of `numpy.loadtxt`, and a [`Schema`], and gives packed records to a [`Sink`]. What the file
//! looks like can be guessed from a [`Sample`].
//!
//! # How it works
//!
//! ```text
//! source::Feed    portions of text by ticket: pread, or inflate; any thread
//! block::Block    whole lines: the cut first line comes from the portion before, by a Relay
//! index::Index    where fields and lines begin and end: SIMD, 64 bytes at a time
//! parser::Parser  lines that hold records are counted, and get their place in the file by a second Relay
//! kernels::Run    fields of one type to elements: eight bytes at a time, with AVX2 four fields at a time
//! kernels::ShortLines  in place of index and runs, with AVX-512: several short lines of plain fields at a time
//! Sink            batches of records, small enough to be in the cache still
//! ```
//!
//! Beside the fast way stands an exact one, `dialect` and `convert`: every rule of lines, fields and spellings, one byte
//! at a time. The fast way hands over each block, line or field that it does not know, and never decides differently.
//!
//! **Invariants.** The result does not depend on block size, threads or compression. The error that is reported is the
//! first in the file. Positions come from the index only, and each is checked where it is used: unsafe code is nowhere
//! but in `index::x86` and `kernels`, for the instructions. A block is followed by readable padding. No part knows of
//! shared memory.

mod block;
mod convert;
mod dialect;
mod error;
mod index;
mod kernels;
mod layout;
mod machine;
mod options;
mod parser;
mod place;
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
pub use options::{Column, Encoding, Missing, Options, Raw};
pub use progress::Progress;
pub use read::{Summary, read};
pub use sample::Sample;
pub use sink::{Batch, Expected, MemorySink, RawField, RawTarget, Sink};
pub use source::{Source, is_compressed};
