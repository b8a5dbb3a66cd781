//! A directory that only this user can read and write: small files by which unrelated processes find each other.

use std::io::{Error, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, Stat};

use crate::{FileAccess, MemoryFile, OsError};

/// Longest entry that is read: whatever is longer was not written here.
const MOST_BYTES: usize = 4096;
/// Those that have the directory locked write and read a few small files; longer than this is no such thing.
const PATIENCE: Duration = Duration::from_secs(10);

/// A directory of mode 0700 that belongs to this user, checked when it was opened. Everything in it is reached relative
/// to its descriptor, so that nobody can put another directory in its place.
#[derive(Debug)]
pub struct PrivateDirectory {
    fd: OwnedFd,
    path: PathBuf,
}

/// Keeps others from changing the directory until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct DirectoryLock {
    description: OwnedFd,
}

impl PrivateDirectory {
    /// The runtime directory of this user: `$XDG_RUNTIME_DIR/onecopy` if that variable names a private directory of
    /// this user, else `/tmp/onecopy-UID`. It is made if it is not there.
    pub fn of_user() -> Result<Self, OsError> {
        let given = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
        match given.filter(|path| open_directory(path).and_then(|fd| check(&fd)).is_ok()) {
            Some(path) => Self::open(&path.join("onecopy")),
            None => Self::open(Path::new(&format!("/tmp/onecopy-{}", rustix::process::geteuid().as_raw()))),
        }
    }

