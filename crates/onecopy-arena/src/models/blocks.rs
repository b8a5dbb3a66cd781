//! One block: what is published, held, sent, received, dropped, swept and copied by a fork, by processes that may die.
//!
//! The transitions are those of `block_life.rs` and `parcel_word.rs`. The lock of the arena, which has a model of its own,
//! stands for itself: it passes from the dead to the next. The bytes of the block are a cell that loom watches: whoever
//! holds the block reads it, and whoever publishes anew writes to it. So a block that is freed too early is a race.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use loom::cell::UnsafeCell;
use loom::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use loom::sync::{Condvar, Mutex};
use onecopy_sync::Tag;

use super::death::{after_each_step, killed_after};
use crate::block_life::{Holders, Life, State};
use crate::door::{AtomicU32, AtomicU64};
use crate::parcel_word::ParcelWord;

/// An arena with one entry and one parcel.
struct Arena {
    /// The slot of the process that has the heap lock.
    owner: Mutex<Option<u32>>,
    freed: Condvar,
    state: AtomicU32,
    generation: AtomicU32,
    len: AtomicU32,
    parcels: AtomicU32,
    holders: [AtomicU64; 1],
    parcel: ParcelWord,
    /// Generation of the block that the parcel is of.
    parcel_of: AtomicU32,
    bytes: UnsafeCell<u32>,
    /// A bit for each process that the kernel knows to be dead.
    dead: AtomicU32,
    /// Blocks that were published, and that were ended in full.
    published: AtomicU32,
    ended: AtomicU32,
}

/// Length of a block, by its generation.
fn len_of(generation: u32) -> u32 {
    100 + generation
}

/// A process, by its slot.
struct Process<'a> {
    arena: &'a Arena,
    slot: u32,
}

/// The heap lock, held.
struct Guard<'a>(&'a Arena);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // A process that is killed releases nothing.
        if !std::thread::panicking() {
            *self.0.owner.lock().unwrap() = None;
            self.0.freed.notify_one();
        }
    }
}

impl Arena {
    fn new() -> Self {
        let zero = || AtomicU32::new(0);
        Self {
            owner: Mutex::new(None),
            freed: Condvar::new(),
            state: zero(),
            generation: zero(),
            len: zero(),
            parcels: zero(),
            holders: [AtomicU64::new(0)],
            parcel: ParcelWord::new(),
            parcel_of: zero(),
            bytes: UnsafeCell::new(0),
            dead: zero(),
            published: zero(),
            ended: zero(),
        }
    }

    /// One in which a block is held by process 1.
    fn with_block() -> Self {
        let arena = Self::new();
        assert!(arena.process(1).publish());
        arena
    }

    /// One in which a block of process 1 is on the way.
    fn with_parcel() -> Self {
        let arena = Self::with_block();
        arena.process(1).post();
        arena
    }

    fn process(&self, slot: u32) -> Process<'_> {
        Process { arena: self, slot }
    }

    fn life(&self) -> Life<'_> {
        let Self { state, generation, parcels, .. } = self;
        Life { state, generation, parcels, holders: Holders(&self.holders) }
    }

    /// The kernel notices that a process has ended.
    fn die(&self, slot: u32) {
        // SYNC POINT: the kernel lets nobody see a death before what was done.
        self.dead.fetch_or(1 << slot, AcqRel);
        if *self.owner.lock().unwrap() == Some(slot) {
            self.freed.notify_one();
        }
    }

    fn is_dead(&self, slot: u32) -> bool {
        self.dead.load(Acquire) & 1 << slot != 0
    }

    fn read(&self, generation: u32) {
        // SAFETY: the caller holds the block; loom reports it where that does not keep others from writing.
        let bytes = self.bytes.with(|bytes| unsafe { *bytes });
        assert_eq!(bytes, generation, "the bytes of another block");
    }

    /// Nothing is left.
    fn expect_nothing(&self) {
        assert_eq!(State::load(&self.state), State::Unused, "a block is left");
        assert!(self.parcel.sender().is_none(), "a parcel is left");
    }
}

