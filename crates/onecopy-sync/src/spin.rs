//! The adaptive spin: looking for a change for a moment before sleeping, as far as that pays.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::door::relax;
use crate::reach::Reach;

/// Looks between two looks at the clock.
const LOOKS: u32 = if cfg!(loom) { 1 } else { 16 };
/// After so many vain spins in a row the waits without one do not get more: 2 to the power of this.
const MOST_FAILURES: u32 = 8;
/// What comes within so many looks is one of many that come one after the other.
const QUICK_LOOKS: u32 = 4;
/// How long to let several of them come before the next look.
const PAUSE: Duration = Duration::from_micros(1);
/// After so many pauses in a row it is found out again whether they are of any use.
const PAUSES: u32 = 16;

/// Whether a process looks for a change before it sleeps, and for how long. It learns from its waits: a spin that was
/// vain is followed by waits without one, twice as many each time, and one that paid off makes up for all of them.
///
/// So nobody burns a core for what comes seldom; nor where the spin itself keeps away what it waits for, because both
/// sides share a core or others keep the cores busy.
///
/// Where changes come faster than it takes to tell of them, it lets some come before it looks: each look takes the cache
/// line from whoever makes them, which may then cost more than all the rest.
#[derive(Debug)]
pub struct Spin {
    reach: Reach,
    /// From the low bits on: how many waits still go without a spin, vain spins in a row, how many waits still begin
    /// with a pause.
    state: AtomicU32,
}

const SKIPS: u32 = (1 << MOST_FAILURES) - 1;
const FAILURES_SHIFT: u32 = MOST_FAILURES;
const PAUSES_SHIFT: u32 = 16;

impl Spin {
    /// The longest spin that pays: a sleep and its wake cost less than this, but not much. The model has no clock.
    pub const LONGEST: Duration = Duration::from_micros(if cfg!(loom) { 0 } else { 50 });

    /// The same for a wait for an answer, as long as sleeps show that it pays: as the other side sleeps and wakes up, too, a
    /// host that is slow to give back a core makes both sides late.
    pub const FARTHEST: Duration = Duration::from_micros(if cfg!(loom) { 0 } else { 250 });

    /// Never spins longer than `longest`, and begins hopefully.
    pub const fn at_most(longest: Duration) -> Self {
        Self::reaching(longest, longest)
    }

    /// Never spins longer than `longest`; as long as that pays, up to `farthest`.
    pub const fn reaching(longest: Duration, farthest: Duration) -> Self {
        Self { reach: Reach::new(longest, farthest), state: AtomicU32::new(0) }
    }

    /// Spins at most for [`LONGEST`](Self::LONGEST).
    pub const fn new() -> Self {
        Self::at_most(Self::LONGEST)
    }

    /// Waits until `ready`: by `sleep` if it is not found soon, or looking does not pay.
    pub(crate) fn or_sleep<E>(
        &self,
        ready: &impl Fn() -> bool,
        sleep: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        if self.until(ready) {
            return Ok(());
        }
        let start = self.reach.is_elastic().then(Instant::now);
        sleep()?;
        if let Some(start) = start {
            self.reach.slept(start.elapsed());
        }
        Ok(())
    }

    /// Looks for a change if that has paid off lately; answers whether there was one.
    fn until(&self, ready: &impl Fn() -> bool) -> bool {
        // Threads that wait at the same time may lose what another learns.
        let state = self.state.load(Relaxed);
        if self.reach.is_zero() {
            return false;
        }
        if state & SKIPS > 0 {
            self.state.store(state - 1, Relaxed);
            return false;
        }
        let looked = look(state >> PAUSES_SHIFT > 0, &self.reach, ready);
        if self.reach.is_elastic() {
            self.reach.spun(looked.found.is_some(), looked.time, looked.gap);
        }
        let next = Self::learn(state, looked.found);
        if next != state {
            self.state.store(next, Relaxed);
        }
        looked.found.is_some()
    }

    /// The state after a spin that was vain or had to look so many times more than once.
    fn learn(state: u32, looks: Option<u32>) -> u32 {
        match (looks, state >> PAUSES_SHIFT) {
            (None, _) => {
                let failures = ((state >> FAILURES_SHIFT & SKIPS) + 1).min(MOST_FAILURES);
                failures << FAILURES_SHIFT | ((1 << failures) - 1)
            }
            (Some(0), pauses @ 1..) => (pauses - 1) << PAUSES_SHIFT,
            (Some(..QUICK_LOOKS), 0) => PAUSES << PAUSES_SHIFT,
            _ => 0,
        }
    }
}

