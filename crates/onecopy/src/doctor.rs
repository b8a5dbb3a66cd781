//! What of this machine helps or hinders shared memory, and what to change.

use onecopy_arena::{Arena, ArenaError, ArenaId, Details, JoinHint};
use onecopy_os::{Bound, ByteSize, Feature, Machine, ProcessLimit};

use crate::session::SESSION_VARIABLE;

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, but could be better, or may get in the way.
    Advice,
    /// Something will fail.
    Problem,
}

impl Verdict {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Advice => "advice",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub topic: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to change; empty where nothing is to be changed.
    pub way_out: String,
}

/// Less free memory than this is a problem whatever one wants to do.
const LEAST_FREE: u64 = 64 << 20;
/// Descriptors that a program with an arena, its pools and its files hardly gets along without.
const FEW_FILES: u64 = 256;
/// Mappings that an arena takes at most, with room for the rest of a program.
const FEW_MAPPINGS: u64 = 4096;

/// Looks at the kernel, its settings, the limits on this process, and the arenas of this user.
pub fn examine(machine: &Machine) -> Vec<Finding> {
    let mut findings = vec![ok("kernel", machine.kernel())];
    findings.extend(Feature::ALL.map(feature));
    findings.extend(memory(machine));
    findings.extend([overcommit(machine), shared_memory_size(machine), mappings(machine)]);
    findings.extend(huge_pages(machine));
    findings.extend([address_space(machine), file_size(), open_files()]);
    findings.push(session(machine));
    findings.extend(arenas(machine));
    findings
}

fn finding(topic: &str, verdict: Verdict, found: impl Into<String>, way_out: impl Into<String>) -> Finding {
    Finding { topic: topic.to_owned(), verdict, found: found.into(), way_out: way_out.into() }
}

fn ok(topic: &str, found: impl Into<String>) -> Finding {
    finding(topic, Verdict::Ok, found, "")
}

fn feature(feature: Feature) -> Finding {
    match feature.try_out() {
        Ok(()) => ok(feature.name(), "works"),
        Err(error) => {
            let way_out = "allow it in the sandbox or container (seccomp profile), or use a kernel from 4.14 on";
            finding(feature.name(), Verdict::Problem, error.to_string(), way_out)
        }
    }
}

/// Every limit on memory, whichever binds.
fn memory(machine: &Machine) -> Vec<Finding> {
    let bounds = machine.bounds();
    if bounds.is_empty() {
        let way_out = "mount /proc, or set ONECOPY_LIMIT: the machine's memory is not looked at before more is taken";
        return vec![finding("memory", Verdict::Advice, "the kernel does not tell how much there is", way_out)];
    }
    bounds.into_iter().map(|bound| memory_bound(&bound)).collect()
}

fn memory_bound(bound: &Bound) -> Finding {
    let found = format!("{} free of {}", ByteSize(bound.free), ByteSize(bound.limit));
    let verdict = match bound.free {
        free if free < LEAST_FREE && !bound.soft => Verdict::Problem,
        free if free < bound.limit / 10 || free < LEAST_FREE => Verdict::Advice,
        _ => Verdict::Ok,
    };
    let way_out = if verdict == Verdict::Ok { "" } else { &bound.way_out };
    finding(&bound.name, verdict, found, way_out)
}

fn overcommit(machine: &Machine) -> Finding {
    const TOPIC: &str = "vm.overcommit_memory";
    match machine.number("/proc/sys/vm/overcommit_memory") {
        Some(2) => {
            let way_out = "set it to 0 or 1 unless you need strict accounting: it refuses memory that is there";
            finding(TOPIC, Verdict::Advice, "2 (strict): new memory is bound by the commit limit", way_out)
        }
        Some(mode) => ok(TOPIC, mode.to_string()),
        None => ok(TOPIC, "not told by the kernel"),
    }
}

fn shared_memory_size(machine: &Machine) -> Finding {
    let size =
        machine.file_system("/dev/shm").map(|(size, free)| format!("{}, {} free", ByteSize(size), ByteSize(free)));
    let size = size.unwrap_or_else(|| "not mounted".to_owned());
    ok("/dev/shm", format!("{size}; onecopy does not use it and is not bound by it"))
}

fn mappings(machine: &Machine) -> Finding {
    const TOPIC: &str = "vm.max_map_count";
    match machine.most_mappings() {
        Some(most) if most < FEW_MAPPINGS => {
            let way_out =
                format!("sysctl -w {TOPIC}=65530: an arena takes up to 512, a copy-on-write array one or more");
            finding(TOPIC, Verdict::Problem, most.to_string(), way_out)
        }
        Some(most) => ok(TOPIC, most.to_string()),
        None => ok(TOPIC, "not told by the kernel"),
    }
}

