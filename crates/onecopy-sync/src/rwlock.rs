//! The lock for many readers or one writer.
//!
//! Writers are preferred: while one waits, readers that come wait too. When a writer leaves, the readers that wait have a
//! turn: all of them enter before the next writer does. So neither waits for ever, whatever the others do.

use onecopy_os::Waited;

use crate::deaths::Deaths;
use crate::door::{AtomicU32, Ordering, crash_point, wake};
use crate::hunger::{Hunger, Turn};
use crate::ledger::Ledger;
use crate::mutex::Guard;
use crate::{Acquired, Bell, Held, NotHeld, OnOwnerDied, Owners, Patience, Refused, RobustMutex, Stopped, Tag};

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
    /// Of writers: readers have turns.
    hunger: Hunger,
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
            hunger: Hunger::new(),
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
            crash_point!("rwlock.noted");
            self.writer.store(0, Ordering::Relaxed);
            crash_point!("rwlock.buried");
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
        let at_once = self.may_enter(side) && !(side == Side::Write && self.hunger.is_felt());
        let guard = if at_once { guard } else { self.wait(guard, owners, side, patience)? };
        let held = self.enter(owners, side, policy);
        drop(guard);
        held
    }

    /// Takes the lock if that is possible without asking who lives; what came of it.
    pub fn try_acquire(&self, owners: &impl Owners, side: Side, policy: OnOwnerDied) -> Option<Result<Held, Refused>> {
        let _guard = self.lock(owners);
        let hungrier = side == Side::Write && self.hunger.is_felt();
        (!hungrier && self.may_enter(side)).then(|| self.enter(owners, side, policy))
    }

    fn enter(&self, owners: &impl Owners, side: Side, policy: OnOwnerDied) -> Result<Held, Refused> {
        let held = self.deaths.settle(policy).map_err(Refused::OwnerDied)?;
        match side {
            Side::Read => self.ledger.add(owners.me(), READING),
            Side::Write => self.writer.store(owners.me().bits(), Ordering::Relaxed),
        }
        crash_point!("rwlock.entered");
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
        crash_point!("rwlock.waiting");
        let mut turn = Turn::new((side == Side::Write).then_some(&self.hunger), owners.me());
        let entered = loop {
            let free = self.may_enter(side);
            if free && turn.has_come() {
                break Ok(());
            }
            let seen = self.turn.load(Ordering::Relaxed);
            drop(guard);
            let slept = if free {
                turn.defer(patience)
            } else {
                patience.sleep(&self.turn, seen).inspect(|&waited| turn.slept(waited))
            };
            guard = self.lock(owners);
            match slept {
                Ok(Waited::TimedOut) => self.forget_dead(owners),
                Ok(_) => {}
                Err(stopped) => break Err(stopped),
            }
        };
        self.ledger.subtract(owners.me(), side.waiting());
        crash_point!("rwlock.waited");
        self.end_empty_turn();
        if entered.is_err() {
            // Those behind a writer that gives up need not wait for it any more.
            self.let_others_look();
        }
        entered.map(|()| guard)
    }

    /// Counts the caller as one that waits for a side, until it calls [`leave`](Self::leave): changes ring the
    /// [`bell`](Self::bell), and readers let a writer go first.
    pub fn enroll(&self, owners: &impl Owners, side: Side) {
        let _guard = self.lock(owners);
        self.ledger.add(owners.me(), side.waiting());
    }

    /// Takes [`enroll`](Self::enroll) back.
    pub fn leave(&self, owners: &impl Owners, side: Side) {
        let _guard = self.lock(owners);
        self.ledger.subtract(owners.me(), side.waiting());
        self.end_empty_turn();
        self.let_others_look();
    }

    /// Where one that waits sleeps.
    pub fn bell(&self) -> Bell<'_> {
        Bell::new(&self.turn, self.turn.load(Ordering::Relaxed))
    }

    /// Whether a side can be had at this moment, as far as deaths have been noticed.
    pub fn is_free_for(&self, side: Side) -> bool {
        self.may_enter(side)
    }

    /// The same, after looking for deaths.
    pub fn is_to_be_had(&self, owners: &impl Owners, side: Side) -> bool {
        let _guard = self.lock(owners);
        self.forget_dead(owners);
        self.may_enter(side)
    }

    /// Wakes those that wait, after something changed that may let them in.
    fn let_others_look(&self) {
        if self.ledger.sum(WAITING_TO_READ) + self.ledger.sum(WAITING_TO_WRITE) > 0 {
            self.turn.store(self.turn.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
            crash_point!("rwlock.turned");
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
                crash_point!("rwlock.left");
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

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Death;
    use crate::table::{Dead, Process, process};

    const UNTOLD: OnOwnerDied = OnOwnerDied::Refuse(Death(0));

    fn enter(lock: &RwLock, me: &Process<'_>, side: Side) -> bool {
        lock.acquire(me, side, &Patience::none(), UNTOLD).is_ok()
    }

    #[test]
    fn many_read_or_one_writes() {
        let (lock, dead) = (RwLock::new(), Dead::new(0));
        let [a, b] = [1, 2].map(|slot| process(slot, &dead));
        assert!(enter(&lock, &a, Side::Read) && enter(&lock, &b, Side::Read) && !enter(&lock, &a, Side::Write));
        lock.release(&a, Side::Read).unwrap();
        assert_eq!(lock.release(&a, Side::Read), Err(NotHeld));
        lock.release(&b, Side::Read).unwrap();
        assert!(enter(&lock, &a, Side::Write) && !enter(&lock, &b, Side::Read) && !enter(&lock, &b, Side::Write));
        assert_eq!(lock.release(&b, Side::Write), Err(NotHeld));
        lock.release(&a, Side::Write).unwrap();
        assert!(enter(&lock, &b, Side::Write));
    }

    #[test]
    fn a_waiting_writer_holds_new_readers_back_and_readers_then_have_their_turn() {
        let (lock, dead) = (RwLock::new(), Dead::new(0));
        let [reader, writer, late] = [1, 2, 3].map(|slot| process(slot, &dead));
        assert!(enter(&lock, &reader, Side::Read));
        lock.ledger.add(writer.me(), WAITING_TO_WRITE);
        assert!(!enter(&lock, &late, Side::Read));
        lock.release(&reader, Side::Read).unwrap();
        lock.ledger.subtract(writer.me(), WAITING_TO_WRITE);
        assert!(enter(&lock, &writer, Side::Write));
        lock.ledger.add(late.me(), WAITING_TO_READ);
        lock.ledger.add(reader.me(), WAITING_TO_WRITE);
        lock.release(&writer, Side::Write).unwrap();
        assert!(!enter(&lock, &reader, Side::Write), "it is the turn of the readers that waited");
        assert!(enter(&lock, &late, Side::Read));
    }

    #[test]
    fn neither_side_starves() {
        let (lock, dead) = (RwLock::new(), Dead::new(0));
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for slot in 0..4 {
                let (lock, inside, me) = (&lock, &inside, process(slot, &dead));
                let side = if slot % 2 == 0 { Side::Read } else { Side::Write };
                scope.spawn(move || {
                    for _ in 0..3_000 {
                        let _ = lock.acquire(&me, side, &Patience::FOREVER, UNTOLD).unwrap();
                        // Readers count in units of one, a writer in units of a thousand.
                        let unit = if side == Side::Read { 1 } else { 1000 };
                        let others = inside.fetch_add(unit, Ordering::SeqCst);
                        assert!(if side == Side::Read { others < 1000 } else { others == 0 });
                        inside.fetch_sub(unit, Ordering::SeqCst);
                        lock.release(&me, side).unwrap();
                    }
                });
            }
        });
    }

    #[test]
    fn dead_readers_and_dead_waiters_are_forgotten() {
        let (lock, dead) = (RwLock::new(), Dead::new(0));
        let [a, b] = [1, 2].map(|slot| process(slot, &dead));
        assert!(enter(&lock, &a, Side::Read) && enter(&lock, &a, Side::Read));
        lock.ledger.add(a.me(), WAITING_TO_WRITE);
        a.die();
        let patience = Patience::within(Duration::from_secs(60));
        assert_eq!(lock.acquire(&b, Side::Read, &patience, UNTOLD), Ok(Held::Clean));
        lock.release(&b, Side::Read).unwrap();
        assert_eq!(lock.acquire(&b, Side::Write, &patience, UNTOLD), Ok(Held::Clean));
    }

    #[test]
    fn the_death_of_a_writer_is_told_on_both_sides() {
        let (lock, dead) = (RwLock::new(), Dead::new(0));
        let [a, b] = [1, 2].map(|slot| process(slot, &dead));
        assert!(enter(&lock, &a, Side::Write));
        a.die();
        for side in [Side::Read, Side::Write] {
            let refused = lock.acquire(&b, side, &Patience::none(), UNTOLD);
            assert!(matches!(refused, Err(Refused::OwnerDied(_))));
        }
        assert_eq!(lock.acquire(&b, Side::Write, &Patience::none(), OnOwnerDied::Take), Ok(Held::Inherited));
        lock.release(&b, Side::Write).unwrap();
        assert!(enter(&lock, &b, Side::Read));
    }
}