/// How a spin went.
struct Looked {
    /// How many looks found no change before one did.
    found: Option<u32>,
    /// From the first look at the clock to the last.
    time: Duration,
    /// What lies behind that, or before it if it was the end; of spins that found a change, only if they went far.
    gap: Duration,
}

/// Looks until there is a change, or the time is up.
fn look(pause: bool, reach: &Reach, ready: &impl Fn() -> bool) -> Looked {
    if pause {
        let start = Instant::now();
        while start.elapsed() < PAUSE {
            (0..QUICK_LOOKS).for_each(|_| relax());
        }
    }
    let (mut start, mut time, mut looks) = (None, Duration::ZERO, 0);
    let bound = reach.bound();
    loop {
        for _ in 0..LOOKS {
            if ready() {
                let far = start.filter(|_| reach.is_far(time));
                let gap = far.map_or(Duration::ZERO, |start: Instant| start.elapsed().saturating_sub(time));
                return Looked { found: Some(looks), time, gap };
            }
            looks += 1;
            relax();
        }
        // The clock is not looked at before that no longer delays a change that has already come.
        let now = start.get_or_insert_with(Instant::now).elapsed();
        if now >= bound {
            return Looked { found: None, time: now, gap: now.saturating_sub(time) };
        }
        time = now;
    }
}

impl Default for Spin {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_spin_learns_from_what_it_finds() {
        let quick = Spin::learn(0, Some(1));
        assert_eq!(quick >> PAUSES_SHIFT, PAUSES, "changes come one after the other: let some come");
        let after = |state, times| (0..times).fold(state, |state, _| Spin::learn(state, Some(0)));
        assert_eq!(after(quick, PAUSES), 0, "is that still so?");
        assert_eq!(Spin::learn(after(quick, 3), Some(9)), 0, "the pause was too short, so it is of no use");
        assert_eq!(Spin::learn(0, Some(QUICK_LOOKS)), 0, "an exchange of single messages");
        let vain = |times| (0..times).fold(quick, |state, _| Spin::learn(state & !SKIPS, None));
        assert_eq!([1, 2, 3, 20].map(|times| vain(times) & SKIPS), [1, 3, 7, 255]);
        assert_eq!(vain(20) >> PAUSES_SHIFT, 0);
        assert_eq!(Spin::learn(vain(5) & !SKIPS, Some(50)), 0, "one that pays makes up for all");
    }

    fn spins(spin: &Spin, paying: bool, waits: usize) -> usize {
        let looks = std::cell::Cell::new(0);
        let look = || {
            looks.set(looks.get() + 1);
            paying
        };
        let spun = |_: &usize| {
            looks.set(0);
            spin.until(&look);
            looks.get() > 0
        };
        (0..waits).filter(spun).count()
    }

    #[test]
    fn vain_spins_get_rare_and_one_that_pays_brings_them_back() {
        let spin = Spin::at_most(Duration::from_micros(1));
        // One after 1, 3, 7, ... waits without.
        assert_eq!(spins(&spin, false, 1 + 2 + 4 + 8 + 16), 5);
        spins(&spin, false, 1000);
        assert_eq!(spins(&spin, false, 2560), 10);
        assert!(spins(&spin, true, 256) > 0);
        assert_eq!(spins(&spin, true, 100), 100);
        assert_eq!(spins(&Spin::at_most(Duration::ZERO), true, 100), 0);
    }

    /// How many of some waits end without a sleep, for what comes only long after the usual bound.
    fn waits_without_sleep(spin: &Spin) -> usize {
        let near = Duration::from_micros(1);
        let without_sleep = |_: &usize| {
            let (looks, slept) = (std::cell::Cell::new(0), std::cell::Cell::new(false));
            let late = || looks.replace(looks.get() + 1) > 1_000_000;
            let sleep = || {
                let start = Instant::now();
                while start.elapsed() <= near {}
                slept.set(true);
                Ok::<_, ()>(())
            };
            spin.or_sleep(&late, sleep).unwrap();
            !slept.get()
        };
        (0..20).filter(without_sleep).count()
    }

    #[test]
    fn what_comes_late_is_waited_for_if_that_saves_a_sleep() {
        let (near, far) = (Duration::from_micros(1), Duration::from_secs(60));
        assert!(waits_without_sleep(&Spin::reaching(near, far)) > 0);
        assert_eq!(waits_without_sleep(&Spin::at_most(near)), 0);
        assert_eq!(waits_without_sleep(&Spin::at_most(Duration::ZERO)), 0);
    }
}
