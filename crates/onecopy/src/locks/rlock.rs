//! The re-entrant lock.

use onecopy_arena::Arena;
use onecopy_sync::{Bell, OnOwnerDied, Patience, RLock as Part, this_thread};

use super::{ConditionLock, Told};
use crate::{Error, Kind, LockError, Shareable, Shared, SharedObject, Waitable};

// SAFETY: repr(C) of atomics whose padding nobody reads; zeros are a free lock.
unsafe impl Shareable for Part {
    const KIND: Kind = Kind::RLock;
}

/// A lock that the thread that holds it may take again, and that only this thread releases. A forked child does not hold
/// what its parent held.
///
/// ```
/// use onecopy::{Patience, RLock, session};
///
/// let lock = RLock::new(session()?)?;
/// lock.acquire(&Patience::FOREVER)?;
/// lock.acquire(&Patience::FOREVER)?;
/// lock.release()?;
/// lock.release()?;
/// assert!(lock.release().is_err());
/// # Ok::<(), onecopy::LockError>(())
/// ```
#[derive(Debug)]
pub struct RLock {
    shared: Shared<Part>,
    told: Told,
}

impl RLock {
    /// A free lock.
    pub fn new(arena: &'static Arena) -> Result<Self, Error> {
        Shared::new(arena).map(Self::from)
    }

    /// As [`Lock::acquire`](crate::Lock::acquire); at once where this thread holds the lock.
    pub fn acquire(&self, patience: &Patience<'_>) -> Result<bool, LockError> {
        self.acquire_as(patience, self.told.policy())
    }

    /// As [`Lock::recover`](crate::Lock::recover).
    pub fn recover(&self, patience: &Patience<'_>) -> Result<bool, LockError> {
        self.acquire_as(patience, OnOwnerDied::Take)
    }

    fn acquire_as(&self, patience: &Patience<'_>, policy: OnOwnerDied) -> Result<bool, LockError> {
        self.told.outcome(self.shared.acquire(&self.shared.owners()?, this_thread(), patience, policy))
    }

    /// As [`Lock::try_acquire`](crate::Lock::try_acquire).
    #[inline]
    pub fn try_acquire(&self) -> Result<Option<bool>, LockError> {
        let me = self.shared.me()?;
        let taken = self.shared.try_acquire(me, this_thread(), self.told.policy());
        taken.map(|taken| self.told.outcome(taken)).transpose()
    }

    /// Releases the lock once.
    #[inline]
    pub fn release(&self) -> Result<(), LockError> {
        Ok(self.shared.release(self.shared.me()?, this_thread())?)
    }

    /// As [`Lock::give_up`](crate::Lock::give_up).
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

    /// How often its holder has taken it.
    pub fn depth(&self) -> u32 {
        self.shared.depth()
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

impl ConditionLock for RLock {
    fn is_owned(&self) -> Result<bool, LockError> {
        Ok(self.shared.is_owned(self.shared.me()?, this_thread()))
    }

    fn release_all(&self) -> Result<u32, LockError> {
        Ok(self.shared.release_all(self.shared.me()?, this_thread())?)
    }

    fn reacquire(&self, depth: u32, patience: &Patience<'_>) -> Result<(), LockError> {
        let death = self.shared.reacquire(&self.shared.owners()?, this_thread(), depth, patience)?;
        death.map_or(Ok(()), |death| Err(self.told.tell(death)))
    }
}

impl From<Shared<Part>> for RLock {
    fn from(shared: Shared<Part>) -> Self {
        Self { shared, told: Told::default() }
    }
}

impl SharedObject for RLock {
    type Part = Part;

    fn part(&self) -> &Shared<Part> {
        &self.shared
    }
}
