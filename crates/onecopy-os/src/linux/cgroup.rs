//! The memory cgroups of this process, of version 1 and version 2, up to the root of what is mounted here.

use std::path::{Path, PathBuf};

use super::memory::{Bound, Machine};

/// Limits above this are "no limit" in version 1, which has no word for it.
const NO_LIMIT: u64 = 1 << 60;

/// The files of one limit: how much is allowed, and how much is in use of it.
struct Files {
    limit: &'static str,
    used: &'static str,
    /// Exceeding it slows the processes down but kills none.
    soft: bool,
}

/// Of version 2. Its limit on swap stands for itself: what is swapped out does not count as memory.
const VERSION_2: &[Files] = &[
    Files { limit: "memory.max", used: "memory.current", soft: false },
    Files { limit: "memory.high", used: "memory.current", soft: true },
];
/// Of version 1, where `memsw` counts memory and swap together.
const VERSION_1: &[Files] = &[
    Files { limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes", soft: false },
    Files { limit: "memory.memsw.limit_in_bytes", used: "memory.memsw.usage_in_bytes", soft: false },
];

/// A mounted hierarchy with memory limits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount {
    unified: bool,
    /// Where it is mounted.
    point: PathBuf,
    /// Which of its groups is mounted there; `/` but in containers that see their host's paths.
    root: PathBuf,
}

impl Machine {
    pub(super) fn cgroup_mounts(&self) -> Vec<Mount> {
        self.read("/proc/self/mountinfo").unwrap_or_default().lines().filter_map(mount).collect()
    }

    pub(super) fn cgroup_bounds(&self, mounts: &[Mount]) -> Vec<Bound> {
        let own = self.read("/proc/self/cgroup").unwrap_or_default();
        let mut bounds = Vec::new();
        for (unified, path) in own.lines().filter_map(membership) {
            let Some(mount) = mounts.iter().find(|mount| mount.unified == unified) else { continue };
            // A group outside of what is mounted: the mounted root is then the innermost that can be seen.
            let inside = Path::new(path).strip_prefix(&mount.root).unwrap_or(Path::new(""));
            let inside = if path.contains("/..") { Path::new("") } else { inside };
            let files = if unified { VERSION_2 } else { VERSION_1 };
            for group in inside.ancestors().map(|up| mount.point.join(up)) {
                bounds.extend(files.iter().filter_map(|files| self.cgroup_bound(&group, files)));
            }
        }
        bounds
    }

    fn cgroup_bound(&self, group: &Path, files: &Files) -> Option<Bound> {
        let path = group.join(files.limit);
        let limit = self.number(&path).filter(|&limit| limit < NO_LIMIT)?;
        let cache = self.inactive_cache(group);
        let used = self.number(group.join(files.used)).unwrap_or(0).saturating_sub(cache);
        Some(Bound {
            free: limit.saturating_sub(used),
            limit,
            name: format!("the cgroup limit {}", path.display()),
            way_out:
                "drop arrays that are not needed, or raise it (systemd: MemoryMax=, docker: --memory, slurm: --mem)"
                    .to_owned(),
            soft: files.soft,
        })
    }

    /// File cache that the kernel drops before it runs out: it counts as free.
    fn inactive_cache(&self, group: &Path) -> u64 {
        let stat = self.read(group.join("memory.stat")).unwrap_or_default();
        let figures = stat.lines().filter_map(|line| line.split_once(' '));
        figures
            .filter(|(key, _)| matches!(*key, "inactive_file" | "total_inactive_file"))
            .filter_map(|(_, value)| value.parse::<u64>().ok())
            .max()
            .unwrap_or(0)
    }
}

/// A line of `/proc/self/cgroup` that is about memory: `0::/path` or `4:memory:/path`.
fn membership(line: &str) -> Option<(bool, &str)> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?);
    let unified = controllers.is_empty();
    (unified || controllers.split(',').any(|name| name == "memory")).then_some((unified, path))
}

/// A line of `/proc/self/mountinfo` that is a hierarchy with memory limits.
fn mount(line: &str) -> Option<Mount> {
    let (place, kind) = line.split_once(" - ")?;
    let mut kind = kind.split(' ');
    let unified = match kind.next()? {
        "cgroup2" => true,
        "cgroup" if kind.nth(1)?.split(',').any(|option| option == "memory") => false,
        _ => return None,
    };
    let mut place = place.split(' ').skip(3).map(unescaped);
    let (root, point) = (place.next()?, place.next()?);
    Some(Mount { unified, point, root })
}

