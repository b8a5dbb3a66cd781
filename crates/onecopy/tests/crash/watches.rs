//! What the reactor watches: whoever is killed while he watches, or was told and has not tried, has taken nothing, and
//! nobody waits for him.

use std::time::Instant;

use onecopy::{
    Arena, BlockId, Error, Event, Lock, LockError, Mailbox, Patience, Queue, QueueError, RwLock, Semaphore,
    SharedObject, Side, Value, Waitable, Watch,
};

use crate::contents::Choices;
use crate::history::Event as Happened;
use crate::process::{HANG, Log, Worker, moment, patience};
use crate::queue::judge_all;
use crate::subjects::{Scene, Subject};

pub(crate) const REACTOR: Subject =
    Subject { name: "reactor", begin: Sources::begin, work, modules: &["onecopy::reactor"] };

/// The actor that stays.
const SURVIVOR: u32 = 0;
const PERMITS: u32 = 2;

struct Sources {
    queue: Queue,
    pool: Semaphore,
    lock: Lock,
    sides: RwLock,
    event: Event,
}

/// The process that stays, with what it has put and taken.
struct Stayer {
    sources: Sources,
    put: u32,
    events: Vec<Happened>,
}

impl Sources {
    fn begin(arena: &'static Arena, _: &mut Choices) -> Box<dyn Scene> {
        let sources = Self {
            queue: Queue::new(arena, Some(4)).unwrap(),
            pool: Semaphore::new(arena, i64::from(PERMITS)).unwrap(),
            lock: Lock::new(arena).unwrap(),
            sides: RwLock::new(arena).unwrap(),
            event: Event::new(arena).unwrap(),
        };
        Box::new(Stayer { sources, put: 0, events: Vec::new() })
    }

    fn of(worker: &Worker) -> Self {
        Self {
            queue: worker.object(0),
            pool: worker.object(1),
            lock: worker.object(2),
            sides: worker.object(3),
            event: worker.object(4),
        }
    }

    /// Uses all of them without a reactor. None of those who watch may be in the way.
    fn use_all(&self) {
        self.pool.acquire(&patience()).unwrap();
        self.pool.release_bounded(1).unwrap();
        told(self.lock.acquire(&patience()), || self.lock.recover(&patience()));
        self.lock.release().unwrap();
        for side in [Side::Read, Side::Write] {
            told(self.sides.acquire(side, &patience()), || self.sides.recover(side, &patience()));
            self.sides.release(side).unwrap();
        }
        self.event.set();
        self.event.clear();
    }

    /// Puts the next message of an actor, if there is room soon.
    fn put(&self, actor: u32, number: &mut u32, say: &mut dyn FnMut(Happened)) {
        say(Happened::Putting { first: *number, count: 1 });
        let went_in = match self.queue.put(&Value::Int(i64::from(actor) << 32 | i64::from(*number)), &moment()) {
            Ok(()) => 1,
            Err(Error::Queue(QueueError::TimedOut)) => 0,
            Err(error) => panic!("{error}"),
        };
        *number += went_in;
        say(Happened::Put(went_in));
    }

    /// Takes a message, if there is one; whether there was.
    fn take(&self, say: &mut dyn FnMut(Happened)) -> bool {
        say(Happened::Taking { most: 1 });
        let taken = match self.queue.get(&Patience::none()) {
            Ok(Value::Int(name)) => vec![((name >> 32) as u32, name as u32)],
            Err(Error::Queue(QueueError::TimedOut)) => Vec::new(),
            other => panic!("{other:?}"),
        };
        let any = !taken.is_empty();
        say(Happened::Took(taken));
        any
    }
}

/// Holds a lock, whoever died with it.
fn told(held: Result<bool, LockError>, recover: impl FnOnce() -> Result<bool, LockError>) {
    match held {
        Ok(_) => {}
        Err(LockError::OwnerDied) => drop(recover().unwrap()),
        Err(error) => panic!("{error}"),
    }
}

