//! The gate: sleeping until something in shared memory has changed, at no cost to those who change it while nobody
//! sleeps.
//!
//! | word | meaning |
//! |---|---|
//! | low bit | somebody may sleep |
//! | other bits | advanced by each who is about to sleep, and by each wake |
//!
//! A sleeper enrols, looks once more at what it waits for, and sleeps while the word is as it left it. Who changes that
//! thing looks at the word afterwards. With a full fence on both sides one of them sees the other.
//!
//! Nobody owns a gate. A sleeper that is killed costs one needless wake; one that is killed after it was woken, or a
//! waker that is killed before it wakes, delays the others until they look again by themselves.

use std::time::{Duration, Instant};

use crate::door::{AtomicU32, Ordering, crash_point, fence, relax, wake};
use crate::{Bell, Patience, Stopped};

const SLEEPERS: u32 = 1;
const ONE: u32 = 2;
/// How long a sleeper trusts that it was not forgotten.
const RECHECK: Duration = Duration::from_millis(20);

/// Where processes wait for a change. All zeros is a gate where nobody sleeps.
#[derive(Debug)]
#[repr(transparent)]
pub struct Gate {
    word: AtomicU32,
}

impl Gate {
    /// A gate where nobody sleeps.
    pub fn new() -> Self {
        Self { word: AtomicU32::new(0) }
    }

    /// Wakes up to `count` of those who wait, after something they may wait for has changed.
    #[inline]
    pub fn open(&self, count: u32) {
        // SYNC POINT: pairs with the fence in `enrol`.
        fence(Ordering::SeqCst);
        let seen = self.word.load(Ordering::Relaxed);
        if seen & SLEEPERS != 0 {
            self.wake(count);
        }
    }

    #[cold]
    fn wake(&self, count: u32) {
        let word = self.word.fetch_add(ONE, Ordering::Relaxed).wrapping_add(ONE);
        crash_point!("gate.waking");
        if wake(&self.word, count) < count as usize {
            // Nobody is left, unless somebody enrolled meanwhile; that changed the word.
            let _ = self.word.compare_exchange(word, word & !SLEEPERS, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Says that the caller is about to sleep; the answer is what the word is then.
    fn enrol(&self) -> u32 {
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            let next = seen.wrapping_add(ONE) | SLEEPERS;
            match self.word.compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    crash_point!("gate.enrolled");
                    // SYNC POINT: pairs with the fence in `open`.
                    fence(Ordering::SeqCst);
                    return next;
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Says that the caller is about to sleep.
    pub fn bell(&self) -> Bell<'_> {
        Bell::new(&self.word, self.enrol())
    }

    /// Waits until `ready`: for a moment without sleeping if that has paid off lately.
    pub fn wait(&self, patience: &Patience<'_>, spin: &Spin, ready: impl Fn() -> bool) -> Result<(), Stopped> {
        if ready() {
            return Ok(());
        }
        if patience.is_none() {
            return Err(Stopped::TimedOut);
        }
        if spin.until(&ready) { Ok(()) } else { self.sleep(patience, &ready) }
    }

    fn sleep(&self, patience: &Patience<'_>, ready: &impl Fn() -> bool) -> Result<(), Stopped> {
        loop {
            let word = self.enrol();
            if ready() {
                return Ok(());
            }
            patience.sleep_at_most(RECHECK, &self.word, word)?;
            if ready() {
                return Ok(());
            }
        }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

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
    longest: Duration,
    /// From the low bits on: how many waits still go without a spin, vain spins in a row, how many waits still begin
    /// with a pause.
    state: std::sync::atomic::AtomicU32,
}

const SKIPS: u32 = (1 << MOST_FAILURES) - 1;
const FAILURES_SHIFT: u32 = MOST_FAILURES;
const PAUSES_SHIFT: u32 = 16;

impl Spin {
    /// The longest spin that pays: a sleep and its wake cost less than this, but not much. The model has no clock.
    pub const LONGEST: Duration = Duration::from_micros(if cfg!(loom) { 0 } else { 50 });

    /// Never spins longer than `longest`, and begins hopefully.
    pub const fn at_most(longest: Duration) -> Self {
        Self { longest, state: std::sync::atomic::AtomicU32::new(0) }
    }

    /// Spins at most for [`LONGEST`](Self::LONGEST).
    pub const fn new() -> Self {
        Self::at_most(Self::LONGEST)
    }

    /// Looks for a change if that has paid off lately; answers whether there was one.
    fn until(&self, ready: &impl Fn() -> bool) -> bool {
        // Threads that wait at the same time may lose what another learns.
        let state = self.state.load(std::sync::atomic::Ordering::Relaxed);
        if self.longest.is_zero() {
            return false;
        }
        if state & SKIPS > 0 {
            self.state.store(state - 1, std::sync::atomic::Ordering::Relaxed);
            return false;
        }
        let looks = self.look(state >> PAUSES_SHIFT > 0, ready);
        let next = Self::learn(state, looks);
        if next != state {
            self.state.store(next, std::sync::atomic::Ordering::Relaxed);
        }
        looks.is_some()
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

    /// Looks until there is a change; answers how many looks found none, nothing if the time was up.
    fn look(&self, pause: bool, ready: &impl Fn() -> bool) -> Option<u32> {
        if pause {
            let start = Instant::now();
            while start.elapsed() < PAUSE {
                (0..QUICK_LOOKS).for_each(|_| relax());
            }
        }
        let (mut start, mut looks) = (None, 0);
        loop {
            for _ in 0..LOOKS {
                if ready() {
                    return Some(looks);
                }
                looks += 1;
                relax();
            }
            // The clock is not looked at before that no longer delays a change that has already come.
            if start.get_or_insert_with(Instant::now).elapsed() >= self.longest {
                return None;
            }
        }
    }
}

impl Default for Spin {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

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

    #[test]
    fn a_sleeper_is_woken_and_the_word_forgets_it() {
        let (gate, flag, done) = (Gate::new(), AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                gate.wait(&Patience::FOREVER, &Spin::new(), || flag.load(SeqCst)).unwrap();
                done.store(true, SeqCst);
            });
            flag.store(true, SeqCst);
            while !done.load(SeqCst) {
                gate.open(1);
            }
        });
        gate.open(1);
        gate.open(1);
        assert_eq!(gate.word.load(SeqCst) & SLEEPERS, 0);
    }

    #[test]
    fn patience_ends() {
        let never = Gate::new().wait(&Patience::within(Duration::from_millis(30)), &Spin::new(), || false);
        assert_eq!(never, Err(Stopped::TimedOut));
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
}
