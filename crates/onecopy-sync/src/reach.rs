//! Whether a spin goes on for longer than usual.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// How far a spin goes: as far as usual, or up to a longer bound as long as that pays.
///
/// A few sleeps in a row that were short, but not so short that it cost little to wake up, bring the long spin, and one
/// that pays keeps it. After a vain one such sleeps go by without it, twice as many each time, and many more after one
/// in which another program had the core.
#[derive(Debug)]
pub(crate) struct Reach {
    near: Duration,
    far: Duration,
    /// From the low bits on: how many sleeps still go by before the next spin is a long one, failures in a row.
    state: AtomicU32,
}

const FAILURES_SHIFT: u32 = 16;
const SLEEPS: u32 = (1 << FAILURES_SHIFT) - 1;
/// How many short sleeps in a row it takes.
const PROOF: u32 = 4;
/// After so many vain spins in a row the sleeps that go by do not get more: 2 to the power of this.
const MOST_VAIN: u32 = 8;
/// As how many vain spins one counts in which another had the core, and as how many several of them do at most.
const DISPLACED: u32 = 4;
const MOST_DISPLACED: u32 = 12;
/// A sleep was short if it took at most as long as so many long spins: the other side may have slept, too, and what
/// comes after two sleeps and wakes may come much sooner without them.
const SHORT: u32 = 2;
/// If so much time lies between two looks, another program had the core. A host that stops the machine for a moment, or
/// the kernel's own work, takes less.
const SLICE: Duration = Duration::from_micros(500);

/// What a long spin has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spun {
    /// It was not needed.
    Near,
    Paid,
    Vain,
    Displaced,
}

impl Reach {
    /// The next spins end at `near`.
    pub(crate) const fn new(near: Duration, far: Duration) -> Self {
        Self { near, far, state: AtomicU32::new(PROOF) }
    }

    /// Whether there are no spins at all.
    pub(crate) fn is_zero(&self) -> bool {
        self.near.is_zero()
    }

    /// Whether it ever goes further than usual.
    pub(crate) fn is_elastic(&self) -> bool {
        self.near < self.far
    }

    /// Whether a spin that takes so long goes further than usual.
    pub(crate) fn is_far(&self, time: Duration) -> bool {
        self.is_elastic() && time >= self.near
    }

    /// Where the next spin ends.
    pub(crate) fn bound(&self) -> Duration {
        if self.state.load(Relaxed) & SLEEPS > 0 { self.near } else { self.far }
    }

    /// Learns from a sleep.
    pub(crate) fn slept(&self, time: Duration) {
        self.update(|state| after_sleep(state, (self.near..=SHORT * self.far).contains(&time)));
    }

    /// Learns from a spin of this length that found what it looked for or did not, and from the longest time between
    /// two of its looks.
    pub(crate) fn spun(&self, found: bool, time: Duration, gap: Duration) {
        let spun = match found {
            _ if gap >= SLICE => Spun::Displaced,
            true if !self.is_far(time) => Spun::Near,
            true => Spun::Paid,
            false => Spun::Vain,
        };
        self.update(|state| after_spin(state, spun));
    }

    fn update(&self, learn: impl FnOnce(u32) -> u32) {
        // Threads that wait at the same time may lose what another learns.
        let state = self.state.load(Relaxed);
        let next = learn(state);
        if next != state {
            self.state.store(next, Relaxed);
        }
    }
}

/// The state after a sleep that a long spin might have saved, or not.
fn after_sleep(state: u32, worth: bool) -> u32 {
    let sleeps = state & SLEEPS;
    let left = if worth { sleeps.saturating_sub(1) } else { sleeps.max(PROOF) };
    state & !SLEEPS | left
}

