//! How much memory there is: the machine's, and that of every memory cgroup above this process (v1 and v2).

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes that may still be taken, and what sets that bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headroom {
    /// Bytes.
    pub bytes: u64,
    /// What is the narrowest: `"RAM"` or the path of a cgroup.
    pub source: String,
}

/// Limits above this are "no limit" in cgroup v1, which has no word for it.
const NO_LIMIT: u64 = 1 << 60;

/// The narrowest of the machine's available memory and the headroom of every cgroup up the tree.
pub fn headroom() -> Headroom {
    narrowest(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), &cgroup_directories())
}

/// The smaller of RAM and the limits of the cgroups: what this process could ever have, in bytes.
pub fn physical_limit() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let ram = meminfo_bytes(&meminfo, "MemTotal").unwrap_or(NO_LIMIT);
    cgroup_directories().iter().filter_map(|group| cgroup_limit(group)).fold(ram, u64::min)
}

fn narrowest(meminfo: &str, groups: &[PathBuf]) -> Headroom {
    let ram = meminfo_bytes(meminfo, "MemAvailable").unwrap_or(NO_LIMIT);
    let mut least = Headroom { bytes: ram, source: "RAM".to_owned() };
    for group in groups {
        let Some(limit) = cgroup_limit(group) else { continue };
        let bytes = limit.saturating_sub(cgroup_used(group).unwrap_or(0));
        if bytes < least.bytes {
            least = Headroom { bytes, source: format!("cgroup {}", group.display()) };
        }
    }
    least
}

fn meminfo_bytes(meminfo: &str, key: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':')))?;
    line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The memory cgroup of this process and all its ancestors, for v2 (`0::/path`) and v1 (`n:memory:/path`).
fn cgroup_directories() -> Vec<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut found = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let root = match controllers {
            "" => "/sys/fs/cgroup",
            list if list.split(',').any(|name| name == "memory") => "/sys/fs/cgroup/memory",
            _ => continue,
        };
        // In a container the path may be the host's, which does not exist here: the root is then the container's own
        // group.
        let relative = Path::new(path.trim_start_matches('/'));
        found.extend(relative.ancestors().map(|up| Path::new(root).join(up)).filter(|dir| dir.is_dir()));
    }
    found
}

fn number_in(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn cgroup_limit(group: &Path) -> Option<u64> {
    ["memory.max", "memory.high", "memory.limit_in_bytes"]
        .iter()
        .filter_map(|name| number_in(&group.join(name)))
        .min()
        .filter(|&limit| limit < NO_LIMIT)
}

/// What is in use and cannot be reclaimed: the page cache of inactive files counts as free, as the kernel drops it
/// first.
fn cgroup_used(group: &Path) -> Option<u64> {
    let used = number_in(&group.join("memory.current")).or_else(|| number_in(&group.join("memory.usage_in_bytes")))?;
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let cached = stat
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(key, _)| matches!(*key, "inactive_file" | "total_inactive_file"))
        .filter_map(|(_, value)| value.parse::<u64>().ok())
        .max()
        .unwrap_or(0);
    Some(used.saturating_sub(cached))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable:    800 kB\n";

    fn group(files: &[(&str, &str)]) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("onecopy-cgroup-{}", super::super::process::random_u64().unwrap()));
        fs::create_dir(&dir).unwrap();
        for (name, text) in files {
            fs::write(dir.join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn ram_is_the_bound_without_cgroups() {
        assert_eq!(narrowest(MEMINFO, &[]), Headroom { bytes: 800 * 1024, source: "RAM".into() });
    }

    #[test]
    fn the_narrowest_cgroup_is_the_bound_and_its_file_cache_is_free() {
        let v2 = group(&[
            ("memory.max", "500000\n"),
            ("memory.current", "300000\n"),
            ("memory.stat", "anon 1\ninactive_file 100000\n"),
        ]);
        let v1 = group(&[("memory.limit_in_bytes", "9223372036854771712\n"), ("memory.usage_in_bytes", "5\n")]);
        let least = narrowest(MEMINFO, &[v1.clone(), v2.clone()]);
        assert_eq!(least, Headroom { bytes: 300_000, source: format!("cgroup {}", v2.display()) });
        fs::remove_dir_all(v1).unwrap();
        fs::remove_dir_all(v2).unwrap();
    }

    #[test]
    fn an_unlimited_v2_group_sets_no_bound() {
        let free = group(&[("memory.max", "max\n"), ("memory.current", "300000\n")]);
        assert_eq!(narrowest(MEMINFO, std::slice::from_ref(&free)).source, "RAM");
        fs::remove_dir_all(free).unwrap();
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(headroom().bytes > 0);
        assert!(physical_limit() > 0);
    }
}