    /// Opens `path`, or makes it. A link, a directory of another user or one that others may enter is an error.
    pub fn open(path: &Path) -> Result<Self, OsError> {
        let action = || format!("use {} as runtime directory", path.display());
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(OsError::new(action(), error)),
        }
        let fd = open_directory(path).map_err(|error| OsError::new(action(), error))?;
        check(&fd).map_err(|error| OsError::new(action(), error))?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// Opens `path` if there is anything. A link, a directory of another user or one that others may enter is an error.
    pub fn existing(path: &Path) -> Result<Option<Self>, OsError> {
        let action = || format!("open {}", path.display());
        let fd = match rustix::fs::openat(rustix::fs::CWD, path, DIRECTORY, Mode::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) => {
                let reason = "it is no directory, or a symbolic link to one; give the path of the directory itself";
                return Err(OsError::new(action(), Error::other(reason)));
            }
            Err(error) => return Err(OsError::new(action(), error)),
        };
        check(&fd).map_err(|error| OsError::new(action(), error))?;
        Ok(Some(Self { fd, path: path.to_owned() }))
    }

    /// Makes a file of `size` bytes, all of them holes, that is to be mapped.
    pub fn create_file(&self, name: &str, size: u64) -> Result<MemoryFile, OsError> {
        let action = || format!("create {}", self.path.join(name).display());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR);
        let file = file.map_err(|error| OsError::new(action(), error))?;
        // Where a file system writes each change to a new place (btrfs), one needs room even where there is some already.
        // Others do not know the flag.
        if let Ok(flags) = rustix::fs::ioctl_getflags(&file) {
            let _ = rustix::fs::ioctl_setflags(&file, flags | rustix::fs::IFlags::NOCOW);
        }
        MemoryFile::sized_on_disk(file, size)
    }

    /// Opens a file that is to be mapped. A link, or a file that others may touch, is an error.
    pub fn open_file(&self, name: &str, access: FileAccess) -> Result<MemoryFile, OsError> {
        let action = || format!("open {}", self.path.join(name).display());
        let access = match access {
            FileAccess::Read => OFlags::RDONLY,
            FileAccess::ReadWrite => OFlags::RDWR,
        };
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.fd, name, flags, Mode::empty()).map_err(|error| match error {
            rustix::io::Errno::LOOP => OsError::new(action(), Error::other("it is a symbolic link")),
            error => OsError::new(action(), error),
        })?;
        MemoryFile::adopt_on_disk(file, action)
    }

    /// Waits until what is in the directory is found in it also after a power loss.
    pub fn sync(&self) -> Result<(), OsError> {
        sync(&self.fd).map_err(|error| OsError::new(format!("write {} to disk", self.path.display()), error))
    }

    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.fd
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until nobody else has the directory locked. The lock ends with its holder.
    pub fn lock(&self) -> Result<DirectoryLock, OsError> {
        let action = || format!("lock {}", self.path.display());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let description = rustix::fs::openat(&self.fd, ".", flags, Mode::empty());
        let description = description.map_err(|error| OsError::new(action(), error))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match rustix::fs::flock(&description, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(DirectoryLock { description }),
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(OsError::new(action(), error)),
            }
        }
    }

    /// Makes the file `name` with these contents; one of that name is an error of kind `AlreadyExists`.
    pub fn create(&self, name: &str, contents: &str) -> Result<(), OsError> {
        let action = || format!("create {}", self.path.join(name).display());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR);
        let file = file.map_err(|error| OsError::new(action(), error))?;
        let written = std::io::Write::write_all(&mut std::fs::File::from(file), contents.as_bytes());
        written.map_err(|error| {
            // Half an entry leads nowhere; should this fail too, readers refuse what it says.
            let _ = self.remove(name);
            OsError::new(action(), error)
        })
    }

    /// Contents of the file `name`; none where it is not there or is no short text.
    pub fn read(&self, name: &str) -> Result<Option<String>, OsError> {
        let action = || format!("read {}", self.path.join(name).display());
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP) => return Ok(None),
            Err(error) => return Err(OsError::new(action(), error)),
        };
        let stat = rustix::fs::fstat(&file).map_err(|error| OsError::new(action(), error))?;
        if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let mut limited = std::io::Read::take(std::fs::File::from(file), MOST_BYTES as u64 + 1);
        std::io::Read::read_to_end(&mut limited, &mut bytes).map_err(|error| OsError::new(action(), error))?;
        Ok((bytes.len() <= MOST_BYTES).then(|| String::from_utf8(bytes).ok()).flatten())
    }

    /// Removes the file `name`, if it is there and a file.
    pub fn remove(&self, name: &str) -> Result<(), OsError> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            // A directory was not put here by this library, and says nothing.
            Ok(()) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::ISDIR) => Ok(()),
            Err(error) => Err(OsError::new(format!("remove {}", self.path.join(name).display()), error)),
        }
    }

    /// Names of the files in it, sorted.
    pub fn list(&self) -> Result<Vec<String>, OsError> {
        let failed = |error| OsError::new(format!("list {}", self.path.display()), error);
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = std::ffi::OsStr::from_bytes(entry.file_name().to_bytes());
            names.extend(name.to_str().filter(|name| !name.starts_with('.')).map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

pub(super) fn open_directory(path: &Path) -> Result<OwnedFd, Error> {
    Ok(rustix::fs::open(path, DIRECTORY, Mode::empty())?)
}

pub(super) fn sync(directory: &OwnedFd) -> rustix::io::Result<()> {
    match rustix::fs::fsync(directory) {
        // Some file systems have nothing to sync of a directory.
        Err(rustix::io::Errno::INVAL) => Ok(()),
        other => other,
    }
}

fn check(fd: &OwnedFd) -> Result<(), Error> {
    let Stat { st_uid, st_mode, .. } = rustix::fs::fstat(fd)?;
    let own = rustix::process::geteuid().as_raw();
    if st_uid != own {
        let reason = format!("it belongs to user {st_uid}, not to {own}; use a directory of your own");
        return Err(Error::new(ErrorKind::PermissionDenied, reason));
    }
    if st_mode & 0o077 != 0 {
        let reason = format!("others may enter it (mode {:o}); chmod it to 700", st_mode & 0o777);
        return Err(Error::new(ErrorKind::PermissionDenied, reason));
    }
    Ok(())
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // By hand: a child that was forked meanwhile has the description too, and closing it here would not unlock.
        let _ = rustix::fs::flock(&self.description, FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A directory of this test alone, removed at its end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("onecopy-test-{name}-{:x}", crate::random_u64().unwrap()));
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn entries_come_and_go() {
        let scratch = Scratch::new("entries");
        let directory = PrivateDirectory::open(&scratch.0.join("d")).unwrap();
        directory.create("b", "two").unwrap();
        directory.create("a", "one").unwrap();
        assert_eq!(directory.create("a", "other").unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(directory.list().unwrap(), ["a", "b"]);
        assert_eq!(directory.read("a").unwrap().unwrap(), "one");
        let mode = std::fs::metadata(scratch.0.join("d/a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        directory.remove("a").unwrap();
        directory.remove("a").unwrap();
        assert_eq!(directory.read("a").unwrap(), None);
        assert_eq!(directory.list().unwrap(), ["b"]);
    }

    #[test]
    fn what_others_could_change_is_refused() {
        let scratch = Scratch::new("refused");
        let path = scratch.0.join("open");
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let error = PrivateDirectory::open(&path).unwrap_err();
        assert!(error.to_string().contains("mode 755"), "{error}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        symlink(&path, scratch.0.join("link")).unwrap();
        assert!(PrivateDirectory::open(&scratch.0.join("link")).is_err());
        std::fs::write(scratch.0.join("file"), "").unwrap();
        assert!(PrivateDirectory::open(&scratch.0.join("file")).is_err());
    }

    #[test]
    fn links_and_long_files_are_not_read() {
        let scratch = Scratch::new("links");
        let directory = PrivateDirectory::open(&scratch.0.join("d")).unwrap();
        std::fs::write(scratch.0.join("secret"), "secret").unwrap();
        symlink(scratch.0.join("secret"), directory.path().join("link")).unwrap();
        std::fs::write(directory.path().join("long"), vec![b'x'; MOST_BYTES + 1]).unwrap();
        std::fs::create_dir(directory.path().join("inside")).unwrap();
        assert_eq!(directory.read("inside").unwrap(), None);
        directory.remove("inside").unwrap();
        assert_eq!((directory.read("link").unwrap(), directory.read("long").unwrap()), (None, None));
    }

    #[test]
    fn one_at_a_time_has_the_lock() {
        let scratch = Scratch::new("lock");
        let directory = PrivateDirectory::open(&scratch.0.join("d")).unwrap();
        let held = directory.lock().unwrap();
        let other = open_directory(directory.path()).unwrap();
        assert!(rustix::fs::flock(&other, FlockOperation::NonBlockingLockExclusive).is_err());
        drop(held);
        rustix::fs::flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
    }
}
