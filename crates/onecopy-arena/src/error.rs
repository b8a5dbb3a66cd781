//! What can go wrong with an arena.

use onecopy_os::OsError;

use crate::layout::ArenaId;

/// Failure of an arena operation. The arena stays usable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArenaError {
    /// There is not enough memory within some limit.
    #[error("out of shared memory: {asked} bytes asked for, {free} free within {limit}; {way_out}")]
    OutOfMemory {
        /// Bytes asked for.
        asked: u64,
        /// Bytes that could be had.
        free: u64,
        /// Which limit is the narrowest, with its figure.
        limit: String,
        /// What the user can do.
        way_out: &'static str,
    },
    /// A fixed-size table of the arena is full.
    #[error("the arena's table of {what} is full ({capacity}): {way_out}")]
    TableFull {
        /// Which table.
        what: &'static str,
        /// Its size.
        capacity: u32,
        /// What the user can do.
        way_out: &'static str,
    },
    /// A handle names a block that is not there any more.
    #[error(
        "stale handle: block {block} of generation {generation} has been freed; keep the array alive until its receiver has it"
    )]
    Stale {
        /// Directory entry.
        block: u32,
        /// Generation in the handle.
        generation: u32,
    },
    /// A handle does not fit the block that it names.
    #[error("invalid handle: {0}")]
    InvalidHandle(String),
    /// A handle names an arena that cannot be reached from here.
    #[error("arena {id} cannot be reached: {reason}")]
    Unreachable {
        /// The arena.
        id: ArenaId,
        /// Why.
        reason: String,
    },
    /// The file is not an arena of this version.
    #[error("not an onecopy arena of this version: {0}")]
    Foreign(String),
    /// The shared tables contradict themselves.
    #[error("the arena is damaged: {0}; end the processes of this session and start again")]
    Damaged(String),
    /// The caller asked to stop.
    #[error("interrupted; nothing was allocated")]
    Interrupted,
    /// The system refused.
    #[error(transparent)]
    Os(#[from] OsError),
}

impl ArenaError {
    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }
}
