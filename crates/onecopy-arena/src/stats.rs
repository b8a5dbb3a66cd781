//! Figures of an arena. They are read from the tables with or without the heap lock: without it, by one who only looks,
//! they need not belong to one moment.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::Ordering::Relaxed;

use onecopy_os::{Machine, start_time};

use crate::heap::{SEALED, State, committed_of, state_of};
use crate::layout::{ArenaId, BlockEntry, Geometry};
use crate::parcels::{block_of, owner_of, sender_of};
use crate::slot_word::{SlotState, state_of as slot_state_of};
use crate::slots::{JANITOR, Roll};

/// What an arena holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// The arena.
    pub id: ArenaId,
    /// Sizes of its tables.
    pub geometry: Geometry,
    /// Bytes of memory it may have.
    pub limit: u64,
    /// Bytes of blocks.
    pub used_bytes: u64,
    /// Bytes of freed memory kept for the next block.
    pub warm_bytes: u64,
    /// Bytes that freed memory may take up.
    pub warm_budget: u64,
    /// Bytes that passed the budget check and have no memory behind them yet.
    pub promised_bytes: u64,
    /// Blocks.
    pub blocks: u32,
    /// References that no process has: handles in flight, and what lies in containers.
    pub parcels: u32,
    /// Handles in flight whose sender is dead.
    pub orphans: u32,
    /// Processes.
    pub members: Vec<Member>,
}

/// A process of an arena.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its slot.
    pub slot: u32,
    /// Its pid, in its own pid namespace.
    pub pid: u32,
    /// Its start in clock ticks since boot: with the pid it names the process for good.
    pub start_time: u64,
    /// Whether it lives.
    pub lives: bool,
    /// Blocks that it holds, alone or with others.
    pub blocks: u32,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that it may still commit from past budget checks.
    pub promised_bytes: u64,
}

impl Member {
    /// Its command line; none where there is no such process to be seen from here.
    pub fn command(&self, machine: &Machine) -> Option<String> {
        // A pid of another namespace, or one that was given away again, names somebody else.
        (start_time(self.pid) == Some(self.start_time)).then(|| machine.command(self.pid)).flatten()
    }
}

/// An arena in detail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Details {
    /// Its figures.
    pub stats: Stats,
    /// Its largest blocks, the largest first.
    pub largest: Vec<LargeBlock>,
    /// Freed memory that is kept.
    pub warm: FreeSpace,
    /// Addresses without memory.
    pub fresh: FreeSpace,
    /// The pid of the process that has the heap lock, and whether that lives.
    pub heap_lock: Option<(u32, bool)>,
}

/// A block among the largest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LargeBlock {
    /// Bytes that were asked for.
    pub bytes: u64,
    /// Directory entry.
    pub index: u32,
    /// References that no process has.
    pub parcels: u32,
    /// Whether it is read-only for ever.
    pub sealed: bool,
    /// The pids of those who hold it.
    pub holders: Vec<u32>,
}

/// Free extents of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FreeSpace {
    /// How many.
    pub extents: u32,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of the largest.
    pub largest: u64,
}

/// Blocks that [`Details`] names.
const LARGEST: usize = 10;

