//! What processes wait for: permits, notifications, events, each other.

use std::time::Duration;

use onecopy::{Arena, Barrier, BlockId, Condition, Event, Lock, LockError, Semaphore, SharedObject};

use crate::contents::Choices;
use crate::process::{Log, Worker, moment, patience};
use crate::subjects::{Scene, Subject};

pub(crate) const SEMAPHORE: Subject =
    Subject { name: "semaphore", begin: Permits::begin, work: take_permits, modules: &["onecopy_sync::semaphore"] };
pub(crate) const CONDITION: Subject =
    Subject { name: "condition", begin: Meeting::begin, work: meet, modules: &["onecopy_sync::condition"] };
pub(crate) const EVENT: Subject =
    Subject { name: "event", begin: Signal::begin, work: signal, modules: &["onecopy_sync::event"] };
pub(crate) const BARRIER: Subject =
    Subject { name: "barrier", begin: Fence::begin, work: pass, modules: &["onecopy_sync::barrier"] };

/// Whether a wait that may end by its time ended by what it was for.
fn happened(waited: Result<(), LockError>) -> bool {
    match waited {
        Ok(()) => true,
        Err(LockError::TimedOut) => false,
        Err(error) => panic!("{error}"),
    }
}

// --- permits ---

const POOL: u32 = 2;

struct Permits {
    /// Whose permits come back.
    pool: Semaphore,
    /// Whose permits are nobody's.
    signals: Semaphore,
}

impl Permits {
    fn begin(arena: &'static Arena, _: &mut Choices) -> Box<dyn Scene> {
        let semaphore = |value: u32| Semaphore::new(arena, i64::from(value)).unwrap();
        Box::new(Self { pool: semaphore(POOL), signals: semaphore(0) })
    }
}

impl Scene for Permits {
    fn blocks(&self) -> Vec<BlockId> {
        vec![self.pool.part().block().id(), self.signals.part().block().id()]
    }

    fn go_on(&mut self) {
        self.pool.acquire(&patience()).unwrap();
        self.pool.release_bounded(1).unwrap();
        self.signals.release(1).unwrap();
        happened(self.signals.acquire(&moment()));
    }

    fn settle(self: Box<Self>, _: &[Log]) {
        (0..POOL).for_each(|_| self.pool.acquire(&patience()).unwrap());
        assert_eq!(self.pool.value(), 0, "a permit came back twice");
        self.pool.release_bounded(POOL).unwrap();
        assert!(self.pool.release_bounded(1).is_err());
    }
}

fn take_permits(worker: &mut Worker) {
    let [pool, signals] = [0, 1].map(|which| worker.object::<Semaphore>(which));
    for _ in 0..5 {
        pool.acquire(&patience()).unwrap();
        pool.release_bounded(1).unwrap();
        signals.release(1).unwrap();
        happened(signals.acquire(&moment()));
    }
    // Another thread waits for longer than a poll, if no other process is there.
    let second = pool.acquire(&patience()).map(|()| happened(pool.acquire(&moment()))).unwrap();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            pool.acquire(&patience()).unwrap();
            pool.release_bounded(1).unwrap();
        });
        std::thread::sleep(Duration::from_millis(3));
        pool.release_bounded(1 + u32::from(second)).unwrap();
        other.join().unwrap();
    });
    worker.let_a_child_die(None, |_| {
        happened(pool.acquire(&moment()));
        happened(pool.acquire(&moment()));
    });
    pool.acquire(&patience()).unwrap();
    pool.release_bounded(1).unwrap();
}

// --- notifications ---

struct Meeting {
    lock: Lock,
    condition: Condition,
}

impl Meeting {
    fn begin(arena: &'static Arena, _: &mut Choices) -> Box<dyn Scene> {
        Box::new(Self { lock: Lock::new(arena).unwrap(), condition: Condition::new(arena).unwrap() })
    }
}

fn locked(lock: &Lock, inside: impl FnOnce()) {
    match lock.acquire(&patience()) {
        Ok(_) => {}
        Err(LockError::OwnerDied) => drop(lock.recover(&patience()).unwrap()),
        Err(error) => panic!("{error}"),
    }
    inside();
    lock.release().unwrap();
}

