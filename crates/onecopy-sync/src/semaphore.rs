//! Semaphores whose permits come back from the dead.
//!
//! A semaphore starts as a pool of permits: who took permits and how many is in a ledger, and the value is what the
//! holders leave. The first release by a process that holds no permit shows that it is used to signal: from then on
//! permits belong to nobody, the ledger of permits is closed, and the value is a number of its own.

use onecopy_os::Waited;

use crate::door::{AtomicU32, Ordering, crash_point, wake};
use crate::hunger::{Hunger, Turn};
use crate::ledger::Ledger;
use crate::mutex::Guard;
use crate::{Acquired, Bell, Owners, Patience, RobustMutex, Stopped};

/// Kinds in the ledger.
const HELD: usize = 0;
const WAITING: usize = 1;

/// A number of permits, shared by processes.
#[derive(Debug)]
#[repr(C)]
pub struct Semaphore {
    mutex: RobustMutex,
    /// Permits to be had. As long as permits are somebody's a cache of `total` less the ledger's sum; after that the
    /// truth. Sleepers wait while it is zero.
    value: AtomicU32,
    /// The first value.
    total: AtomicU32,
    /// Whether permits belong to nobody.
    signals: AtomicU32,
    hunger: Hunger,
    ledger: Ledger<2>,
}

/// Releasing a permit too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooManyReleases {
    /// A bounded semaphore has all its permits.
    #[error("it has all its permits")]
    Bound,
    /// The value would not fit its word.
    #[error("its value would be more than 2147483647")]
    Overflow,
}

impl Semaphore {
    /// The largest value.
    pub const MAX_VALUE: u32 = i32::MAX as u32;

    /// A semaphore with `value` permits.
    pub fn new(value: u32) -> Self {
        let (mutex, zero) = (RobustMutex::new(), || AtomicU32::new(0));
        let (hunger, ledger) = (Hunger::new(), Ledger::new());
        let semaphore = Self { mutex, value: zero(), total: zero(), signals: zero(), hunger, ledger };
        semaphore.set_up(value);
        semaphore
    }

    /// Gives a semaphore of zeros, which nobody else knows yet, its permits.
    pub fn set_up(&self, value: u32) {
        self.total.store(value, Ordering::Relaxed);
        self.value.store(value, Ordering::Relaxed);
    }

