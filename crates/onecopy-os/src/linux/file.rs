//! Files that are mapped whole: in memory without a name (`memfd_create`), or on disk in a directory of this user.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags};

use super::limits::ProcessLimit;
use crate::OsError;

/// A sparse file of fixed size. In memory it is sealed, so that nobody can shrink it under a mapping (which would be a
/// SIGBUS); on disk there are no seals, and only its permissions keep others from that.
///
/// Programs that become daemons close descriptors that they do not know, and open others that get the same numbers. So
/// whatever uses the descriptor asks first whether it still is this file's: to write into a stranger's would be worse
/// than any error.
#[derive(Debug)]
pub struct MemoryFile {
    fd: OwnedFd,
    identity: (u64, u64),
    size: u64,
    on_disk: bool,
}

/// What a descriptor may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileAccess {
    /// Reading, and mappings that nobody can make writable.
    Read,
    /// Reading and writing.
    ReadWrite,
}

impl MemoryFile {
    /// Creates a file of `size` bytes, all of them holes.
    pub fn create(name: &str, size: u64) -> Result<Self, OsError> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
            // Before Linux 6.3 there is no such flag.
            Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create(name, flags),
            other => other,
        }
        .map_err(|e| OsError::new("create a memory file", e))?;
        within_file_size(size)
            .and_then(|()| rustix::fs::ftruncate(&fd, size))
            .map_err(|e| OsError::new(format!("size a memory file to {size} bytes"), e))?;
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
            .map_err(|e| OsError::new("seal a memory file", e))?;
        Self::of(fd, false)
    }

    fn of(fd: OwnedFd, on_disk: bool) -> Result<Self, OsError> {
        let stat = rustix::fs::fstat(&fd).map_err(|e| OsError::new("stat a memory file", e))?;
        Ok(Self { fd, identity: (stat.st_dev, stat.st_ino), size: stat.st_size as u64, on_disk })
    }

    /// Gives a new file on disk its size, all of it holes.
    pub(crate) fn sized_on_disk(fd: OwnedFd, size: u64) -> Result<Self, OsError> {
        within_file_size(size)
            .and_then(|()| rustix::fs::ftruncate(&fd, size))
            .map_err(|e| OsError::new(format!("size a file to {size} bytes"), e))?;
        Self::of(fd, true)
    }

    /// Takes a file on disk over, if it is a plain file of this user that nobody else may touch.
    pub(crate) fn adopt_on_disk(fd: OwnedFd, action: impl Fn() -> String) -> Result<Self, OsError> {
        let stat = rustix::fs::fstat(&fd).map_err(|e| OsError::new(action(), e))?;
        private_file(&stat).map_err(|e| OsError::new(action(), e))?;
        Self::of(fd, true)
    }

    /// The descriptor, if it still is this file's.
    pub(crate) fn descriptor(&self) -> Result<BorrowedFd<'_>, OsError> {
        match rustix::fs::fstat(&self.fd) {
            Ok(stat) if (stat.st_dev, stat.st_ino) == self.identity => Ok(self.fd.as_fd()),
            _ => {
                let reason =
                    "this program has closed it; a daemon has to leave the descriptors open that it does not know";
                Err(OsError::new(format!("use descriptor {}", self.number()), std::io::Error::other(reason)))
            }
        }
    }

    /// Opens the file that process `pid` has open as descriptor `fd`; works for processes of the same user.
    ///
    /// Whatever is behind the descriptor is checked: it must be a memory file of this user that is sealed against
    /// shrinking, or a plain file that only this user may touch.
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
        let in_memory = link.to_bytes().starts_with(b"/memfd:");
        // Opening what a stranger names could block (a FIFO) or act (a device): look at it before.
        if !in_memory {
            let stat = rustix::fs::stat(Path::new(&path)).map_err(|e| OsError::new(action(), e))?;
            private_file(&stat).map_err(|e| OsError::new(action(), e))?;
        }
        // The process may have put something else there since: that must not keep this one waiting.
        let flags = access | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = rustix::fs::open(Path::new(&path), flags, Mode::empty()).map_err(|e| OsError::new(action(), e))?;
        if in_memory { Self::adopt(opened) } else { Self::adopt_on_disk(opened, action) }
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
        let me = rustix::process::geteuid().as_raw();
        if stat.st_uid != me {
            // Permissions alone would let root in.
            let reason = format!("it belongs to user {}, and this process to user {me}", stat.st_uid);
            return Err(OsError::new("adopt a memory file", std::io::Error::other(reason)));
        }
        Self::of(fd, false)
    }

    /// A second descriptor, with an open file description of its own.
    pub fn reopen(&self, access: FileAccess) -> Result<OwnedFd, OsError> {
        let path = format!("/proc/self/fd/{}", self.descriptor()?.as_raw_fd());
        let flags = match access {
            FileAccess::Read => OFlags::RDONLY,
            FileAccess::ReadWrite => OFlags::RDWR,
        };
        rustix::fs::open(Path::new(&path), flags | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| OsError::new("reopen a memory file", e))
    }

    /// The same file once more, with an open file description of its own.
    pub fn again(&self) -> Result<Self, OsError> {
        Self::of(self.reopen(FileAccess::ReadWrite)?, self.on_disk)
    }

    /// Whether it is a file on disk, without seals.
    pub fn is_on_disk(&self) -> bool {
        self.on_disk
    }

    /// Where a file on disk lies now.
    pub fn path(&self) -> Option<PathBuf> {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", self.descriptor().ok()?.as_raw_fd())).ok()?;
        self.on_disk.then_some(link)
    }

    /// Waits until all of it is on disk.
    pub fn sync(&self) -> Result<(), OsError> {
        rustix::fs::fsync(self.descriptor()?).map_err(|e| OsError::new("write a file to disk", e))
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
    pub fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Bytes of memory behind the file now.
    pub fn allocated(&self) -> Result<u64, OsError> {
        let stat = rustix::fs::fstat(self.descriptor()?).map_err(|e| OsError::new("stat a memory file", e))?;
        Ok(stat.st_blocks as u64 * 512)
    }

    /// Puts pages behind the range `[offset, offset + len)`, so that touching it cannot fail later.
    pub fn reserve(&self, offset: u64, len: u64) -> Result<(), OsError> {
        let fd = self.descriptor()?;
        retry(|| rustix::fs::fallocate(fd, FallocateFlags::empty(), offset, len))
            .map_err(|e| OsError::new(format!("reserve {len} bytes"), e))
    }

    /// Gives the pages of a range back to the system; the range reads as zeros after.
    pub fn punch(&self, offset: u64, len: u64) -> Result<(), OsError> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let fd = self.descriptor()?;
        retry(|| rustix::fs::fallocate(fd, flags, offset, len))
            .map_err(|e| OsError::new(format!("give {len} bytes back"), e))
    }

    /// Writes all of `bytes` at `offset` without faulting pages in.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), OsError> {
        let fd = self.descriptor()?;
        let mut done = 0;
        within_file_size(offset + bytes.len() as u64)
            .map_err(|e| OsError::new(format!("write {} bytes", bytes.len()), e))?;
        while done < bytes.len() {
            let n = retry(|| rustix::io::pwrite(fd, &bytes[done..], offset + done as u64))
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

/// Refuses what is no plain file of this user alone.
fn private_file(stat: &rustix::fs::Stat) -> Result<(), std::io::Error> {
    let refuse = |reason: String| Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, reason));
    if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(std::io::Error::other("it is no plain file"));
    }
    let me = rustix::process::geteuid().as_raw();
    if stat.st_uid != me {
        return refuse(format!("it belongs to user {}, and this process to user {me}", stat.st_uid));
    }
    if stat.st_mode & 0o077 != 0 {
        return refuse(format!("others may touch it (mode {:o}); chmod it to 600", stat.st_mode & 0o777));
    }
    Ok(())
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
        assert_eq!(again.identity(), file.identity());
        assert_eq!(again.size(), 8192);
    }

    #[test]
    fn a_descriptor_that_became_another_file_is_not_used() {
        let file = MemoryFile::create("test", 8192).unwrap();
        let other = MemoryFile::create("other", 8192).unwrap();
        // SAFETY: puts a duplicate of a descriptor that lives on in the place of one that this test owns.
        assert_eq!(unsafe { libc::dup2(other.number(), file.number()) }, file.number());
        assert!(file.write_at(b"x", 0).unwrap_err().to_string().contains("has closed it"));
        assert!(file.reserve(0, 4096).is_err() && file.punch(0, 4096).is_err());
        assert!(file.reopen(FileAccess::Read).is_err());
        assert!(crate::LockByte(1).try_lock(&file).is_err() && crate::LockByte(1).held_by_another(&file).is_err());
        assert_eq!(other.allocated().unwrap(), 0);
    }

    #[test]
    fn what_is_no_memory_file_is_refused() {
        let other = std::fs::File::open("/proc/self/stat").unwrap();
        let error = MemoryFile::open_of(std::process::id(), other.as_raw_fd()).unwrap_err();
        assert!(error.to_string().contains("others may touch it (mode 444)"), "{error}");
        let pipe = std::io::pipe().unwrap().0;
        let error = MemoryFile::open_of(std::process::id(), pipe.as_raw_fd()).unwrap_err();
        assert!(error.to_string().contains("no plain file"), "{error}");
    }
}
