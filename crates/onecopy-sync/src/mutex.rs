//! The robust mutex: a word with a guard.

use crate::word::{OwnedWord, Taken};
use crate::{Owners, Patience, Tag};

/// A mutual exclusion lock that lives in shared memory and survives its owner.
///
/// It is not re-entrant, and its owner is a process: two threads of a process exclude each other, but for the question
/// who died they are one.
#[derive(Debug)]
#[repr(transparent)]
pub struct RobustMutex {
    word: OwnedWord,
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
        Self { word: OwnedWord::new() }
    }

    /// A free lock.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self { word: OwnedWord::new() }
    }

    /// Takes the lock, waiting as long as its owner lives.
    pub fn lock(&self, owners: &impl Owners) -> Acquired<'_> {
        loop {
            match self.word.take(owners, &Patience::FOREVER) {
                Ok(Taken::Clean) => return Acquired::Clean(Guard { mutex: self }),
                Ok(Taken::OwnerDied) => return Acquired::OwnerDied(Guard { mutex: self }),
                // This patience does not end.
                Err(_) => {}
            }
        }
    }

    /// The tag that holds the lock at this moment.
    pub fn owner(&self) -> Option<Tag> {
        self.word.owner()
    }
}

impl Default for RobustMutex {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.mutex.word.release();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::cell::UnsafeCell;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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
        let mutex = RobustMutex { word: OwnedWord::damaged() };
        assert!(matches!(mutex.lock(&table(1)), Acquired::OwnerDied(_)));
    }
}
