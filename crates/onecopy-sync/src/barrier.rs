//! The barrier: parties meet, and leave together.
//!
//! | state | meaning | next |
//! |---|---|---|
//! | FILLING | parties arrive and wait | ACTING when the last arrives |
//! | ACTING | the last to arrive does what has to be done before the others leave | DRAINING |
//! | DRAINING | all leave; who comes again waits outside | FILLING when the last has left |
//! | RESETTING | all that were inside leave with an error | FILLING when the last has left |
//! | BROKEN | nobody gets through | RESETTING or FILLING by a reset |
//!
//! Each party inside is in the ledger. One that dies while the barrier fills, or while it acts, breaks it; one that dies
//! on its way out has left.

use onecopy_os::Waited;

use crate::door::{AtomicU32, Ordering, crash_point, wake};
use crate::ledger::Ledger;
use crate::mutex::Guard;
use crate::{Acquired, Bell, Owners, Patience, RobustMutex, Stopped};

const FILLING: u32 = 0;
const ACTING: u32 = 1;
const DRAINING: u32 = 2;
const RESETTING: u32 = 3;
const BROKEN: u32 = 4;

/// A meeting point for a fixed number of parties.
#[derive(Debug)]
#[repr(C)]
pub struct Barrier {
    mutex: RobustMutex,
    parties: AtomicU32,
    /// State in the low bits, number of changes above: what sleepers wait for.
    state: AtomicU32,
    /// Tag of the party that acts.
    actor: AtomicU32,
    ledger: Ledger<1>,
}

/// Bits of the word that hold the state.
const STATE: u32 = 7;
const CHANGE: u32 = 8;

/// Why a party did not get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotPassed {
    /// The barrier is broken (a party died or gave up, or somebody broke or reset it), or the caller's patience ended.
    #[error("the barrier is broken")]
    Broken,
    /// The wait was called off; the barrier is as if the party had not come.
    #[error("the wait was called off")]
    Interrupted,
}

/// How a party arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Arrival {
    /// The barrier has let it through; which of the parties it was, from 0.
    Through(u32),
    /// It is the last of this many parties, and the others wait until it calls [`Barrier::finish`].
    Last(u32),
}

impl Barrier {
    /// A barrier for `parties`.
    pub fn new(parties: u32) -> Self {
        let zero = || AtomicU32::new(0);
        let barrier =
            Self { mutex: RobustMutex::new(), parties: zero(), state: zero(), actor: zero(), ledger: Ledger::new() };
        barrier.set_up(parties);
        barrier
    }

    /// Gives a barrier of zeros, which nobody else knows yet, its number of parties.
    pub fn set_up(&self, parties: u32) {
        self.parties.store(parties, Ordering::Relaxed);
    }

    /// Counts a process as one that waits.
    #[cfg(all(test, loom))]
    pub(crate) fn count_in(&self, tag: crate::Tag) {
        self.ledger.add(tag, 0);
    }

