//! The process table.
//!
//! The transitions are those of `slot_word.rs`; the locks of the kernel are a table here, and a death lets go of them.

use std::convert::Infallible;
use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::Mutex;
use loom::sync::atomic::AtomicU32;
use loom::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::slot_word::{SlotState, SlotWord, generation_of, is_occupied, state_of};

/// One slot, with what the kernel knows of it and what its occupant keeps in the arena.
struct Slot {
    word: SlotWord,
    /// The lock byte: held or not.
    recorded: AtomicU32,
    /// The lock that a parent takes for its child.
    transferred: AtomicU32,
    /// What the occupant alone may touch, such as its bits: loom reports two at once. Not zero while it has any.
    belongings: UnsafeCell<u32>,
    reaped: AtomicU32,
    /// The lock of the arena, which has a model of its own: sweepers take turns.
    arena: Mutex<()>,
}

impl Slot {
    fn new(state: SlotState) -> Self {
        Self {
            word: SlotWord::new(0, state),
            recorded: AtomicU32::new(0),
            transferred: AtomicU32::new(u32::from(state == SlotState::Forking)),
            // A process that is dead from the start left something behind.
            belongings: UnsafeCell::new(u32::from(state == SlotState::Live)),
            reaped: AtomicU32::new(0),
            arena: Mutex::new(()),
        }
    }

    fn try_lock(&self) -> bool {
        self.recorded.compare_exchange(0, 1, AcqRel, Relaxed).is_ok()
    }

    /// Also what the kernel does at a death.
    fn unlock(&self) {
        self.recorded.store(0, Release);
    }

    fn join(&self) -> bool {
        let lock = || Ok::<_, Infallible>(self.try_lock().then_some(()));
        let unlock = |()| {
            self.unlock();
            Ok(())
        };
        let joined = self.word.claim(SlotState::Live, lock, unlock).unwrap().is_some();
        if joined {
            assert_eq!(self.replace(1), 0, "a bit of the last occupant is left");
        }
        joined
    }

    fn leave(&self) {
        assert_eq!(self.replace(0), 1, "a live process lost its bits");
        self.word.vacate();
        self.unlock();
    }

    fn sweep(&self) {
        let _arena = self.arena.lock().unwrap();
        if self.reap() {
            self.word.vacate();
            self.reaped.fetch_add(1, Relaxed);
        }
    }

    /// Takes the slot and the bits away if they are a dead process's.
    fn reap(&self) -> bool {
        let word = self.word.load();
        let occupied =
            is_occupied(word, || self.recorded.load(Acquire) != 0, || self.transferred.load(Acquire) != 0, || false);
        let reaped = state_of(word) != SlotState::Free && !occupied && self.word.reap(word);
        if reaped {
            self.replace(0);
        }
        reaped
    }

    fn replace(&self, belongings: u32) -> u32 {
        // SAFETY: the caller occupies or reaps the slot; loom reports a race where that does not exclude.
        self.belongings.with_mut(|held| unsafe { std::mem::replace(&mut *held, belongings) })
    }

    fn end(&self) -> (SlotState, u32, u32) {
        let word = self.word.load();
        (state_of(word), generation_of(word), self.reaped.load(Acquire))
    }
}

/// Runs all orders of the steps of the processes, each a thread, and then `after`.
fn explore<const N: usize>(state: SlotState, processes: [fn(&Slot); N], after: fn(&Slot)) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let slot = Arc::new(Slot::new(state));
        let threads = processes.map(|process| {
            let slot = slot.clone();
            loom::thread::spawn(move || process(&slot))
        });
        for thread in threads {
            thread.join().unwrap();
        }
        after(&slot);
    });
}

fn stay_a_while(slot: &Slot) {
    if slot.join() {
        slot.leave();
    }
}

fn join_and_die(slot: &Slot) {
    if slot.join() {
        slot.unlock();
    }
}

#[test]
fn two_processes_never_hold_one_slot() {
    explore(SlotState::Free, [stay_a_while, stay_a_while], |slot| {
        let (state, generation, reaped) = slot.end();
        assert_eq!((state, reaped), (SlotState::Free, 0));
        assert!((1..=2).contains(&generation));
    });
}

#[test]
fn a_live_process_is_never_reaped() {
    // It comes back to the same slot, so that a sweeper that was slow meets another stay than it saw.
    let twice = |slot: &Slot| {
        stay_a_while(slot);
        stay_a_while(slot);
    };
    explore(SlotState::Free, [twice, Slot::sweep], |slot| assert_eq!(slot.end(), (SlotState::Free, 2, 0)));
}

#[test]
fn the_dead_are_reaped_once_and_leave_nothing_to_the_next() {
    explore(SlotState::Live, [Slot::sweep, Slot::sweep, stay_a_while], |slot| {
        let (state, generation, reaped) = slot.end();
        assert_eq!((state, reaped), (SlotState::Free, 1));
        assert!((1..=2).contains(&generation));
    });
}

#[test]
fn a_death_after_joining_is_found_by_this_sweep_or_the_next() {
    explore(SlotState::Free, [join_and_die, Slot::sweep], |slot| {
        slot.sweep();
        assert_eq!(slot.end(), (SlotState::Free, 1, 1));
    });
}

#[test]
fn a_child_is_not_reaped_on_the_way_into_its_slot() {
    // Its parent is gone: the transfer lock is the child's alone.
    let move_in = |slot: &Slot| {
        assert!(slot.try_lock(), "nobody looks for a slot");
        assert_eq!(slot.word.settle(|_| slot.replace(1)), 0);
        slot.transferred.store(0, Release);
    };
    explore(SlotState::Forking, [move_in, Slot::sweep], |slot| {
        assert_eq!(slot.end(), (SlotState::Live, 0, 0));
        slot.leave();
    });
}

#[test]
fn a_child_that_never_came_is_reaped() {
    let die_in_fork = |slot: &Slot| slot.transferred.store(0, Release);
    explore(SlotState::Forking, [die_in_fork, Slot::sweep], |slot| {
        slot.sweep();
        assert_eq!(slot.end(), (SlotState::Free, 1, 1));
    });
}

#[test]
fn a_sweep_that_died_half_way_is_finished_by_the_next() {
    let sweep_and_die = |slot: &Slot| {
        let _let_go_by_the_death = slot.arena.lock().unwrap();
        slot.reap();
    };
    explore(SlotState::Live, [sweep_and_die, Slot::sweep, stay_a_while], |slot| {
        slot.sweep();
        let (state, generation, reaped) = slot.end();
        assert_eq!((state, reaped), (SlotState::Free, 1));
        assert!((1..=2).contains(&generation));
    });
}
