//! Liveness by record locks: a process is alive as long as it holds the lock on its byte.
//!
//! The kernel releases a POSIX record lock when its process ends, however it ends, and never hands it to a forked
//! child; so a held lock is proof of life that knows no pid and no pid namespace. **Trap:** closing any descriptor of
//! the file in the holder releases the lock, so a file that carries such locks is opened once per process and never
//! closed.
//!
//! On disk, where any code of the holder may open and close the file, the lock is one of an open file description that
//! only the holder has: a forked child parts from it at once.
//!
//! An open-file-description lock does pass to a forked child; [`TransferLock`] uses one to cover the moment in which
//! the child exists but has not yet locked.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::{FileAccess, MemoryFile, OsError};

/// Locks lie far beyond any byte that is mapped, so that they never meet other users of the file.
const FIRST_LOCK: i64 = 1 << 60;

/// The byte of one member in a file of liveness locks.
#[derive(Debug, Clone, Copy)]
pub struct LockByte(pub u32);

fn record(byte: LockByte, kind: i32) -> libc::flock {
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: FIRST_LOCK + i64::from(byte.0),
        l_len: 1,
        l_pid: 0,
    }
}

fn control(fd: RawFd, command: i32, lock: &mut libc::flock) -> std::io::Result<()> {
    loop {
        // SAFETY: `lock` is a valid flock structure for the whole call and `command` is one that takes one.
        if unsafe { libc::fcntl(fd, command, std::ptr::from_mut(lock)) } != -1 {
            return Ok(());
        }
        let error = std::io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINTR) {
            return Err(error);
        }
    }
}

fn taken(result: std::io::Result<()>, action: &str) -> Result<bool, OsError> {
    match result {
        Ok(()) => Ok(true),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(e) => Err(OsError::new(action, e)),
    }
}

/// The lock commands for a file. In memory, where nobody else can open it: locks of the process. On disk, where this
/// very process may open and close the file as often as it likes, which would drop those: locks of the open file
/// description, which must then be this process's alone (see [`MemoryFile::part_from_parent`]).
struct Commands {
    set: i32,
    wait: i32,
    ask: i32,
}

impl Commands {
    fn of(file: &MemoryFile) -> Self {
        if file.is_on_disk() {
            Self { set: libc::F_OFD_SETLK, wait: libc::F_OFD_SETLKW, ask: libc::F_OFD_GETLK }
        } else {
            Self { set: libc::F_SETLK, wait: libc::F_SETLKW, ask: libc::F_GETLK }
        }
    }
}

impl MemoryFile {
    /// In a forked child: replaces the open file description, which is the parent's too, by one of its own under the
    /// same number. Locks of the description stay with the parent alone.
    pub fn part_from_parent(&self) -> Result<(), OsError> {
        let own = self.reopen(FileAccess::ReadWrite)?;
        // SAFETY: both are open descriptors, and the number of the second is this value's.
        match unsafe { libc::dup3(own.as_raw_fd(), self.number(), libc::O_CLOEXEC) } {
            -1 => Err(OsError::last("part from the parent's description of a file")),
            _ => Ok(()),
        }
    }
}

impl LockByte {
    /// Takes the lock for this process if no other process has it.
    pub fn try_lock(self, file: &MemoryFile) -> Result<bool, OsError> {
        let mut lock = record(self, libc::F_WRLCK);
        taken(control(file.descriptor()?.as_raw_fd(), Commands::of(file).set, &mut lock), "take a liveness lock")
    }

    /// Takes the lock for this process; waits for another process to release it or to end.
    pub fn lock(self, file: &MemoryFile) -> Result<(), OsError> {
        let mut lock = record(self, libc::F_WRLCK);
        control(file.descriptor()?.as_raw_fd(), Commands::of(file).wait, &mut lock)
            .map_err(|e| OsError::new("wait for a liveness lock", e))
    }

    /// Releases the lock of this process.
    pub fn unlock(self, file: &MemoryFile) -> Result<(), OsError> {
        let mut lock = record(self, libc::F_UNLCK);
        control(file.descriptor()?.as_raw_fd(), Commands::of(file).set, &mut lock)
            .map_err(|e| OsError::new("release a liveness lock", e))
    }

    /// Whether another process holds the lock. A process does not see its own.
    pub fn held_by_another(self, file: &MemoryFile) -> Result<bool, OsError> {
        let mut lock = record(self, libc::F_WRLCK);
        control(file.descriptor()?.as_raw_fd(), Commands::of(file).ask, &mut lock)
            .map_err(|e| OsError::new("ask for a liveness lock", e))?;
        Ok(i32::from(lock.l_type) != libc::F_UNLCK)
    }
}

/// A lock that lives in an open file description: held until the last process that inherited it closes it or ends.
#[derive(Debug)]
pub struct TransferLock {
    _description: OwnedFd,
}

impl TransferLock {
    /// Takes the lock on `byte` if nobody has it.
    pub fn try_take(file: &MemoryFile, byte: LockByte) -> Result<Option<Self>, OsError> {
        let description = file.reopen(FileAccess::ReadWrite)?;
        let mut lock = record(byte, libc::F_WRLCK);
        let result = control(description.as_raw_fd(), libc::F_OFD_SETLK, &mut lock);
        Ok(taken(result, "take a transfer lock")?.then_some(Self { _description: description }))
    }

    /// Whether anybody, this process included, holds the lock on `byte`.
    pub fn is_held(file: &MemoryFile, byte: LockByte) -> Result<bool, OsError> {
        let mut lock = record(byte, libc::F_WRLCK);
        control(file.descriptor()?.as_raw_fd(), libc::F_OFD_GETLK, &mut lock)
            .map_err(|e| OsError::new("ask for a transfer lock", e))?;
        Ok(i32::from(lock.l_type) != libc::F_UNLCK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_disk_a_lock_outlives_other_descriptors_of_the_file() {
        let path = std::env::temp_dir().join(format!("onecopy-locks-{:x}", crate::random_u64().unwrap()));
        let directory = crate::PrivateDirectory::open(&path).unwrap();
        let file = directory.create_file("locks", 4096).unwrap();
        let other = file.again().unwrap();
        assert!(LockByte(1).try_lock(&file).unwrap());
        drop(std::fs::read(path.join("locks")).unwrap());
        assert!(LockByte(1).held_by_another(&other).unwrap() && !LockByte(1).held_by_another(&file).unwrap());
        file.part_from_parent().unwrap();
        assert!(!LockByte(1).held_by_another(&other).unwrap(), "the description has gone, and with it the lock");
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_transfer_lock_is_seen_and_released() {
        let file = MemoryFile::create("locks", 4096).unwrap();
        let byte = LockByte(3);
        let held = TransferLock::try_take(&file, byte).unwrap().unwrap();
        assert!(TransferLock::try_take(&file, byte).unwrap().is_none());
        assert!(TransferLock::is_held(&file, byte).unwrap());
        assert!(!TransferLock::is_held(&file, LockByte(4)).unwrap());
        drop(held);
        assert!(!TransferLock::is_held(&file, byte).unwrap());
    }

    #[test]
    fn a_process_does_not_see_its_own_record_lock() {
        let file = MemoryFile::create("locks", 4096).unwrap();
        assert!(LockByte(1).try_lock(&file).unwrap());
        assert!(!LockByte(1).held_by_another(&file).unwrap());
        LockByte(1).unlock(&file).unwrap();
    }
}
