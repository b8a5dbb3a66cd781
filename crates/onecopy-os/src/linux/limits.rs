//! Limits of this process, and which of them a failed system call ran into.

use std::fs::File;
use std::io::{BufRead, BufReader};

use rustix::process::{Resource, getrlimit};

use super::memory::{Bound, Machine};
use crate::OsError;

/// A limit that `ulimit` sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessLimit {
    /// Bytes of address space.
    AddressSpace,
    /// Bytes of memory of its own.
    Data,
    /// Bytes of a file that the process writes.
    FileSize,
    /// Descriptors.
    OpenFiles,
    /// Bytes of a core dump.
    CoreSize,
    /// Bytes of locked memory.
    LockedMemory,
}

impl ProcessLimit {
    /// Its value in force, or none where there is no limit.
    pub fn current(self) -> Option<u64> {
        let resource = match self {
            Self::AddressSpace => Resource::As,
            Self::Data => Resource::Data,
            Self::FileSize => Resource::Fsize,
            Self::OpenFiles => Resource::Nofile,
            Self::CoreSize => Resource::Core,
            Self::LockedMemory => Resource::Memlock,
        };
        getrlimit(resource).current
    }
}

impl Machine {
    /// Mappings that a process may have.
    pub fn most_mappings(&self) -> Option<u64> {
        self.number("/proc/sys/vm/max_map_count")
    }

    /// The limit on this process's addresses, where there is one.
    pub fn address_space(&self) -> Option<Bound> {
        let way_out = "raise it (ulimit -v), or set a lower ONECOPY_LIMIT";
        self.bound_of_process(ProcessLimit::AddressSpace, 0, "this process's address space", way_out)
    }

    /// The limit on this process's own memory, where there is one.
    pub fn own_memory(&self) -> Option<Bound> {
        self.bound_of_process(ProcessLimit::Data, 5, "this process's own memory", "raise it (ulimit -d)")
    }

    fn bound_of_process(&self, limit: ProcessLimit, place: usize, name: &str, way_out: &str) -> Option<Bound> {
        let limit = limit.current()?;
        let free = limit.saturating_sub(self.size_of_process(place));
        Some(Bound { free, limit, name: name.to_owned(), way_out: way_out.to_owned(), soft: false })
    }

    fn mappings(&self) -> u64 {
        // Line by line: where mappings run out there is no room for the whole text.
        let Ok(maps) = File::open(self.path("/proc/self/maps")) else { return 0 };
        BufReader::new(maps).split(b'\n').map_while(Result::ok).count() as u64
    }

    /// Bytes that this process uses: 0 of address space, 5 of memory of its own.
    fn size_of_process(&self, place: usize) -> u64 {
        let pages = || self.read("/proc/self/statm").ok()?.split(' ').nth(place)?.parse::<u64>().ok();
        pages().unwrap_or(0).saturating_mul(rustix::param::page_size() as u64)
    }
}

/// Mappings come and go in other threads, so one just below the limit may have been at it.
const NEARLY: u64 = 16;

impl OsError {
    /// The limit that the call ran into, if that is why it failed.
    pub fn bound(&self) -> Option<Bound> {
        let bound = |free, limit, name: &str, way_out: &str| {
            Some(Bound { free, limit, name: name.to_owned(), way_out: way_out.to_owned(), soft: false })
        };
        match self.source.raw_os_error()? {
            libc::ENOMEM => Some(out_of_addresses(Machine::this()).unwrap_or_else(|| refused(self))),
            libc::ENOSPC | libc::EDQUOT => Some(refused(self)),
            libc::EFBIG => {
                let limit = ProcessLimit::FileSize.current().unwrap_or(0);
                bound(
                    limit,
                    limit,
                    "this process's file size limit",
                    "raise it (ulimit -f), or set a lower ONECOPY_LIMIT",
                )
            }
            libc::EMFILE => {
                let limit = ProcessLimit::OpenFiles.current().unwrap_or(0);
                bound(0, limit, "this process's number of open files", "close some, or raise it (ulimit -n)")
            }
            libc::ENFILE => {
                let limit = Machine::this().number("/proc/sys/fs/file-max").unwrap_or(0);
                bound(0, limit, "the machine's number of open files", "close some, or raise fs.file-max")
            }
            _ => None,
        }
    }

    /// Whether memory, addresses, disk space or descriptors ran out.
    pub fn is_exhaustion(&self) -> bool {
        const CODES: [i32; 6] = [libc::ENOMEM, libc::ENOSPC, libc::EDQUOT, libc::EFBIG, libc::EMFILE, libc::ENFILE];
        self.source.raw_os_error().is_some_and(|code| CODES.contains(&code))
    }

    /// Whether the file would have become larger than this process may make one.
    pub fn is_file_size(&self) -> bool {
        self.source.raw_os_error() == Some(libc::EFBIG)
    }
}

fn out_of_addresses(machine: &Machine) -> Option<Bound> {
    if let Some(most) = machine.most_mappings() {
        let mappings = machine.mappings();
        if mappings + NEARLY >= most {
            return Some(Bound {
                free: most.saturating_sub(mappings),
                limit: most,
                name: "this process's number of memory mappings".to_owned(),
                way_out: "drop copy-on-write arrays, of which each has one, or raise vm.max_map_count".to_owned(),
                soft: false,
            });
        }
    }
    machine.address_space()
}

fn refused(error: &OsError) -> Bound {
    let least = Machine::this().bounds().into_iter().filter(|bound| !bound.soft).min_by_key(|bound| bound.free);
    let (free, limit) = least.map_or((0, 0), |bound| (bound.free, bound.limit));
    Bound {
        free,
        limit,
        name: format!("what the system grants ({error})"),
        way_out: "end other programs, or allow more memory".to_owned(),
        soft: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: i32) -> OsError {
        OsError::new("try", std::io::Error::from_raw_os_error(code))
    }

    #[test]
    fn each_way_of_running_out_names_its_limit() {
        for (code, words) in [
            (libc::ENOSPC, "system grants"),
            (libc::EFBIG, "file size"),
            (libc::EMFILE, "this process's number of open files"),
            (libc::ENFILE, "machine's number of open files"),
        ] {
            let bound = failed(code).bound().unwrap();
            assert!(
                failed(code).is_exhaustion() && bound.name.contains(words) && !bound.way_out.is_empty(),
                "{bound:?}"
            );
        }
        assert!(failed(libc::ENOMEM).bound().is_some());
        assert!(failed(libc::EPERM).bound().is_none() && !failed(libc::EPERM).is_exhaustion());
    }

    #[test]
    fn this_process_has_addresses_and_mappings() {
        let machine = Machine::this();
        assert!(
            machine.size_of_process(0) > machine.size_of_process(5)
                && machine.size_of_process(5) > 1 << 16
                && machine.mappings() > 3
        );
        assert!(ProcessLimit::OpenFiles.current().is_none_or(|files| files > 2));
    }
}
