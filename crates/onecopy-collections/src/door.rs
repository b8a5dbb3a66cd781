//! The one door to atomics and to the arena: the model checker stands behind it when it runs.

#[cfg(not(loom))]
mod real {
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    pub(crate) use onecopy_arena::Block;
    pub(crate) use onecopy_os::crash_point;

    pub(crate) type Viewer = onecopy_arena::Viewer<'static>;
}

#[cfg(not(loom))]
pub(crate) use real::{AtomicU32, AtomicU64, Block, Ordering, Viewer, crash_point};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};

#[cfg(loom)]
pub(crate) use crate::stand_in::{Block, Viewer};

/// In a model a process dies where a real one does.
#[cfg(loom)]
macro_rules! crash_point {
    ($name:literal) => {
        crate::stand_in::pass($name)
    };
}
#[cfg(loom)]
pub(crate) use crash_point;
