//! The process that stays: it starts the others, kills them, and looks at what they left.

use std::fmt;
use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use onecopy_arena::{Arena, Block, BlockId, Options, ParcelId, Stats};

use crate::contents::{Choices, check, filled};
use crate::worker::Orders;

/// A survivor goes on, or gets a named error, within this time after most of the deaths of a kind: after any of them the
/// machine may have had other things to do.
const PATIENCE: Duration = Duration::from_secs(1);
/// Nothing that is waited for takes longer, however busy the machine is. Who waits longer hangs.
const HANG: Duration = Duration::from_secs(30);

/// One line of the table.
pub(crate) struct Row {
    pub(crate) fault: String,
    pub(crate) rounds: u64,
    pub(crate) kills: u64,
    pub(crate) repairs: u64,
    pub(crate) slowest: Duration,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, rounds, kills, repairs, slowest } = self;
        write!(f, "{fault:44} {rounds:6} {kills:6} {repairs:8} {slowest:>12.1?}")
    }
}

/// A hang of this process would otherwise be one of the whole test.
pub(crate) fn limit_round() {
    // SAFETY: the call takes a number; nothing here uses the signal.
    unsafe { libc::alarm(6 * HANG.as_secs() as u32) };
}

/// A process that was started, with what it says.
pub(crate) struct Running {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(arguments: &[String], group: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--worker").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        if group {
            command.process_group(0);
        }
        let mut child = command.spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, said }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    fn tell(&mut self, byte: u8) {
        self.child.stdin.as_mut().unwrap().write_all(&[byte]).unwrap();
    }

    /// Waits until it and all that it forked have ended; answers what it said last, and its exit code or none where it
    /// was killed.
    pub(crate) fn end(mut self) -> (Vec<String>, Option<i32>) {
        drop(self.child.stdin.take());
        // Children have the same pipe: it ends with the last of them.
        let said = self.said.map(Result::unwrap).collect();
        let status = self.child.wait().unwrap();
        assert!(matches!(status.signal(), None | Some(libc::SIGKILL)), "a worker ended by {status}");
        (said, status.code())
    }
}

/// The survivor with what it holds all the time.
pub(crate) struct Survivor {
    pub(crate) arena: &'static Arena,
    pub(crate) choices: Choices,
    container: Block,
    held: Vec<Block>,
    calm: Stats,
    traffic: Vec<Running>,
    /// The longest that it had to wait for anything after a death.
    pub(crate) slowest: Duration,
    /// How long it had to wait after each death of the kind that is tried.
    waits: Vec<Duration>,
    /// Parcels that a dead process had put into the container, or sent.
    pub(crate) repairs: u64,
}

impl Survivor {
    /// With an arena in a directory at `path`, or in memory.
    pub(crate) fn new(seed: u64, path: Option<&Path>) -> Self {
        let options = Options { limit: Some(64 << 20), warm: Some(8 << 20) };
        let arena = path.map_or_else(|| Arena::create(options), |path| Arena::open_path(path, options, Some(true)));
        let arena = arena.unwrap();
        let container = arena.allocate_zeroed(256).unwrap();
        let mut held = Vec::new();
        for n in 1..20 {
            held.push(filled(arena, n * 577, seed + n).unwrap());
            filled(arena, n * 100, n).unwrap().post_owned(&container).unwrap();
        }
        let calm = arena.stats().unwrap();
        Self {
            arena,
            choices: Choices(seed),
            container,
            held,
            calm,
            traffic: Vec::new(),
            slowest: Duration::ZERO,
            waits: Vec::new(),
            repairs: 0,
        }
    }

    /// Starts a worker that shares the arena.
    pub(crate) fn start(
        &mut self,
        death: Option<(&str, u64)>,
        sent: Option<(BlockId, ParcelId)>,
        endless: bool,
    ) -> Running {
        let orders = Orders {
            hint: self.arena.hint(),
            seed: self.choices.next(),
            death: death.map(|(name, pass)| (name.to_owned(), pass)),
            container: self.container.id(),
            sent,
            endless,
        };
        Running::start(&orders_to(&orders), endless)
    }

    pub(crate) fn start_traffic(&mut self, count: u32) {
        for _ in 0..count {
            let running = self.start(None, None, true);
            self.traffic.push(running);
        }
    }

    pub(crate) fn traffic(&mut self) -> &mut Vec<Running> {
        &mut self.traffic
    }

    /// A handle in flight to a worker.
    pub(crate) fn send(&mut self) -> (BlockId, ParcelId) {
        let block = &self.held[self.choices.below(self.held.len() as u64) as usize];
        (block.id(), block.post().unwrap())
    }