impl Scene for Stayer {
    fn blocks(&self) -> Vec<BlockId> {
        let Sources { queue, pool, lock, sides, event } = &self.sources;
        vec![
            queue.part().block().id(),
            pool.part().block().id(),
            lock.part().block().id(),
            sides.part().block().id(),
            event.part().block().id(),
        ]
    }

    fn go_on(&mut self) {
        let Self { sources, put, events } = self;
        sources.use_all();
        sources.take(&mut |event| events.push(event));
        sources.put(SURVIVOR, put, &mut |event| events.push(event));
    }

    fn settle(self: Box<Self>, logs: &[Log]) {
        let Self { sources, mut events, .. } = *self;
        sources.use_all();
        let Sources { queue, pool, lock, sides, .. } = &sources;
        (0..PERMITS).for_each(|_| pool.acquire(&patience()).unwrap());
        assert_eq!(pool.value(), 0, "a permit came back twice");
        assert_eq!((sides.readers(), sides.is_written(), lock.is_held()), (0, false, false));
        while sources.take(&mut |event| events.push(event)) {}
        assert!(queue.is_empty());
        // The reactor has taken nothing: what its process was told of and had not taken is there.
        judge_all(events, logs);
    }
}

/// Watches a source and waits until it is told, as an event loop does; the watch is answered, as it counts until then.
fn await_one(mailbox: &std::sync::Arc<Mailbox>, source: impl Waitable, token: u64) -> Watch {
    let watch = mailbox.watch(source, token).unwrap();
    let start = Instant::now();
    while !mailbox.collect().contains(&token) {
        assert!(start.elapsed() < HANG, "nobody tells of source {token}");
        std::thread::yield_now();
    }
    watch
}

fn work(worker: &mut Worker) {
    let sources = Sources::of(worker);
    let mailbox = Mailbox::new().unwrap();
    for _ in 0..2 {
        let mut say = |event: Happened| Worker::say(&event.to_line(worker.actor));
        sources.put(worker.actor, &mut worker.put, &mut say);
        // Another may take it first: who is told tries, and goes on.
        let watch = mailbox.watch(sources.queue.messages(), 1).unwrap();
        sources.take(&mut say);
        drop(watch);
        let watch = await_one(&mailbox, sources.pool.awaited().unwrap(), 2);
        if sources.pool.try_acquire().unwrap() {
            sources.pool.release_bounded(1).unwrap();
        }
        drop(watch);
        let watch = await_one(&mailbox, sources.lock.awaited(), 3);
        match sources.lock.try_acquire() {
            Ok(Some(_)) => sources.lock.release().unwrap(),
            Ok(None) | Err(LockError::OwnerDied) => {}
            Err(error) => panic!("{error}"),
        }
        drop(watch);
        // A writer that waits keeps readers out, until it is dropped or dead.
        let watch = await_one(&mailbox, sources.sides.awaited(Side::Write).unwrap(), 4);
        match sources.sides.try_acquire(Side::Write) {
            Ok(Some(_)) => sources.sides.release(Side::Write).unwrap(),
            Ok(None) | Err(LockError::OwnerDied) => {}
            Err(error) => panic!("{error}"),
        }
        drop(watch);
        sources.event.set();
        drop(mailbox.watch(sources.event.awaited(), 5).unwrap());
        sources.event.clear();
        sources.use_all();
    }
    // Of one's own, as others cannot take it away.
    let own = Queue::new(worker.arena, Some(1)).unwrap();
    let watch = mailbox.watch(own.messages(), 6).unwrap();
    own.put(&Value::None, &patience()).unwrap();
    let start = Instant::now();
    while !mailbox.collect().contains(&6) {
        assert!(start.elapsed() < HANG, "nobody tells of a message");
        std::thread::yield_now();
    }
    own.get(&patience()).unwrap();
    drop(watch);
}