impl Process<'_> {
    /// The heap lock; repairs the caches if it comes from a dead owner, as `recovery` does.
    fn lock(&self) -> Guard<'_> {
        let mut owner = self.arena.owner.lock().unwrap();
        while owner.is_some_and(|owner| !self.arena.is_dead(owner)) {
            owner = self.arena.freed.wait(owner).unwrap();
        }
        let inherited = owner.replace(self.slot).is_some();
        drop(owner);
        if inherited {
            self.recount_parcels();
        }
        Guard(self.arena)
    }

    fn recount_parcels(&self) {
        let arena = self.arena;
        arena.parcels.store(0, Relaxed);
        if arena.parcel.sender().is_none() {
            return;
        }
        if arena.life().is(arena.parcel_of.load(Relaxed)) {
            arena.parcels.store(1, Relaxed);
        } else {
            arena.parcel.empty();
        }
    }

    /// Makes the entry a block, if it is none; whether it was.
    fn publish(&self) -> bool {
        let (arena, _guard) = (self.arena, self.lock());
        if State::load(&arena.state) != State::Unused {
            return false;
        }
        let generation = arena.generation.load(Relaxed);
        arena.len.store(len_of(generation), Relaxed);
        // Before the state: in the arena the bytes are written after it, by the holder alone.
        // SAFETY: nobody holds the block; loom reports it where somebody still reads.
        arena.bytes.with_mut(|bytes| unsafe { *bytes = generation });
        assert_eq!(arena.life().begin(self.slot), generation);
        arena.published.fetch_add(1, Relaxed);
        true
    }

    fn post(&self) {
        let (arena, _guard) = (self.arena, self.lock());
        arena.parcel_of.store(arena.generation.load(Relaxed), Relaxed);
        arena.parcel.fill(Tag::new(self.slot, 1));
        arena.parcels.store(arena.parcels.load(Relaxed) + 1, Relaxed);
    }

    fn unpost(&self) {
        let arena = self.arena;
        arena.parcel.empty();
        arena.parcels.store(arena.parcels.load(Relaxed).saturating_sub(1), Relaxed);
    }

    /// Receives a block by a handle, with the parcel or without one; whether the handle was good.
    fn receive(&self, generation: u32, parcel: Option<u32>) -> bool {
        let (arena, _guard) = (self.arena, self.lock());
        let life = arena.life();
        let parcel = parcel.filter(|&sequence| arena.parcel.is(sequence));
        if !life.is(generation) || parcel.is_none() && !life.is_needed() {
            return false;
        }
        assert_eq!(arena.len.load(Relaxed), len_of(generation));
        let empty = || {
            if parcel.is_some() {
                self.unpost();
            }
            Ok::<_, ()>(())
        };
        life.receive(self.slot, empty).is_ok()
    }

    /// Empties a parcel that nobody will receive.
    fn discard(&self, sequence: u32) {
        let _guard = self.lock();
        if self.arena.parcel.is(sequence) {
            self.unpost();
        }
        self.free_if_garbage();
    }

    fn drop_last(&self) {
        let _guard = self.lock();
        self.arena.life().let_go(self.slot);
        self.free_if_garbage();
    }

    fn free_if_garbage(&self) {
        if self.arena.life().is_garbage() {
            self.arena.life().end();
            self.arena.ended.fetch_add(1, Relaxed);
        }
    }

    /// Takes the bits of the dead and frees what is garbage then.
    fn sweep(&self) {
        let _guard = self.lock();
        let dead = u64::from(self.arena.dead.load(Acquire));
        if State::load(&self.arena.state) == State::Used {
            self.arena.life().holders.forget(&[dead]);
            self.free_if_garbage();
        }
    }
}

type Work = Arc<dyn Fn(&Arena) + Send + Sync>;

fn process(work: impl Fn(&Arena) + Send + Sync + 'static) -> Work {
    Arc::new(work)
}

