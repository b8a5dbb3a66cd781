//! The lock for many readers or one writer.
//!
//! Writers are preferred: while one waits, readers that come wait too. When a writer leaves, the readers that wait have a
//! turn: all of them enter before the next writer does. So neither waits for ever, whatever the others do.

use onecopy_os::Waited;

use crate::deaths::Deaths;
use crate::door::{AtomicU32, Ordering, wake};
use crate::ledger::Ledger;
use crate::mutex::Guard;
use crate::{Acquired, Held, NotHeld, OnOwnerDied, Owners, Patience, Refused, RobustMutex, Stopped, Tag};

/// Kinds in the ledger.
const READING: usize = 0;
const WAITING_TO_READ: usize = 1;
const WAITING_TO_WRITE: usize = 2;

/// A lock that any number of readers or one writer hold. Not re-entrant.
///
/// Readers that died are forgotten. After a writer died, both sides are refused as by [`Lock`](crate::Lock).
#[derive(Debug)]
#[repr(C)]
pub struct RwLock {
    mutex: RobustMutex,
    /// Tag of the writer, zero while nobody writes.
    writer: AtomicU32,
    deaths: Deaths,
    /// Whether the readers that wait come before the writers that wait.
    readers_turn: AtomicU32,
    /// Changes with each event that may let somebody in: what sleepers wait for.
    turn: AtomicU32,
    ledger: Ledger<3>,
}

/// The two ways to hold an [`RwLock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Together with other readers.
    Read,
    /// Alone.
    Write,
}

impl Side {
    fn waiting(self) -> usize {
        match self {
            Self::Read => WAITING_TO_READ,
            Self::Write => WAITING_TO_WRITE,
        }
    }
}

impl RwLock {
    /// A free lock.
    pub fn new() -> Self {
        let zero = || AtomicU32::new(0);
        Self {
            mutex: RobustMutex::new(),
            writer: zero(),
            deaths: Deaths::new(),
            readers_turn: zero(),
            turn: zero(),
            ledger: Ledger::new(),
        }
    }

    fn lock(&self, owners: &impl Owners) -> Guard<'_> {
        match self.mutex.lock(owners) {
            Acquired::Clean(guard) => guard,
            Acquired::OwnerDied(guard) => {
                self.forget_dead(owners);
                guard
            }
        }
    }

    fn forget_dead(&self, owners: &impl Owners) {
        self.ledger.recount(owners);
        let writer = self.writer.load(Ordering::Relaxed);
        if writer != 0 && Tag::from_bits(writer).is_none_or(|tag| !owners.lives(tag)) {
            // In this order: a death in between notes the same death twice, and misses none.
            self.deaths.note();
            self.writer.store(0, Ordering::Relaxed);
        }
        self.end_empty_turn();
    }

    fn end_empty_turn(&self) {
        if self.ledger.sum(WAITING_TO_READ) == 0 {
            self.readers_turn.store(0, Ordering::Relaxed);
        }
    }

    fn may_enter(&self, side: Side) -> bool {
        let readers_turn = self.readers_turn.load(Ordering::Relaxed) != 0;
        self.writer.load(Ordering::Relaxed) == 0
            && match side {
                Side::Read => readers_turn || self.ledger.sum(WAITING_TO_WRITE) == 0,
                Side::Write => !readers_turn && self.ledger.sum(READING) == 0,
            }
    }

    /// Takes the lock; waits as long as its holders live and the patience lasts.
    pub fn acquire(
        &self,
        owners: &impl Owners,
        side: Side,
        patience: &Patience<'_>,
        policy: OnOwnerDied,
    ) -> Result<Held, Refused> {
        let guard = self.lock(owners);
        let guard = if self.may_enter(side) { guard } else { self.wait(guard, owners, side, patience)? };
        let held = self.enter(owners, side, policy);
        drop(guard);
        held
    }

    /// Takes the lock if that is possible without asking who lives; what came of it.
    pub fn try_acquire(&self, owners: &impl Owners, side: Side, policy: OnOwnerDied) -> Option<Result<Held, Refused>> {
        let _guard = self.lock(owners);
        self.may_enter(side).then(|| self.enter(owners, side, policy))
    }

    fn enter(&self, owners: &impl Owners, side: Side, policy: OnOwnerDied) -> Result<Held, Refused> {
        let held = self.deaths.settle(policy).map_err(Refused::OwnerDied)?;
        match side {
            Side::Read => self.ledger.add(owners.me(), READING),
            Side::Write => self.writer.store(owners.me().bits(), Ordering::Relaxed),
        }
        Ok(held)
    }

    #[cold]
    fn wait<'a>(
        &'a self,
        mut guard: Guard<'a>,
        owners: &impl Owners,
        side: Side,
        patience: &Patience<'_>,
    ) -> Result<Guard<'a>, Stopped> {
        if patience.is_none() {
            self.forget_dead(owners);
            return if self.may_enter(side) { Ok(guard) } else { Err(Stopped::TimedOut) };
        }
        self.ledger.add(owners.me(), side.waiting());
        let entered = loop {
            if self.may_enter(side) {
                break Ok(());
            }
            let seen = self.turn.load(Ordering::Relaxed);
            drop(guard);
            let slept = patience.sleep(&self.turn, seen);
            guard = self.lock(owners);
            match slept {
                Ok(Waited::TimedOut) => self.forget_dead(owners),
                Ok(_) => {}
                Err(stopped) => break Err(stopped),
            }
        };
        self.ledger.subtract(owners.me(), side.waiting());
        self.end_empty_turn();
        if entered.is_err() {
            // Those behind a writer that gives up need not wait for it any more.
            self.let_others_look();
        }
        entered.map(|()| guard)
    }

    /// Wakes those that wait, after something changed that may let them in.
    fn let_others_look(&self) {
        if self.ledger.sum(WAITING_TO_READ) + self.ledger.sum(WAITING_TO_WRITE) > 0 {
            self.turn.store(self.turn.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
            wake(&self.turn, u32::MAX >> 1);
        }
    }

    /// Releases what this process holds.
    pub fn release(&self, owners: &impl Owners, side: Side) -> Result<(), NotHeld> {
        let _guard = self.lock(owners);
        match side {
            Side::Read if self.ledger.subtract(owners.me(), READING) => {}
            Side::Write if self.is_writer(owners.me()) => {
                self.writer.store(0, Ordering::Relaxed);
                self.readers_turn.store(u32::from(self.ledger.sum(WAITING_TO_READ) > 0), Ordering::Relaxed);
            }
            _ => return Err(NotHeld),
        }
        if self.ledger.sum(READING) == 0 {
            self.let_others_look();
        }
        Ok(())
    }

    fn is_writer(&self, me: Tag) -> bool {
        self.writer.load(Ordering::Relaxed) == me.bits()
    }

    /// As [`Lock::give_up`](crate::Lock::give_up), for the writer.
    pub fn give_up(&self, owners: &impl Owners) {
        let _guard = self.lock(owners);
        self.deaths.note();
    }

    /// The process that writes at this moment.
    pub fn writer(&self) -> Option<Tag> {
        Tag::from_bits(self.writer.load(Ordering::Relaxed))
    }

    /// How many read at this moment, as far as deaths have been noticed.
    pub fn readers(&self) -> u32 {
        self.ledger.sum(READING)
    }
}

impl Default for RwLock {
    fn default() -> Self {
        Self::new()
    }
}
