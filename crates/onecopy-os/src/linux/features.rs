//! What an arena needs of the kernel, tried out.

use rustix::fs::SealFlags;

use super::memory::Machine;
use crate::{LockByte, MemoryFile, OsError, TransferLock};

const TRIED_BYTES: u64 = 1 << 16;

/// Something that the kernel must be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// Files in memory that cannot be shrunk under a mapping.
    MemoryFiles,
    /// Memory of a file can be reserved, and given back while the file is in use.
    PunchHoles,
    /// Locks that end with their process, on files in memory.
    RecordLocks,
    /// Locks that a forked child inherits, on files in memory.
    DescriptionLocks,
    /// Descriptors can be opened through `/proc`.
    OpenThroughProc,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::MemoryFiles, Self::PunchHoles, Self::RecordLocks, Self::DescriptionLocks, Self::OpenThroughProc];

    /// Its name, for a person.
    pub fn name(self) -> &'static str {
        match self {
            Self::MemoryFiles => "sealed memory files (memfd_create)",
            Self::PunchHoles => "reserving memory and giving it back (fallocate)",
            Self::RecordLocks => "record locks on memory files (F_SETLK)",
            Self::DescriptionLocks => "open-file-description locks on memory files (F_OFD_SETLK)",
            Self::OpenThroughProc => "opening descriptors through /proc/<pid>/fd",
        }
    }

    /// Tries whether it works here.
    pub fn try_out(self) -> Result<(), OsError> {
        let file = MemoryFile::create("onecopy-doctor", TRIED_BYTES)?;
        let require = |works: bool| {
            if works { Ok(()) } else { Err(OsError::new(self.name(), std::io::Error::other("it has no effect"))) }
        };
        match self {
            Self::MemoryFiles => {
                let seals = rustix::fs::fcntl_get_seals(&file).map_err(|e| OsError::new("read seals", e))?;
                require(seals.contains(SealFlags::SHRINK))
            }
            Self::PunchHoles => {
                file.reserve(0, TRIED_BYTES)?;
                let reserved = file.allocated()?;
                file.punch(0, TRIED_BYTES)?;
                require(reserved >= TRIED_BYTES && file.allocated()? < reserved)
            }
            Self::RecordLocks => require(LockByte(0).try_lock(&file)?),
            Self::DescriptionLocks => {
                let held = TransferLock::try_take(&file, LockByte(1))?;
                require(held.is_some() && TransferLock::is_held(&file, LockByte(1))?)
            }
            Self::OpenThroughProc => MemoryFile::open_of(std::process::id(), file.number()).map(drop),
        }
    }
}

impl Machine {
    /// Bytes of the file system at a path, and how many of them are free.
    pub fn file_system(&self, path: &str) -> Option<(u64, u64)> {
        let stat = rustix::fs::statvfs(self.path(path)).ok()?;
        Some((stat.f_blocks.saturating_mul(stat.f_frsize), stat.f_bavail.saturating_mul(stat.f_frsize)))
    }

    /// Version of the kernel.
    pub fn kernel(&self) -> String {
        self.read("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_has_all_of_it() {
        for feature in Feature::ALL {
            feature.try_out().unwrap_or_else(|error| panic!("{}: {error}", feature.name()));
        }
        assert!(Machine::this().kernel().contains('.'));
        assert!(Machine::this().file_system("/").is_some_and(|(size, free)| size >= free && size > 0));
        assert!(Machine::this().file_system("/nowhere").is_none());
    }
}
