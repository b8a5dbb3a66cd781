//! An arena on disk that nobody has open any more: made, used and left by processes that are killed at every step of
//! making and opening it, at random steps in between, and at random times.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use onecopy_arena::{Arena, Block, Options};
use onecopy_os::crash::POINTS;

use crate::contents::{Choices, check, filled};
use crate::survivor::{Row, limit_round};
use crate::worker::arm;

/// Points of making and opening an arena on disk, by the beginnings of their names.
const OPENING: [&str; 4] = ["new-directory.", "make-at.", "open-in.", "come-in."];
/// Points that a user comes by who forks no child and has no full table.
const USED: [&str; 12] = [
    "publish.used",
    "split.linked",
    "bin.headed",
    "retire.renamed",
    "post.full",
    "unpost.unchained",
    "swallow.grown",
    "draft.written",
    "allocate.reserved",
    "complete.flagged",
    "give-back.punched",
    "parcel.touched",
];

pub(crate) fn is_of_opening(name: &str) -> bool {
    OPENING.iter().any(|start| name.starts_with(start))
}

// --- the process that dies ---

const OPTIONS: Options = Options { limit: Some(128 << 20), warm: Some(1 << 20) };

/// Opens the arena, uses it, and keeps values in its root until it is told to end.
pub(crate) fn use_it(words: &[String]) {
    let (path, seed) = (Path::new(&words[0]), words[1].parse().unwrap());
    arm(&words[2], words[3].parse().unwrap());
    let arena = Arena::open_path(path, OPTIONS, None).unwrap();
    let root = root_of(arena);
    let mut choices = Choices(seed);
    for _ in 0..30 {
        let seed = choices.next();
        // Above a MiB a block has fresh memory of its own.
        let value = filled(arena, 50 + choices.below(3 << 19), seed).unwrap();
        say("keeping", seed);
        value.post_owned(&root).unwrap();
        say("kept", seed);
        let _ = value.post().unwrap();
        // All that are too many: those that died before they came to this have left some.
        for owned in root.owned().unwrap().iter().skip(3) {
            let block = arena.get(owned.block).unwrap();
            check(&block);
            say("dropping", seed_of(&block));
            arena.discard(owned.parcel).unwrap();
        }
        if let Ok(draft) = arena.draft(2 << 20, 2 << 20) {
            draft.write_at(0, &[7; 5000]).unwrap();
        }
        arena.trim(0).unwrap();
        arena.reap_in_flight().unwrap();
    }
    say("done", 0);
    // Whoever is to be killed from outside must not have ended before.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

fn root_of(arena: &'static Arena) -> Block {
    if let Some(root) = arena.root().unwrap() {
        return root;
    }
    let root = arena.allocate_zeroed(64).unwrap();
    arena.set_root(&root).unwrap();
    root
}

fn seed_of(block: &Block) -> u64 {
    u64::from_ne_bytes(block.read_at(0, 8).unwrap().try_into().unwrap())
}

fn say(what: &str, seed: u64) {
    let mut out = std::io::stdout();
    writeln!(out, "{what} {seed}").and_then(|()| out.flush()).unwrap();
}

/// Opens the arena when nobody has it open: everything but its values is gone, and they are whole.
pub(crate) fn look_at_it(words: &[String]) {
    let arena = Arena::open_path(Path::new(&words[0]), OPTIONS, None).unwrap();
    arena.verify().unwrap();
    let values = arena.root().unwrap().map_or(Vec::new(), |root| root.owned().unwrap());
    for owned in &values {
        let block = arena.get(owned.block).unwrap();
        check(&block);
        say("found", seed_of(&block));
    }
    let (stats, rooted) = (arena.stats().unwrap(), u32::from(arena.root().unwrap().is_some()));
    let left = (stats.members.len(), stats.blocks, stats.parcels, stats.promised_bytes);
    let values = values.len() as u32;
    assert_eq!(left, (1, values + rooted, values + rooted, 0), "leaked (members, blocks, parcels, promised bytes)");
    arena.close().unwrap();
}

// --- the process that kills it ---

/// What the values of an arena must be, by what its users said.
#[derive(Default)]
struct Expected {
    kept: BTreeSet<u64>,
    /// Those that a user was about to add or to remove when it died.
    either: BTreeSet<u64>,
}

impl Expected {
    fn hear(&mut self, line: &str) {
        let (what, seed) = line.split_once(' ').unwrap();
        let seed = seed.parse().unwrap();
        match what {
            "keeping" => drop(self.either.insert(seed)),
            "kept" => drop((self.either.remove(&seed), self.kept.insert(seed))),
            "dropping" => drop((self.kept.remove(&seed), self.either.insert(seed))),
            _ => {}
        }
    }
}

pub(crate) struct Place {
    parent: PathBuf,
    expected: Expected,
    choices: Choices,
    slowest: Duration,
}

impl Place {
    pub(crate) fn new(seed: u64) -> Self {
        let parent = std::env::temp_dir().join(format!("onecopy-reopen-{:x}", onecopy_os::random_u64().unwrap()));
        std::fs::create_dir(&parent).unwrap();
        Self { parent, expected: Expected::default(), choices: Choices(seed), slowest: Duration::ZERO }
    }

    fn path(&self) -> PathBuf {
        self.parent.join("arena")
    }

    fn start(&mut self, role: &str, point: &str, pass: u64) -> Child {
        let seed = self.choices.next();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(role).arg(self.path()).args([&seed.to_string(), point, &pass.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    }

    /// Lets a user die; answers whether it did.
    fn kill(&mut self, point: &str, pass: u64, after: Option<u64>) -> bool {
        let mut child = self.start("--user", point, pass);
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let input = child.stdin.take();
        if let Some(lines) = after {
            for line in said.by_ref().take(lines as usize) {
                self.expected.hear(&line);
                if line.starts_with("done ") {
                    break;
                }
            }
            child.kill().unwrap();
        }
        drop(input);
        said.for_each(|line| self.expected.hear(&line));
        let status = child.wait().unwrap();
        assert!(status.code().is_none_or(|code| code == 0), "a user failed: {status}");
        status.code().is_none()
    }

    fn look(&mut self) {
        limit_round();
        let start = Instant::now();
        let child = self.start("--look", "", 0);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "the arena was not whole: {}", output.status);
        self.slowest = self.slowest.max(start.elapsed());
        let found: BTreeSet<u64> = String::from_utf8(output.stdout).unwrap().lines().map(seed_in).collect();
        let Expected { kept, either } = &mut self.expected;
        let lost: Vec<_> = kept.difference(&found).collect();
        assert!(lost.is_empty(), "values that were kept are gone: {lost:?}");
        assert!(found.iter().all(|seed| kept.contains(seed) || either.contains(seed)), "values that nobody kept");
        (*kept, *either) = (found, BTreeSet::new());
        let names: Vec<_> = std::fs::read_dir(&self.parent).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["arena"], "something half-made was left");
    }

    fn forget(&mut self) {
        let _ = std::fs::remove_dir_all(self.path());
        self.expected = Expected::default();
    }

    /// Kills at each step of making the arena and of opening it.
    pub(crate) fn kill_at_each(&mut self, kills: u64) -> Row {
        let points: Vec<_> =
            POINTS.iter().map(onecopy_os::crash::Point::name).filter(|name| is_of_opening(name)).collect();
        assert!(points.len() >= 7, "{points:?}");
        // There is one to open, also where the first user dies before it has made one.
        self.look();
        for &point in &points {
            for _ in 0..kills {
                if point.starts_with("new-directory.") || point.starts_with("make-at.") {
                    // There must be one to make; what is half-made is swept by the next.
                    self.forget();
                    assert!(self.kill(point, 1, None), "{point} was not reached");
                    self.look();
                } else {
                    // Another user dies first, so that there is something to put in order.
                    let lines = self.choices.below(60);
                    assert!(self.kill("", 0, Some(lines)) && self.kill(point, 1, None), "{point} was not reached");
                    self.look();
                }
            }
        }
        self.row(&format!("SIGKILL at each of {} points of opening", points.len()), kills * points.len() as u64)
    }

    /// Kills at random steps and at random times.
    pub(crate) fn kill_at_random(&mut self, rounds: u64) -> Row {
        for round in 0..rounds {
            let (point, pass) = (USED[self.choices.below(USED.len() as u64) as usize], 1 + self.choices.below(40));
            let lines = self.choices.below(100);
            if round % 2 == 0 {
                self.kill(point, pass, None)
            } else {
                self.kill("", 0, Some(lines))
            };
            self.look();
        }
        self.row("SIGKILL of the only user, then reopened", rounds)
    }

    fn row(&self, fault: &str, kills: u64) -> Row {
        Row { fault: fault.to_owned(), rounds: kills, kills, repairs: 0, slowest: self.slowest }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.parent);
    }
}

fn seed_in(line: &str) -> u64 {
    line.split_once(' ').unwrap().1.parse().unwrap()
}
