//! Joining an arena that another process has.

use std::fmt;
use std::os::fd::RawFd;
use std::str::FromStr;

use onecopy_os::{MemoryFile, OsError, current_pid};

use super::{Arena, ArenaError, ArenaId, DATA_FILES, Data, Meta};

/// Where a member keeps an arena's files open, for others of the same user to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct JoinHint {
    /// The arena.
    pub id: ArenaId,
    /// The member.
    pub pid: u32,
    /// Its descriptor of the metadata file.
    pub meta: RawFd,
    /// Its descriptors of the data files.
    pub data: [RawFd; DATA_FILES],
}

impl Arena {
    /// How others join this arena through this process, as long as it lives.
    pub fn hint(&self) -> JoinHint {
        let [a, b] = self.data.files();
        JoinHint { id: self.id(), pid: current_pid(), meta: self.meta.descriptor(), data: [a.number(), b.number()] }
    }

    /// Joins the arena that a member of it described. `known` are the arenas that this process is in, none of them this one.
    pub(crate) fn enter(hint: JoinHint, known: &[&'static Self]) -> Result<&'static Self, ArenaError> {
        let arena = Self::open(hint, known).map_err(|error| hint.unreachable(error))?;
        arena.take_slot()?;
        Ok(arena)
    }

    /// Opens the metadata of an arena that this process is not in.
    pub(crate) fn open_stranger(
        hint: JoinHint,
        known: &[&'static Self],
        open: fn(u32, RawFd) -> Result<MemoryFile, OsError>,
    ) -> Result<MemoryFile, ArenaError> {
        let file = open(hint.pid, hint.meta)?;
        let identity = file.identity();
        if known.iter().any(|arena| arena.meta.file().identity() == identity) {
            // A forged hint led to an arena of our own. Closing the descriptor would drop our liveness lock, so it
            // stays open.
            std::mem::forget(file);
            return Err(ArenaError::Foreign("the hint names another arena".into()));
        }
        Ok(file)
    }

    fn open(hint: JoinHint, known: &[&'static Self]) -> Result<&'static Self, ArenaError> {
        let meta = Meta::adopt(Self::open_stranger(hint, known, MemoryFile::open_of)?)?;
        if meta.id() != hint.id {
            return Err(ArenaError::Foreign(format!("there is arena {} now", meta.id())));
        }
        let [a, b] = hint.data.map(|fd| MemoryFile::open_of(hint.pid, fd));
        let data = Data::adopt([a?, b?], meta.geometry())?;
        Ok(Self::leaked(meta, data))
    }
}

impl JoinHint {
    pub(crate) fn unreachable(&self, error: ArenaError) -> ArenaError {
        match error {
            ArenaError::Os(error) if error.is_exhaustion() => ArenaError::refused(error, 0),
            other @ ArenaError::OtherVersion { .. } => other,
            error => ArenaError::Unreachable {
                id: self.id,
                reason: format!(
                    "{error}; its process {} may have ended, or belong to another user or container",
                    self.pid
                ),
            },
        }
    }
}

impl fmt::Display for JoinHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}:{}:{}", self.id, self.pid, self.meta, self.data[0], self.data[1])
    }
}

impl FromStr for JoinHint {
    type Err = ArenaError;

    fn from_str(text: &str) -> Result<Self, ArenaError> {
        let parse = || -> Option<Self> {
            let mut parts = text.split(':');
            let hint = Self {
                id: ArenaId(u64::from_str_radix(parts.next()?, 16).ok()?),
                pid: parts.next()?.parse().ok()?,
                meta: parts.next()?.parse().ok()?,
                data: [parts.next()?.parse().ok()?, parts.next()?.parse().ok()?],
            };
            parts.next().is_none().then_some(hint)
        };
        parse().ok_or_else(|| ArenaError::InvalidHandle(format!("{text:?} does not say where an arena is")))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::Options;

    #[test]
    fn a_hint_survives_its_text_form() {
        let hint = JoinHint { id: ArenaId(0xfeed), pid: 12, meta: 3, data: [4, 5] };
        assert_eq!(hint.to_string().parse::<JoinHint>().unwrap(), hint);
        for bad in ["", "1:2:3:4", "1:2:3:4:5:6", "g:1:2:3:4", "1:-1:2:3:4"] {
            assert!(bad.parse::<JoinHint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn joining_what_one_is_in_answers_the_same() {
        let arena = Arena::create(Options { limit: Some(8 << 20), warm: None }).unwrap();
        assert!(std::ptr::eq(Arena::join(arena.hint()).unwrap(), arena));
    }

    #[test]
    fn a_forged_hint_is_an_error_and_costs_nothing() {
        let arena = Arena::create(Options { limit: Some(8 << 20), warm: None }).unwrap();
        let hint = arena.hint();
        let lie = JoinHint { id: ArenaId(1), ..hint };
        assert!(matches!(Arena::join(lie), Err(ArenaError::Unreachable { .. })));
        let nonsense = JoinHint { id: ArenaId(2), pid: u32::MAX, ..hint };
        assert!(matches!(Arena::join(nonsense), Err(ArenaError::Unreachable { .. })));
        let swapped = JoinHint { id: ArenaId(3), meta: hint.data[0], ..hint };
        assert!(matches!(Arena::join(swapped), Err(ArenaError::Unreachable { .. })));
        assert_eq!(arena.stats().unwrap().members.len(), 1);
    }
}
