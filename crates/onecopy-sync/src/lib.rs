//! Robust locks on futexes: the death of an owner is noticed and reported, never waited for.
//!
//! A lock is a word in shared memory. Who owns it is a [`Tag`]: the slot of a process and the generation of that slot,
//! so that a recycled slot never makes a dead owner look alive. Whether a tag is alive is asked of [`Owners`], which
//! the caller provides: this crate knows locks, not process tables.
//!
//! **Invariant:** an acquired lock whose owner dies is handed to the next taker together with the news
//! ([`Acquired::OwnerDied`]), who repairs what the lock protects before anyone else sees it.

mod barrier;
mod bell;
mod condition;
mod deaths;
mod door;
mod event;
#[cfg(loom)]
mod futex;
mod gate;
mod hunger;
mod ledger;
mod lock;
mod mutex;
mod patience;
mod reach;
mod rlock;
mod rwlock;
mod semaphore;
mod spin;
mod tag;
mod word;

pub use barrier::{Arrival, Barrier, NotPassed};
pub use bell::Bell;
pub use condition::{Condition, Place, TooManyWaiters};
pub use deaths::{Death, Held, OnOwnerDied, Refused};
pub use event::Event;
#[cfg(loom)]
pub use futex::trust_wakes;
pub use gate::Gate;
pub use lock::{Lock, NotHeld};
pub use mutex::{Acquired, Guard, RobustMutex};
pub use onecopy_os::Waited;
pub use patience::{Patience, Stopped};
pub use rlock::{NotOwned, RLock, this_thread};
pub use rwlock::{RwLock, Side};
pub use semaphore::{Semaphore, TooManyReleases};
pub use spin::Spin;
pub use tag::{Owners, Tag};

#[cfg(all(test, loom))]
mod models;
#[cfg(test)]
mod table;