    fn lock(&self, owners: &impl Owners) -> Guard<'_> {
        match self.mutex.lock(owners) {
            Acquired::Clean(guard) => guard,
            Acquired::OwnerDied(guard) => {
                self.recount(owners);
                guard
            }
        }
    }

    /// Makes the value anew from what the living hold.
    fn recount(&self, owners: &impl Owners) {
        self.ledger.recount(owners);
        if !self.is_signal() {
            let left = self.total.load(Ordering::Relaxed).saturating_sub(self.ledger.sum(HELD));
            self.value.store(left, Ordering::Relaxed);
        }
    }

    fn is_signal(&self) -> bool {
        self.signals.load(Ordering::Relaxed) != 0
    }

    /// Takes a permit; waits as long as there is none and the patience lasts.
    #[inline]
    pub fn acquire(&self, owners: &impl Owners, patience: &Patience<'_>) -> Result<(), Stopped> {
        if self.try_acquire(owners) { Ok(()) } else { self.wait(owners, patience) }
    }

    /// Takes a permit if there is one and nobody has waited for long. The permits of processes whose death has not been
    /// noticed are not among them.
    #[inline]
    pub fn try_acquire(&self, owners: &impl Owners) -> bool {
        if self.hunger.is_felt() {
            return false;
        }
        let _guard = self.lock(owners);
        self.take(owners)
    }

    fn take(&self, owners: &impl Owners) -> bool {
        let value = self.value.load(Ordering::Relaxed);
        if value == 0 {
            return false;
        }
        if !self.is_signal() {
            self.ledger.add(owners.me(), HELD);
            crash_point!("semaphore.taking");
        }
        self.value.store(value - 1, Ordering::Relaxed);
        crash_point!("semaphore.taken");
        true
    }

    #[cold]
    fn wait(&self, owners: &impl Owners, patience: &Patience<'_>) -> Result<(), Stopped> {
        if patience.is_none() {
            let _guard = self.lock(owners);
            self.recount(owners);
            return if self.take(owners) { Ok(()) } else { Err(Stopped::TimedOut) };
        }
        let mut turn = Turn::new(Some(&self.hunger), owners.me());
        let mut guard = self.lock(owners);
        self.ledger.add(owners.me(), WAITING);
        crash_point!("semaphore.waiting");
        let taken = loop {
            if turn.has_come() && self.take(owners) {
                break Ok(());
            }
            drop(guard);
            let slept = if turn.has_come() {
                patience.sleep(&self.value, 0).inspect(|&waited| turn.slept(waited))
            } else {
                // The wake that was this taker's is for all, as the hungry one may be any of them.
                wake(&self.value, u32::MAX >> 1);
                turn.defer(patience)
            };
            guard = self.lock(owners);
            match slept {
                Ok(Waited::TimedOut) => self.recount(owners),
                Ok(_) => {}
                Err(stopped) => break Err(stopped),
            }
        };
        self.ledger.subtract(owners.me(), WAITING);
        crash_point!("semaphore.waited");
        drop(guard);
        taken
    }

    /// Counts the caller as one that waits, until it calls [`leave`](Self::leave): releases ring the
    /// [`bell`](Self::bell).
    pub fn enroll(&self, owners: &impl Owners) {
        let _guard = self.lock(owners);
        self.ledger.add(owners.me(), WAITING);
    }

    /// Takes [`enroll`](Self::enroll) back.
    pub fn leave(&self, owners: &impl Owners) {
        let _guard = self.lock(owners);
        self.ledger.subtract(owners.me(), WAITING);
    }

    /// Where one that waits sleeps.
    pub fn bell(&self) -> Bell<'_> {
        Bell::new(&self.value, 0)
    }

    /// Whether there are permits, those of the dead included.
    pub fn is_to_be_had(&self, owners: &impl Owners) -> bool {
        if self.value() == 0 {
            let _guard = self.lock(owners);
            self.recount(owners);
        }
        self.value() > 0
    }

    /// Gives `count` permits back, or makes as many more.
    #[inline]
    pub fn release(&self, owners: &impl Owners, count: u32) -> Result<(), TooManyReleases> {
        self.release_up_to(owners, count, Self::MAX_VALUE).map_err(|()| TooManyReleases::Overflow)
    }

    /// Gives `count` permits back unless there would be more than at first.
    #[inline]
    pub fn release_bounded(&self, owners: &impl Owners, count: u32) -> Result<(), TooManyReleases> {
        self.release_up_to(owners, count, self.total.load(Ordering::Relaxed)).map_err(|()| TooManyReleases::Bound)
    }

    fn release_up_to(&self, owners: &impl Owners, count: u32, most: u32) -> Result<(), ()> {
        let guard = self.lock(owners);
        let value = self.value.load(Ordering::Relaxed);
        let after = value.checked_add(count).filter(|&after| after <= most).ok_or(())?;
        let held = !self.is_signal() && (0..count).all(|_| self.ledger.subtract(owners.me(), HELD));
        crash_point!("semaphore.releasing");
        self.value.store(after, Ordering::Relaxed);
        crash_point!("semaphore.released");
        if !held {
            // After the value: a death in between leaves a semaphore that was not released.
            self.signals.store(1, Ordering::Relaxed);
            crash_point!("semaphore.signalled");
        }
        let waiting = self.ledger.sum(WAITING) > 0;
        drop(guard);
        if waiting && wake(&self.value, count) == 0 {
            // Who was said to wait is on its way, or was killed.
            let _guard = self.lock(owners);
            self.recount(owners);
        }
        Ok(())
    }

    /// Permits to be had at this moment.
    pub fn value(&self) -> u32 {
        self.value.load(Ordering::Relaxed)
    }

    /// The first value.
    pub fn initial(&self) -> u32 {
        self.total.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::table::{Dead, process};

    #[test]
    fn there_are_never_more_holders_than_permits() {
        let (semaphore, dead) = (Semaphore::new(2), Dead::new(0));
        let (inside, most) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for slot in 0..4 {
                let (semaphore, inside, most, me) = (&semaphore, &inside, &most, process(slot, &dead));
                scope.spawn(move || {
                    for _ in 0..5_000 {
                        semaphore.acquire(&me, &Patience::FOREVER).unwrap();
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        semaphore.release_bounded(&me, 1).unwrap();
                    }
                });
            }
        });
        assert!(most.into_inner() <= 2);
        assert_eq!(semaphore.value(), 2);
    }

    #[test]
    fn the_permits_of_the_dead_come_back() {
        let (semaphore, dead) = (Semaphore::new(3), Dead::new(0));
        let [a, b] = [1, 2].map(|slot| process(slot, &dead));
        assert!(semaphore.try_acquire(&a) && semaphore.try_acquire(&a) && semaphore.try_acquire(&b));
        assert_eq!(semaphore.acquire(&b, &Patience::none()), Err(Stopped::TimedOut));
        a.die();
        assert_eq!(semaphore.acquire(&b, &Patience::within(Duration::from_secs(60))), Ok(()));
        assert_eq!(semaphore.value(), 1);
        semaphore.release_bounded(&b, 2).unwrap();
        assert_eq!(semaphore.release_bounded(&b, 1), Err(TooManyReleases::Bound));
    }

    #[test]
    fn a_signal_is_not_taken_back_by_a_death() {
        let (semaphore, dead) = (Semaphore::new(1), Dead::new(0));
        let [producer, consumer] = [1, 2].map(|slot| process(slot, &dead));
        assert!(semaphore.try_acquire(&producer));
        semaphore.release(&consumer, 1).unwrap(); // of what the producer took: a signal from now on
        assert!(semaphore.try_acquire(&producer));
        producer.die();
        assert_eq!(semaphore.acquire(&consumer, &Patience::none()), Err(Stopped::TimedOut));
        semaphore.release(&consumer, 2).unwrap();
        assert_eq!(semaphore.value(), 2);
        assert_eq!(semaphore.release(&consumer, Semaphore::MAX_VALUE), Err(TooManyReleases::Overflow));
    }

    #[test]
    fn a_death_between_two_stores_is_repaired() {
        let (semaphore, dead) = (Semaphore::new(3), Dead::new(0));
        let [a, b] = [1, 2].map(|slot| process(slot, &dead));
        assert!(semaphore.try_acquire(&b));
        // As `take` leaves it between the ledger and the value, and `release` before the signal.
        std::mem::forget(semaphore.lock(&a));
        semaphore.ledger.add(a.me(), HELD);
        semaphore.value.store(9, Ordering::Relaxed);
        a.die();
        assert!(semaphore.try_acquire(&b));
        assert_eq!(semaphore.value(), 1);
    }

    #[test]
    fn a_killed_waiter_is_forgotten() {
        let (semaphore, dead) = (Semaphore::new(0), Dead::new(0));
        let [a, b] = [1, 2].map(|slot| process(slot, &dead));
        semaphore.ledger.add(a.me(), WAITING);
        a.die();
        semaphore.release(&b, 1).unwrap();
        assert_eq!(semaphore.ledger.sum(WAITING), 0);
        assert!(semaphore.try_acquire(&b));
    }
}
