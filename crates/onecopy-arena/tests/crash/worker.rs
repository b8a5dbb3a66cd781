//! The process that dies: it goes through all that an arena can do, in an order that a seed chooses.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use onecopy_arena::{Arena, ArenaError, Block, BlockId, JoinHint, ParcelId};
use onecopy_os::crash::POINTS;

use crate::contents::{Choices, check, filled, pattern};

/// What a worker ends with when a child that it forked died at the point.
pub(crate) const CHILD_DIED: i32 = 42;
/// Steps of a worker that is not killed.
const STEPS: u32 = 5;
/// Where the children of a worker die, so that it inherits the heap lock from them.
const IN_THE_HEAP: [&str; 6] =
    ["publish.used", "split.linked", "bin.headed", "retire.renamed", "post.full", "unpost.unchained"];

/// What a worker is told on its command line.
pub(crate) struct Orders {
    pub(crate) hint: JoinHint,
    pub(crate) seed: u64,
    /// The point at which it dies, and at which pass.
    pub(crate) death: Option<(String, u64)>,
    /// A container of the survivor.
    pub(crate) container: BlockId,
    /// A handle that is in flight to the worker.
    pub(crate) sent: Option<(BlockId, ParcelId)>,
    /// Goes on until its input ends; pauses when told to.
    pub(crate) endless: bool,
}

pub(crate) fn arm(name: &str, pass: u64) {
    for point in POINTS {
        point.kill_at(if point.name() == name { pass } else { 0 });
    }
}

pub(crate) fn run(orders: &Orders) {
    // A broken lock would make this process wait for ever.
    limit_life(if orders.endless { 3600 } else { 60 });
    if let Some((name, pass)) = &orders.death {
        arm(name, *pass);
    }
    let arena = Arena::join(orders.hint).unwrap();
    let mut worker = Worker { arena, orders, choices: Choices(orders.seed), held: Vec::new() };
    if orders.endless {
        worker.until_told();
    } else {
        // The first steps are all of them, so that every point is passed.
        (0..KINDS).chain((0..STEPS).map(|_| KINDS)).for_each(|kind| worker.step(kind));
    }
    // With what is still held.
    arena.leave().unwrap();
    if !orders.endless {
        say_passes();
    }
}

fn limit_life(seconds: u32) {
    // SAFETY: the call takes a number; nothing here uses the signal.
    unsafe { libc::alarm(seconds) };
}

const KINDS: u32 = 14;

struct Worker<'a> {
    arena: &'static Arena,
    orders: &'a Orders,
    choices: Choices,
    held: Vec<Block>,
}

