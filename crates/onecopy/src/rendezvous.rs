//! How unrelated programs of one user find each other's arenas by name: small files in the runtime directory.
//!
//! An entry says that a process is in the arena that a name leads to, and how to join it there. It holds no data; each
//! process that opens the name adds one, so that any that lives suffices. An entry of a process that has ended is swept
//! by whoever looks.

use onecopy_arena::{Arena, JoinHint};
use onecopy_os::{PrivateDirectory, ProcessName};

use crate::names::{self, Published, check_name};
use crate::{ArrayHandle, Block, Error, session};

/// What the file names of entries begin with.
const KIND: &str = "value.";

/// The entries of the runtime directory, which nobody else changes meanwhile.
struct Entries {
    directory: PrivateDirectory,
}

fn with_entries<T>(work: impl FnOnce(&Entries) -> Result<T, Error>) -> Result<T, Error> {
    let entries = Entries { directory: PrivateDirectory::of_user()? };
    let _lock = entries.directory.lock()?;
    work(&entries)
}

/// Publishes a value of the session's arena for all programs of this user.
pub fn publish(
    name: &str,
    payload: Option<&[u8]>,
    arrays: &[(Block, ArrayHandle)],
    replace: bool,
) -> Result<(), Error> {
    check_name(name)?;
    with_entries(|entries| {
        let session = session()?;
        let elsewhere = entries.arena_of(name)?.filter(|arena| !std::ptr::eq(*arena, session));
        let other = elsewhere.filter(|arena| names::names(arena).is_ok_and(|names| names.iter().any(|n| n == name)));
        if other.is_some() && !replace {
            return Err(Error::NameTaken(name.into()));
        }
        names::publish(session, name, payload, arrays, replace)?;
        if let Some(other) = other {
            names::unpublish(other, name)?;
        }
        entries.clear(name)?;
        entries.add(name, session)
    })
}

/// The value of a name in the session's arena, or in that of any other program of this user.
pub fn attach(name: &str) -> Result<Published, Error> {
    if let Some(published) = names::attach(session()?, name)? {
        return Ok(published);
    }
    with_entries(|entries| {
        if let Some(arena) = entries.arena_of(name)?
            && let Some(published) = names::attach(arena, name)?
        {
            entries.add(name, arena)?;
            return Ok(published);
        }
        Err(entries.unknown(name)?)
    })
}

/// Takes a name away, wherever it was published.
pub fn unpublish(name: &str) -> Result<(), Error> {
    check_name(name)?;
    with_entries(|entries| {
        let elsewhere = entries.arena_of(name)?;
        let mut found = names::unpublish(session()?, name)?;
        if let Some(arena) = elsewhere {
            found |= names::unpublish(arena, name)?;
        }
        entries.clear(name)?;
        if found { Ok(()) } else { Err(entries.unknown(name)?) }
    })
}

/// Removes the entries of processes that have ended; answers how many they were.
pub fn sweep() -> Result<u32, Error> {
    with_entries(|entries| entries.sweep().map(|(_, swept)| swept))
}

fn file_name(name: &str, process: ProcessName) -> String {
    format!("{KIND}{name}~{process}")
}

/// Name and process of an entry.
fn parse(file: &str) -> Option<(&str, ProcessName)> {
    let (name, process) = file.strip_prefix(KIND)?.rsplit_once('~')?;
    Some((name, process.parse().ok()?))
}

impl Entries {
    /// Removes the entries of processes that have ended; answers the files that are left, and how many it removed.
    fn sweep(&self) -> Result<(Vec<String>, u32), Error> {
        let (mut left, mut swept) = (Vec::new(), 0);
        for file in self.directory.list()? {
            if parse(&file).is_some_and(|(_, process)| process.has_ended()) {
                self.directory.remove(&file)?;
                swept += 1;
            } else {
                left.push(file);
            }
        }
        Ok((left, swept))
    }

    /// The entries of a name whose processes may live.
    fn of(&self, name: &str) -> Result<Vec<String>, Error> {
        let (mut files, _) = self.sweep()?;
        files.retain(|file| parse(file).is_some_and(|(other, _)| other == name));
        Ok(files)
    }

    /// The arena that a name leads to, joined by way of the first process that can be reached.
    fn arena_of(&self, name: &str) -> Result<Option<&'static Arena>, Error> {
        for file in self.of(name)? {
            let hint = self.directory.read(&file)?.and_then(|text| text.parse::<JoinHint>().ok());
            if let Some(arena) = hint.and_then(|hint| Arena::join(hint).ok()) {
                return Ok(Some(arena));
            }
        }
        Ok(None)
    }

    fn add(&self, name: &str, arena: &'static Arena) -> Result<(), Error> {
        let file = file_name(name, ProcessName::own());
        self.directory.remove(&file)?;
        Ok(self.directory.create(&file, &arena.hint().to_string())?)
    }

    fn clear(&self, name: &str) -> Result<(), Error> {
        for file in self.of(name)? {
            self.directory.remove(&file)?;
        }
        Ok(())
    }

    fn unknown(&self, name: &str) -> Result<Error, Error> {
        let files = self.directory.list()?;
        let mut known: Vec<String> = files.iter().filter_map(|file| Some(parse(file)?.0.to_owned())).collect();
        known.dedup();
        Ok(Error::NameUnknown { name: name.into(), known })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_read_back() {
        let own = ProcessName::own();
        let file = file_name("a.b-c", own);
        assert_eq!(parse(&file), Some(("a.b-c", own)));
        for foreign in ["arena.x~1-2-3", "value.x", "value.x~1-2", "notes.txt"] {
            assert_eq!(parse(foreign), None);
        }
    }
}
