//! The one door to atomics and futexes: the model checker stands behind it when it runs.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(not(loom))]
pub(crate) use onecopy_os::{wait, wake};

#[cfg(not(loom))]
pub(crate) fn relax() {
    std::hint::spin_loop();
}

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(loom)]
pub(crate) fn relax() {
    loom::thread::yield_now();
}

#[cfg(loom)]
pub(crate) use crate::futex::{wait, wake};

/// The model checker explores orders of steps, not deaths.
#[cfg(not(loom))]
pub(crate) use onecopy_os::crash_point;

#[cfg(loom)]
macro_rules! crash_point {
    ($name:literal) => {};
}
#[cfg(loom)]
pub(crate) use crash_point;

/// `N` zeros; a structure of zeros is what a fresh block of shared memory holds.
pub(crate) fn zeros<const N: usize>() -> [AtomicU32; N] {
    std::array::from_fn(|_| AtomicU32::new(0))
}