/// One thread waits until it was notified, by this process if by no other.
fn wait_and_notify(lock: &Lock, condition: &Condition) {
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            locked(lock, || match condition.wait(lock, &patience()) {
                // The lock is held, and what it protects is nothing.
                Ok(()) | Err(LockError::OwnerDied) => {}
                Err(error) => panic!("{error}"),
            });
            done.store(true, std::sync::atomic::Ordering::SeqCst);
        });
        while !done.load(std::sync::atomic::Ordering::SeqCst) {
            locked(lock, || assert!(condition.notify(lock, 1).unwrap() <= 1));
        }
    });
}

impl Scene for Meeting {
    fn blocks(&self) -> Vec<BlockId> {
        vec![self.lock.part().block().id(), self.condition.part().block().id()]
    }

    fn go_on(&mut self) {
        wait_and_notify(&self.lock, &self.condition);
    }

    fn settle(self: Box<Self>, _: &[Log]) {
        wait_and_notify(&self.lock, &self.condition);
        locked(&self.lock, || {
            assert_eq!(self.condition.notify_all(&self.lock).unwrap(), 0, "a dead waiter is counted");
        });
    }
}

fn meet(worker: &mut Worker) {
    let (lock, condition): (Lock, Condition) = (worker.object(0), worker.object(1));
    wait_and_notify(&lock, &condition);
    locked(&lock, || match condition.wait(&lock, &moment()) {
        Ok(()) | Err(LockError::TimedOut | LockError::OwnerDied) => {}
        Err(error) => panic!("{error}"),
    });
    for place in ["condition.waiting", "condition.claimed", "condition.touched"] {
        worker.let_a_child_die(Some(place), |_| locked(&lock, || drop(condition.wait(&lock, &moment()))));
        locked(&lock, || assert!(condition.notify(&lock, 1).unwrap() <= 1));
    }
    wait_and_notify(&lock, &condition);
}

// --- events ---

struct Signal {
    event: Event,
}

impl Signal {
    fn begin(arena: &'static Arena, _: &mut Choices) -> Box<dyn Scene> {
        Box::new(Self { event: Event::new(arena).unwrap() })
    }
}

/// One thread waits for the event; another sets it, as somebody else may clear it again.
fn wait_and_set(event: &Event) {
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| event.wait(&patience()).unwrap());
        while !waiter.is_finished() {
            event.set();
            event.clear();
        }
    });
}

impl Scene for Signal {
    fn blocks(&self) -> Vec<BlockId> {
        vec![self.event.part().block().id()]
    }

    fn go_on(&mut self) {
        wait_and_set(&self.event);
    }

    fn settle(self: Box<Self>, _: &[Log]) {
        wait_and_set(&self.event);
        assert!(!self.event.is_set());
    }
}

fn signal(worker: &mut Worker) {
    let event: Event = worker.object(0);
    (0..5).for_each(|_| wait_and_set(&event));
}

// --- meeting points ---

struct Fence {
    barrier: Barrier,
}

impl Fence {
    fn begin(arena: &'static Arena, _: &mut Choices) -> Box<dyn Scene> {
        Box::new(Self { barrier: Barrier::new(arena, 2).unwrap() })
    }
}

/// Two threads come; answers whether both got through, maybe with parties of other processes.
fn pass_once(barrier: &Barrier, patience: fn() -> onecopy::Patience<'static>) -> bool {
    let come = || match barrier.wait(&patience(), || ()) {
        Ok(_) => true,
        Err(LockError::BrokenBarrier) => {
            barrier.reset().unwrap();
            false
        }
        Err(error) => panic!("{error}"),
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(come);
        let mine = come();
        other.join().unwrap() && mine
    })
}

impl Scene for Fence {
    fn blocks(&self) -> Vec<BlockId> {
        vec![self.barrier.part().block().id()]
    }

    fn go_on(&mut self) {
        pass_once(&self.barrier, moment);
    }

    fn settle(self: Box<Self>, _: &[Log]) {
        // The first may be told of a death; then it is as new.
        if self.barrier.is_broken() || !pass_once(&self.barrier, moment) {
            self.barrier.reset().unwrap();
        }
        assert!(pass_once(&self.barrier, patience), "a barrier that was reset lets nobody through");
        assert_eq!(self.barrier.waiting(), 0);
    }
}

fn pass(worker: &mut Worker) {
    let barrier: Barrier = worker.object(0);
    for _ in 0..5 {
        pass_once(&barrier, moment);
    }
    worker.let_a_child_die(Some("barrier.arrived"), |_| {
        pass_once(&barrier, moment);
    });
    pass_once(&barrier, moment);
    barrier.abort().unwrap();
    pass_once(&barrier, moment);
}