fn huge_pages(machine: &Machine) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(mode) = machine.shared_huge_pages() {
        const TOPIC: &str = "huge pages for shared memory (shmem_enabled)";
        findings.push(if matches!(mode.as_str(), "always" | "within_size" | "force") {
            ok(TOPIC, mode)
        } else {
            let way_out = "for faster fresh memory, as root: echo within_size > \
                           /sys/kernel/mm/transparent_hugepage/shmem_enabled";
            finding(TOPIC, Verdict::Advice, mode, way_out)
        });
    }
    if let Some(pages) = machine.number("/proc/sys/vm/nr_hugepages").filter(|&pages| pages > 0) {
        let way_out = "onecopy does not use them and cannot have their memory: set it to 0 unless others need them";
        findings.push(finding("vm.nr_hugepages", Verdict::Advice, format!("{pages} pages are set aside"), way_out));
    }
    findings
}

fn address_space(machine: &Machine) -> Finding {
    const TOPIC: &str = "address space (ulimit -v)";
    // An arena maps twice its limit twice over.
    let wanted = machine.physical_limit().saturating_mul(4);
    match ProcessLimit::AddressSpace.current() {
        None => ok(TOPIC, "unlimited"),
        Some(limit) if limit >= wanted => ok(TOPIC, ByteSize(limit).to_string()),
        Some(limit) => {
            let way_out = "raise it: an arena maps four times its limit, so a smaller one is made";
            finding(TOPIC, Verdict::Advice, ByteSize(limit).to_string(), way_out)
        }
    }
}

fn file_size() -> Finding {
    const TOPIC: &str = "file size (ulimit -f)";
    match ProcessLimit::FileSize.current() {
        None => ok(TOPIC, "unlimited"),
        Some(limit) => {
            let way_out = "raise it: files in memory count, so a smaller arena is made";
            finding(TOPIC, Verdict::Advice, ByteSize(limit).to_string(), way_out)
        }
    }
}

fn open_files() -> Finding {
    const TOPIC: &str = "open files (ulimit -n)";
    match ProcessLimit::OpenFiles.current() {
        None => ok(TOPIC, "unlimited"),
        Some(limit) if limit < FEW_FILES => {
            finding(TOPIC, Verdict::Advice, limit.to_string(), "raise it to 1024 or more: each arena takes three")
        }
        Some(limit) => ok(TOPIC, limit.to_string()),
    }
}

/// The variable as this process was started with it: by now it may name this process itself.
fn session(machine: &Machine) -> Finding {
    const TOPIC: &str = SESSION_VARIABLE;
    let environment = machine.read("/proc/self/environ").unwrap_or_default();
    let value = environment.split('\0').find_map(|line| line.strip_prefix(TOPIC)?.strip_prefix('='));
    let Some(value) = value else { return ok(TOPIC, "not set: a program starts its own arena") };
    match value.parse::<JoinHint>().and_then(Arena::look) {
        Ok(details) => ok(TOPIC, format!("names arena {}", details.stats.id)),
        Err(error) => {
            let way_out = "unset it: it is stale, and programs started here make an arena of their own each";
            finding(TOPIC, Verdict::Advice, error.to_string(), way_out)
        }
    }
}

fn arenas(machine: &Machine) -> Vec<Finding> {
    let sightings = Arena::sightings(machine);
    let mut findings = vec![ok("arenas", format!("{} of this user", sightings.len()))];
    let find = |id| Arena::sightings(machine).into_iter().map(|seen| seen.hint).find(|hint: &JoinHint| hint.id == id);
    for sighting in sightings {
        let topic = format!("arena {}", sighting.hint.id);
        let Some(looked) = look_through(sighting.hint, Arena::look, find) else { continue };
        match looked {
            Ok(details) => findings.extend(left_behind(&topic, &details)),
            // Programs that start now, and other versions, are nobody's trouble.
            Err(error @ ArenaError::Unfinished) => findings.push(ok(&topic, error.to_string())),
            Err(error @ ArenaError::OtherVersion { .. }) => {
                let way_out = "use one version of onecopy in all programs that are to share arrays";
                findings.push(finding(&topic, Verdict::Advice, error.to_string(), way_out));
            }
            Err(error) => findings.push(finding(&topic, Verdict::Problem, error.to_string(), "end its processes")),
        }
    }
    findings
}

/// Looks at an arena through the process that it was seen with; where that has ended since, through the next one that has
/// it open, and if there is none any more, not at all.
fn look_through<T>(
    mut hint: JoinHint,
    look: impl Fn(JoinHint) -> Result<T, ArenaError>,
    find: impl Fn(ArenaId) -> Option<JoinHint>,
) -> Option<Result<T, ArenaError>> {
    loop {
        let looked = look(hint);
        if matches!(looked, Ok(_) | Err(ArenaError::Unfinished | ArenaError::OtherVersion { .. })) {
            return Some(looked);
        }
        let next = find(hint.id)?;
        if next == hint {
            return Some(looked);
        }
        hint = next;
    }
}

