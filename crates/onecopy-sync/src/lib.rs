//! Robust locks on futexes: the death of an owner is noticed and reported, never waited for.
//!
//! A lock is a word in shared memory. Who owns it is a [`Tag`]: the slot of a process and the generation of that slot,
//! so that a recycled slot never makes a dead owner look alive. Whether a tag is alive is asked of [`Owners`], which
//! the caller provides: this crate knows locks, not process tables.
//!
//! **Invariant:** an acquired lock whose owner dies is handed to the next taker together with the news
//! ([`Acquired::OwnerDied`]), who repairs what the lock protects before anyone else sees it.

mod door;
mod mutex;
mod tag;

pub use mutex::{Acquired, Guard, RobustMutex};
pub use tag::{Owners, Tag};

#[cfg(all(test, loom))]
mod models;
