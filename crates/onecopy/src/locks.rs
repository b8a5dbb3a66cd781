//! Locks that live in the arena, as a process has them.
//!
//! What is shared, and what a death leaves behind, is in `docs/design/locks.md`. Here each gets the processes of its
//! arena, and remembers which death this process has been told of.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use onecopy_sync::{Death, Held, NotPassed, OnOwnerDied, Refused, Stopped};

use crate::{Error, Shareable, Shared};

mod barrier;
mod condition;
mod event;
mod lock;
mod rlock;
mod rwlock;
mod semaphore;

pub use barrier::Barrier;
pub use condition::{Condition, ConditionLock, Waiter};
pub use event::Event;
pub use lock::{Lock, LockGuard};
pub use onecopy_sync::{Arrival, Patience, Side, Waited};
pub use rlock::RLock;
pub use rwlock::RwLock;
pub use semaphore::Semaphore;

/// Why an operation on a lock did not do what was asked. The lock stays usable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The lock is not held by the caller. Every process is told so once per death.
    #[error(
        "a process ended while it held the lock, so what the lock protects may be half changed: repair it while holding \
         the lock by recover(), or acquire the lock again to take it as it is"
    )]
    OwnerDied,
    /// The time was up before the lock could be had.
    #[error("the time was up")]
    TimedOut,
    /// The wait was called off.
    #[error("the wait was called off")]
    Interrupted,
    /// A lock was released that nobody holds, or a semaphore that has all its permits.
    #[error("semaphore or lock released too many times")]
    ReleasedTooOften,
    /// A lock was released, or used by its condition, that the calling thread does not hold.
    #[error("the lock is not held by this thread: acquire it first")]
    NotOwned,
    /// A semaphore's value is out of its range.
    #[error("a semaphore's value must be between 0 and 2147483647, not {0}")]
    Value(i64),
    /// A barrier for nobody.
    #[error("a barrier needs at least one party")]
    NoParties,
    /// The barrier is broken, or the time was up.
    #[error("the barrier is broken: a party died, gave up or broke it; reset() makes it as new")]
    BrokenBarrier,
    /// So many threads wait for a condition that there is no place for another.
    #[error("{0}: let some of them go on first")]
    TooManyWaiters(#[from] onecopy_sync::TooManyWaiters),
    /// Of the arena.
    #[error(transparent)]
    Shared(#[from] Error),
}

impl From<Stopped> for LockError {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::TimedOut => Self::TimedOut,
            Stopped::Interrupted => Self::Interrupted,
        }
    }
}

impl From<NotPassed> for LockError {
    fn from(failed: NotPassed) -> Self {
        match failed {
            NotPassed::Broken => Self::BrokenBarrier,
            NotPassed::Interrupted => Self::Interrupted,
        }
    }
}

impl From<onecopy_sync::NotHeld> for LockError {
    fn from(_: onecopy_sync::NotHeld) -> Self {
        Self::ReleasedTooOften
    }
}

impl From<onecopy_sync::NotOwned> for LockError {
    fn from(_: onecopy_sync::NotOwned) -> Self {
        Self::NotOwned
    }
}

/// What crosses between processes as a handle to its shared part.
pub trait SharedObject: From<Shared<Self::Part>> {
    /// The shared part.
    type Part: Shareable;

    /// The shared part of this one.
    fn part(&self) -> &Shared<Self::Part>;

    /// Bytes of a handle, to be received once by any process of the user.
    fn send(&self) -> Result<Vec<u8>, Error> {
        self.part().send()
    }

    /// The object that a handle names.
    fn receive(bytes: &[u8]) -> Result<Self, Error> {
        Shared::receive(bytes).map(Self::from)
    }
}

/// The last death of a holder that this process was told of.
#[derive(Debug, Default)]
pub struct Told(AtomicU32);

impl Told {
    pub(crate) fn policy(&self) -> OnOwnerDied {
        OnOwnerDied::Refuse(Death(self.0.load(Relaxed)))
    }

    fn tell(&self, death: Death) -> LockError {
        self.0.store(death.0, Relaxed);
        LockError::OwnerDied
    }

    /// Whether a death was accepted by taking the lock, or why it was not taken.
    pub(crate) fn outcome(&self, taken: Result<Held, Refused>) -> Result<bool, LockError> {
        match taken {
            Ok(held) => Ok(held == Held::Inherited),
            Err(Refused::OwnerDied(death)) => Err(self.tell(death)),
            Err(Refused::Stopped(stopped)) => Err(stopped.into()),
        }
    }
}
