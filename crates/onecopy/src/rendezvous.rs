//! How unrelated programs of one user find each other's arenas by name: small files in the runtime directory.
//!
//! An entry says that a process is in the arena that a name leads to, and how to join it there. It holds no data; each
//! process that opens the name adds one, so that any that lives suffices. An entry of a process that has ended is swept
//! by whoever looks.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use onecopy_arena::{Arena, ArenaError, ArenaId, JoinHint, Options, Sighting};
use onecopy_os::{Machine, PrivateDirectory, ProcessName};

use crate::names::{self, Published, check_name};
use crate::{ArrayHandle, Block, Error, session};

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// An arena that was opened by name.
    Arena,
    /// A value in a session's arena.
    Value,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Arena, Self::Value];

    /// What the file names of entries begin with.
    fn word(self) -> &'static str {
        match self {
            Self::Arena => "arena",
            Self::Value => "value",
        }
    }
}

/// The entries of the runtime directory, which nobody else changes meanwhile.
struct Entries {
    directory: PrivateDirectory,
}

fn with_entries<T>(work: impl FnOnce(&Entries) -> Result<T, Error>) -> Result<T, Error> {
    let entries = Entries { directory: PrivateDirectory::of_user()? };
    let _lock = entries.directory.lock()?;
    work(&entries)
}

/// Opens the arena of a name, or makes it. `create`: true, it must be new; false, it must be there. It lives as long as any
/// process has it open, and is closed by [`close`].
///
/// ```
/// use onecopy::{Options, rendezvous};
///
/// # let name = &format!("example-{}", std::process::id());
/// let options = Options { limit: Some(64 << 20), warm: None };
/// let arena = rendezvous::open(name, options, None)?; // here, or in any other program of this user
/// assert_eq!(rendezvous::open(name, options, Some(false))?.id(), arena.id());
/// rendezvous::close(name, arena)?;
/// rendezvous::close(name, arena)?;
/// assert!(rendezvous::open(name, options, Some(false)).is_err());
/// # Ok::<(), onecopy::Error>(())
/// ```
pub fn open(name: &str, options: Options, create: Option<bool>) -> Result<&'static Arena, Error> {
    check_name(name)?;
    with_entries(|entries| {
        let arena = match (entries.arena_of(Kind::Arena, name)?, create) {
            (Some(_), Some(true)) => return Err(Error::ArenaExists(name.into())),
            (Some(arena), _) => arena,
            (None, Some(false)) => return Err(entries.unknown(Kind::Arena, name)?),
            (None, _) => Arena::create(options)?,
        };
        entries.add(Kind::Arena, name, arena)?;
        arena.count_opened();
        Ok(arena)
    })
}

/// Undoes one opening by name. Should this process have been the last one that had it open, what is published in it goes
/// with it.
pub fn close(name: &str, arena: &'static Arena) -> Result<(), Error> {
    with_entries(|entries| {
        if arena.times_opened() <= 1 && arena.is_member() {
            entries.directory.remove(&file_name(Kind::Arena, name, ProcessName::own()))?;
            if arena.stats()?.members.iter().filter(|member| member.lives).count() <= 1 {
                for published in names::names(arena)? {
                    names::unpublish(arena, &published)?;
                }
            }
        }
        Ok(arena.close()?)
    })
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
        let elsewhere = entries.arena_of(Kind::Value, name)?.filter(|arena| !std::ptr::eq(*arena, session));
        let other = elsewhere.filter(|arena| names::names(arena).is_ok_and(|names| names.iter().any(|n| n == name)));
        if other.is_some() && !replace {
            return Err(Error::NameTaken(name.into()));
        }
        names::publish(session, name, payload, arrays, replace)?;
        if let Some(other) = other {
            names::unpublish(other, name)?;
        }
        entries.clear(name)?;
        entries.add(Kind::Value, name, session)
    })
}

/// The value of a name in the session's arena, or in that of any other program of this user.
pub fn attach(name: &str) -> Result<Published, Error> {
    if let Some(published) = names::attach(session()?, name)? {
        return Ok(published);
    }
    with_entries(|entries| {
        if let Some(arena) = entries.arena_of(Kind::Value, name)?
            && let Some(published) = names::attach(arena, name)?
        {
            entries.add(Kind::Value, name, arena)?;
            return Ok(published);
        }
        Err(entries.unknown(Kind::Value, name)?)
    })
}

/// Takes a name away, wherever it was published.
pub fn unpublish(name: &str) -> Result<(), Error> {
    check_name(name)?;
    with_entries(|entries| {
        let elsewhere = entries.arena_of(Kind::Value, name)?;
        let mut found = names::unpublish(session()?, name)?;
        if let Some(arena) = elsewhere {
            found |= names::unpublish(arena, name)?;
        }
        entries.clear(name)?;
        if found { Ok(()) } else { Err(entries.unknown(Kind::Value, name)?) }
    })
}

