//! The robust mutex.
//!
//! | word | meaning |
//! |---|---|
//! | 0 | free |
//! | tag | held by `tag`, nobody sleeps |
//! | tag + WAITERS | held by `tag`, somebody may sleep |
//!
//! A taker that finds the word free installs its tag. A taker that sleeps wakes at intervals and asks whether the owner
//! lives; if not it replaces the dead tag by its own in one exchange, so that of several takers exactly one learns of
//! the death.

use std::time::Duration;

use crate::door::{AtomicU32, Ordering, crash_point, relax, wait, wake};
use crate::{Owners, Tag};

const FREE: u32 = 0;
const WAITERS: u32 = 1 << 31;
/// Looks at the word before sleeping: a critical section of the arena is shorter than a futex round trip.
const SPINS: u32 = if cfg!(loom) { 1 } else { 100 };
/// How long a sleeper trusts that the owner lives. Asking costs 0.4 µs.
const PATIENCE: Duration = Duration::from_millis(2);

/// A mutual exclusion lock that lives in shared memory and survives its owner.
///
/// It is not re-entrant, and its owner is a process: two threads of a process exclude each other, but for the question
/// who died they are one.
#[derive(Debug)]
#[repr(transparent)]
pub struct RobustMutex {
    word: AtomicU32,
}

/// How a lock was got. Either way it is held now.
#[derive(Debug)]
pub enum Acquired<'a> {
    /// The last owner released it.
    Clean(Guard<'a>),
    /// The last owner died with it: what it protects may be half changed and must be repaired by the holder of this
    /// guard.
    OwnerDied(Guard<'a>),
}

/// Releases the lock when dropped.
#[derive(Debug)]
#[must_use]
pub struct Guard<'a> {
    mutex: &'a RobustMutex,
}

impl RobustMutex {
    /// A free lock.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { word: AtomicU32::new(FREE) }
    }

    /// A free lock.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self { word: AtomicU32::new(FREE) }
    }

    /// Takes the lock, waiting as long as its owner lives.
    pub fn lock(&self, owners: &impl Owners) -> Acquired<'_> {
        let me = owners.me().bits();
        // SYNC POINT: acquire pairs with the release in `Guard::drop`.
        if self.word.compare_exchange(FREE, me, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            crash_point!("mutex.taken");
            return Acquired::Clean(Guard { mutex: self });
        }
        self.lock_slowly(owners, me)
    }

    #[cold]
    fn lock_slowly(&self, owners: &impl Owners, me: u32) -> Acquired<'_> {
        for _ in 0..SPINS {
            if self.word.load(Ordering::Relaxed) == FREE && self.exchange(FREE, me) {
                return Acquired::Clean(Guard { mutex: self });
            }
            relax();
        }
        // From here on this taker may sleep, and cannot know whether others do: it takes the lock with WAITERS set,
        // which costs at most one needless wake.
        let mine = me | WAITERS;
        loop {
            let seen = self.word.load(Ordering::Relaxed);
            if seen == FREE {
                if self.exchange(FREE, mine) {
                    crash_point!("mutex.taken-late");
                    return Acquired::Clean(Guard { mutex: self });
                }
            } else if seen & WAITERS == 0 && !self.exchange(seen, seen | WAITERS) {
                // The word changed under us: look again.
            } else {
                crash_point!("mutex.waiting");
                wait(&self.word, seen | WAITERS, PATIENCE);
                let now = self.word.load(Ordering::Relaxed);
                if now == seen | WAITERS && !owner_lives(owners, now) && self.exchange(now, mine) {
                    crash_point!("mutex.inherited");
                    return Acquired::OwnerDied(Guard { mutex: self });
                }
            }
        }
    }

    fn exchange(&self, from: u32, to: u32) -> bool {
        // SYNC POINT: acquire pairs with the release in `Guard::drop`; after a death nothing pairs, and the repair
        // reads only single words.
        self.word.compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// The tag that holds the lock at this moment.
    pub fn owner(&self) -> Option<Tag> {
        Tag::from_bits(self.word.load(Ordering::Relaxed) & !WAITERS)
    }
}

impl Default for RobustMutex {
    fn default() -> Self {
        Self::new()
    }
}

fn owner_lives(owners: &impl Owners, word: u32) -> bool {
    // A word that names nobody is damage: nobody would ever release it, so it counts as a dead owner's.
    Tag::from_bits(word & !WAITERS).is_some_and(|tag| tag == owners.me() || owners.is_alive(tag))
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // SYNC POINT: release pairs with the acquire of the next taker.
        if self.mutex.word.swap(FREE, Ordering::Release) & WAITERS != 0 {
            crash_point!("mutex.released");
            wake(&self.mutex.word, 1);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::cell::UnsafeCell;
    use std::sync::atomic::{AtomicBool, AtomicU64};

    use super::*;

    struct Table {
        me: Tag,
        dead: AtomicBool,
    }

    impl Owners for Table {
        fn me(&self) -> Tag {
            self.me
        }
        fn is_alive(&self, _: Tag) -> bool {
            !self.dead.load(Ordering::SeqCst)
        }
    }

    fn table(slot: u32) -> Table {
        Table { me: Tag::new(slot, 1), dead: AtomicBool::new(false) }
    }

    struct Cell(UnsafeCell<u64>);
    // SAFETY: the tests touch the cell only under the mutex.
    unsafe impl Sync for Cell {}

    #[test]
    fn it_excludes() {
        let (mutex, cell) = (RobustMutex::new(), Cell(UnsafeCell::new(0)));
        std::thread::scope(|scope| {
            for slot in 0..4 {
                let (mutex, cell) = (&mutex, &cell);
                scope.spawn(move || {
                    let owner = table(slot);
                    for _ in 0..20_000 {
                        let Acquired::Clean(_guard) = mutex.lock(&owner) else { panic!("nobody died") };
                        // SAFETY: the guard is held.
                        unsafe { *cell.0.get() += 1 };
                    }
                });
            }
        });
        assert_eq!(cell.0.into_inner(), 80_000);
    }

    #[test]
    fn one_taker_learns_of_a_death() {
        let mutex = RobustMutex::new();
        std::mem::forget(mutex.lock(&table(7)));
        assert_eq!(mutex.owner(), Some(Tag::new(7, 1)));
        let news = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for slot in 0..3 {
                let (mutex, news) = (&mutex, &news);
                scope.spawn(move || {
                    let owner = table(slot);
                    owner.dead.store(true, Ordering::SeqCst);
                    if let Acquired::OwnerDied(_guard) = mutex.lock(&OnlyOneDead(owner)) {
                        news.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(news.into_inner(), 1);
        assert_eq!(mutex.owner(), None);
    }

    struct OnlyOneDead(Table);
    impl Owners for OnlyOneDead {
        fn me(&self) -> Tag {
            self.0.me
        }
        fn is_alive(&self, tag: Tag) -> bool {
            tag.slot() != 7
        }
    }

    #[test]
    fn a_damaged_word_is_taken_over() {
        let mutex = RobustMutex { word: AtomicU32::new(WAITERS) };
        assert!(matches!(mutex.lock(&table(1)), Acquired::OwnerDied(_)));
    }
}