/// The state after a spin. Whether a usual one paid says nothing about long ones.
fn after_spin(state: u32, spun: Spun) -> u32 {
    let (sleeps, failures) = (state & SLEEPS, state >> FAILURES_SHIFT);
    let failures = match spun {
        Spun::Displaced => (failures + DISPLACED).min(MOST_DISPLACED),
        Spun::Near => return state,
        _ if sleeps > 0 => return state,
        Spun::Paid => return 0,
        Spun::Vain => (failures + 1).min(MOST_VAIN),
    };
    failures << FAILURES_SHIFT | (1 << failures)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);
    const REACH: [Duration; 2] = [Duration::from_micros(50), Duration::from_micros(250)];

    fn reach() -> Reach {
        Reach::new(REACH[0], REACH[1])
    }

    /// How many sleeps that are worth a long spin go by before it comes.
    fn sleeps(state: u32) -> u32 {
        let sleeps = std::iter::successors(Some(state), |&state| Some(after_sleep(state, true)));
        sleeps.take_while(|state| state & SLEEPS > 0).count() as u32
    }

    #[test]
    fn short_sleeps_in_a_row_bring_the_long_spin() {
        let reach = reach();
        for time in [50, 100, 500] {
            reach.slept(time * US);
            assert_eq!(reach.bound(), REACH[0]);
        }
        reach.slept(100 * US);
        assert_eq!(reach.bound(), REACH[1]);
        for other in [49 * US, 501 * US] {
            reach.slept(other);
            assert_eq!(reach.bound(), REACH[0], "one of {other:?} is not worth a long spin");
            (0..PROOF).for_each(|_| reach.slept(100 * US));
            assert_eq!(reach.bound(), REACH[1]);
        }
    }

    #[test]
    fn a_long_spin_stays_as_long_as_it_pays() {
        assert_eq!(after_spin(0, Spun::Paid), 0);
        let far = 3 << FAILURES_SHIFT;
        assert_eq!(after_spin(far, Spun::Near), far);
        assert_eq!(after_spin(far, Spun::Paid), 0, "one that pays makes up for all");
    }

    /// The state after long spins that ended so.
    fn after(spun: Spun, times: u32) -> u32 {
        (0..times).fold(0, |state, _| after_spin(state & !SLEEPS, spun))
    }

    #[test]
    fn vain_long_spins_get_rare() {
        assert_eq!([1, 2, 3, 8, 20].map(|times| sleeps(after(Spun::Vain, times))), [2, 4, 8, 256, 256]);
        assert_eq!(sleeps(after_sleep(after(Spun::Vain, 1), false)), PROOF, "it takes as many as ever");
        assert_eq!(sleeps(after_sleep(after(Spun::Vain, 8), false)), 256);
    }

    #[test]
    fn usual_spins_say_nothing_about_long_ones() {
        for state in [PROOF, 5 << FAILURES_SHIFT | 7] {
            for spun in [Spun::Near, Spun::Paid, Spun::Vain] {
                assert_eq!(after_spin(state, spun), state);
            }
        }
    }

    #[test]
    fn where_others_need_the_core_long_spins_are_rarer_still() {
        assert_eq!([1, 2, 3, 9].map(|times| sleeps(after(Spun::Displaced, times))), [16, 256, 4096, 4096]);
        assert_eq!(sleeps(after_spin(PROOF, Spun::Displaced)), 16, "usual spins notice it, too");
        assert_eq!(sleeps(after_spin(after(Spun::Displaced, 3) & !SLEEPS, Spun::Vain)), 256);
    }

    #[test]
    fn a_spin_is_judged_by_its_length_and_its_gaps() {
        let judged = |found, time: u32, gap: u32| {
            let reach = reach();
            (0..PROOF).for_each(|_| reach.slept(100 * US));
            reach.spun(found, time * US, gap * US);
            sleeps(reach.state.load(Relaxed))
        };
        assert_eq!(judged(true, 10, 1), 0);
        assert_eq!(judged(true, 249, 60), 0, "a machine that stood still for a moment");
        assert_eq!(judged(false, 250, 1), 2);
        assert_eq!([true, false].map(|found| judged(found, 4000, 3990)), [16; 2]);
        assert_eq!(judged(true, 700, 500), 16);
    }

    #[test]
    fn without_a_longer_bound_nothing_is_longer() {
        let reach = Reach::new(REACH[0], REACH[0]);
        assert!(!reach.is_elastic());
        (0..100).for_each(|_| reach.slept(REACH[0]));
        assert_eq!(reach.bound(), REACH[0]);
    }
}