/// The names of the arenas that were opened by name.
pub fn arena_names() -> Result<BTreeMap<ArenaId, String>, Error> {
    with_entries(|entries| {
        let mut names = BTreeMap::new();
        for file in entries.directory.list()? {
            if let Some((name, _)) = parse(Kind::Arena, &file)
                && let Some(hint) = entries.hint_in(&file)?
            {
                names.insert(hint.id, name.to_owned());
            }
        }
        Ok(names)
    })
}

/// Removes the entries of processes that have ended; answers how many they were.
pub fn sweep() -> Result<u32, Error> {
    with_entries(|entries| entries.sweep().map(|(_, swept)| swept))
}

fn file_name(kind: Kind, name: &str, process: ProcessName) -> String {
    format!("{}.{name}~{process}", kind.word())
}

/// Name and process of an entry of a kind.
fn parse(kind: Kind, file: &str) -> Option<(&str, ProcessName)> {
    let (name, process) = file.strip_prefix(kind.word())?.strip_prefix('.')?.rsplit_once('~')?;
    Some((name, process.parse().ok()?))
}

/// Arenas that other processes have open, looked for when they are asked for.
#[derive(Default)]
struct Sightings(OnceCell<Vec<Sighting>>);

impl Sightings {
    /// Where an arena can be joined that somebody has open; a child that was forked has it without an entry of its own.
    fn of(&self, id: ArenaId) -> Option<JoinHint> {
        let seen = self.0.get_or_init(|| Arena::sightings(Machine::this()));
        seen.iter().map(|sighting| sighting.hint).find(|hint| hint.id == id)
    }
}

impl Entries {
    /// Removes the entries of processes that have ended, but for those of arenas that their children have; answers the files
    /// that are left, and how many it removed.
    fn sweep(&self) -> Result<(Vec<String>, u32), Error> {
        let (mut left, mut swept, sightings) = (Vec::new(), 0, Sightings::default());
        for file in self.directory.list()? {
            let ended = Kind::ALL.into_iter().find(|&kind| parse(kind, &file).is_some_and(|(_, p)| p.has_ended()));
            let has_heirs = |id| Arena::find(id).is_some_and(Arena::is_member) || sightings.of(id).is_some();
            let stays = match ended {
                None => true,
                Some(Kind::Value) => false,
                Some(Kind::Arena) => self.hint_in(&file)?.is_some_and(|hint| has_heirs(hint.id)),
            };
            if stays {
                left.push(file);
            } else {
                self.directory.remove(&file)?;
                swept += 1;
            }
        }
        Ok((left, swept))
    }

    fn hint_in(&self, file: &str) -> Result<Option<JoinHint>, Error> {
        Ok(self.directory.read(file)?.and_then(|text| text.parse().ok()))
    }

    /// The entries of a name whose processes, or children of them, may live.
    fn of(&self, kind: Kind, name: &str) -> Result<Vec<String>, Error> {
        let (mut files, _) = self.sweep()?;
        files.retain(|file| parse(kind, file).is_some_and(|(other, _)| other == name));
        Ok(files)
    }

    /// The arena that a name leads to, joined by way of the first process that can be reached. One of another version is an
    /// error, as the name is not free.
    fn arena_of(&self, kind: Kind, name: &str) -> Result<Option<&'static Arena>, Error> {
        let (mut foreign, sightings) = (None, Sightings::default());
        for file in self.of(kind, name)? {
            let Some(hint) = self.hint_in(&file)? else { continue };
            let other_way = || sightings.of(hint.id).filter(|_| kind == Kind::Arena).map(Arena::join);
            match Arena::join(hint).or_else(|error| other_way().unwrap_or(Err(error))) {
                Ok(arena) => return Ok(Some(arena)),
                Err(error @ ArenaError::OtherVersion { .. }) => {
                    foreign = Some(Error::NameForeign { name: name.into(), reason: error.to_string() });
                }
                // Also not free, but out of reach now.
                Err(error @ (ArenaError::OutOfMemory { .. } | ArenaError::TableFull { .. })) => {
                    foreign = Some(error.into());
                }
                Err(_) => {}
            }
        }
        foreign.map_or(Ok(None), Err)
    }

    fn add(&self, kind: Kind, name: &str, arena: &'static Arena) -> Result<(), Error> {
        let file = file_name(kind, name, ProcessName::own());
        self.directory.remove(&file)?;
        Ok(self.directory.create(&file, &arena.hint().to_string())?)
    }

    fn clear(&self, name: &str) -> Result<(), Error> {
        for file in self.of(Kind::Value, name)? {
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
        for kind in Kind::ALL {
            let file = file_name(kind, "a.b-c", own);
            assert_eq!(parse(kind, &file), Some(("a.b-c", own)));
        }
        for foreign in ["arena.x~1-2-3", "value.x", "value.x~1-2", "notes.txt"] {
            assert_eq!(parse(Kind::Value, foreign), None);
        }
    }
}
