//! A queue of messages for any number of producers and consumers.
//!
//! A ring of records in shared memory. Each end has a lock of its own, so that a producer and a consumer never wait for
//! each other, and stands where one word says: a message is in the queue when the store of the producers' word is done,
//! and out of it when that of the consumers' is. Whoever dies on the way has changed nothing. Design:
//! `docs/design/queue.md`.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use onecopy_arena::ArenaError;
use onecopy_sync::{Acquired, Bell, Gate, Guard, Patience, RobustMutex, Spin, Stopped};

mod door;
#[cfg(not(loom))]
mod memory;
#[cfg(all(test, loom))]
mod models;
mod orphans;
mod position;
mod put;
mod record;
mod segment;
#[cfg(loom)]
mod stand_in;
mod take;
#[cfg(all(test, not(loom)))]
mod tests;

pub use door::Memory;
pub use record::{Batch, Enclosed, MOST_BYTES, MOST_ENCLOSED, Message};

use door::{AtomicU32, AtomicU64, Block, Ordering, Ordering::Relaxed, Viewer, crash_point};
use position::Position;
use segment::{Last, Name, Segment, damaged};

/// The shared part of a queue. Zeros are no queue yet: [`Queue::begin`] makes them one.
///
/// Processors fetch cache lines in pairs. So between two lines that are written to all the time, by different ends, lies
/// one that is not.
#[derive(Debug)]
#[repr(C)]
pub struct Queue {
    put: End,
    tasks: Line<Tasks>,
    take: End,
}

/// One of the two ends.
#[derive(Debug)]
#[repr(C)]
struct End {
    own: Line<Own>,
    /// Where this end sleeps until the other has gone on.
    gate: Line<Gate>,
    /// Apart from what is this end's own: the other reads it again and again while it waits.
    position: Line<AtomicU64>,
}

/// What only one end uses.
#[derive(Debug)]
#[repr(C)]
struct Own {
    lock: RobustMutex,
    /// Where the other end was when somebody looked: whoever finds enough there need not look again.
    other: AtomicU64,
    /// Names of segments with an even and with an odd number. The next is written before the position goes there.
    segments: [Name; 2],
}

#[derive(Debug)]
#[repr(C, align(64))]
struct Line<T>(T);

/// What is seldom changed.
#[derive(Debug)]
#[repr(C)]
struct Tasks {
    limit: AtomicU32,
    closed: AtomicU32,
    done: AtomicU32,
    all_done: Gate,
}

/// What a process remembers of a queue.
#[derive(Debug)]
pub struct Local {
    put: Last,
    take: Last,
    room: Spin,
    message: Spin,
    answer: Spin,
    expects_answer: AtomicBool,
}

impl Local {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self::spinning(Spin::LONGEST, Spin::FARTHEST)
    }

    /// Nothing yet. Waits begin with looking for at most `spin`, those for an answer for at most `far`, as far as that
    /// pays.
    pub const fn spinning(spin: Duration, far: Duration) -> Self {
        Self {
            put: Last::new(),
            take: Last::new(),
            room: Spin::at_most(spin),
            message: Spin::at_most(spin),
            answer: Spin::reaching(spin, far),
            expects_answer: AtomicBool::new(false),
        }
    }

    /// Says whether what is taken next answers something: then a longer spin may pay.
    #[inline]
    pub fn expect_answer(&self, expect: bool) {
        self.expects_answer.store(expect, Relaxed);
    }

    /// Whether what is taken next answers something.
    #[inline]
    pub fn expects_answer(&self) -> bool {
        self.expects_answer.load(Relaxed)
    }
}

impl Default for Local {
    fn default() -> Self {
        Self::new()
    }
}

/// Why nothing was put or taken. The queue stays usable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The time was up: the queue is full, or empty.
    #[error("the time was up")]
    TimedOut,
    /// The wait was called off.
    #[error("the wait was called off")]
    Interrupted,
    /// The queue has been closed, and has no messages any more.
    #[error("the queue is closed")]
    Closed,
    /// More tasks were said to be done than messages were put.
    #[error("task_done() called too many times")]
    TooManyDone,
    /// Of the arena.
    #[error(transparent)]
    Arena(#[from] ArenaError),
}

impl From<Stopped> for QueueError {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::TimedOut => Self::TimedOut,
            Stopped::Interrupted => Self::Interrupted,
        }
    }
}

/// What one can wait for at a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Await {
    /// That there is a message to take.
    Message,
    /// That there is room to put one.
    Room,
    /// That all messages that were put have been dealt with.
    Done,
}

/// The most messages that a queue can hold.
pub const MOST_MESSAGES: u32 = u32::MAX / 2;

impl Queue {
    /// What zeros are in shared memory.
    #[cfg(all(test, loom))]
    fn zeros() -> Self {
        let own =
            || Own { lock: RobustMutex::new(), other: AtomicU64::new(0), segments: [Name::zeros(), Name::zeros()] };
        let end = || End { own: Line(own()), gate: Line(Gate::new()), position: Line(AtomicU64::new(0)) };
        let [limit, closed, done] = [(); 3].map(|()| AtomicU32::new(0));
        let tasks = Tasks { limit, closed, done, all_done: Gate::new() };
        Self { put: end(), tasks: Line(tasks), take: end() }
    }

    /// Makes zeros an empty queue for at most `limit` messages. Nobody else has it yet.
    pub fn begin(&self, limit: u32) {
        self.tasks.0.limit.store(limit.clamp(1, MOST_MESSAGES), Relaxed);
        for end in [&self.put, &self.take] {
            end.own.0.segments[0].set(0, None);
            // No segment 0 will come again before this was written over.
            end.own.0.segments[1].set(u32::MAX, None);
        }
    }

