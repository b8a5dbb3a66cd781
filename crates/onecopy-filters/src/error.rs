//! What can be wrong with a grid or with stored chunks.

/// Why chunks cannot be laid out or decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The shape of the chunks does not fit the shape of the array.
    #[error("chunks {chunk:?} do not fit an array of shape {shape:?}: give one size of at least 1 for each axis")]
    ChunkShape {
        /// The shape of one chunk.
        chunk: Vec<usize>,
        /// The shape of the array.
        shape: Vec<usize>,
    },
    /// A size in bytes exceeds the address space.
    #[error("an array of shape {shape:?} with {item} bytes per element is larger than the address space")]
    TooLarge {
        /// The shape of the array or chunk.
        shape: Vec<usize>,
        /// Bytes per element.
        item: usize,
    },
    /// The system gives this process no thread.
    #[error(
        "no thread can be started: raise this process's limits on address space (ulimit -v) or processes (ulimit -u)"
    )]
    Threads,
    /// There is no memory for a buffer whose size is that of a chunk.
    #[error("a chunk needs {bytes} bytes that this process cannot have: make chunks smaller, or use fewer threads")]
    OutOfMemory {
        /// Bytes of the buffer.
        bytes: usize,
    },
    /// The memory does not have the size that the grid describes.
    #[error("the memory has {found} bytes, but the grid describes {expected}")]
    MemorySize {
        /// Bytes that were given.
        found: usize,
        /// Bytes that the grid describes.
        expected: usize,
    },
    /// A chunk came twice, or lies outside the array.
    #[error("chunk {cell} of {cells} is stored twice or lies outside the array: the file is damaged")]
    Cell {
        /// Index of the chunk in row-major order.
        cell: usize,
        /// How many chunks there are.
        cells: usize,
    },
    /// The stored bytes of a chunk cannot be had.
    #[error("a chunk of {stored} stored bytes cannot be read: {reason}")]
    Read {
        /// Stored bytes of the chunk.
        stored: usize,
        /// Why.
        reason: String,
    },
    /// The bytes of a chunk are not what the codec can have written.
    #[error("a {codec} chunk of {stored} stored bytes is corrupt: {reason}")]
    Corrupt {
        /// Name of the codec or filter.
        codec: &'static str,
        /// Stored bytes of the chunk.
        stored: usize,
        /// What is wrong with them.
        reason: String,
    },
}
