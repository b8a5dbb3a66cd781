//! Where the files of a new arena are made.

use onecopy_os::{MemoryFile, OsError, PrivateDirectory};

use crate::layout::{ArenaId, file_name};

/// In memory, under names that only `/proc` tells, or in a directory of their own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'a> {
    Memory,
    Directory(&'a PrivateDirectory),
}

impl Place<'_> {
    /// A file of `size` bytes, all of them holes.
    pub(crate) fn create(self, id: ArenaId, part: &str, size: u64) -> Result<MemoryFile, OsError> {
        match self {
            Self::Memory => MemoryFile::create(&file_name(id, part), size),
            Self::Directory(directory) => directory.create_file(part, size),
        }
    }
}
