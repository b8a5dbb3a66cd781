//! Whether a task finds room for its own buffers.
//!
//! Shared memory is asked for and may be refused, but a buffer that Rust code cannot have ends the process. Address
//! space is what runs out so (`ulimit -v`): the task asks for all that it will need before it begins.

use onecopy_arena::ArenaError;
use onecopy_os::{Bound, Machine};

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
    Err(refused(asked, bound, "raise it (ulimit -v), or use fewer threads"))
}

/// The error of a task that could not have a buffer of `asked` bytes.
///
/// ```
/// let error = onecopy::work_memory_error(1 << 40, "use smaller ones");
/// assert!(error.to_string().ends_with("use smaller ones"));
/// ```
pub fn work_memory_error(asked: u64, way_out: &str) -> Error {
    let machine = Machine::this();
    let least = |bounds: Vec<Bound>| bounds.into_iter().filter(|bound| !bound.soft).min_by_key(|bound| bound.free);
    let own = [machine.address_space(), machine.own_memory()].into_iter().flatten().collect();
    match least(own).or_else(|| least(machine.bounds())) {
        Some(bound) => refused(asked, bound, way_out),
        None => out_of_memory(asked, (0, 0), "what the system grants".to_owned(), way_out),
    }
}

fn refused(asked: u64, bound: Bound, way_out: &str) -> Error {
    out_of_memory(asked, (bound.free, bound.limit), bound.name, way_out)
}

fn out_of_memory(asked: u64, (free, limit): (u64, u64), bound: String, way_out: &str) -> Error {
    ArenaError::OutOfMemory { asked, free, limit, bound, way_out: way_out.to_owned() }.into()
}
