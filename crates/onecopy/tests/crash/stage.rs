//! The process that stays: it starts the others, kills them, goes on, and looks at what they left.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use onecopy::{Arena, Options};
use onecopy_os::crash::{POINTS, Point};

use crate::contents::Choices;
use crate::process::{Death, HANG, Log, Orders, Running, limit_life};
use crate::subjects::{Scene, Subject};

/// Who goes on later than this after most of the deaths of a kind was stopped by them, and not by a busy machine. The
/// table says how long it took.
const PATIENCE: Duration = Duration::from_secs(5);
/// Attempts for each kill that is asked for: what a worker comes by depends on the others.
const ATTEMPTS: u64 = 30;
/// The one that dies.
const VICTIM: u32 = 1;

/// One line of the table.
pub(crate) struct Row {
    fault: String,
    rounds: u64,
    kills: u64,
    slowest: Duration,
}

pub(crate) const HEADING: &str =
    "fault                                                         rounds  kills      slowest";

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, rounds, kills, slowest } = self;
        write!(f, "{fault:60} {rounds:7} {kills:6} {slowest:>12.1?}")
    }
}

pub(crate) struct Stage {
    arena: &'static Arena,
    subject: &'static Subject,
    choices: Choices,
    slowest: Duration,
    /// How long it took to go on after each death of the kind that is tried.
    waits: Vec<Duration>,
}

impl Stage {
    pub(crate) fn new(subject: &'static Subject, seed: u64) -> Self {
        let arena = Arena::create(Options { limit: Some(64 << 20), warm: Some(8 << 20) }).unwrap();
        Self { arena, subject, choices: Choices(seed), slowest: Duration::ZERO, waits: Vec::new() }
    }

    /// Kills workers at each point of the subject, at passes spread over their lives.
    pub(crate) fn kill_at_each_point(&mut self, crates: &[&str], others: u32, kills: u64) -> Row {
        let passes = self.passes();
        let points = self.points(crates);
        let mut rounds = 0;
        for &point in &points {
            let most = passes.get(point).copied().unwrap_or(0).max(1);
            let mut killed = 0;
            for attempt in 0..kills * ATTEMPTS {
                // The first pass too, and after a miss rather early ones.
                let pass = 1 + self.choices.below(most).min(attempt) / (1 + attempt / kills);
                rounds += 1;
                killed += u64::from(self.round(&Death::At { point: point.to_owned(), pass }, others, false).1);
                if killed == kills {
                    break;
                }
            }
            assert_eq!(killed, kills, "{point} was reached {killed} times only");
            self.judge_waits(point);
        }
        let company = if others == 0 { "alone".into() } else { format!("{others} others") };
        let fault = format!("{}: SIGKILL at each of {} points, {company}", self.subject.name, points.len());
        self.row(fault, rounds, kills * points.len() as u64)
    }

    /// Kills one of three that work until told to end, whatever it is doing.
    pub(crate) fn kill_at_random(&mut self, rounds: u64) -> Row {
        for _ in 0..rounds {
            assert!(self.round(&Death::Never, 2, true).1, "nobody was killed");
        }
        let fault = format!("{}: SIGKILL of one of 3 at random times", self.subject.name);
        self.judge_waits(&fault);
        self.row(fault, rounds, rounds)
    }

    fn row(&mut self, fault: String, rounds: u64, kills: u64) -> Row {
        Row { fault, rounds, kills, slowest: std::mem::take(&mut self.slowest) }
    }

    /// The points at which this subject is killed.
    fn points(&self, crates: &[&str]) -> Vec<&'static str> {
        let among = |modules: &[&str], point: &Point| modules.iter().any(|m| point.module().starts_with(m));
        for point in POINTS.iter().filter(|point| among(crates, point)) {
            let subjects = crate::subjects::SUBJECTS;
            assert!(subjects.iter().any(|s| among(s.modules, point)), "no subject is killed at {}", point.name());
        }
        let points: Vec<_> =
            POINTS.iter().filter(|point| among(self.subject.modules, point)).map(Point::name).collect();
        assert!(!points.is_empty(), "{} has no points", self.subject.name);
        points
    }

    /// How often a worker that is not killed comes by each point.
    fn passes(&mut self) -> BTreeMap<String, u64> {
        let mut passes = BTreeMap::new();
        for _ in 0..3 {
            let (log, killed) = self.round(&Death::Never, 0, false);
            assert!(!killed, "a worker died that nobody killed");
            for line in log.lines.iter().filter_map(|line| line.strip_prefix("passes ")) {
                let (name, count) = line.split_once(' ').unwrap();
                let most = passes.entry(name.to_owned()).or_default();
                *most = count.parse::<u64>().unwrap().max(*most);
            }
        }
        passes
    }

    /// One death; answers the log of the one that was to die, and whether it did.
    fn round(&mut self, death: &Death, others: u32, at_random: bool) -> (Log, bool) {
        limit_life();
        let mut scene = (self.subject.begin)(self.arena, &mut self.choices);
        let mut running: Vec<_> =
            (VICTIM + 1..=VICTIM + others).map(|actor| self.start(&*scene, actor, Death::Never, true)).collect();
        let mut victim = self.start(&*scene, VICTIM, death.clone(), at_random);
        if at_random {
            // Not a synchronisation: the moment of death is what shall vary.
            std::thread::sleep(Duration::from_micros(self.choices.below(12_000)));
            let which = self.choices.below(u64::from(others) + 1) as usize;
            if let Some(other) = running.get_mut(which) {
                std::mem::swap(other, &mut victim);
            }
            victim.kill();
        }
        let (log, killed) = victim.end();
        let start = Instant::now();
        scene.go_on();
        self.waited(start);
        running.iter_mut().for_each(Running::tell_to_end);
        let mut logs = vec![log];
        for other in running {
            let (log, died) = other.end();
            assert!(!died, "a worker died that nobody killed");
            logs.push(log);
        }
        scene.settle(&logs);
        self.expect_nothing_left();
        (logs.swap_remove(0), killed)
    }

    fn start(&mut self, scene: &dyn Scene, actor: u32, death: Death, endless: bool) -> Running {
        Running::start(&Orders {
            subject: self.subject.name,
            hint: self.arena.hint(),
            blocks: scene.blocks(),
            actor,
            seed: self.choices.next(),
            death,
            endless,
        })
    }

    fn waited(&mut self, since: Instant) {
        let elapsed = since.elapsed();
        assert!(elapsed < HANG, "a survivor had to wait for {elapsed:?}");
        self.slowest = self.slowest.max(elapsed);
        self.waits.push(elapsed);
    }

    /// Judges the waits after all deaths of one kind.
    fn judge_waits(&mut self, kind: &str) {
        let mut waits = std::mem::take(&mut self.waits);
        waits.sort();
        let usual = waits[waits.len() / 2];
        assert!(usual < PATIENCE, "{kind}: survivors have to wait for {usual:?}");
    }

    fn expect_nothing_left(&self) {
        self.arena.reap().unwrap();
        self.arena.reap_in_flight().unwrap();
        self.arena.verify().unwrap();
        let now = self.arena.stats().unwrap();
        assert_eq!((now.used_bytes, now.blocks, now.parcels), (0, 0, 0), "leaked (bytes, blocks, parcels)");
        assert_eq!(now.members.len(), 1, "{:?}", now.members);
    }
}