/// Runs all orders of the steps of the processes, each a thread, and then `after`.
fn explore<const N: usize>(
    preemptions: usize,
    arena: fn() -> Arena,
    processes: [Work; N],
    after: impl Fn(&Arena) + Send + Sync + 'static,
) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(move || {
        let arena = Arc::new(arena());
        let threads = processes.clone().map(|process| {
            let arena = arena.clone();
            loom::thread::spawn(move || process(&arena))
        });
        for thread in threads {
            thread.join().unwrap();
        }
        after(&arena);
    });
}

/// A process that is killed after so many steps of its work.
fn dies(steps: u32, died: Arc<AtomicBool>, slot: u32, work: impl Fn(&Process<'_>) + Send + Sync + 'static) -> Work {
    process(move |arena| {
        if killed_after(steps, || work(&arena.process(slot))) {
            arena.die(slot);
            died.store(true, SeqCst);
        }
    })
}

/// Receives the parcel 0 of generation 0, which must succeed, and drops the block again.
fn receive_and_drop(slot: u32) -> Work {
    process(move |arena| {
        let me = arena.process(slot);
        assert!(me.receive(0, Some(0)), "a block was freed on its way");
        arena.read(0);
        me.drop_last();
    })
}

/// Publishes a block of its own as soon as the entry is free, if it is, and drops it.
fn publish_anew(slot: u32) -> Work {
    process(move |arena| {
        let me = arena.process(slot);
        if me.publish() {
            arena.read(arena.generation.load(Relaxed));
            me.drop_last();
        }
    })
}

fn drop_held(slot: u32) -> Work {
    process(move |arena| {
        arena.read(0);
        arena.process(slot).drop_last();
    })
}

/// All that was published was ended, once each.
fn expect_all_ended(arena: &Arena) {
    arena.expect_nothing();
    assert!(!arena.life().is_needed(), "a bit or a count is left");
    let [published, ended, generation] =
        [&arena.published, &arena.ended, &arena.generation].map(|count| count.load(Relaxed));
    assert_eq!((ended, generation), (published, published), "a block was not ended once");
}

#[test]
fn a_block_on_its_way_outlives_its_sender() {
    explore(3, Arena::with_parcel, [drop_held(1), receive_and_drop(2)], expect_all_ended);
}

#[test]
fn a_block_is_not_reused_while_somebody_has_it() {
    explore(2, Arena::with_parcel, [drop_held(1), receive_and_drop(2), publish_anew(3)], expect_all_ended);
}

#[test]
fn a_stale_handle_is_refused_and_a_good_one_leads_to_its_block() {
    let get = process(|arena| {
        if arena.process(2).receive(0, None) {
            arena.read(0);
            arena.process(2).drop_last();
        }
    });
    explore(2, Arena::with_block, [drop_held(1), get, publish_anew(3)], expect_all_ended);
}

#[test]
fn a_parcel_is_received_once_and_only_once_discarded() {
    // Both have the same handle: one of them gets the parcel, and the other the block if it is still there.
    let receive = |slot| {
        process(move |arena: &Arena| {
            let me = arena.process(slot);
            if me.receive(0, Some(0)) {
                arena.read(0);
                me.drop_last();
            }
        })
    };
    let start = || {
        let arena = Arena::with_parcel();
        arena.process(1).drop_last();
        arena
    };
    explore(2, start, [receive(2), receive(3), process(|arena| arena.process(0).discard(0))], expect_all_ended);
}

#[test]
fn a_stale_parcel_does_not_stand_for_the_next_in_its_place() {
    let send_again = process(|arena| {
        let me = arena.process(1);
        me.discard(0);
        me.post();
        me.drop_last();
    });
    explore(3, Arena::with_parcel, [send_again, process(|arena| arena.process(2).discard(0))], |arena| {
        assert!(arena.process(3).receive(0, Some(1)), "another parcel was discarded");
        arena.process(3).drop_last();
        expect_all_ended(arena);
    });
}

#[test]
fn who_sees_a_block_without_the_lock_sees_what_describes_it() {
    let live = process(|arena| {
        let me = arena.process(1);
        assert!(me.publish());
        me.drop_last();
    });
    let look = process(|arena| {
        if arena.life().is(0) {
            assert_eq!(arena.len.load(Relaxed), len_of(0), "a block that is not described");
            // Whose name is still good now was not ended before the first look.
            if State::load(&arena.state) != State::Used {
                assert!(arena.generation.load(Relaxed) == 1, "a block that is no more has its name still");
            }
        }
    });
    explore(3, Arena::new, [live, look], expect_all_ended);
}

#[test]
fn a_parcel_that_is_seen_empty_has_a_holder() {
    let start = || {
        let arena = Arena::with_parcel();
        arena.process(1).drop_last();
        arena
    };
    let receive = process(|arena| assert!(arena.process(2).receive(0, Some(0))));
    let look = process(|arena| {
        if arena.parcel.sender().is_none() {
            assert!(arena.life().holders.has(2), "a parcel went before its receiver held the block");
        }
    });
    explore(3, start, [receive, look], |arena| arena.process(2).drop_last());
}

#[test]
fn a_fork_hands_down_what_the_parent_holds() {
    // Process 2 is the child of 1, which copies its bit without the lock, as it holds the block.
    let parent = process(|arena| {
        arena.life().holders.set(2);
        arena.process(1).drop_last();
        arena.read(0);
        arena.process(2).drop_last();
    });
    let other = || {
        process(|arena| {
            let me = arena.process(3);
            if me.receive(0, None) {
                arena.read(0);
                me.drop_last();
            }
        })
    };
    explore(2, Arena::with_block, [parent, other(), publish_anew(4)], expect_all_ended);
}

#[test]
fn a_parent_that_dies_while_it_forks_takes_nothing_from_its_child() {
    let parent = process(|arena| {
        arena.life().holders.set(2);
        // The child runs from here on; its parent is gone.
        arena.die(1);
        arena.read(0);
        arena.process(2).drop_last();
    });
    let sweep = process(|arena| arena.process(3).sweep());
    explore(2, Arena::with_block, [parent, sweep, publish_anew(4)], |arena| {
        arena.process(3).sweep();
        expect_all_ended(arena);
    });
}

/// After the death of process 1: others go on, and one sweep leaves nothing but what is on the way.
fn sweep_up(arena: &Arena) {
    let me = arena.process(3);
    me.sweep();
    me.discard(0);
    me.sweep();
    arena.expect_nothing();
    let generation = arena.generation.load(Relaxed);
    assert!(!me.receive(generation.wrapping_sub(1), Some(0)), "a stale handle is good");
    assert!(me.publish(), "the entry cannot be used again");
    assert!(!me.receive(generation.wrapping_sub(1), None), "a stale handle is good");
    me.drop_last();
    arena.expect_nothing();
}

fn sweep(slot: u32) -> Work {
    process(move |arena| arena.process(slot).sweep())
}

#[test]
fn what_a_process_leaves_that_dies_at_any_step_of_its_life_is_swept() {
    after_each_step(9, |steps, died| {
        let live = dies(steps, died, 1, |me| {
            if me.publish() {
                me.post();
                me.drop_last();
                me.discard(0);
            }
        });
        explore(2, Arena::new, [live, sweep(2)], sweep_up);
    });
}

#[test]
fn a_receiver_that_dies_at_any_step_leaves_the_parcel_or_a_bit() {
    after_each_step(5, |steps, died| {
        let receive = dies(steps, died, 2, |me| {
            assert!(me.receive(0, Some(0)));
            me.drop_last();
        });
        explore(2, Arena::with_parcel, [receive, drop_held(1), sweep(4)], sweep_up);
    });
}

#[test]
fn a_sweeper_that_dies_at_any_step_is_replaced_by_the_next() {
    after_each_step(3, |steps, died| {
        let start = || {
            let arena = Arena::with_block();
            arena.die(1);
            arena
        };
        let sweeper = dies(steps, died, 2, |me| me.sweep());
        explore(2, start, [sweeper, sweep(4), publish_anew(5)], sweep_up);
    });
}
