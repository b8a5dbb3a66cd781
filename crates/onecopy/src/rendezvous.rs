//! How unrelated programs of one user find each other's arenas by name: small files in the runtime directory.
//!
//! An entry says that a process is in the arena that a name leads to, and how to join it there. It holds no data; each
//! process that opens the name adds one, so that any that lives suffices. An entry of a process that has ended is swept
//! by whoever looks.

use onecopy_arena::{Arena, JoinHint, Options};
use onecopy_os::{PrivateDirectory, ProcessName};

use crate::names::{self, Published, check_name};
use crate::{ArrayHandle, Block, Error, session};

/// What a name stands for. The words are the beginnings of file names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Arena,
    Value,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Arena => "arena",
            Self::Value => "value",
        }
    }
}

/// The entries of the runtime directory, which nobody else changes meanwhile.
struct Entries<'a> {
    directory: &'a PrivateDirectory,
}

/// Opens the arena of a name, or makes it. `create`: true, it must be new; false, it must be there.
pub fn open(name: &str, options: Options, create: Option<bool>) -> Result<&'static Arena, Error> {
    check_name(name)?;
    let directory = PrivateDirectory::of_user()?;
    let _lock = directory.lock()?;
    let entries = Entries { directory: &directory };
    let arena = match (entries.arena_of(Kind::Arena, name)?, create) {
        (Some(_), Some(true)) => return Err(Error::ArenaExists(name.into())),
        (Some(arena), _) => arena,
        (None, Some(false)) => return Err(entries.unknown(Kind::Arena, name)?),
        (None, _) => Arena::create(options)?,
    };
    entries.add(Kind::Arena, name, arena)?;
    Ok(arena)
}

/// Says that this process does not have the arena of a name open any more. The last one takes the published names along.
pub fn close(name: &str, arena: &'static Arena) -> Result<(), Error> {
    let directory = PrivateDirectory::of_user()?;
    let _lock = directory.lock()?;
    let entries = Entries { directory: &directory };
    directory.remove(&file_name(Kind::Arena, name, ProcessName::own()))?;
    if entries.of(Kind::Arena, name)?.is_empty() {
        for published in names::names(arena)? {
            names::unpublish(arena, &published)?;
        }
    }
    Ok(())
}

/// Publishes a value of the session's arena for all programs of this user.
pub fn publish(
    name: &str,
    payload: Option<&[u8]>,
    arrays: &[(Block, ArrayHandle)],
    replace: bool,
) -> Result<(), Error> {
    check_name(name)?;
    let directory = PrivateDirectory::of_user()?;
    let _lock = directory.lock()?;
    let entries = Entries { directory: &directory };
    let session = session()?;
    let elsewhere = entries.arena_of(Kind::Value, name)?.filter(|arena| !std::ptr::eq(*arena, session));
    let other = elsewhere.filter(|arena| names::names(arena).is_ok_and(|names| names.iter().any(|n| n == name)));
    if other.is_some() && !replace {
        return Err(Error::NameTaken(name.into()));
    }
    names::publish(session, name, payload, arrays, replace)?;
    if let Some(other) = other {
        names::unpublish(other, name)?;
    }
    entries.clear(Kind::Value, name)?;
    entries.add(Kind::Value, name, session)
}

/// The value of a name in the session's arena, or in that of any other program of this user.
pub fn attach(name: &str) -> Result<Published, Error> {
    if let Some(published) = names::attach(session()?, name)? {
        return Ok(published);
    }
    let directory = PrivateDirectory::of_user()?;
    let _lock = directory.lock()?;
    let entries = Entries { directory: &directory };
    if let Some(arena) = entries.arena_of(Kind::Value, name)?
        && let Some(published) = names::attach(arena, name)?
    {
        entries.add(Kind::Value, name, arena)?;
        return Ok(published);
    }
    Err(entries.unknown(Kind::Value, name)?)
}

/// Takes a name away, wherever it was published.
pub fn unpublish(name: &str) -> Result<(), Error> {
    check_name(name)?;
    let directory = PrivateDirectory::of_user()?;
    let _lock = directory.lock()?;
    let entries = Entries { directory: &directory };
    let elsewhere = entries.arena_of(Kind::Value, name)?;
    let mut found = names::unpublish(session()?, name)?;
    if let Some(arena) = elsewhere {
        found |= names::unpublish(arena, name)?;
    }
    entries.clear(Kind::Value, name)?;
    if found { Ok(()) } else { Err(entries.unknown(Kind::Value, name)?) }
}

/// Removes the entries of processes that have ended; answers how many they were.
pub fn sweep() -> Result<u32, Error> {
    let directory = PrivateDirectory::of_user()?;
    let _lock = directory.lock()?;
    Entries { directory: &directory }.sweep()
}

fn file_name(kind: Kind, name: &str, process: ProcessName) -> String {
    format!("{}.{name}~{process}", kind.word())
}

/// Name and process of an entry of this kind.
fn parse(kind: Kind, file: &str) -> Option<(&str, ProcessName)> {
    let (name, process) = file.strip_prefix(kind.word())?.strip_prefix('.')?.rsplit_once('~')?;
    Some((name, process.parse().ok()?))
}

impl Entries<'_> {
    fn sweep(&self) -> Result<u32, Error> {
        let mut swept = 0;
        for file in self.directory.list()? {
            let entry = parse(Kind::Arena, &file).or_else(|| parse(Kind::Value, &file));
            if entry.is_some_and(|(_, process)| process.has_ended()) {
                self.directory.remove(&file)?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// The entries of a name whose processes may live.
    fn of(&self, kind: Kind, name: &str) -> Result<Vec<String>, Error> {
        self.sweep()?;
        let mut files = self.directory.list()?;
        files.retain(|file| parse(kind, file).is_some_and(|(other, _)| other == name));
        Ok(files)
    }

    /// The arena that a name leads to, joined by way of the first process that can be reached.
    fn arena_of(&self, kind: Kind, name: &str) -> Result<Option<&'static Arena>, Error> {
        for file in self.of(kind, name)? {
            let hint = self.directory.read(&file)?.and_then(|text| text.parse::<JoinHint>().ok());
            if let Some(arena) = hint.and_then(|hint| Arena::join(hint).ok()) {
                return Ok(Some(arena));
            }
        }
        Ok(None)
    }

    fn add(&self, kind: Kind, name: &str, arena: &'static Arena) -> Result<(), Error> {
        let file = file_name(kind, name, ProcessName::own());
        self.directory.remove(&file)?;
        Ok(self.directory.create(&file, &arena.hint().to_string())?)
    }

    fn clear(&self, kind: Kind, name: &str) -> Result<(), Error> {
        for file in self.of(kind, name)? {
            self.directory.remove(&file)?;
        }
        Ok(())
    }

    fn unknown(&self, kind: Kind, name: &str) -> Result<Error, Error> {
        let files = self.directory.list()?;
        let mut known: Vec<String> = files.iter().filter_map(|file| Some(parse(kind, file)?.0.to_owned())).collect();
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
        let file = file_name(Kind::Arena, "a.b-c", own);
        assert_eq!(parse(Kind::Arena, &file), Some(("a.b-c", own)));
        for foreign in ["value.x~1-2-3", "arena.x", "arena.x~1-2", "notes.txt"] {
            assert_eq!(parse(Kind::Arena, foreign), None);
        }
    }
}