/// Undoes the octal escapes of blanks in mount points.
fn unescaped(field: &str) -> PathBuf {
    field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\").into()
}

#[cfg(test)]
mod tests {
    use super::super::memory::tests::{Fabricated, MEMINFO};
    use super::*;

    const MOUNTS: (&str, &str) = (
        "proc/self/mountinfo",
        "30 23 0:26 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n\
         31 23 0:27 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu\n\
         32 23 0:28 / /sys/fs/cgroup/uni\\040fied rw,relatime - cgroup2 cgroup2 rw\n\
         33 23 0:28 / /proc rw,relatime - proc proc rw\n",
    );
    const V1: &str = "sys/fs/cgroup/memory";
    const V2: &str = "sys/fs/cgroup/uni fied";

    fn bounds(files: &[(String, &str)]) -> Vec<(u64, u64, bool)> {
        let mut all = vec![MEMINFO, MOUNTS];
        all.extend(files.iter().map(|(path, text)| (path.as_str(), *text)));
        let files = Fabricated::new(&all);
        files.machine().bounds().iter().skip(1).map(|bound| (bound.free, bound.limit, bound.soft)).collect()
    }

    fn file(group: &str, name: &str) -> String {
        format!("{group}/{name}")
    }

    #[test]
    fn every_level_up_the_tree_is_a_bound_in_both_versions() {
        let inner = format!("{V2}/user/job");
        let found = bounds(&[
            ("proc/self/cgroup".into(), "4:memory,hugetlb:/box\n3:cpu:/x\n0::/user/job\n"),
            (file(&inner, "memory.max"), "500000\n"),
            (file(&inner, "memory.current"), "300000\n"),
            (file(&inner, "memory.stat"), "anon 1\ninactive_file 100000\n"),
            (file(&format!("{V2}/user"), "memory.max"), "900000\n"),
            (file(&format!("{V1}/box"), "memory.limit_in_bytes"), "400000\n"),
            (file(&format!("{V1}/box"), "memory.usage_in_bytes"), "5\n"),
            (file(V1, "memory.limit_in_bytes"), "9223372036854771712\n"),
        ]);
        assert_eq!(found, [(399_995, 400_000, false), (300_000, 500_000, false), (900_000, 900_000, false)]);
    }

    #[test]
    fn swap_counts_where_it_is_counted_and_high_is_advice() {
        let found = bounds(&[
            ("proc/self/cgroup".into(), "4:memory:/\n0::/\n"),
            (file(V1, "memory.limit_in_bytes"), "1000\n"),
            (file(V1, "memory.memsw.limit_in_bytes"), "1500\n"),
            (file(V1, "memory.memsw.usage_in_bytes"), "1400\n"),
            (file(V2, "memory.high"), "700\n"),
            (file(V2, "memory.max"), "max\n"),
        ]);
        assert_eq!(found, [(1000, 1000, false), (100, 1500, false), (700, 700, true)]);
    }

    #[test]
    fn a_group_that_cannot_be_seen_is_looked_for_at_the_root() {
        for path in ["0::/docker/abc\n", "0::/../outside\n"] {
            let found = bounds(&[("proc/self/cgroup".into(), path), (file(V2, "memory.max"), "4096\n")]);
            assert_eq!(found, [(4096, 4096, false)]);
        }
        assert_eq!(bounds(&[("proc/self/cgroup".into(), "nonsense\n")]), []);
    }

    #[test]
    fn a_container_without_a_cgroup_namespace_sees_its_own_group_at_the_mount_point() {
        let line = "30 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw";
        let found = mount(line).unwrap();
        assert_eq!((found.unified, found.root.to_str()), (true, Some("/docker/abc")));
        let files = Fabricated::new(&[
            ("proc/self/mountinfo", line),
            ("proc/self/cgroup", "0::/docker/abc/inner\n"),
            ("sys/fs/cgroup/inner/memory.max", "77\n"),
        ]);
        assert_eq!(files.machine().bounds().last().map(|bound| bound.limit), Some(77));
    }
}
