//! Models of the locks, explored by loom: `RUSTFLAGS="--cfg loom" cargo test -p onecopy-sync --lib --release`.
//!
//! A sleep is a yield here, after which a waiter looks again; so the models show that no order of steps breaks the
//! exclusion or loses a permit or a notification, not that nobody oversleeps.

use std::sync::Arc;

use loom::cell::UnsafeCell;

use crate::table::{Dead, Process, process};
use crate::{
    Acquired, Arrival, Barrier, Condition, Death, Event, Held, Lock, OnOwnerDied, Owners, Patience, RLock, Refused,
    RobustMutex, RwLock, Semaphore, Side,
};

const UNTOLD: OnOwnerDied = OnOwnerDied::Refuse(Death(0));

/// The slot of the process that is dead where one is.
const DEAD: u32 = 2;
static NOBODY: Dead = Dead::new(0);
static ONE: Dead = Dead::new(1 << DEAD);

fn living(slot: u32) -> Process<'static> {
    process(slot, &NOBODY)
}

fn survivor(slot: u32) -> Process<'static> {
    process(slot, &ONE)
}

/// What a lock protects: loom reports it where two touch it at once.
struct Protected(UnsafeCell<u32>);

impl Protected {
    fn new() -> Self {
        Self(UnsafeCell::new(0))
    }
    fn add_one(&self) {
        // SAFETY: the caller holds the lock; loom reports a race where that does not exclude.
        self.0.with_mut(|value| unsafe { *value += 1 });
    }
    fn read(&self) -> u32 {
        // SAFETY: as above, or all other threads have ended.
        self.0.with(|value| unsafe { *value })
    }
}

/// Runs all orders of the steps of two threads, slots 0 and 1, and then `after`.
fn explore<T: 'static>(
    shared: impl Fn() -> T + Send + Sync + 'static,
    thread: impl Fn(&T, u32) + Copy + Send + Sync + 'static,
    after: impl Fn(&T) + Send + Sync + 'static,
) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let shared = Arc::new(shared());
        let other = loom::thread::spawn({
            let shared = shared.clone();
            move || thread(&shared, 1)
        });
        thread(&shared, 0);
        other.join().unwrap();
        after(&shared);
    });
}

#[test]
fn the_mutex_excludes() {
    explore(
        || (RobustMutex::new(), Protected::new()),
        |(mutex, protected), slot| {
            let owners = living(slot);
            let Acquired::Clean(_guard) = mutex.lock(&owners) else { panic!("nobody died") };
            protected.add_one();
        },
        |(_, protected)| assert_eq!(protected.read(), 2),
    );
}

#[test]
fn exactly_one_taker_inherits_a_mutex_from_the_dead() {
    explore(
        || {
            let mutex = RobustMutex::new();
            std::mem::forget(mutex.lock(&living(DEAD)));
            (mutex, Protected::new())
        },
        |(mutex, protected), slot| {
            if let Acquired::OwnerDied(_guard) = mutex.lock(&survivor(slot)) {
                protected.add_one();
            }
        },
        |(mutex, protected)| assert_eq!((mutex.owner(), protected.read()), (None, 1)),
    );
}

#[test]
fn nobody_enters_a_dead_holders_lock_untold() {
    explore(
        || {
            let lock = Lock::new();
            let _ = lock.acquire(&living(DEAD), &Patience::FOREVER, UNTOLD);
            (lock, Protected::new())
        },
        |(lock, protected), slot| {
            let owners = survivor(slot);
            match lock.acquire(&owners, &Patience::FOREVER, UNTOLD) {
                Err(Refused::OwnerDied(death)) => {
                    let _ = lock.acquire(&owners, &Patience::FOREVER, OnOwnerDied::Refuse(death)).unwrap();
                }
                // Only after the other thread has been told, and has taken it.
                Ok(Held::Clean) => assert_eq!(protected.read(), 1),
                other => panic!("{other:?}"),
            }
            protected.add_one();
            lock.release().unwrap();
        },
        |(lock, protected)| assert_eq!((lock.is_held(), protected.read()), (false, 2)),
    );
}

#[test]
fn the_re_entrant_lock_excludes_threads_of_one_process() {
    explore(
        || (RLock::new(), Protected::new()),
        |(lock, protected), thread| {
            let me = living(0);
            for _ in 0..2 {
                let _ = lock.acquire(&me, thread + 1, &Patience::FOREVER, UNTOLD).unwrap();
            }
            protected.add_one();
            for _ in 0..2 {
                lock.release(me.me(), thread + 1).unwrap();
            }
        },
        |(lock, protected)| assert_eq!((lock.is_held(), protected.read()), (false, 2)),
    );
}

