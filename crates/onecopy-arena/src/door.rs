//! The one door to atomics and crash points: the model checker stands behind it when it runs.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64};

#[cfg(not(loom))]
pub(crate) use onecopy_os::crash_point;

/// In a model a process dies where a real one does.
#[cfg(all(loom, test))]
macro_rules! crash_point {
    ($name:literal) => {
        $crate::models::pass($name)
    };
}
#[cfg(all(loom, not(test)))]
macro_rules! crash_point {
    ($name:literal) => {};
}
#[cfg(loom)]
pub(crate) use crash_point;
