//! Who has waited too long: takers that come later let it go first.
//!
//! A free lock goes to whoever is there first, and that is mostly the one that has just released it: a sleeper takes 50
//! µs to come. That is fast, and it can go on for ever. So a taker that has been overtaken for long says so in a word
//! beside the lock, and whoever would overtake it waits until it has had its turn. The word is advice, and no part of the
//! exclusion: nobody heeds it for longer than one poll, so a hungry one that was killed or stopped delays the others
//! once.

use onecopy_os::Waited;

use crate::door::{AtomicU32, Ordering, crash_point, wake};
use crate::{Patience, Stopped, Tag};

/// Sleeps that ended with a wake but without the lock, after which a taker is hungry. A sleep of a whole poll makes it
/// hungry at once.
const OVERTAKEN: u32 = if cfg!(loom) { 1 } else { 16 };

/// The tag of the one that is hungry, or zero.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Hunger {
    word: AtomicU32,
}

/// The turn of one taker.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    hunger: Option<&'a Hunger>,
    me: Tag,
    overtaken: u32,
    hungry: bool,
    deferred: bool,
}

impl Hunger {
    pub(crate) fn new() -> Self {
        Self { word: AtomicU32::new(0) }
    }

    /// Whether somebody is hungry.
    pub(crate) fn is_felt(&self) -> bool {
        self.word.load(Ordering::Relaxed) != 0
    }

    fn change(&self, from: u32, to: u32) -> bool {
        self.word.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Says that nobody is hungry any more, if nobody has changed the word since it was `seen`.
    fn still(&self, seen: u32) {
        if self.change(seen, 0) {
            crash_point!("hunger.stilled");
            wake(&self.word, u32::MAX >> 1);
        }
    }
}

impl<'a> Turn<'a> {
    /// The turn of a taker that has come now, at a lock where hunger counts, or at one where it does not.
    pub(crate) fn new(hunger: Option<&'a Hunger>, me: Tag) -> Self {
        Self { hunger, me, overtaken: 0, hungry: false, deferred: false }
    }

    /// Whether it may take what is free.
    pub(crate) fn has_come(&self) -> bool {
        self.hungry || self.deferred || !self.hunger.is_some_and(Hunger::is_felt)
    }

    /// Lets the hungry one go first, for one poll at most.
    pub(crate) fn defer(&mut self, patience: &Patience<'_>) -> Result<Waited, Stopped> {
        self.deferred = true;
        let Some(hunger) = self.hunger else { return Ok(Waited::Again) };
        let seen = hunger.word.load(Ordering::Relaxed);
        if seen == 0 {
            return Ok(Waited::Again);
        }
        let slept = patience.sleep(&hunger.word, seen);
        if slept == Ok(Waited::TimedOut) {
            hunger.still(seen);
        }
        slept
    }

    /// Says how a sleep ended after which the lock is still to be had.
    pub(crate) fn slept(&mut self, waited: Waited) {
        self.deferred = false;
        self.overtaken += if waited == Waited::TimedOut { OVERTAKEN } else { 1 };
        if !self.hungry && self.overtaken >= OVERTAKEN {
            self.hungry = self.hunger.is_some_and(|hunger| hunger.change(0, self.me.bits()));
            crash_point!("hunger.said");
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(hunger) = self.hunger.filter(|_| self.hungry) {
            hunger.still(self.me.bits());
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::table::{Dead, process};
    use crate::{Held, Lock, OnOwnerDied, Owners, RwLock, Semaphore, Side};

    /// A turn that has been overtaken for long.
    fn hungry<'a>(hunger: &'a Hunger, owners: &impl Owners) -> Turn<'a> {
        let mut turn = Turn::new(Some(hunger), owners.me());
        turn.slept(Waited::TimedOut);
        assert!(turn.has_come());
        turn
    }

    #[test]
    fn others_wait_until_the_hungry_one_has_had_its_turn() {
        let (hunger, dead) = (Hunger::new(), Dead::new(0));
        let [a, b] = [1, 2].map(|slot| process(slot, &dead));
        let turn = hungry(&hunger, &a);
        assert!(hunger.is_felt() && !Turn::new(Some(&hunger), b.me()).has_come());
        assert!(Turn::new(None, b.me()).has_come());
        drop(turn);
        assert!(!hunger.is_felt() && Turn::new(Some(&hunger), b.me()).has_come());
    }

    #[test]
    fn a_hungry_one_that_never_comes_is_forgotten_after_a_poll() {
        let (hunger, dead) = (Hunger::new(), Dead::new(0));
        std::mem::forget(hungry(&hunger, &process(1, &dead)));
        let mut turn = Turn::new(Some(&hunger), process(2, &dead).me());
        let _ = turn.defer(&Patience::FOREVER);
        assert!(turn.has_come());
    }

    #[test]
    fn one_that_was_overtaken_often_is_hungry_too() {
        let (hunger, dead) = (Hunger::new(), Dead::new(0));
        let mut turn = Turn::new(Some(&hunger), process(1, &dead).me());
        (1..OVERTAKEN).for_each(|_| turn.slept(Waited::Again));
        assert!(!hunger.is_felt());
        turn.slept(Waited::Again);
        assert!(hunger.is_felt());
    }

    /// Who is overtaken for longer than this is so for ever, however busy the machine is.
    const HANG: Duration = Duration::from_secs(30);

    /// Somebody comes to a lock whose holder releases it and takes it again at once.
    fn compete(take: impl Fn(u32) + Sync, release: impl Fn(u32) + Sync) {
        take(1);
        let came = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                take(2);
                came.store(true, Ordering::SeqCst);
                release(2);
            });
            let start = Instant::now();
            while !came.load(Ordering::SeqCst) && start.elapsed() < HANG {
                std::thread::sleep(Duration::from_millis(3)); // holds it for longer than a poll
                release(1);
                take(1);
            }
            let was_overtaken = !came.load(Ordering::SeqCst);
            release(1);
            assert!(!was_overtaken, "overtaken each time");
        });
    }

    #[test]
    fn nobody_is_overtaken_for_ever() {
        let dead = Dead::new(0);
        let lock = Lock::new();
        let policy = OnOwnerDied::Take;
        compete(
            |slot| assert_eq!(lock.acquire(&process(slot, &dead), &Patience::FOREVER, policy), Ok(Held::Clean)),
            |_| lock.release().unwrap(),
        );
        let semaphore = Semaphore::new(1);
        compete(
            |slot| semaphore.acquire(&process(slot, &dead), &Patience::FOREVER).unwrap(),
            |slot| semaphore.release(&process(slot, &dead), 1).unwrap(),
        );
        let rwlock = RwLock::new();
        compete(
            |slot| {
                let _ = rwlock.acquire(&process(slot, &dead), Side::Write, &Patience::FOREVER, policy).unwrap();
            },
            |slot| rwlock.release(&process(slot, &dead), Side::Write).unwrap(),
        );
    }
}
