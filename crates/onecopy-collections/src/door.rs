//! The one door to the atomics of containers: the model checker stands behind it when it runs.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};

/// The model checker explores orders of steps, not deaths.
#[cfg(not(loom))]
pub(crate) use onecopy_os::crash_point;

#[cfg(loom)]
macro_rules! crash_point {
    ($name:literal) => {};
}
#[cfg(loom)]
pub(crate) use crash_point;