/// Running out of memory is a value, here as everywhere.
fn unless_exhausted<T>(result: Result<T, ArenaError>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(ArenaError::OutOfMemory { .. } | ArenaError::TableFull { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

impl Worker<'_> {
    /// Does one thing; `kind` above all of them lets chance choose.
    fn step(&mut self, kind: u32) {
        let kind = if kind < KINDS { kind } else { self.choices.below(u64::from(KINDS)) as u32 };
        match kind {
            0 => drop(unless_exhausted(self.arena.trim(0))),
            1 => self.allocate(0, 4_000),
            2 => self.allocate(100_000, 200_000),
            3 => self.allocate(1 << 20, 1 << 16),
            4 => self.draft(),
            5 => self.abandon_draft(),
            6 => self.drop_some(),
            7 => self.send_and_receive(),
            8 => self.contain(),
            9 => self.use_the_survivors(),
            10 => self.fork(),
            11 => self.inherit(),
            12 => self.contend(),
            _ => self.seal_and_look(),
        }
    }

    fn allocate(&mut self, least: u64, spread: u64) {
        let (len, seed) = (least + self.choices.below(spread), self.choices.next());
        self.held.extend(unless_exhausted(filled(self.arena, len, seed)));
        if self.held.len() > 12 {
            self.drop_some();
        }
    }

    fn drop_some(&mut self) {
        while self.held.len() > 4 {
            let i = self.choices.below(self.held.len() as u64) as usize;
            let block = self.held.swap_remove(i);
            check(&block);
            drop((block.clone(), block));
        }
    }

    fn draft(&mut self) {
        let _ = self.arena.trim(0);
        let (len, seed) = ((1 << 20) + self.choices.below(1 << 18), self.choices.next());
        // Some outgrow their bound and move, some end before it.
        let bound = ((1 << 20) + 4096) * (1 + self.choices.below(4));
        let bytes = pattern(seed, len as usize);
        let made = match self.choices.below(3) {
            0 => self.arena.draft_in_huge_pages(bound),
            _ => self.arena.draft(bound, bound),
        };
        let Some(draft) = unless_exhausted(made) else { return };
        for (i, part) in bytes.chunks(300_000).enumerate() {
            if unless_exhausted(draft.write_at(i as u64 * 300_000, part)).is_none() {
                return;
            }
        }
        let kept = len - self.choices.below(2) * 100_000;
        self.held.extend(unless_exhausted(draft.finish(kept)));
        self.drop_some();
    }

    fn abandon_draft(&mut self) {
        let _ = self.arena.trim(0);
        if let Some(draft) = unless_exhausted(self.arena.draft(3 << 20, 3 << 20)) {
            let _ = draft.write_at(0, &[1; 5000]);
        }
    }

    fn send_and_receive(&mut self) {
        let seed = self.choices.next();
        let Some(block) = unless_exhausted(filled(self.arena, 3000, seed)) else { return };
        let (Some(first), Some(second)) = (unless_exhausted(block.post()), unless_exhausted(block.post())) else {
            return;
        };
        let id = block.id();
        drop(block);
        let received = self.arena.receive(id, Some(first)).unwrap();
        check(&received);
        drop(received);
        assert!(self.arena.discard(second).unwrap());
        assert!(self.arena.get(id).is_err());
    }

    /// A container with containers, some of which lie in a ring.
    fn contain(&mut self) {
        let Some(outer) = unless_exhausted(self.arena.allocate_zeroed(100)) else { return };
        let mut inside = Vec::new();
        for _ in 0..3 {
            let seed = self.choices.next();
            let Some(middle) = unless_exhausted(self.arena.allocate_zeroed(64)) else { return };
            let Some(leaf) = unless_exhausted(filled(self.arena, 200, seed)) else { return };
            let _ = unless_exhausted(leaf.post_owned(&middle));
            inside.push((unless_exhausted(middle.post_owned(&outer)), leaf.id()));
            if self.choices.below(2) == 0 {
                let _ = unless_exhausted(outer.post_owned(&middle));
            }
        }
        for (_, leaf) in &inside {
            self.arena.get(*leaf).iter().for_each(check);
        }
        if let (Some(parcel), _) = inside[1] {
            assert!(self.arena.discard(parcel).unwrap());
        }
        drop(outer);
        self.arena.reap().unwrap();
    }

    fn use_the_survivors(&mut self) {
        if let Some((id, parcel)) = self.orders.sent {
            check(&self.arena.receive(id, Some(parcel)).unwrap());
        }
        let container = self.arena.get(self.orders.container).unwrap();
        for owned in container.owned().unwrap() {
            // Another worker may discard its own in between.
            self.arena.get(owned.block).iter().for_each(check);
        }
        let seed = self.choices.next();
        let Some(mine) = unless_exhausted(filled(self.arena, 500, seed)) else { return };
        let Some(parcel) = unless_exhausted(mine.post_owned(&container)) else { return };
        drop(mine);
        assert!(self.arena.discard(parcel).unwrap());
    }

    /// A child with what it inherited and an array of its own.
    fn fork(&mut self) {
        let seed = self.choices.next();
        let held = &self.held;
        let arena = self.arena;
        let status = forked(|| {
            held.iter().for_each(check);
            if let Some(own) = unless_exhausted(filled(arena, 5000, seed)) {
                check(&own);
            }
        });
        if libc::WIFSIGNALED(status) && self.orders.death.is_some() {
            std::process::exit(CHILD_DIED);
        }
        assert_eq!(status, 0, "a forked child failed");
    }

    /// Inherits the heap lock from a child that dies with it.
    fn inherit(&mut self) {
        let place = IN_THE_HEAP[self.choices.below(IN_THE_HEAP.len() as u64) as usize];
        let (arena, held) = (self.arena, std::mem::take(&mut self.held));
        let status = forked(|| {
            arm(place, 1);
            let owner = unless_exhausted(arena.allocate_zeroed(640));
            let value = unless_exhausted(arena.allocate_zeroed(3000));
            if let (Some(owner), Some(value)) = (owner, value) {
                let _ = unless_exhausted(value.post_owned(&owner));
            }
        });
        assert!(status == 0 || libc::WIFSIGNALED(status), "{status:#x}");
        self.arena.reap().unwrap();
        held.iter().for_each(check);
        self.held = held;
    }

    /// Threads that want the heap lock at the same time.
    fn contend(&mut self) {
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..30).for_each(|_| drop(self.arena.stats().unwrap())));
            }
        });
    }

    fn seal_and_look(&mut self) {
        let seed = self.choices.next();
        if let Some(mut block) = unless_exhausted(filled(self.arena, 900, seed)) {
            block.seal().unwrap();
            check(&block);
            self.held.push(block);
        }
        let stats = self.arena.stats().unwrap();
        self.arena.set_limit(stats.limit, Some(stats.warm_budget)).unwrap();
        self.arena.verify().unwrap();
        self.drop_some();
    }

    // --- told by the survivor ---

    fn until_told(&mut self) {
        static PAUSE: AtomicBool = AtomicBool::new(false);
        let (said, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut byte = [0];
            while matches!(std::io::stdin().read(&mut byte), Ok(1)) {
                PAUSE.store(byte[0] == b'p', SeqCst);
                said.send(byte[0]).unwrap();
            }
            std::process::exit(0);
        });
        loop {
            self.step(KINDS);
            if PAUSE.load(SeqCst) {
                self.held.drain(..).for_each(|block| check(&block));
                say("idle");
                while told.recv().unwrap() != b'g' {}
            }
        }
    }
}

/// Says how often each point was passed.
fn say_passes() {
    for point in POINTS {
        say(&format!("{} {}", point.name(), point.passes()));
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).unwrap();
}

/// Runs `work` in a child; answers how that ended.
fn forked(work: impl FnOnce()) -> i32 {
    // SAFETY: what the child uses is made for forks: the arena, and memory of its own. Of the parent's other thread,
    // if there is one, it uses nothing.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork failed");
    if pid == 0 {
        limit_life(60);
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        // SAFETY: ends the child without running the parent's exit handlers.
        unsafe { libc::_exit(i32::from(done.is_err())) }
    }
    let mut status = 0;
    // SAFETY: the status is a valid place for the call's answer.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    status
}
