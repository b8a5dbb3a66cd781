//! Chunk filters of HDF5 (shuffle, deflate, LZF, zstd, fletcher32) on all cores.
//!
//! An HDF5 dataset with filters is a [`Grid`] of equal chunks, each of which passes through a [`Pipeline`] on its own.
//! libhdf5 runs that pipeline on one core under one lock. This crate runs it on all cores and leaves the container to
//! libhdf5: [`compress`] hands over the chunks in order, ready for `H5Dwrite_chunk`, and [`decompress`] takes what
//! `H5Dread_chunk` returned and puts the elements at their place in an array.
//!
//! The crate knows nothing of Python, of shared memory or of files.
//!
//! ```
//! use onecopy_filters::{Codec, Error, Grid, Pipeline, Source, StoredChunk, Target, compress, decompress};
//!
//! let values: Vec<u8> = (0..1000u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
//! let grid = Grid::new(&[1000], &[256], 4)?;
//! let pipeline = Pipeline { shuffle: Some(4), codec: Codec::Deflate { level: 4 }, fletcher32: true };
//!
//! let mut stored = Vec::new();
//! // SAFETY: `values` outlives the call.
//! let source = unsafe { Source::new(values.as_ptr(), values.len()) };
//! compress(source, &grid, &pipeline, 2, |cell, chunk| {
//!     stored.push(Ok(StoredChunk { cell, bytes: chunk.bytes, filter_mask: chunk.filter_mask }));
//!     Ok::<(), Error>(())
//! })?;
//! assert_eq!(stored.len(), 4);
//!
//! let mut back = vec![0; values.len()];
//! // SAFETY: `back` outlives the call, and nothing else touches it.
//! let mut target = unsafe { Target::new(back.as_mut_ptr(), back.len()) };
//! decompress(&mut target, &grid, &pipeline, 2, stored)?;
//! assert_eq!(back, values);
//! # Ok::<(), Error>(())
//! ```

mod buffer;
mod compressor;
mod decompress;
mod deflate;
mod error;
mod fletcher32;
mod grid;
mod lzf;
mod ordered;
mod pipeline;
mod plans;
mod region;
mod shuffle;
mod stored;

pub use buffer::resize;
pub use compressor::{Compressor, Course, compress};
pub use decompress::{StoredChunk, decompress};
pub use error::Error;
pub use grid::{Grid, Run};
pub use ordered::IN_FLIGHT_PER_THREAD;
pub use pipeline::{Codec, Decoder, Encoded, Encoder, Pipeline};
pub use region::{Source, Target};
pub use shuffle::{shuffle, unshuffle};
pub use stored::Stored;