    fn lock(&self, owners: &impl Owners) -> Guard<'_> {
        match self.mutex.lock(owners) {
            Acquired::Clean(guard) => guard,
            Acquired::OwnerDied(guard) => {
                self.look_for_deaths(owners);
                guard
            }
        }
    }

    fn state(&self) -> u32 {
        self.state.load(Ordering::Relaxed) & STATE
    }

    fn go_to(&self, state: u32) {
        let word = self.state.load(Ordering::Relaxed);
        // SYNC POINT: release pairs with the acquire in `sleep`, for those that go on without the mutex.
        self.state.store((word & !STATE).wrapping_add(CHANGE) | state, Ordering::Release);
        crash_point!("barrier.changed");
        wake(&self.state, u32::MAX >> 1);
    }

    /// Forgets the dead, and does to the barrier what their deaths mean.
    fn look_for_deaths(&self, owners: &impl Owners) {
        let somebody_died = self.ledger.recount(owners);
        let actor_lives = || {
            let actor = crate::Tag::from_bits(self.actor.load(Ordering::Relaxed));
            actor.is_some_and(|actor| owners.lives(actor))
        };
        match self.state() {
            FILLING if somebody_died => self.go_to(BROKEN),
            ACTING if !actor_lives() => self.go_to(BROKEN),
            DRAINING | RESETTING if self.ledger.sum(0) == 0 => self.go_to(FILLING),
            FILLING | ACTING | DRAINING | RESETTING | BROKEN => {}
            // Damage.
            _ => self.go_to(BROKEN),
        }
    }

    /// Arrives and waits for the other parties. A party whose patience ends breaks the barrier.
    pub fn wait(&self, owners: &impl Owners, patience: &Patience<'_>) -> Result<Arrival, NotPassed> {
        let guard = self.enter(owners, patience)?;
        let index = self.ledger.sum(0);
        self.ledger.add(owners.me(), 0);
        crash_point!("barrier.arrived");
        if index + 1 >= self.parties() {
            self.actor.store(owners.me().bits(), Ordering::Relaxed);
            crash_point!("barrier.named");
            self.go_to(ACTING);
            return Ok(Arrival::Last(index));
        }
        self.stay(guard, owners, patience).map(|()| Arrival::Through(index))
    }

    /// Waits outside until those of the last time have left.
    fn enter(&self, owners: &impl Owners, patience: &Patience<'_>) -> Result<Guard<'_>, NotPassed> {
        let mut guard = self.lock(owners);
        while matches!(self.state(), ACTING | DRAINING | RESETTING) {
            let slept;
            (guard, slept) = self.sleep(guard, owners, patience);
            slept?;
        }
        // None of those that are counted as waiting may have died.
        self.look_for_deaths(owners);
        if self.state() == BROKEN { Err(NotPassed::Broken) } else { Ok(guard) }
    }

    fn stay<'a>(
        &'a self,
        mut guard: Guard<'a>,
        owners: &impl Owners,
        patience: &Patience<'_>,
    ) -> Result<(), NotPassed> {
        let result = loop {
            let slept;
            match self.state() {
                DRAINING => break Ok(()),
                FILLING => (guard, slept) = self.sleep(guard, owners, patience),
                // All have arrived: now nobody is late.
                ACTING => (guard, slept) = self.sleep(guard, owners, &patience.without_deadline()),
                _ => break Err(NotPassed::Broken),
            }
            match slept {
                Err(Stopped::Interrupted) if self.state() <= ACTING => break Err(NotPassed::Interrupted),
                Err(Stopped::TimedOut) if self.state() == FILLING => self.go_to(BROKEN),
                _ => {}
            }
        };
        self.leave(owners);
        drop(guard);
        result
    }

    /// Sleeps without the mutex until the state changes.
    fn sleep<'a>(
        &'a self,
        guard: Guard<'a>,
        owners: &impl Owners,
        patience: &Patience<'_>,
    ) -> (Guard<'a>, Result<(), Stopped>) {
        let seen = self.state.load(Ordering::Relaxed);
        drop(guard);
        let slept = patience.sleep(&self.state, seen);
        let guard = self.lock(owners);
        if slept == Ok(Waited::TimedOut) {
            self.look_for_deaths(owners);
        }
        (guard, slept.map(drop))
    }

    fn leave(&self, owners: &impl Owners) {
        self.ledger.subtract(owners.me(), 0);
        crash_point!("barrier.left");
        if self.ledger.sum(0) == 0 && matches!(self.state(), DRAINING | RESETTING) {
            self.go_to(FILLING);
        }
    }

    /// What the last party calls when it has done what was to be done: lets all through, or breaks the barrier if it
    /// was not `done`.
    pub fn finish(&self, owners: &impl Owners, done: bool) -> Result<(), NotPassed> {
        let _guard = self.lock(owners);
        if self.state() == ACTING {
            self.go_to(if done { DRAINING } else { BROKEN });
        }
        let passed = self.state() == DRAINING;
        self.leave(owners);
        if passed { Ok(()) } else { Err(NotPassed::Broken) }
    }

    /// The first step of [`wait`](Self::wait) for one that waits for other things too: arrives, if those of the last time
    /// have left. After [`Arrival::Through`] it is inside, and has to [`try_leave`](Self::try_leave) until that succeeds, or
    /// to [`give_up`](Self::give_up).
    pub fn try_arrive(&self, owners: &impl Owners) -> Result<Option<Arrival>, NotPassed> {
        let _guard = self.lock(owners);
        self.look_for_deaths(owners);
        match self.state() {
            ACTING | DRAINING | RESETTING => return Ok(None),
            BROKEN => return Err(NotPassed::Broken),
            _ => {}
        }
        let index = self.ledger.sum(0);
        self.ledger.add(owners.me(), 0);
        if index + 1 < self.parties() {
            return Ok(Some(Arrival::Through(index)));
        }
        self.actor.store(owners.me().bits(), Ordering::Relaxed);
        self.go_to(ACTING);
        Ok(Some(Arrival::Last(index)))
    }

    /// Leaves, if all have arrived or the barrier broke; whether that was so.
    pub fn try_leave(&self, owners: &impl Owners) -> Result<bool, NotPassed> {
        let _guard = self.lock(owners);
        self.look_for_deaths(owners);
        let through = match self.state() {
            FILLING | ACTING => return Ok(false),
            state => state == DRAINING,
        };
        self.leave(owners);
        if through { Ok(true) } else { Err(NotPassed::Broken) }
    }

    /// Leaves before all have arrived. If it is `late`, that breaks the barrier; but not if all have arrived meanwhile, and
    /// then the caller has to stay. Answers whether it has left.
    pub fn give_up(&self, owners: &impl Owners, late: bool) -> bool {
        let _guard = self.lock(owners);
        if late && self.state() != FILLING {
            return false;
        }
        if late {
            self.go_to(BROKEN);
        }
        self.leave(owners);
        true
    }

    /// Where one that waits sleeps.
    pub fn bell(&self) -> Bell<'_> {
        Bell::new(&self.state, self.state.load(Ordering::Acquire))
    }

    /// Looks for deaths.
    pub fn look(&self, owners: &impl Owners) {
        let _guard = self.lock(owners);
        self.look_for_deaths(owners);
    }

    /// Breaks the barrier: all that wait or will come are told so, until it is reset.
    pub fn abort(&self, owners: &impl Owners) {
        let _guard = self.lock(owners);
        self.go_to(BROKEN);
    }

    /// Makes the barrier as new; those that wait are told that it broke.
    pub fn reset(&self, owners: &impl Owners) {
        let _guard = self.lock(owners);
        self.ledger.recount(owners);
        self.go_to(if self.ledger.sum(0) == 0 { FILLING } else { RESETTING });
    }

    /// The number of parties.
    pub fn parties(&self) -> u32 {
        self.parties.load(Ordering::Relaxed)
    }

    /// Parties that wait at this moment for others to arrive.
    pub fn waiting(&self) -> u32 {
        if self.state() == FILLING { self.ledger.sum(0) } else { 0 }
    }

    /// Whether it is broken.
    pub fn is_broken(&self) -> bool {
        self.state() == BROKEN
    }
}