fn left_behind(topic: &str, details: &Details) -> Vec<Finding> {
    let mut findings = Vec::new();
    let dead: Vec<_> = details.stats.members.iter().filter(|member| !member.lives).collect();
    if !dead.is_empty() {
        let bytes = dead.iter().map(|member| member.bytes).sum();
        let found = format!("dead processes: {}, which hold up to {}", dead.len(), ByteSize(bytes));
        let way_out = format!("onecopy reap {} (it happens by itself when memory is needed)", details.stats.id);
        findings.push(finding(topic, Verdict::Advice, found, way_out));
    }
    if details.stats.orphans > 0 {
        let found = format!("handles in flight of processes that have ended: {}", details.stats.orphans);
        let way_out = format!("if nobody will receive them: onecopy reap --in-flight {}", details.stats.id);
        findings.push(finding(topic, Verdict::Advice, found, way_out));
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    struct Fabricated(PathBuf);

    impl Fabricated {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root =
                std::env::temp_dir().join(format!("onecopy-doctor-{name}-{:x}", onecopy_os::random_u64().unwrap()));
            for (path, text) in files {
                let path = root.join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            Self(root)
        }

        fn about(&self, words: &str) -> Finding {
            let all = examine(&Machine::at(&self.0));
            all.iter().find(|finding| finding.topic.contains(words)).unwrap_or_else(|| panic!("{all:?}")).clone()
        }
    }

    impl Drop for Fabricated {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn an_arena_is_looked_at_through_whoever_is_left_of_those_that_have_it() {
        let through = |pid| JoinHint { id: ArenaId(7), pid, meta: 3, data: [4, 5] };
        let ended = || ArenaError::Foreign("ended".into());
        let look = |hint: JoinHint| if hint.pid == 3 { Ok("whole") } else { Err(ended()) };
        let mut pids = [2, 3].into_iter();
        let next = std::cell::RefCell::new(|_| pids.next().map(through));
        assert!(matches!(look_through(through(1), look, |id| next.borrow_mut()(id)), Some(Ok("whole"))));
        // Nobody has it any more; and somebody has it who cannot be looked at.
        assert!(look_through(through(1), look, |_| None).is_none());
        assert!(matches!(look_through(through(1), look, |_| Some(through(1))), Some(Err(ArenaError::Foreign(_)))));
    }

    #[test]
    fn a_machine_in_order_has_no_problem() {
        let found = examine(Machine::this());
        let problems: Vec<_> = found.iter().filter(|finding| finding.verdict == Verdict::Problem).collect();
        assert!(problems.is_empty(), "{problems:?}");
        assert!(
            found.iter().all(|finding| (finding.verdict == Verdict::Ok) == finding.way_out.is_empty()),
            "{found:?}"
        );
    }

    #[test]
    fn each_bad_setting_is_found_and_has_a_way_out() {
        let machine = Fabricated::new(
            "bad",
            &[
                (
                    "proc/meminfo",
                    "MemTotal: 8000000 kB\nMemAvailable: 30000 kB\nCommitLimit: 9 kB\nCommitted_AS: 9 kB\n",
                ),
                ("proc/sys/vm/overcommit_memory", "2\n"),
                ("proc/sys/vm/max_map_count", "100\n"),
                ("proc/sys/vm/nr_hugepages", "12\n"),
                ("proc/sys/kernel/osrelease", "9.9.9\n"),
                ("proc/self/environ", "A=1\0ONECOPY_SESSION=1:4294967295:3:4:5\0"),
                ("sys/kernel/mm/transparent_hugepage/shmem_enabled", "always within_size advise [never] deny force\n"),
                ("proc/self/mountinfo", "1 1 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
                ("proc/self/cgroup", "0::/job\n"),
                ("sys/fs/cgroup/job/memory.max", "1000000000\n"),
                ("sys/fs/cgroup/job/memory.current", "950000000\n"),
                ("sys/fs/cgroup/job/memory.high", "1000000\n"),
            ],
        );
        assert_eq!(machine.about("kernel").found, "9.9.9");
        for (topic, verdict, words) in [
            ("machine's memory", Verdict::Problem, "drop arrays"),
            ("commit limit", Verdict::Problem, "overcommit"),
            ("vm.overcommit_memory", Verdict::Advice, "0 or 1"),
            ("vm.max_map_count", Verdict::Problem, "sysctl"),
            ("shmem_enabled", Verdict::Advice, "within_size"),
            ("vm.nr_hugepages", Verdict::Advice, "set it to 0"),
            (SESSION_VARIABLE, Verdict::Advice, "unset it"),
            ("memory.max", Verdict::Problem, "MemoryMax"),
            ("memory.high", Verdict::Advice, "MemoryMax"),
        ] {
            let found = machine.about(topic);
            assert!(found.verdict == verdict && found.way_out.contains(words), "{found:?}");
        }
    }

    #[test]
    fn what_the_kernel_hides_is_said() {
        let machine = Fabricated::new("hidden", &[("proc/meminfo", "nothing\n")]);
        assert!(examine(&Machine::at(&machine.0)).iter().any(|f| f.topic == "memory" && f.verdict == Verdict::Advice));
    }
}
