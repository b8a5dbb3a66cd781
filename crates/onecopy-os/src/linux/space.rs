//! Room on the file system of a file.

use std::os::fd::AsFd;
use std::path::Path;

use crate::{Bound, MemoryFile, OsError, PrivateDirectory};

/// Where files are kept in memory, so that what they take is memory of the machine.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

fn space(descriptor: impl AsFd, directory: &Path) -> Result<Bound, OsError> {
    let stat = rustix::fs::fstatvfs(descriptor).map_err(|e| OsError::new("ask for the free space", e))?;
    Ok(Bound {
        free: stat.f_bavail.saturating_mul(stat.f_frsize),
        limit: stat.f_blocks.saturating_mul(stat.f_frsize),
        name: format!("the file system of {}", directory.display()),
        way_out: "free some space there (or raise the quota), or put the arena on a larger file system".to_owned(),
        soft: false,
    })
}

impl PrivateDirectory {
    /// What the file system leaves free for this user.
    pub fn space(&self) -> Result<Bound, OsError> {
        space(self.descriptor(), self.path().parent().unwrap_or(self.path()))
    }
}

impl MemoryFile {
    /// What the file system of a file on disk leaves free for this user.
    pub fn space(&self) -> Result<Bound, OsError> {
        let path = self.path().unwrap_or_default();
        space(self.descriptor()?, path.parent().unwrap_or(&path))
    }

    /// Whether its file system is in memory (tmpfs).
    pub fn takes_memory(&self) -> bool {
        let kind = self.descriptor().ok().and_then(|fd| rustix::fs::fstatfs(fd).ok());
        !self.is_on_disk() || kind.is_some_and(|stat| IN_MEMORY.contains(&(stat.f_type as u64)))
    }
}

impl OsError {
    /// Whether a disk, or this user's share of it, is full.
    pub fn is_full_disk(&self) -> bool {
        matches!(self.source.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
    }
}
