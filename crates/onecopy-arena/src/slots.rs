//! The process table: who is a member, and who of them lives.

use std::sync::atomic::Ordering::Relaxed;

use onecopy_os::{LockByte, MemoryFile, TransferLock, crash_point, current_pid, has_mapped, start_time};
use onecopy_sync::{Owners, Tag};

use crate::ArenaError;
use crate::data::Data;
use crate::meta::Meta;
use crate::slot_word::{SlotState, generation_of, is_occupied, state_of};

/// Sweeps for those that have no slot of their own yet.
pub(crate) const JANITOR: u32 = 0;

/// A slot reserved for a child, between the two sides of a fork.
#[derive(Debug)]
pub(crate) struct Cradle {
    pub(crate) tag: Tag,
    _lock: TransferLock,
}

/// The process table of an arena.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slots<'a> {
    pub(crate) meta: &'a Meta,
    pub(crate) data: &'a Data,
}

impl Slots<'_> {
    /// Takes a free slot for this process, or answers none when all are taken.
    pub(crate) fn join(self) -> Result<Option<Tag>, ArenaError> {
        for slot in JANITOR + 1..self.meta.geometry().slots {
            let lock = || {
                let locked = LockByte(slot).try_lock(self.meta.liveness())?;
                if locked {
                    crash_point!("join.locked");
                }
                Ok::<_, ArenaError>(locked.then_some(()))
            };
            let unlock = |()| Ok(LockByte(slot).unlock(self.meta.liveness())?);
            if let Some((generation, ())) = self.meta.slot(slot).word.claim(SlotState::Live, lock, unlock)? {
                crash_point!("join.live");
                return Ok(Some(self.introduce(slot, generation)));
            }
        }
        Ok(None)
    }

    /// Reserves a slot for a child that is about to be forked; none when all are taken.
    pub(crate) fn reserve_for_child(self) -> Result<Option<Cradle>, ArenaError> {
        for slot in JANITOR + 1..self.meta.geometry().slots {
            let lock = || {
                let lock = TransferLock::try_take(self.data.lock_file(), LockByte(slot))?;
                if lock.is_some() {
                    crash_point!("fork.locked");
                }
                Ok::<_, ArenaError>(lock)
            };
            let unlock = |lock| {
                drop::<TransferLock>(lock);
                Ok(())
            };
            if let Some((generation, lock)) = self.meta.slot(slot).word.claim(SlotState::Forking, lock, unlock)? {
                crash_point!("fork.reserved");
                return Ok(Some(Cradle { tag: Tag::new(slot, generation), _lock: lock }));
            }
        }
        Ok(None)
    }

    /// In the child: moves into the slot that the parent reserved.
    pub(crate) fn move_in(self, cradle: &Cradle) -> Result<Tag, ArenaError> {
        let slot = cradle.tag.slot();
        // A process that looks for a free slot may hold the byte for a moment, hence the wait.
        LockByte(slot).lock(self.meta.liveness())?;
        crash_point!("fork.child.locked");
        let tag = self.meta.slot(slot).word.settle(|generation| self.introduce(slot, generation));
        crash_point!("fork.child.live");
        Ok(tag)
    }

    /// Leaves in good order, after all that the slot held has been given back.
    pub(crate) fn leave(self, tag: Tag) -> Result<(), ArenaError> {
        let entry = self.meta.slot(tag.slot());
        entry.promised.store(0, Relaxed);
        entry.word.vacate();
        crash_point!("leave.vacated");
        Ok(LockByte(tag.slot()).unlock(self.meta.liveness())?)
    }

    fn introduce(self, slot: u32, generation: u32) -> Tag {
        let entry = self.meta.slot(slot);
        entry.promised.store(0, Relaxed);
        crash_point!("join.unpromised");
        entry.pid.store(current_pid(), Relaxed);
        entry.start_time.store(start_time(current_pid()).unwrap_or(0), Relaxed);
        crash_point!("join.introduced");
        Tag::new(slot, generation)
    }

    /// Whether whoever has `slot` in the state `word` lives. `own` is this process's slot, whose lock it cannot see.
    pub(crate) fn occupant_lives(self, slot: u32, word: u64, own: u32) -> bool {
        self.roll(own).occupant_lives(slot, word)
    }

    fn roll(&self, own: u32) -> Roll<'_> {
        Roll { meta: self.meta, lock_file: self.data.lock_file(), own }
    }
}

