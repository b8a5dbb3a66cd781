//! The event.
//!
//! | word | meaning |
//! |---|---|
//! | low bit | whether it is set |
//! | other bits | how often it has been set |
//!
//! A sleeper that saw the event unset leaves when it is set, or has been in the meantime.

use crate::door::{AtomicU32, Ordering, crash_point, wake};
use crate::{Bell, Patience, Stopped};

const SET: u32 = 1;
const ONE: u32 = 2;

/// A flag that processes wait for. Nobody owns it, so no death changes it.
#[derive(Debug)]
#[repr(transparent)]
pub struct Event {
    word: AtomicU32,
}

impl Event {
    /// An event that is not set.
    pub fn new() -> Self {
        Self { word: AtomicU32::new(0) }
    }

    /// Whether it is set.
    #[inline]
    pub fn is_set(&self) -> bool {
        // SYNC POINT: acquire pairs with the release in `set`.
        self.word.load(Ordering::Acquire) & SET != 0
    }

    /// Sets it and wakes all that wait.
    pub fn set(&self) {
        let mut seen = self.word.load(Ordering::Relaxed);
        while seen & SET == 0 {
            let next = seen.wrapping_add(ONE) | SET;
            match self.word.compare_exchange(seen, next, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => {
                    crash_point!("event.set");
                    wake(&self.word, u32::MAX >> 1);
                    return;
                }
                Err(now) => seen = now,
            }
        }
        // SYNC POINT: who sets what is set already releases too, to those that look from now on.
        self.word.fetch_or(SET, Ordering::Release);
    }

    /// Unsets it.
    pub fn clear(&self) {
        self.word.fetch_and(!SET, Ordering::Relaxed);
        crash_point!("event.cleared");
    }

    /// The word as it is now: what [`has_been_set`](Self::has_been_set) compares with.
    pub fn bell(&self) -> Bell<'_> {
        Bell::new(&self.word, self.word.load(Ordering::Acquire))
    }

    /// Whether it is set, or has been since the word was `seen`.
    pub fn has_been_set(&self, seen: u32) -> bool {
        let now = self.word.load(Ordering::Acquire);
        now & SET != 0 || now != seen & !SET
    }

    /// Waits until it is set.
    #[inline]
    pub fn wait(&self, patience: &Patience<'_>) -> Result<(), Stopped> {
        let first = self.word.load(Ordering::Acquire);
        if first & SET != 0 {
            return Ok(());
        }
        loop {
            let stopped = patience.sleep(&self.word, first).err();
            if self.word.load(Ordering::Acquire) != first {
                return Ok(());
            }
            if let Some(stopped) = stopped {
                return Err(stopped);
            }
        }
    }
}

impl Default for Event {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_is_waited_for() {
        let event = Event::new();
        assert_eq!(event.wait(&Patience::within(Duration::from_millis(5))), Err(Stopped::TimedOut));
        std::thread::scope(|scope| {
            let waiters: Vec<_> = (0..3).map(|_| scope.spawn(|| event.wait(&Patience::FOREVER))).collect();
            event.set();
            assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap() == Ok(())));
        });
        assert!(event.is_set());
        event.clear();
        assert!(!event.is_set());
    }

    #[test]
    fn who_waits_is_let_go_by_an_event_that_is_set_for_a_moment() {
        let event = Event::new();
        let slept = std::sync::atomic::AtomicU32::new(0);
        let look = |_| {
            // The first look after a sleep comes before that at the word: now the waiter is known to wait.
            if slept.fetch_add(1, Ordering::SeqCst) == 0 {
                event.set();
                event.clear();
            }
            false
        };
        assert_eq!(event.wait(&Patience::within(Duration::from_secs(60)).unless(&look)), Ok(()));
        assert!(!event.is_set());
    }

    #[test]
    fn setting_it_twice_is_setting_it_once() {
        let event = Event::new();
        event.set();
        event.set();
        assert!(event.is_set());
        event.clear();
        assert!(!event.is_set());
    }
}