    /// After a death: goes on at once, and finds everything as it was before the dead one came. Processes that go on are
    /// told to hold still meanwhile.
    pub(crate) fn look(&mut self, sent: Option<(BlockId, ParcelId)>) {
        limit_round();
        let start = Instant::now();
        let len = 100 + self.choices.below(60_000);
        let mine = filled(self.arena, len, self.choices.next()).unwrap();
        check(&mine);
        drop(mine);
        self.waited(start);
        self.pause_traffic();
        if let Some((_, parcel)) = sent {
            self.arena.discard(parcel).unwrap();
        }
        self.arena.reap().unwrap();
        self.repair();
        self.arena.verify().unwrap();
        self.expect_calm();
        self.held.iter().for_each(check);
        for owned in self.container.owned().unwrap() {
            check(&self.arena.get(owned.block).unwrap());
        }
        self.traffic.iter_mut().for_each(|running| running.tell(b'g'));
    }

    fn waited(&mut self, since: Instant) {
        let elapsed = since.elapsed();
        assert!(elapsed < HANG, "a survivor had to wait for {elapsed:?}");
        self.slowest = self.slowest.max(elapsed);
        self.waits.push(elapsed);
    }

    /// Judges the waits after all deaths of one kind.
    pub(crate) fn judge_waits(&mut self, kind: &str) {
        let mut waits = std::mem::take(&mut self.waits);
        waits.sort();
        let usual = waits[waits.len() / 2];
        assert!(usual < PATIENCE, "{kind}: survivors have to wait for {usual:?}");
    }

    fn pause_traffic(&mut self) {
        self.traffic.iter_mut().for_each(|running| running.tell(b'p'));
        for running in &mut self.traffic {
            assert_eq!(running.said.next().map(Result::unwrap).as_deref(), Some("idle"), "a survivor has ended");
        }
    }

    /// What a container does that finds what the dead have left in it.
    fn repair(&mut self) {
        for owned in self.container.owned().unwrap() {
            if !owned.sender_lives {
                self.repairs += u64::from(self.arena.discard(owned.parcel).unwrap());
            }
        }
        self.repairs += u64::from(self.arena.reap_in_flight().unwrap().0);
    }

    fn expect_calm(&self) {
        let now = self.arena.stats().unwrap();
        let members = 1 + self.traffic.len();
        assert_eq!(now.members.len(), members, "{:?}", now.members);
        let figures = |stats: &Stats| (stats.used_bytes, stats.blocks, stats.parcels);
        assert_eq!(figures(&now), figures(&self.calm), "leaked (bytes, blocks, parcels)");
    }

    pub(crate) fn end_traffic(&mut self) {
        for running in std::mem::take(&mut self.traffic) {
            let (_, code) = running.end();
            assert_eq!(code, Some(0), "a survivor failed");
        }
    }

    pub(crate) fn end(mut self) {
        self.end_traffic();
        self.look(None);
    }

    pub(crate) fn row(&mut self, fault: &str, rounds: u64, kills: u64) -> Row {
        if !self.waits.is_empty() {
            self.judge_waits(fault);
        }
        let (slowest, repairs) = (self.slowest, self.repairs);
        Row { fault: fault.to_owned(), rounds, kills, repairs, slowest }
    }
}

/// A place for an arena on disk, which goes with this value.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        Self(std::env::temp_dir().join(format!("onecopy-crash-{:x}", onecopy_os::random_u64().unwrap())))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What lies in `/dev/shm`, where this library puts nothing. Programs that have nothing to do with this test may have
/// segments there, whose entries begin with a dot.
pub(crate) fn shared_memory_files() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/dev/shm") else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.contains("onecopy") && !name.starts_with('.'));
    names.sort();
    names
}

// --- the command line of a worker ---

fn orders_to(orders: &Orders) -> Vec<String> {
    let (name, pass) = orders.death.clone().unwrap_or_default();
    let mut words = vec![orders.hint.to_string(), orders.seed.to_string(), name, pass.to_string()];
    words.push(u8::from(orders.endless).to_string());
    let container = [orders.container.index, orders.container.generation];
    let sent = orders.sent.map(|(block, parcel)| [block.index, block.generation, parcel.index, parcel.sequence]);
    words.extend(container.iter().chain(sent.iter().flatten()).map(u32::to_string));
    words
}

pub(crate) fn orders_from(words: &[String]) -> Orders {
    let number = |i: usize| words.get(i).map(|word| word.parse::<u32>().unwrap());
    let block = |i| Some(BlockId { index: number(i)?, generation: number(i + 1)? });
    let parcel = |i| Some(ParcelId { index: number(i)?, sequence: number(i + 1)? });
    Orders {
        hint: words[0].parse().unwrap(),
        seed: words[1].parse().unwrap(),
        death: (!words[2].is_empty()).then(|| (words[2].clone(), words[3].parse().unwrap())),
        endless: words[4] == "1",
        container: block(5).unwrap(),
        sent: block(7).zip(parcel(9)),
    }
}