/// What the tables say of processes. To read them takes the files with the locks, but no membership.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Roll<'a> {
    pub(crate) meta: &'a Meta,
    pub(crate) lock_file: &'a MemoryFile,
    /// The slot of this process, whose lock it cannot see; [`JANITOR`] for one that has none.
    pub(crate) own: u32,
}

impl Roll<'_> {
    pub(crate) fn occupant_lives(&self, slot: u32, word: u64) -> bool {
        if slot == self.own {
            return true;
        }
        // An answer that cannot be had counts as "lives": to free early is worse than to free late.
        let recorded = || LockByte(slot).held_by_another(self.meta.liveness()).unwrap_or(true);
        let transferred = || TransferLock::is_held(self.lock_file, LockByte(slot)).unwrap_or(true);
        is_occupied(word, recorded, transferred, || self.lost_its_lock(slot))
    }

    /// Whether the process in `slot` lives although it has no lock: one that closed all its descriptors, as daemons do.
    /// Its arrays are still mapped, so what it holds must stay. In another pid namespace it cannot be seen.
    fn lost_its_lock(self, slot: u32) -> bool {
        let entry = self.meta.slot(slot);
        let (pid, started) = (entry.pid.load(Relaxed), entry.start_time.load(Relaxed));
        // A program that replaced itself (`exec`) lost its lock and its mappings; if it has joined again, it alone knows
        // that the old slot was its own.
        pid != current_pid()
            && start_time(pid).is_some_and(|now| now == started)
            && has_mapped(pid, self.meta.file().identity())
    }

    /// Whether no process lives that is a member, this one left out.
    pub(crate) fn is_deserted(&self) -> bool {
        let others = (JANITOR + 1..self.meta.geometry().slots).filter(|&slot| slot != self.own);
        others.into_iter().all(|slot| !self.occupant_lives(slot, self.meta.slot(slot).word.load()))
    }

    /// Bytes promised by all members but not yet committed.
    pub(crate) fn promised(&self) -> u64 {
        (0..self.meta.geometry().slots)
            .map(|slot| self.meta.slot(slot))
            .filter(|entry| state_of(entry.word.load()) != SlotState::Free)
            .map(|entry| entry.promised.load(Relaxed))
            .fold(0, u64::saturating_add)
    }

    pub(crate) fn is_alive(&self, tag: Tag) -> bool {
        if tag.slot() >= self.meta.geometry().slots {
            return false;
        }
        if tag.slot() == JANITOR {
            return LockByte(JANITOR).held_by_another(self.meta.liveness()).unwrap_or(true);
        }
        let word = self.meta.slot(tag.slot()).word.load();
        Tag::truncate(generation_of(word)) == tag.generation() && self.occupant_lives(tag.slot(), word)
    }
}

/// Lock owners as this process sees them.
#[derive(Debug)]
pub struct Viewer<'a> {
    pub(crate) slots: Slots<'a>,
    pub(crate) me: Tag,
}

impl Viewer<'_> {
    /// The pid of the process that has this tag, as it sees itself; none where it has left or is known to be dead.
    pub fn pid_of(&self, tag: Tag) -> Option<u32> {
        let known = tag.slot() > JANITOR && self.lives(tag);
        known.then(|| self.slots.meta.slot(tag.slot()).pid.load(Relaxed))
    }
}

impl Owners for Viewer<'_> {
    fn me(&self) -> Tag {
        self.me
    }

    fn is_alive(&self, tag: Tag) -> bool {
        self.slots.roll(self.me.slot()).is_alive(tag)
    }
}
