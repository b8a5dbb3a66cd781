//! The lock.

use onecopy_arena::Arena;
use onecopy_sync::{Bell, Lock as Part, OnOwnerDied, Patience};

use super::{ConditionLock, Told};
use crate::{Error, Kind, LockError, Shareable, Shared, SharedObject, Waitable};

// SAFETY: repr(C) of atomics of four bytes; zeros are a free lock.
unsafe impl Shareable for Part {
    const KIND: Kind = Kind::Lock;
}

/// A lock between processes and threads. It is not re-entrant, and anybody may release it.
///
/// ```
/// use onecopy::{Lock, Patience, session};
///
/// let lock = Lock::new(session()?)?;
/// {
///     let _guard = lock.lock()?;
///     assert!(lock.try_acquire()?.is_none());
/// }
/// lock.acquire(&Patience::FOREVER)?;
/// lock.release()?;
/// # Ok::<(), onecopy::LockError>(())
/// ```
#[derive(Debug)]
pub struct Lock {
    shared: Shared<Part>,
    told: Told,
}

/// Releases the lock when dropped.
#[derive(Debug)]
#[must_use]
pub struct LockGuard<'a>(&'a Lock);

impl Lock {
    /// A free lock.
    pub fn new(arena: &'static Arena) -> Result<Self, Error> {
        Shared::new(arena).map(Self::from)
    }

    /// Takes the lock and waits as long as that takes. It is released when the guard is dropped.
    pub fn lock(&self) -> Result<LockGuard<'_>, LockError> {
        self.acquire(&Patience::FOREVER).map(|_| LockGuard(self))
    }

    /// Takes the lock; answers whether it came from a holder that died, of which this process had been told.
    pub fn acquire(&self, patience: &Patience<'_>) -> Result<bool, LockError> {
        self.acquire_as(patience, self.told.policy())
    }

    /// Takes the lock also if its holder died; answers whether that was so.
    pub fn recover(&self, patience: &Patience<'_>) -> Result<bool, LockError> {
        self.acquire_as(patience, OnOwnerDied::Take)
    }

    fn acquire_as(&self, patience: &Patience<'_>, policy: OnOwnerDied) -> Result<bool, LockError> {
        self.told.outcome(self.shared.acquire(&self.shared.owners()?, patience, policy))
    }

    /// Takes the lock if it is free; none if it is not. Answers as [`acquire`](Self::acquire) does.
    #[inline]
    pub fn try_acquire(&self) -> Result<Option<bool>, LockError> {
        let me = self.shared.me()?;
        self.shared.try_acquire(me, self.told.policy()).map(|taken| self.told.outcome(taken)).transpose()
    }

    /// Releases the lock, whoever holds it.
    #[inline]
    pub fn release(&self) -> Result<(), LockError> {
        Ok(self.shared.release()?)
    }

    /// Says that what the lock protects is half changed, before the holder releases it: those that take it next are
    /// told as if the holder had died.
    pub fn give_up(&self) {
        self.shared.give_up();
    }

    /// To be told when it may be free.
    pub fn awaited(&self) -> impl Waitable + use<> {
        Awaited(self.shared.clone())
    }

    /// Whether anybody holds it.
    pub fn is_held(&self) -> bool {
        self.shared.is_held()
    }

    /// The process that holds it, if that is one that lives.
    pub fn owner_pid(&self) -> Option<u32> {
        self.shared.owners().ok()?.pid_of(self.shared.owner()?)
    }
}

/// A lock to be told of.
struct Awaited(Shared<Part>);

impl Waitable for Awaited {
    fn bell(&self) -> Bell<'_> {
        self.0.bell()
    }

    fn is_ready(&self, look: bool) -> bool {
        // Where it cannot be asked who lives, whoever tries is told why.
        !self.0.is_held() || look && self.0.owners().map_or(true, |owners| self.0.is_to_be_had(&owners))
    }
}

impl ConditionLock for Lock {
    /// Any thread of the process that took it may wait.
    fn is_owned(&self) -> Result<bool, LockError> {
        Ok(self.shared.owner() == Some(self.shared.me()?))
    }

    fn release_all(&self) -> Result<u32, LockError> {
        self.release().map(|()| 1)
    }

    fn reacquire(&self, _: u32, patience: &Patience<'_>) -> Result<(), LockError> {
        let death = self.shared.reacquire(&self.shared.owners()?, patience)?;
        death.map_or(Ok(()), |death| Err(self.told.tell(death)))
    }
}

impl From<Shared<Part>> for Lock {
    fn from(shared: Shared<Part>) -> Self {
        Self { shared, told: Told::default() }
    }
}

impl SharedObject for Lock {
    type Part = Part;

    fn part(&self) -> &Shared<Part> {
        &self.shared
    }
}

impl Drop for LockGuard<'_> {
    fn drop(&mut self) {
        // Somebody else may have released it already.
        let _ = self.0.release();
    }
}
