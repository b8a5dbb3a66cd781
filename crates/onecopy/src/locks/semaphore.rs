//! Semaphores.

use onecopy_arena::Arena;
use onecopy_sync::{Bell, Patience, Semaphore as Part, TooManyReleases};

use crate::{Kind, LockError, Shareable, Shared, SharedObject, Waitable};

// SAFETY: repr(C) of atomics of four bytes; zeros are a semaphore without permits.
unsafe impl Shareable for Part {
    const KIND: Kind = Kind::Semaphore;
}

/// A number of permits. Those of a process that ends come back, unless the semaphore is used to signal: from the first
/// release by a process that holds none, permits belong to nobody.
///
/// ```
/// use onecopy::{Patience, Semaphore, session};
///
/// let semaphore = Semaphore::new(session()?, 2)?;
/// semaphore.acquire(&Patience::FOREVER)?;
/// assert_eq!(semaphore.value(), 1);
/// semaphore.release_bounded(1)?;
/// assert!(semaphore.release_bounded(1).is_err());
/// # Ok::<(), onecopy::LockError>(())
/// ```
#[derive(Debug)]
pub struct Semaphore {
    shared: Shared<Part>,
}

impl Semaphore {
    /// A semaphore with `value` permits.
    pub fn new(arena: &'static Arena, value: i64) -> Result<Self, LockError> {
        let permits = u32::try_from(value).ok().filter(|&permits| permits <= Part::MAX_VALUE);
        let permits = permits.ok_or(LockError::Value(value))?;
        let shared = Shared::<Part>::new(arena)?;
        shared.set_up(permits);
        Ok(shared.into())
    }

    /// Takes a permit.
    pub fn acquire(&self, patience: &Patience<'_>) -> Result<(), LockError> {
        Ok(self.shared.acquire(&self.shared.owners()?, patience)?)
    }

    /// Takes a permit if there is one, without asking who lives.
    pub fn try_acquire(&self) -> Result<bool, LockError> {
        Ok(self.shared.try_acquire(&self.shared.owners()?))
    }

    /// Gives `count` permits back, or makes as many more.
    pub fn release(&self, count: u32) -> Result<(), LockError> {
        Ok(self.shared.release(&self.shared.owners()?, count)?)
    }

    /// Gives `count` permits back; there are never more than at first.
    pub fn release_bounded(&self, count: u32) -> Result<(), LockError> {
        Ok(self.shared.release_bounded(&self.shared.owners()?, count)?)
    }

    /// To be told when there may be permits.
    pub fn awaited(&self) -> Result<impl Waitable + use<>, LockError> {
        self.shared.enroll(&self.shared.owners()?);
        Ok(Awaited(self.shared.clone()))
    }

    /// Permits to be had.
    pub fn value(&self) -> u32 {
        self.shared.value()
    }

    /// The first value.
    pub fn initial(&self) -> u32 {
        self.shared.initial()
    }
}

/// A place among those that wait for permits.
struct Awaited(Shared<Part>);

impl Waitable for Awaited {
    fn bell(&self) -> Bell<'_> {
        self.0.bell()
    }

    fn is_ready(&self, look: bool) -> bool {
        // Where it cannot be asked who lives, whoever tries is told why.
        self.0.value() > 0 || look && self.0.owners().map_or(true, |owners| self.0.is_to_be_had(&owners))
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        // Who has no slot any more has no place either.
        let _ = self.0.owners().map(|owners| self.0.leave(&owners));
    }
}

impl From<TooManyReleases> for LockError {
    fn from(_: TooManyReleases) -> Self {
        Self::ReleasedTooOften
    }
}

impl From<Shared<Part>> for Semaphore {
    fn from(shared: Shared<Part>) -> Self {
        Self { shared }
    }
}

impl SharedObject for Semaphore {
    type Part = Part;

    fn part(&self) -> &Shared<Part> {
        &self.shared
    }
}