    /// How many messages it holds at most.
    pub fn limit(&self) -> u32 {
        self.tasks.0.limit.load(Relaxed)
    }

    /// How many messages it holds now.
    pub fn len(&self) -> u32 {
        // The taking end first: it never overtakes the other, so the difference is never negative.
        let taken = Position::load(&self.take.position.0, Ordering::Acquire);
        Position::load(&self.put.position.0, Relaxed).messages_since(taken)
    }

    /// Whether it holds no message now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether somebody closed it.
    pub fn is_closed(&self) -> bool {
        self.tasks.0.closed.load(Ordering::Acquire) != 0
    }

    /// Lets nothing more in. What is in the queue can still be taken; those who wait are told.
    pub fn close(&self) {
        self.tasks.0.closed.store(1, Ordering::Release);
        crash_point!("queue.closed");
        self.rouse();
    }

    /// Has everybody who waits look again.
    pub fn rouse(&self) {
        for gate in [&self.take.gate.0, &self.put.gate.0, &self.tasks.0.all_done] {
            gate.open(u32::MAX >> 1);
        }
    }

    /// Says that the caller is about to sleep until something has come.
    pub fn bell(&self, what: Await) -> Bell<'_> {
        match what {
            Await::Message => self.take.gate.0.bell(),
            Await::Room => self.put.gate.0.bell(),
            Await::Done => self.tasks.0.all_done.bell(),
        }
    }

    /// Whether there is nothing to wait for; for messages and room also when the queue has been closed.
    pub fn is_ready(&self, what: Await) -> bool {
        match what {
            Await::Message => !self.is_empty() || self.is_closed(),
            Await::Room => self.len() < self.limit() || self.is_closed(),
            Await::Done => self.unfinished() == 0,
        }
    }

    /// Says that one more of the messages that were taken has been dealt with.
    pub fn task_done(&self) -> Result<(), QueueError> {
        let Tasks { done, all_done, .. } = &self.tasks.0;
        let open = |n: u32| self.unfinished_after(n) > 0;
        let counted = done.fetch_update(Ordering::AcqRel, Relaxed, |n| open(n).then(|| n.wrapping_add(1)));
        let n = counted.map_err(|_| QueueError::TooManyDone)?;
        crash_point!("queue.task-done");
        if !open(n.wrapping_add(1)) {
            all_done.open(u32::MAX >> 1);
        }
        Ok(())
    }

    fn unfinished_after(&self, done: u32) -> u32 {
        Position::load(&self.put.position.0, Ordering::Acquire).count.wrapping_sub(done)
    }

    /// Messages that were put and not yet dealt with.
    pub fn unfinished(&self) -> u32 {
        self.unfinished_after(self.tasks.0.done.load(Ordering::Acquire))
    }

    /// Waits until all messages that were put have been dealt with.
    pub fn join(&self, patience: &Patience<'_>) -> Result<(), QueueError> {
        let Tasks { all_done, .. } = &self.tasks.0;
        Ok(all_done.wait(patience, &Spin::new(), || self.unfinished() == 0)?)
    }
}

/// A queue as a process uses it.
#[derive(Debug)]
pub struct Channel<'a> {
    queue: &'a Queue,
    block: &'a Block,
    home: Memory,
    owners: Viewer,
    local: &'a Local,
}

impl<'a> Channel<'a> {
    /// The queue that lives in `block`, with the rest of that block, `home`, as its first segment.
    #[inline]
    pub fn new(queue: &'a Queue, block: &'a Block, home: Memory, local: &'a Local) -> Result<Self, ArenaError> {
        Ok(Self { queue, block, home, owners: block.arena().owners()?, local })
    }

    /// Puts a reference to a block into the queue's block, for a message that goes there next.
    pub fn enclose(&self, block: &Block) -> Result<Enclosed, ArenaError> {
        let enclosed = Enclosed { block: block.id(), parcel: block.post_owned(self.block)? };
        crash_point!("queue.enclosed");
        Ok(enclosed)
    }

    /// The lock of an end, and whether its last owner died with it. There is nothing to repair, only to tidy up.
    #[inline]
    fn lock<'b>(&self, end: &'b End) -> (Guard<'b>, bool) {
        match end.own.0.lock.lock(&self.owners) {
            Acquired::Clean(guard) => (guard, false),
            Acquired::OwnerDied(guard) => (guard, true),
        }
    }

    /// The segment of a number, whose name this end knows.
    #[inline]
    fn open(&self, end: &End, last: &Last, number: u32) -> Result<Opened, ArenaError> {
        let name = end.own.0.segments[(number & 1) as usize].get(number);
        let name = name.ok_or_else(|| damaged("an end of a queue is in a segment that it has no name of"))?;
        let Some(name) = name else { return Ok(Opened { memory: self.home, segment: None }) };
        self.open_named(last, name)
    }

    fn open_named(&self, last: &Last, name: Enclosed) -> Result<Opened, ArenaError> {
        if let Some(memory) = last.memory_of(name.block) {
            return Ok(Opened { memory, segment: None });
        }
        let segment = Box::new(Segment::over(self.block.arena().get(name.block)?)?);
        Ok(Opened { memory: segment.memory(), segment: Some(segment) })
    }
}

/// A segment in use.
#[derive(Debug)]
struct Opened {
    memory: Memory,
    /// What keeps the memory, if that is neither the queue's own block nor the [`Last`] segment.
    segment: Option<Box<Segment>>,
}

impl Opened {
    /// Keeps the segment for the next time.
    #[inline]
    fn keep(self, last: &Last) {
        if let Some(segment) = self.segment {
            last.put(segment);
        }
    }
}