impl Roll<'_> {
    pub(crate) fn stats(&self) -> Stats {
        let first = self.meta.superblock();
        let mut members: Vec<_> =
            (JANITOR + 1..self.meta.geometry().slots).filter_map(|slot| self.member(slot)).collect();
        for (index, entry) in self.used() {
            for member in members.iter_mut().filter(|member| self.meta.holds(index, member.slot)) {
                member.blocks += 1;
                member.bytes = member.bytes.saturating_add(committed_of(entry));
            }
        }
        Stats {
            id: self.meta.id(),
            geometry: *self.meta.geometry(),
            limit: first.limit.load(Relaxed),
            used_bytes: first.used_bytes.load(Relaxed),
            warm_bytes: first.warm_bytes.load(Relaxed),
            warm_budget: first.warm_budget.load(Relaxed),
            promised_bytes: self.promised(),
            blocks: first.used_blocks.load(Relaxed),
            parcels: first.parcels_full.load(Relaxed),
            orphans: self.orphans().count() as u32,
            members,
        }
    }

    pub(crate) fn details(&self) -> Details {
        let owner = self.meta.superblock().heap_lock.owner();
        Details {
            stats: self.stats(),
            largest: self.largest(),
            warm: self.free_space(State::Warm),
            fresh: self.free_space(State::Fresh),
            heap_lock: owner.map(|tag| (self.pid_of(tag.slot()), tag.slot() == self.own || self.is_alive(tag))),
        }
    }

    /// The full parcels that lie in no block and whose sender is dead, by index. That of the root is none: it stays with
    /// the arena, whoever made it.
    pub(crate) fn orphans(&self) -> impl Iterator<Item = u32> {
        let root = self.meta.superblock().root.load(Relaxed);
        let touched = self.meta.superblock().parcels_touched.load(Relaxed).min(self.meta.geometry().parcels);
        (0..touched).filter(move |&index| {
            let Ok(entry) = self.meta.parcel(index) else { return false };
            let is_root = block_of(entry).word() == root;
            let in_a_channel = !is_root && owner_of(entry).is_none();
            sender_of(entry).is_some_and(|sender| in_a_channel && !self.is_alive(sender))
        })
    }

    fn member(&self, slot: u32) -> Option<Member> {
        let entry = self.meta.slot(slot);
        let word = entry.word.load();
        (slot_state_of(word) != SlotState::Free).then(|| Member {
            slot,
            pid: entry.pid.load(Relaxed),
            start_time: entry.start_time.load(Relaxed),
            lives: self.occupant_lives(slot, word),
            blocks: 0,
            bytes: 0,
            promised_bytes: entry.promised.load(Relaxed),
        })
    }

    fn pid_of(&self, slot: u32) -> u32 {
        if slot < self.meta.geometry().slots { self.meta.slot(slot).pid.load(Relaxed) } else { 0 }
    }

    fn entries(&self) -> impl Iterator<Item = (u32, &BlockEntry)> {
        let touched = self.meta.superblock().entries_touched.load(Relaxed).min(self.meta.geometry().blocks);
        (0..touched).filter_map(|index| Some((index, self.meta.block(index).ok()?)))
    }

    fn used(&self) -> impl Iterator<Item = (u32, &BlockEntry)> {
        self.entries().filter(|(_, entry)| state_of(entry) == State::Used)
    }

    fn largest(&self) -> Vec<LargeBlock> {
        let mut largest = BinaryHeap::new();
        for (index, entry) in self.used() {
            largest.push(Reverse((entry.len.load(Relaxed), index)));
            if largest.len() > LARGEST {
                largest.pop();
            }
        }
        let describe = |Reverse((bytes, index)): Reverse<(u64, u32)>| {
            let entry = self.meta.block(index).ok()?;
            let holders = (JANITOR + 1..self.meta.geometry().slots).filter(|&slot| self.meta.holds(index, slot));
            Some(LargeBlock {
                bytes,
                index,
                parcels: entry.parcels.load(Relaxed),
                sealed: entry.flags.load(Relaxed) & SEALED != 0,
                holders: holders.map(|slot| self.pid_of(slot)).collect(),
            })
        };
        largest.into_sorted_vec().into_iter().filter_map(describe).collect()
    }

    fn free_space(&self, state: State) -> FreeSpace {
        self.entries().filter(|(_, entry)| state_of(entry) == state).fold(FreeSpace::default(), |sum, (_, entry)| {
            let size = entry.size.load(Relaxed);
            FreeSpace {
                extents: sum.extents + 1,
                bytes: sum.bytes.saturating_add(size),
                largest: sum.largest.max(size),
            }
        })
    }
}
