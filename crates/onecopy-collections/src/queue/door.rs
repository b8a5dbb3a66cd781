//! The one door to atomics, to memory and to the arena: the model checker stands behind it when it runs.

#[cfg(not(loom))]
mod real {
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    pub(crate) use onecopy_arena::Block;
    pub(crate) use onecopy_os::crash_point;

    pub use crate::queue::memory::Memory;

    pub(crate) type Viewer = onecopy_arena::Viewer<'static>;
}

#[cfg(not(loom))]
pub(super) use real::{AtomicU32, AtomicU64, Block, Ordering, Viewer, crash_point};

#[cfg(not(loom))]
pub use real::Memory;

#[cfg(loom)]
pub(super) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};

#[cfg(loom)]
pub(super) use super::stand_in::{Block, Viewer};

#[cfg(loom)]
pub use super::stand_in::Memory;

/// In a model a process dies where a real one does.
#[cfg(loom)]
macro_rules! crash_point {
    ($name:literal) => {
        crate::queue::stand_in::pass($name)
    };
}
#[cfg(loom)]
pub(super) use crash_point;
