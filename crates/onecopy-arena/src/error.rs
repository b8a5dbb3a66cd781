//! What can go wrong with an arena.

use std::path::{Path, PathBuf};

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
    /// The arena is of another version of the format.
    #[error(
        "the arena is of version {found} of the format, and this is version {}; use one version of onecopy in all programs",
        crate::layout::VERSION
    )]
    OtherVersion {
        /// Its version.
        found: u32,
    },
    /// The arena is not complete.
    #[error("the arena is being made just now, or the process that made it died over it")]
    Unfinished,
    /// The shared tables contradict themselves.
    #[error("the arena is damaged: {0}; end its processes and start again, from a copy if it is on disk")]
    Damaged(String),
    /// There is no arena at a path.
    #[error("there is no arena at {}; leave create=False out to make one", .0.display())]
    NotThere(PathBuf),
    /// There is an arena, or something else, at a path.
    #[error("there is something at {} already; leave create=True out to open an arena, or choose another path", .0.display())]
    Exists(PathBuf),
    /// What is at a path cannot be used.
    #[error("the arena at {}: {reason}; {way_out}", path.display())]
    AtPath {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
        /// What the user can do.
        way_out: &'static str,
        /// What kind of thing it is that is wrong.
        trouble: Trouble,
    },
    /// This process has closed the arena.
    #[error("this process has closed the arena; open it again")]
    Closed,
    /// There are no huge pages for this arena.
    #[error(
        "there are no huge pages for this arena: {0}; it takes Linux 6.1 with transparent huge pages, and not \"deny\" in /sys/kernel/mm/transparent_hugepage/shmem_enabled; leave hugepages=True out to do without"
    )]
    NoHugePages(String),
    /// The caller asked to stop.
    #[error("interrupted; nothing was allocated")]
    Interrupted,
    /// The system refused.
    #[error(transparent)]
    Os(#[from] OsError),
}

/// Why what is at a path cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It is no arena, or one of another version or machine.
    Foreign,
    /// Its tables contradict themselves.
    Damaged,
    /// The system, or its owner and permissions, do not allow it.
    Refused,
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
    /// As it is told of an arena on disk.
    pub(crate) fn at(self, path: &Path) -> Self {
        const ANOTHER: &str = "choose another path, or open it on the kind of machine that made it";
        let (reason, way_out, trouble) = match self {
            Self::Foreign(what) => (format!("not an onecopy arena: {what}"), ANOTHER, Trouble::Foreign),
            Self::OtherVersion { .. } | Self::Unfinished => {
                (self.to_string(), "choose another path, or open it with the version that made it", Trouble::Foreign)
            }
            Self::Damaged(what) => (
                format!("damaged: {what}"),
                "restore the directory from a copy, or remove it and start again",
                Trouble::Damaged,
            ),
            Self::Os(error) if error.kind() == std::io::ErrorKind::NotFound => {
                (format!("not an onecopy arena: {error}"), "choose another path", Trouble::Foreign)
            }
            Self::Os(error) if !error.is_exhaustion() => {
                let way_out = "an arena is a directory of mode 700 with files of mode 600 that all belong to you, on a file \
                               system that can reserve space (fallocate)";
                (error.to_string(), way_out, Trouble::Refused)
            }
            other => return other,
        };
        Self::AtPath { path: path.to_owned(), reason, way_out, trouble }
    }

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
