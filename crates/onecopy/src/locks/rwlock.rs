//! The lock for many readers or one writer.

use onecopy_arena::Arena;
use onecopy_sync::{Bell, OnOwnerDied, Patience, RwLock as Part, Side};

use super::Told;
use crate::{Error, Kind, LockError, Shareable, Shared, SharedObject, Waitable};

// SAFETY: repr(C) of atomics of four bytes; zeros are a free lock.
unsafe impl Shareable for Part {
    const KIND: Kind = Kind::RwLock;
}

/// A lock that any number of readers or one writer hold. Writers come before readers that come later, and after each
/// writer the readers that wait have a turn.
///
/// ```
/// use onecopy::{Patience, RwLock, Side, session};
///
/// let lock = RwLock::new(session()?)?;
/// lock.acquire(Side::Read, &Patience::FOREVER)?;
/// lock.acquire(Side::Read, &Patience::FOREVER)?;
/// assert!(lock.acquire(Side::Write, &Patience::none()).is_err());
/// assert_eq!(lock.readers(), 2);
/// lock.release(Side::Read)?;
/// lock.release(Side::Read)?;
/// # Ok::<(), onecopy::LockError>(())
/// ```
#[derive(Debug)]
pub struct RwLock {
    shared: Shared<Part>,
    told: Told,
}

impl RwLock {
    /// A free lock.
    pub fn new(arena: &'static Arena) -> Result<Self, Error> {
        Shared::new(arena).map(Self::from)
    }

    /// Takes one side of the lock; answers as [`Lock::acquire`](crate::Lock::acquire) does.
    pub fn acquire(&self, side: Side, patience: &Patience<'_>) -> Result<bool, LockError> {
        self.acquire_as(side, patience, self.told.policy())
    }

    /// As [`Lock::recover`](crate::Lock::recover).
    pub fn recover(&self, side: Side, patience: &Patience<'_>) -> Result<bool, LockError> {
        self.acquire_as(side, patience, OnOwnerDied::Take)
    }

    fn acquire_as(&self, side: Side, patience: &Patience<'_>, policy: OnOwnerDied) -> Result<bool, LockError> {
        self.told.outcome(self.shared.acquire(&self.shared.owners()?, side, patience, policy))
    }

    /// Takes one side if that is possible at once and without asking who lives.
    pub fn try_acquire(&self, side: Side) -> Result<Option<bool>, LockError> {
        let taken = self.shared.try_acquire(&self.shared.owners()?, side, self.told.policy());
        taken.map(|taken| self.told.outcome(taken)).transpose()
    }

    /// To be told when a side may be free. Until then, or until that is dropped, readers let a writer go first.
    pub fn awaited(&self, side: Side) -> Result<impl Waitable + use<>, LockError> {
        self.shared.enroll(&self.shared.owners()?, side);
        Ok(Awaited(self.shared.clone(), side))
    }

    /// Releases what this process holds of it.
    pub fn release(&self, side: Side) -> Result<(), LockError> {
        Ok(self.shared.release(&self.shared.owners()?, side)?)
    }

    /// As [`Lock::give_up`](crate::Lock::give_up).
    pub fn give_up(&self) -> Result<(), LockError> {
        self.shared.give_up(&self.shared.owners()?);
        Ok(())
    }

    /// How many hold it to read.
    pub fn readers(&self) -> u32 {
        self.shared.readers()
    }

    /// Whether somebody holds it to write.
    pub fn is_written(&self) -> bool {
        self.shared.writer().is_some()
    }

    /// The process that holds it to write, if that is one that lives.
    pub fn writer_pid(&self) -> Option<u32> {
        self.shared.owners().ok()?.pid_of(self.shared.writer()?)
    }
}

/// A place among those that wait for a side.
struct Awaited(Shared<Part>, Side);

impl Waitable for Awaited {
    fn bell(&self) -> Bell<'_> {
        self.0.bell()
    }

    fn is_ready(&self, look: bool) -> bool {
        // Where it cannot be asked who lives, whoever tries is told why.
        let to_be_had = || self.0.owners().map_or(true, |owners| self.0.is_to_be_had(&owners, self.1));
        self.0.is_free_for(self.1) || look && to_be_had()
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        // Who has no slot any more has no place either.
        let _ = self.0.owners().map(|owners| self.0.leave(&owners, self.1));
    }
}

impl From<Shared<Part>> for RwLock {
    fn from(shared: Shared<Part>) -> Self {
        Self { shared, told: Told::default() }
    }
}

impl SharedObject for RwLock {
    type Part = Part;

    fn part(&self) -> &Shared<Part> {
        &self.shared
    }
}
