//! What can go wrong with an arena.

use onecopy_os::{ByteSize, OsError};

use crate::layout::ArenaId;

/// Failure of an arena operation. The arena stays usable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArenaError {
    /// There is not enough memory within some limit.
    #[error("out of memory: {} within {bound}; {way_out}", figures(*asked, *free))]
    OutOfMemory {
        /// Bytes asked for.
        asked: u64,
        /// What could be had within the limit: bytes, or however many the limit counts.
        free: u64,
        /// The limit, in the same unit.
        limit: u64,
        /// Which limit it is.
        bound: String,
        /// What the user can do.
        way_out: String,
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
    /// The process was forked behind the library's back.
    #[error(
        "this process was forked by a raw system call, so it is no member of the arena; fork by fork() or start a new process"
    )]
    ForkedUnnoticed,
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

/// Both figures in units for people; in bytes where those would hide that they differ.
fn figures(asked: u64, free: u64) -> String {
    let (wanted, there) = (ByteSize(asked).to_string(), ByteSize(free).to_string());
    if wanted == there && asked != free {
        return format!("{asked} bytes asked for, {free} free");
    }
    format!("{wanted} asked for, {there} free")
}

impl ArenaError {
    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_for_people_and_never_hide_the_difference() {
        assert_eq!(figures(8 << 30, 1 << 20), "8.0 GiB asked for, 1.0 MiB free");
        assert_eq!(figures((8 << 30) + 1, 8 << 30), "8589934593 bytes asked for, 8589934592 free");
    }
}
