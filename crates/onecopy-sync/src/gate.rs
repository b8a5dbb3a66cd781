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

use std::time::Duration;

use crate::door::{AtomicU32, Ordering, crash_point, fence, wake};
use crate::{Bell, Patience, Spin, Stopped};

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
        spin.or_sleep(&ready, || self.sleep(patience, &ready))
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

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    use super::*;

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
}
