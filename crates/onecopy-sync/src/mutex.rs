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
            match self.word.take(owners, &Patience::FOREVER, None) {
                Ok(Taken::Clean) => return Acquired::Clean(Guard { mutex: self }),
                Ok(Taken::OwnerDied) => return Acquired::OwnerDied(Guard { mutex: self }),
                // This patience does not end.
                Err(_) => {}
            }
        }
    }

    /// The tag that holds the lock at this moment. Who finds nobody sees what the last holder did.
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
        // In a model a thread that panics is a process that was killed: it releases nothing.
        if !(cfg!(loom) && std::thread::panicking()) {
            self.mutex.word.release();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::cell::UnsafeCell;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::table::{Dead, process};

    struct Cell(UnsafeCell<u64>);
    // SAFETY: the tests touch the cell only under the mutex.
    unsafe impl Sync for Cell {}

    #[test]
    fn it_excludes() {
        let (mutex, cell, dead) = (RobustMutex::new(), Cell(UnsafeCell::new(0)), Dead::new(0));
        std::thread::scope(|scope| {
            for slot in 0..4 {
                let (mutex, cell, me) = (&mutex, &cell, process(slot, &dead));
                scope.spawn(move || {
                    for _ in 0..20_000 {
                        let Acquired::Clean(_guard) = mutex.lock(&me) else { panic!("nobody died") };
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
        let (mutex, dead) = (RobustMutex::new(), Dead::new(0));
        std::mem::forget(mutex.lock(&process(7, &dead)));
        assert_eq!(mutex.owner(), Some(Tag::new(7, 1)));
        process(7, &dead).die();
        let news = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for slot in 0..3 {
                let (mutex, news, me) = (&mutex, &news, process(slot, &dead));
                scope.spawn(move || {
                    if let Acquired::OwnerDied(_guard) = mutex.lock(&me) {
                        news.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(news.into_inner(), 1);
        assert_eq!(mutex.owner(), None);
    }

    #[test]
    fn a_damaged_word_is_taken_over() {
        let (mutex, dead) = (RobustMutex { word: OwnedWord::damaged() }, Dead::new(0));
        assert!(matches!(mutex.lock(&process(1, &dead)), Acquired::OwnerDied(_)));
    }
}
