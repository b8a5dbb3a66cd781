//! The condition.

use onecopy_arena::Arena;
use onecopy_sync::{Condition as Part, Patience};

use crate::{Error, Kind, LockError, Shareable, Shared, SharedObject};

// SAFETY: repr(C) of atomics of four bytes; zeros are a condition for which nobody waits.
unsafe impl Shareable for Part {
    const KIND: Kind = Kind::Condition;
}

/// A lock that can go with a condition.
pub trait ConditionLock {
    /// Whether the caller holds it.
    fn is_owned(&self) -> Result<bool, LockError>;
    /// Releases it however often it was taken; answers how often.
    fn release_all(&self) -> Result<u32, LockError>;
    /// Takes it `depth` times. [`LockError::OwnerDied`] comes with the lock held.
    fn reacquire(&self, depth: u32, patience: &Patience<'_>) -> Result<(), LockError>;
}

/// Waits until another process says that something has changed. The lock that goes with it is given with each call, and
/// has to be the same for all.
///
/// ```
/// use onecopy::{Condition, Lock, LockError, Patience, session};
///
/// let (condition, lock) = (Condition::new(session()?)?, Lock::new(session()?)?);
/// let _guard = lock.lock()?;
/// assert_eq!(condition.notify(&lock, 1)?, 0); // nobody waits
/// assert!(matches!(condition.wait(&lock, &Patience::none()), Err(LockError::TimedOut)));
/// # Ok::<(), onecopy::LockError>(())
/// ```
#[derive(Debug)]
pub struct Condition {
    shared: Shared<Part>,
}

impl Condition {
    /// A condition for which nobody waits.
    pub fn new(arena: &'static Arena) -> Result<Self, Error> {
        Shared::new(arena).map(Self::from)
    }

    /// Releases the lock, waits for a notification, and takes the lock again.
    ///
    /// Whatever this answers, the lock is held again, but for one case: a wait for the lock that is called off twice.
    pub fn wait(&self, lock: &(impl ConditionLock + ?Sized), patience: &Patience<'_>) -> Result<(), LockError> {
        check_owned(lock)?;
        let owners = self.shared.owners()?;
        let place = self.shared.enroll(&owners)?;
        let depth = lock.release_all()?;
        let waited = place.wait(patience);
        let patience = patience.without_deadline();
        let taken = match lock.reacquire(depth, &patience) {
            Err(LockError::Interrupted) => {
                lock.reacquire(depth, &patience)?;
                Err(LockError::Interrupted)
            }
            taken => taken,
        };
        // Only now: if this process dies before it has the lock, the notification is for another.
        drop(place);
        taken.and(waited.map_err(LockError::from))
    }

    /// Wakes up to `count` of those that have waited longest; answers how many there were.
    pub fn notify(&self, lock: &(impl ConditionLock + ?Sized), count: u32) -> Result<u32, LockError> {
        check_owned(lock)?;
        Ok(self.shared.notify(&self.shared.owners()?, count))
    }

    /// Wakes all that wait; answers how many there were.
    pub fn notify_all(&self, lock: &(impl ConditionLock + ?Sized)) -> Result<u32, LockError> {
        check_owned(lock)?;
        Ok(self.shared.notify_all(&self.shared.owners()?))
    }

    /// Threads that wait.
    pub fn waiting(&self) -> usize {
        self.shared.waiting()
    }
}

fn check_owned(lock: &(impl ConditionLock + ?Sized)) -> Result<(), LockError> {
    if lock.is_owned()? { Ok(()) } else { Err(LockError::NotOwned) }
}

impl From<Shared<Part>> for Condition {
    fn from(shared: Shared<Part>) -> Self {
        Self { shared }
    }
}

impl SharedObject for Condition {
    type Part = Part;

    fn part(&self) -> &Shared<Part> {
        &self.shared
    }
}
