//! A directory that appears under its name only when it is complete.
//!
//! It is made beside its place under a hidden name, and renamed. What a maker leaves that was killed before that is
//! removed by the next that makes one there: the maker holds a lock on it as long as it lives.

use std::ffi::{OsStr, OsString};
use std::io::{Error, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode};
use rustix::io::Errno;

use super::directory::{PrivateDirectory, open_directory, sync};
use super::process::random_u64;
use crate::{OsError, crash_point};

/// What the name of every half-made directory ends with.
const UNFINISHED: &str = ".onecopy-unfinished";

/// A directory that is being made. Dropped before it is published, it goes with all that is in it.
#[derive(Debug)]
pub struct NewDirectory {
    made: PrivateDirectory,
    parent: std::os::fd::OwnedFd,
    hidden: OsString,
    place: OsString,
    published: bool,
}

impl NewDirectory {
    /// Begins the directory that is to be at `path`, whose parent must be there.
    pub fn make(path: &Path) -> Result<Self, OsError> {
        let failed = |error: Error| OsError::new(format!("make {}", path.display()), error);
        let place = path.file_name().map(OsStr::to_owned);
        let place = place.ok_or_else(|| failed(Error::new(ErrorKind::InvalidInput, "the path has no last part")))?;
        let above = match path.parent() {
            Some(above) if !above.as_os_str().is_empty() => above.to_owned(),
            _ => PathBuf::from("."),
        };
        let above = above.canonicalize().map_err(failed)?;
        let parent = open_directory(&above).map_err(failed)?;
        sweep(&parent, &above, &place);
        loop {
            let hidden = hidden_name(&place, &format!("{:016x}", random_u64()?));
            rustix::fs::mkdirat(&parent, &hidden, Mode::RWXU).map_err(|error| failed(error.into()))?;
            crash_point!("new-directory.made");
            // A sweeper may have taken it for one that was left: between the two calls nobody has it locked.
            let Some(made) = PrivateDirectory::existing(&above.join(&hidden))? else { continue };
            match rustix::fs::flock(made.descriptor(), FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if is_there(&made) => {
                    crash_point!("new-directory.locked");
                    return Ok(Self { made, parent, hidden, place, published: false });
                }
                Ok(()) | Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(error) => return Err(failed(error.into())),
            }
        }
    }

    /// Where its files are made.
    pub fn directory(&self) -> &PrivateDirectory {
        &self.made
    }

    /// Puts it in its place, where there must be nothing or an empty directory; answers false where there is more.
    pub fn publish(mut self) -> Result<bool, OsError> {
        let failed = |error: Errno| OsError::new(format!("put {} in its place", self.place.display()), error);
        self.made.sync()?;
        match rustix::fs::renameat(&self.parent, &self.hidden, &self.parent, &self.place) {
            Ok(()) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(false),
            Err(error) => return Err(failed(error)),
        }
        crash_point!("new-directory.published");
        sync(&self.parent).map_err(failed)?;
        self.published = true;
        let _ = rustix::fs::flock(self.made.descriptor(), FlockOperation::Unlock);
        Ok(true)
    }
}

impl Drop for NewDirectory {
    fn drop(&mut self) {
        if !self.published {
            remove(&self.parent, &self.hidden, &self.made);
        }
    }
}

fn hidden_name(place: &OsStr, middle: &str) -> OsString {
    let mut name = OsString::from(".");
    for part in [place, OsStr::new("."), OsStr::new(middle), OsStr::new(UNFINISHED)] {
        name.push(part);
    }
    name
}

fn is_there(directory: &PrivateDirectory) -> bool {
    rustix::fs::fstat(directory.descriptor()).is_ok_and(|stat| stat.st_nlink > 0)
}

/// Removes what makers of `place` left that have ended. Nothing here is worth an error: what stays harms nobody.
fn sweep(parent: &std::os::fd::OwnedFd, above: &Path, place: &OsStr) {
    let Ok(entries) = Dir::read_from(parent) else { return };
    let start = hidden_name(place, "");
    let start = &start.as_bytes()[..start.len() - UNFINISHED.len()];
    for entry in entries.flatten() {
        let name = entry.file_name().to_bytes();
        if !name.starts_with(start) || !name.ends_with(UNFINISHED.as_bytes()) {
            continue;
        }
        let name = OsStr::from_bytes(name);
        // Of another user, or a link: not ours.
        let Ok(Some(left)) = PrivateDirectory::existing(&above.join(name)) else { continue };
        if rustix::fs::flock(left.descriptor(), FlockOperation::NonBlockingLockExclusive).is_ok() {
            remove(parent, name, &left);
        }
    }
}

fn remove(parent: &std::os::fd::OwnedFd, name: &OsStr, directory: &PrivateDirectory) {
    for file in directory.list().unwrap_or_default() {
        let _ = directory.remove(&file);
    }
    let _ = rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR);
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn scratch(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("onecopy-new-{name}-{:x}", crate::random_u64().unwrap()));
        std::fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    fn names(scratch: &Scratch) -> Vec<String> {
        let entries = std::fs::read_dir(&scratch.0).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn it_appears_whole_and_once() {
        let scratch = scratch("once");
        let path = scratch.0.join("x");
        let (first, second) = (NewDirectory::make(&path).unwrap(), NewDirectory::make(&path).unwrap());
        first.directory().create("file", "first").unwrap();
        second.directory().create("file", "second").unwrap();
        assert_eq!(names(&scratch).len(), 2, "neither took the other for one that was left");
        assert!(first.publish().unwrap());
        assert!(!second.publish().unwrap());
        assert_eq!(names(&scratch), ["x"]);
        assert_eq!(std::fs::read_to_string(path.join("file")).unwrap(), "first");
    }

    #[test]
    fn an_empty_directory_is_filled_and_what_was_left_is_swept() {
        let scratch = scratch("swept");
        let path = scratch.0.join("x");
        std::fs::create_dir(&path).unwrap();
        let left = NewDirectory::make(&path).unwrap();
        left.directory().create("meta", "half").unwrap();
        // As a killed maker leaves it: the files stay, the lock goes.
        rustix::fs::flock(left.made.descriptor(), FlockOperation::Unlock).unwrap();
        let kept = scratch.0.join(".y.0.onecopy-unfinished");
        std::fs::create_dir(&kept).unwrap();
        assert!(NewDirectory::make(&path).unwrap().publish().unwrap());
        assert_eq!(names(&scratch), [".y.0.onecopy-unfinished", "x"]);
        std::mem::forget(left);
    }
}
