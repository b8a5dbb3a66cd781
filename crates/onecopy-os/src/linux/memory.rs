//! How much memory there is: the machine's, and that of every memory cgroup above this process.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{fs, io};

use super::cgroup::Mount;

/// One of the limits on memory: how much it leaves, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// Bytes that may still be taken.
    pub free: u64,
    /// The limit itself, in bytes.
    pub limit: u64,
    /// Which limit it is, for a person.
    pub name: String,
    /// How it is raised.
    pub way_out: String,
    /// Whether going beyond it slows down and does not fail.
    pub soft: bool,
}

/// Where the kernel tells its figures: the files below a root, which is `/` but for tests.
#[derive(Debug)]
pub struct Machine {
    root: PathBuf,
    mounts: OnceLock<Vec<Mount>>,
}

impl Machine {
    /// This machine.
    pub fn this() -> &'static Self {
        static THIS: OnceLock<Machine> = OnceLock::new();
        THIS.get_or_init(|| Self::at("/"))
    }

    /// The machine whose `proc` and `sys` lie below `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), mounts: OnceLock::new() }
    }

    /// Every limit on the memory that this process may take, in no order. What the kernel does not tell sets no limit.
    pub fn bounds(&self) -> Vec<Bound> {
        let mut bounds: Vec<_> = [self.ram(), self.commit_limit()].into_iter().flatten().collect();
        bounds.extend(self.cgroup_bounds(self.mounts.get_or_init(|| self.cgroup_mounts())));
        bounds
    }

    /// The smaller of RAM and the hard limits of the cgroups: what this process could ever have, in bytes.
    pub fn physical_limit(&self) -> u64 {
        self.bounds().iter().filter(|bound| !bound.soft).map(|bound| bound.limit).min().unwrap_or(u64::MAX)
    }

    /// Text of a file of the kernel, or why it cannot be read.
    pub fn read(&self, path: impl AsRef<Path>) -> io::Result<String> {
        fs::read_to_string(self.path(path))
    }

    /// The number that is all there is in a file of the kernel.
    pub fn number(&self, path: impl AsRef<Path>) -> Option<u64> {
        self.read(path).ok()?.trim().parse().ok()
    }

    pub(super) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn ram(&self) -> Option<Bound> {
        let (free, limit) = match self.read("/proc/meminfo") {
            Ok(meminfo) => (available(&meminfo)?, meminfo_bytes(&meminfo, "MemTotal")?),
            // Hidden by some sandboxes; the system call tells less, as it counts the file cache as used.
            Err(_) => sysinfo()?,
        };
        Some(Bound {
            free,
            limit,
            name: "the machine's memory".to_owned(),
            way_out: "drop arrays that are not needed or end other programs".to_owned(),
            soft: false,
        })
    }

    /// The bound of strict accounting (`vm.overcommit_memory=2`).
    fn commit_limit(&self) -> Option<Bound> {
        if self.number("/proc/sys/vm/overcommit_memory")? != 2 {
            return None;
        }
        let meminfo = self.read("/proc/meminfo").ok()?;
        let limit = meminfo_bytes(&meminfo, "CommitLimit")?;
        Some(Bound {
            free: limit.saturating_sub(meminfo_bytes(&meminfo, "Committed_AS")?),
            limit,
            name: "the machine's commit limit".to_owned(),
            way_out: "end other programs, or raise vm.overcommit_ratio, or set vm.overcommit_memory=0".to_owned(),
            soft: false,
        })
    }
}

/// Bytes of a line of `/proc/meminfo`.
pub(super) fn meminfo_bytes(meminfo: &str, key: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':')))?;
    line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib.saturating_mul(1024))
}

fn available(meminfo: &str) -> Option<u64> {
    let bytes = |key| meminfo_bytes(meminfo, key);
    bytes("MemAvailable").or_else(|| {
        // Kernels before 3.14 and some emulations: what is free, and the file cache without what lies in tmpfs.
        let cache = bytes("Cached").unwrap_or(0).saturating_sub(bytes("Shmem").unwrap_or(0));
        Some(bytes("MemFree")?.saturating_add(bytes("Buffers").unwrap_or(0)).saturating_add(cache))
    })
}

fn sysinfo() -> Option<(u64, u64)> {
    let info = rustix::system::sysinfo();
    let bytes = |units: u64| units.saturating_mul(u64::from(info.mem_unit));
    let (free, total) = (bytes(info.freeram + info.bufferram), bytes(info.totalram));
    (total > 0).then_some((free, total))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Files of a machine that does not exist.
    pub(crate) struct Fabricated {
        root: PathBuf,
    }

    impl Fabricated {
        pub(crate) fn new(files: &[(&str, &str)]) -> Self {
            let name = format!("onecopy-machine-{:x}", super::super::process::random_u64().unwrap());
            let root = std::env::temp_dir().join(name);
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self { root }
        }

        pub(crate) fn machine(&self) -> Machine {
            Machine::at(&self.root)
        }
    }

    impl Drop for Fabricated {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.root);
        }
    }

    pub(crate) const MEMINFO: (&str, &str) =
        ("proc/meminfo", "MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable:    800 kB\n");

    #[test]
    fn ram_is_the_bound_without_cgroups() {
        let files = Fabricated::new(&[MEMINFO]);
        let bounds = files.machine().bounds();
        assert_eq!((bounds.len(), bounds[0].free, bounds[0].limit), (1, 800 * 1024, 1000 * 1024));
        assert_eq!(files.machine().physical_limit(), 1000 * 1024);
    }

    #[test]
    fn without_memavailable_it_is_estimated_and_without_meminfo_asked() {
        let meminfo = "MemTotal: 1000 kB\nMemFree: 100 kB\nBuffers: 10 kB\nCached: 50 kB\nShmem: 20 kB\n";
        let files = Fabricated::new(&[("proc/meminfo", meminfo)]);
        assert_eq!(files.machine().bounds()[0].free, 140 * 1024);
        let hidden = Fabricated::new(&[("proc/uptime", "1")]).machine().bounds();
        assert!(hidden[0].free > 0 && hidden[0].limit >= hidden[0].free, "{hidden:?}");
        assert!(Fabricated::new(&[("proc/meminfo", "nonsense\n")]).machine().bounds().is_empty());
    }

    #[test]
    fn strict_accounting_is_a_bound_and_overcommitting_is_none() {
        let meminfo = "MemTotal: 1000 kB\nMemAvailable: 900 kB\nCommitLimit: 500 kB\nCommitted_AS: 450 kB\n";
        for (mode, bounds) in [("0\n", 1), ("1\n", 1), ("2\n", 2)] {
            let files = Fabricated::new(&[("proc/meminfo", meminfo), ("proc/sys/vm/overcommit_memory", mode)]);
            let found = files.machine().bounds();
            assert_eq!(found.len(), bounds);
            assert!(found.iter().skip(1).all(|bound| bound.free == 50 * 1024), "{found:?}");
        }
    }

    #[test]
    fn this_machine_has_memory() {
        let bounds = Machine::this().bounds();
        assert!(bounds.iter().any(|bound| bound.free > 0 && bound.limit > bound.free), "{bounds:?}");
        assert!(Machine::this().physical_limit() > 0);
    }
}
