//! Files that live in memory and have no name (`memfd_create`).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::fs::{FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags};

use super::limits::ProcessLimit;
use crate::OsError;

/// A sparse memory file of fixed size, sealed so that nobody can shrink it under a mapping (which would be a SIGBUS).
#[derive(Debug)]
pub struct MemoryFile {
    fd: OwnedFd,
    size: u64,
}

impl MemoryFile {
    /// Creates a file of `size` bytes, all of them holes.
    pub fn create(name: &str, size: u64) -> Result<Self, OsError> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = rustix::fs::memfd_create(name, flags).map_err(|e| OsError::new("create a memory file", e))?;
        within_file_size(size)
            .and_then(|()| rustix::fs::ftruncate(&fd, size))
            .map_err(|e| OsError::new(format!("size a memory file to {size} bytes"), e))?;
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
            .map_err(|e| OsError::new("seal a memory file", e))?;
        Ok(Self { fd, size })
    }

    /// Opens the file that process `pid` has open as descriptor `fd`; works for processes of the same user.
    ///
    /// Whatever is behind the descriptor is checked: it must be a regular file that is sealed against shrinking.
    pub fn open_of(pid: u32, fd: RawFd) -> Result<Self, OsError> {
        Self::open_as(pid, fd, OFlags::RDWR)
    }

    /// As [`open_of`](Self::open_of), only to be read.
    pub fn look_at(pid: u32, fd: RawFd) -> Result<Self, OsError> {
        Self::open_as(pid, fd, OFlags::RDONLY)
    }

    fn open_as(pid: u32, fd: RawFd, access: OFlags) -> Result<Self, OsError> {
        let path = format!("/proc/{pid}/fd/{fd}");
        let action = || format!("open descriptor {fd} of process {pid}");
        let link = rustix::fs::readlink(Path::new(&path), Vec::new()).map_err(|e| OsError::new(action(), e))?;
        if !link.to_bytes().starts_with(b"/memfd:") {
            // Opening what a stranger names could block (a FIFO) or act (a device): look at the link before.
            return Err(OsError::new(action(), std::io::Error::other("it is not a memory file")));
        }
        let opened = rustix::fs::open(Path::new(&path), access | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| OsError::new(action(), e))?;
        Self::adopt(opened)
    }

    fn adopt(fd: OwnedFd) -> Result<Self, OsError> {
        let seals = rustix::fs::fcntl_get_seals(&fd).map_err(|e| OsError::new("read the seals of a memory file", e))?;
        if !seals.contains(SealFlags::SHRINK) {
            return Err(OsError::new(
                "adopt a memory file",
                std::io::Error::other("it is not sealed against shrinking"),
            ));
        }
        let stat = rustix::fs::fstat(&fd).map_err(|e| OsError::new("stat a memory file", e))?;
        Ok(Self { fd, size: stat.st_size as u64 })
    }

    /// A second descriptor, with an open file description of its own.
    pub fn reopen(&self) -> Result<OwnedFd, OsError> {
        let path = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        rustix::fs::open(Path::new(&path), OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| OsError::new("reopen a memory file", e))
    }

    /// Size in bytes, holes included.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The descriptor's number, which other processes may open through `/proc`.
    pub fn number(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Device and inode: equal for two descriptors of the same file.
    pub fn identity(&self) -> Result<(u64, u64), OsError> {
        let stat = rustix::fs::fstat(&self.fd).map_err(|e| OsError::new("stat a memory file", e))?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// Bytes of memory behind the file now.
    pub fn allocated(&self) -> Result<u64, OsError> {
        let stat = rustix::fs::fstat(&self.fd).map_err(|e| OsError::new("stat a memory file", e))?;
        Ok(stat.st_blocks as u64 * 512)
    }

    /// Puts pages behind the range `[offset, offset + len)`, so that touching it cannot fail later.
    pub fn reserve(&self, offset: u64, len: u64) -> Result<(), OsError> {
        retry(|| rustix::fs::fallocate(&self.fd, FallocateFlags::empty(), offset, len))
            .map_err(|e| OsError::new(format!("reserve {len} bytes"), e))
    }

    /// Gives the pages of a range back to the system; the range reads as zeros after.
    pub fn punch(&self, offset: u64, len: u64) -> Result<(), OsError> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        retry(|| rustix::fs::fallocate(&self.fd, flags, offset, len))
            .map_err(|e| OsError::new(format!("give {len} bytes back"), e))
    }

    /// Writes all of `bytes` at `offset` without faulting pages in.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), OsError> {
        let mut done = 0;
        within_file_size(offset + bytes.len() as u64)
            .map_err(|e| OsError::new(format!("write {} bytes", bytes.len()), e))?;
        while done < bytes.len() {
            let n = retry(|| rustix::io::pwrite(&self.fd, &bytes[done..], offset + done as u64))
                .map_err(|e| OsError::new(format!("write {} bytes", bytes.len()), e))?;
            if n == 0 {
                return Err(OsError::new("write to a memory file", std::io::ErrorKind::WriteZero));
            }
            done += n;
        }
        Ok(())
    }
}

/// Answers what the kernel would, without its signal, which ends a process that is not prepared for it.
fn within_file_size(end: u64) -> rustix::io::Result<()> {
    let allowed = ProcessLimit::FileSize.current().is_none_or(|limit| end <= limit);
    if allowed { Ok(()) } else { Err(rustix::io::Errno::FBIG) }
}

/// `fallocate` and `pwrite` on memory files answer EINTR when a signal comes in.
fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            other => return other,
        }
    }
}

impl AsFd for MemoryFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_sparse_reserves_and_gives_back() {
        let file = MemoryFile::create("test", 1 << 30).unwrap();
        assert_eq!(file.allocated().unwrap(), 0);
        file.reserve(4096, 1 << 20).unwrap();
        assert_eq!(file.allocated().unwrap(), 1 << 20);
        file.punch(4096, 1 << 20).unwrap();
        assert_eq!(file.allocated().unwrap(), 0);
    }

    #[test]
    fn it_opens_through_the_process_that_has_it() {
        let file = MemoryFile::create("test", 8192).unwrap();
        let again = MemoryFile::open_of(std::process::id(), file.number()).unwrap();
        assert_eq!(again.identity().unwrap(), file.identity().unwrap());
        assert_eq!(again.size(), 8192);
    }

    #[test]
    fn what_is_no_memory_file_is_refused() {
        let other = std::fs::File::open("/proc/self/stat").unwrap();
        let error = MemoryFile::open_of(std::process::id(), other.as_raw_fd()).unwrap_err();
        assert!(error.to_string().contains("not a memory file"), "{error}");
    }
}