impl From<Stopped> for NotPassed {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::TimedOut => Self::Broken,
            Stopped::Interrupted => Self::Interrupted,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::table::{Dead, Process, process};

    const SOON: Duration = Duration::from_millis(5);

    fn pass(barrier: &Barrier, me: &Process<'_>) -> Result<u32, NotPassed> {
        match barrier.wait(me, &Patience::FOREVER)? {
            Arrival::Through(index) => Ok(index),
            Arrival::Last(index) => barrier.finish(me, true).map(|()| index),
        }
    }

    #[test]
    fn all_pass_together_again_and_again() {
        let (barrier, dead, rounds) = (Barrier::new(3), Dead::new(0), 300);
        let sum: u32 = std::thread::scope(|scope| {
            let parties = [1, 2, 3].map(|slot| {
                let (barrier, me) = (&barrier, process(slot, &dead));
                scope.spawn(move || (0..rounds).map(|_| pass(barrier, &me).unwrap()).sum::<u32>())
            });
            parties.into_iter().map(|party| party.join().unwrap()).sum()
        });
        assert_eq!(sum, 3 * rounds);
        assert_eq!((barrier.waiting(), barrier.is_broken()), (0, false));
    }

    #[test]
    fn a_death_inside_breaks_it() {
        let (barrier, dead) = (Barrier::new(3), Dead::new(0));
        let [a, b] = [1, 2].map(|slot| process(slot, &dead));
        barrier.ledger.add(a.me(), 0);
        a.die();
        assert_eq!(pass(&barrier, &b), Err(NotPassed::Broken));
        assert!(barrier.is_broken());
        barrier.reset(&b);
        assert!(!barrier.is_broken());
    }

