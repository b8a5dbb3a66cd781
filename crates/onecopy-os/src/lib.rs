//! Operating system layer of onecopy: memory files, mappings, futexes, process liveness, memory figures.
//!
//! Everything that differs between systems lives in one backend module; the rest of the project calls the names
//! re-exported here. A backend for another system offers the same names.
//!
//! **Invariant:** nothing here knows of arenas, slots or blocks; `unsafe` of system calls ends here.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as backend;

#[cfg(not(target_os = "linux"))]
compile_error!("onecopy runs on Linux so far; another system needs a backend beside crates/onecopy-os/src/linux");

pub mod crash;
mod error;
mod processor;
mod size;

pub use backend::directory::{DirectoryLock, PrivateDirectory};
pub use backend::features::Feature;
pub use backend::file::{FileAccess, MemoryFile};
pub use backend::fork::{ForkHooks, forked_unnoticed, notice_fork, on_fork, watch_forks};
pub use backend::futex::{MOST_WORDS, Waited, wait, wait_any, wake};
pub use backend::huge_pages::{HugeBuffer, huge_page_size, try_huge_page};
pub use backend::limits::ProcessLimit;
pub use backend::liveness::{LockByte, TransferLock};
pub use backend::mapping::{Mapping, Protection, page_size};
pub use backend::memory::{Bound, Machine};
pub use backend::new_directory::NewDirectory;
pub use backend::process::{ProcessName, current_pid, has_mapped, random_u64, start_time};
pub use backend::threads::{Doorbell, spawn_without_signals};
pub use backend::time_slices::LongTimeSlices;
pub use error::OsError;
pub use processor::expect_write;
pub use size::ByteSize;
