//! What this process holds of an arena.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::meta::BlockId;

/// A block that this process holds.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) id: BlockId,
    pub(crate) len: u64,
    pub(crate) sealed: bool,
    /// References inside this process; the arena knows only that there are some.
    pub(crate) count: u64,
}

/// The blocks that this process holds, by offset.
pub(crate) type Holds = BTreeMap<u64, Held>;

/// A panic elsewhere leaves these tables whole: each is changed by single insertions and removals.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