    #[test]
    fn a_death_while_others_wait_breaks_it() {
        let (barrier, dead) = (Barrier::new(3), Dead::new(0));
        let [a, b] = [1, 2].map(|slot| process(slot, &dead));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| pass(&barrier, &b));
            let guard = barrier.lock(&a);
            barrier.ledger.add(a.me(), 0);
            drop(guard);
            a.die();
            assert_eq!(waiter.join().unwrap(), Err(NotPassed::Broken));
        });
    }

    #[test]
    fn a_death_of_the_actor_breaks_it_too() {
        let (barrier, dead) = (Barrier::new(1), Dead::new(0));
        let [a, b] = [1, 2].map(|slot| process(slot, &dead));
        assert_eq!(barrier.wait(&a, &Patience::FOREVER), Ok(Arrival::Last(0)));
        a.die();
        assert_eq!(pass(&barrier, &b), Err(NotPassed::Broken));
    }

    #[test]
    fn who_is_late_or_fails_breaks_it() {
        let (barrier, dead) = (Barrier::new(2), Dead::new(0));
        let [a, b] = [1, 2].map(|slot| process(slot, &dead));
        assert_eq!(barrier.wait(&a, &Patience::within(SOON)), Err(NotPassed::Broken));
        assert_eq!(pass(&barrier, &b), Err(NotPassed::Broken));
        barrier.reset(&b);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| barrier.wait(&a, &Patience::FOREVER));
            while barrier.waiting() == 0 {
                std::thread::yield_now();
            }
            assert_eq!(barrier.wait(&b, &Patience::FOREVER), Ok(Arrival::Last(1)));
            assert_eq!(barrier.finish(&b, false), Err(NotPassed::Broken));
            assert_eq!(waiter.join().unwrap(), Err(NotPassed::Broken));
        });
    }

    #[test]
    fn a_reset_lets_those_inside_go_with_an_error() {
        let (barrier, dead) = (Barrier::new(2), Dead::new(0));
        let [a, b] = [1, 2].map(|slot| process(slot, &dead));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| pass(&barrier, &a));
            while barrier.waiting() == 0 {
                std::thread::yield_now();
            }
            barrier.reset(&b);
            assert_eq!(waiter.join().unwrap(), Err(NotPassed::Broken));
        });
        assert_eq!((barrier.waiting(), barrier.is_broken()), (0, false));
    }

    #[test]
    fn a_wait_that_is_called_off_leaves_it_whole() {
        let (barrier, dead) = (Barrier::new(2), Dead::new(0));
        let patience = Patience::FOREVER.unless(&|_| true);
        assert_eq!(barrier.wait(&process(1, &dead), &patience), Err(NotPassed::Interrupted));
        assert_eq!((barrier.waiting(), barrier.is_broken()), (0, false));
    }
}
