//! The Linux backend.

mod cgroup;
pub(crate) mod directory;
pub(crate) mod features;
pub(crate) mod file;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod huge_pages;
pub(crate) mod limits;
pub(crate) mod liveness;
pub(crate) mod mapping;
pub(crate) mod memory;
pub(crate) mod new_directory;
pub(crate) mod process;
mod processes;
mod space;
pub(crate) mod threads;
pub(crate) mod time_slices;