#[test]
fn a_semaphore_of_one_excludes_and_gives_the_permit_of_the_dead_back() {
    explore(
        || {
            let semaphore = Semaphore::new(1);
            semaphore.acquire(&living(DEAD), &Patience::FOREVER).unwrap();
            (semaphore, Protected::new())
        },
        |(semaphore, protected), slot| {
            let owners = survivor(slot);
            semaphore.acquire(&owners, &Patience::FOREVER).unwrap();
            protected.add_one();
            semaphore.release_bounded(&owners, 1).unwrap();
        },
        |(semaphore, protected)| assert_eq!((semaphore.value(), protected.read()), (1, 2)),
    );
}

#[test]
fn one_reader_or_one_writer() {
    explore(
        || (RwLock::new(), Protected::new()),
        |(lock, protected), slot| {
            let owners = living(slot);
            let side = if slot == 0 { Side::Write } else { Side::Read };
            let _ = lock.acquire(&owners, side, &Patience::FOREVER, UNTOLD).unwrap();
            if slot == 0 {
                protected.add_one()
            } else {
                assert!(protected.read() <= 1)
            }
            lock.release(&owners, side).unwrap();
        },
        |(lock, protected)| assert_eq!((lock.writer(), lock.readers(), protected.read()), (None, 0, 1)),
    );
}

#[test]
fn an_event_shows_what_was_done_before_it_was_set() {
    explore(
        || (Event::new(), Protected::new()),
        |(event, protected), slot| {
            if slot == 0 {
                protected.add_one();
                event.set();
            } else {
                event.wait(&Patience::FOREVER).unwrap();
                assert_eq!(protected.read(), 1);
            }
        },
        |_| (),
    );
}

#[test]
fn a_notification_reaches_the_waiter_or_counts_for_nobody() {
    // The third is a waiter that was chosen and died: its notification is for whoever waits.
    explore(
        || {
            let condition = Condition::new();
            std::mem::forget(condition.enroll(&living(DEAD)).unwrap());
            assert_eq!(condition.notify(&living(DEAD), 1), 1);
            condition
        },
        |condition, slot| {
            let owners = survivor(slot);
            if slot == 0 {
                condition.enroll(&owners).unwrap().wait(&Patience::FOREVER).unwrap();
            } else {
                // Meets the record of the dead at the same time.
                condition.notify(&owners, 1);
            }
        },
        |condition| assert_eq!(condition.waiting(), 0),
    );
}

#[test]
fn two_notifiers_do_not_count_a_dead_waiter() {
    explore(
        || {
            let condition = Condition::new();
            std::mem::forget(condition.enroll(&living(DEAD)).unwrap());
            std::mem::forget(condition.enroll(&living(0)).unwrap());
            (condition, loom::sync::atomic::AtomicU32::new(0))
        },
        |(condition, woken), slot| {
            woken.fetch_add(condition.notify(&survivor(slot), 1), std::sync::atomic::Ordering::Relaxed);
        },
        |(_, woken)| assert_eq!(woken.load(std::sync::atomic::Ordering::Relaxed), 1),
    );
}

#[test]
fn a_waiter_that_gives_up_swallows_no_notification() {
    explore(
        || (Condition::new(), loom::sync::atomic::AtomicU32::new(0)),
        |(condition, balance), slot| {
            let owners = living(slot);
            let order = std::sync::atomic::Ordering::Relaxed;
            if slot == 0 {
                let place = condition.enroll(&owners).unwrap();
                balance.fetch_sub(u32::from(place.wait(&Patience::none()).is_ok()), order);
            } else {
                balance.fetch_add(condition.notify(&owners, 1), order);
            }
        },
        |(_, balance)| assert_eq!(balance.load(std::sync::atomic::Ordering::Relaxed), 0),
    );
}

#[test]
fn nobody_passes_a_barrier_before_all_have_arrived() {
    explore(
        || (Barrier::new(2), [Protected::new(), Protected::new()]),
        |(barrier, protected), slot| {
            let owners = living(slot);
            protected[slot as usize].add_one();
            if let Arrival::Last(_) = barrier.wait(&owners, &Patience::FOREVER).unwrap() {
                barrier.finish(&owners, true).unwrap();
            }
            assert_eq!(protected[1 - slot as usize].read(), 1);
        },
        |(barrier, _)| assert_eq!((barrier.waiting(), barrier.is_broken()), (0, false)),
    );
}

#[test]
fn a_death_inside_a_barrier_breaks_it_for_all() {
    explore(
        || {
            let barrier = Barrier::new(4);
            barrier.count_in(living(DEAD).me());
            barrier
        },
        |barrier, slot| assert!(barrier.wait(&survivor(slot), &Patience::FOREVER).is_err()),
        |barrier| assert!(barrier.is_broken()),
    );
}
