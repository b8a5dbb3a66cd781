//! The door to memory, beside that to all else.

pub(super) use crate::door::{AtomicU32, AtomicU64, Block, Ordering, Viewer, crash_point};

#[cfg(not(loom))]
pub use super::memory::Memory;

#[cfg(loom)]
pub use super::stand_in::Memory;
