//! The condition.

use onecopy_arena::Arena;
use onecopy_sync::{Bell, Condition as Part, Patience, Place};

use crate::{Error, Kind, LockError, Shareable, Shared, SharedObject, Waitable};

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

    /// For one that waits for other things too: takes a place among those that wait, and releases the lock.
    pub fn enter(&self, lock: &(impl ConditionLock + ?Sized)) -> Result<Waiter, LockError> {
        check_owned(lock)?;
        let owners = self.shared.owners()?;
        let place = self.shared.enroll(&owners)?;
        let depth = lock.release_all()?;
        Ok(Waiter { shared: self.shared.clone(), number: place.keep(), depth, notified: None })
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

/// A place among those that wait for a condition, whose lock is to be taken again. It is given back when this is dropped;
/// a notification that was not used is passed on then.
#[derive(Debug)]
pub struct Waiter {
    shared: Shared<Part>,
    number: usize,
    depth: u32,
    /// Whether there is a notification that was not used; none while it waits.
    notified: Option<bool>,
}

impl Waiter {
    /// To be told when there may be a notification.
    pub fn awaited(&self) -> impl Waitable + use<> {
        Awaited { shared: self.shared.clone(), number: self.number }
    }

    /// Waits no longer; answers whether there was a notification.
    pub fn withdraw(&mut self) -> Result<bool, LockError> {
        let owners = self.shared.owners()?;
        let place = self.shared.place(self.number, &owners);
        let notified = place.as_ref().is_some_and(Place::withdraw);
        place.map(Place::keep);
        self.notified = Some(notified);
        Ok(notified)
    }

    /// Takes the lock if it can be had now; whether it was. [`LockError::OwnerDied`] comes with the lock held.
    pub fn retake(&self, lock: &(impl ConditionLock + ?Sized)) -> Result<bool, LockError> {
        match lock.reacquire(self.depth, &Patience::none()) {
            Err(LockError::TimedOut) => Ok(false),
            taken => taken.map(|()| true),
        }
    }

    /// Says that the caller goes on, and has used its notification.
    pub fn go_on(mut self) {
        self.notified = Some(false);
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        // A forked child has a copy, but no place.
        let Ok(owners) = self.shared.owners() else { return };
        let Some(place) = self.shared.place(self.number, &owners) else { return };
        if self.notified.unwrap_or_else(|| place.withdraw()) {
            place.pass_on();
        }
    }
}

struct Awaited {
    shared: Shared<Part>,
    number: usize,
}

impl Waitable for Awaited {
    fn bell(&self) -> Bell<'_> {
        self.shared.bell(self.number)
    }

    fn is_ready(&self, look: bool) -> bool {
        let Ok(owners) = self.shared.owners() else { return true };
        self.shared.is_called(self.number, &owners, look)
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
