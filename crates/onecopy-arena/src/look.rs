//! Finding arenas and looking into them from outside: without joining, without a lock, and without a writable mapping.

use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::path::PathBuf;

use onecopy_os::{FileAccess, Machine, MemoryFile, PrivateDirectory, current_pid};

use crate::ArenaError;
use crate::arena::{Arena, JoinHint};
use crate::layout::{ArenaId, DATA, DATA_FILES, META, parse_file_name};
use crate::meta::Meta;
use crate::slots::{JANITOR, Roll};
use crate::stats::Details;

/// An arena that some process has open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Where it can be looked at and joined: through the first of its processes.
    pub hint: JoinHint,
    /// The processes that have its files open, members or not.
    pub pids: Vec<u32>,
    /// The directory of an arena on disk.
    pub path: Option<PathBuf>,
}

impl Arena {
    /// The arenas that other processes of this user have open, by what `/proc` tells of their descriptors.
    pub fn sightings(machine: &Machine) -> Vec<Sighting> {
        let mut found = BTreeMap::<ArenaId, Sighting>::new();
        for pid in machine.processes().into_iter().filter(|&pid| pid != current_pid()) {
            let in_memory = hints(pid, &machine.memory_files_of(pid).unwrap_or_default());
            let in_memory = in_memory.into_iter().map(|hint| (hint, None));
            for (hint, path) in in_memory.chain(hints_on_disk(machine, pid)) {
                let sighting = found.entry(hint.id);
                sighting.or_insert_with(|| Sighting { hint, pids: Vec::new(), path }).pids.push(pid);
            }
        }
        found.into_values().collect()
    }
}

/// The arenas of which a process has all files open.
fn hints(pid: u32, files: &[(RawFd, String)]) -> Vec<JoinHint> {
    let named = |id, part| files.iter().find(|(_, name)| parse_file_name(name) == Some((id, part))).map(|&(fd, _)| fd);
    let mut ids: Vec<_> = files.iter().filter_map(|(_, name)| Some(parse_file_name(name)?.0)).collect();
    ids.sort_unstable();
    ids.dedup();
    let hint = |id| {
        let mut data = [0; DATA_FILES];
        for (fd, part) in data.iter_mut().zip(DATA) {
            *fd = named(id, part)?;
        }
        Some(JoinHint { id, pid, meta: named(id, META)?, data })
    };
    ids.into_iter().filter_map(hint).collect()
}

/// Looks at an arena that this process is not in. The registry stays locked meanwhile: closing the files of an arena that
/// another thread joins would drop the liveness lock.
pub(crate) fn details_of(hint: JoinHint, known: &[&'static Arena]) -> Result<Details, ArenaError> {
    let look = || {
        let file = Arena::open_stranger(hint, known, MemoryFile::look_at)?;
        let meta = Meta::look(file)?;
        if meta.id() != hint.id {
            return Err(ArenaError::Foreign(format!("there is arena {} now", meta.id())));
        }
        let lock_file = MemoryFile::look_at(hint.pid, hint.data[0])?;
        Ok(Roll { meta: &meta, lock_file: &lock_file, own: JANITOR }.details())
    };
    look().map_err(|error| match error {
        // By its name it is an arena's.
        ArenaError::Unfinished => error,
        error => hint.unreachable(error),
    })
}

/// Looks at the arena in a directory.
pub(crate) fn details_in(directory: &PrivateDirectory) -> Result<Details, ArenaError> {
    let meta = Meta::look(Arena::meta_file(directory, FileAccess::Read)?)?;
    let lock_file = directory.open_file(DATA[0], FileAccess::Read)?;
    Ok(Roll { meta: &meta, lock_file: &lock_file, own: JANITOR }.details())
}

/// The arenas on disk of which a process has all files open.
fn hints_on_disk(machine: &Machine, pid: u32) -> Vec<(JoinHint, Option<PathBuf>)> {
    let mut directories = BTreeMap::<PathBuf, BTreeMap<String, RawFd>>::new();
    for (fd, path) in machine.disk_files_of(pid).unwrap_or_default() {
        let name = path.file_name().and_then(|name| name.to_str());
        if let (Some(name), Some(directory)) = (name.filter(|name| *name == META || DATA.contains(name)), path.parent())
        {
            directories.entry(directory.to_owned()).or_default().insert(name.to_owned(), fd);
        }
    }
    let hint = |(directory, files): (PathBuf, BTreeMap<String, RawFd>)| {
        let [a, b] = DATA.map(|part| files.get(part).copied());
        let meta = *files.get(META)?;
        // The id stands in the file alone.
        let id = Meta::look(MemoryFile::look_at(pid, meta).ok()?).ok()?.id();
        Some((JoinHint { id, pid, meta, data: [a?, b?] }, Some(directory)))
    };
    directories.into_iter().filter_map(hint).collect()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::layout::file_name;

    fn file(fd: RawFd, id: u64, part: &str) -> (RawFd, String) {
        (fd, file_name(ArenaId(id), part))
    }

    #[test]
    fn only_whole_arenas_are_seen_and_their_files_are_not_mixed_up() {
        let files = [
            file(9, 7, DATA[1]),
            file(3, 7, META),
            file(4, 7, DATA[0]),
            file(5, 8, META),
            file(6, 8, DATA[0]),
            (8, "onecopy-nonsense".into()),
            file(10, 6, DATA[0]),
            file(11, 6, META),
            file(12, 6, DATA[1]),
        ];
        let seen: Vec<_> = hints(42, &files).into_iter().map(|hint| (hint.id.0, hint.meta, hint.data)).collect();
        assert_eq!(seen, [(6, 11, [10, 12]), (7, 3, [4, 9])]);
    }
}
