//! Whether a task finds room for its own buffers.
//!
//! Shared memory is asked for and may be refused, but a buffer that Rust code cannot have ends the process. Address
//! space is what runs out so (`ulimit -v`): the task asks for all that it will need before it begins.

use onecopy_arena::ArenaError;
use onecopy_os::Machine;

use crate::Error;

/// Stack of a thread and what its allocator keeps.
const PER_THREAD: u64 = 3 << 20;

/// Refuses a task that needs `threads` threads with `buffers` bytes each when this process has no addresses for them.
///
/// ```
/// onecopy::check_work_memory(2, 1 << 20)?;
/// # Ok::<(), onecopy::Error>(())
/// ```
pub fn check_work_memory(threads: usize, buffers: u64) -> Result<(), Error> {
    let Some(bound) = Machine::this().address_space() else { return Ok(()) };
    let asked = buffers.saturating_add(PER_THREAD).saturating_mul(threads as u64);
    if bound.free >= asked {
        return Ok(());
    }
    Err(ArenaError::OutOfMemory {
        asked,
        free: bound.free,
        limit: bound.limit,
        bound: bound.name,
        way_out: "raise it (ulimit -v), or use fewer threads".to_owned(),
    }
    .into())
}
