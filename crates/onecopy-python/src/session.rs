//! The session's arena: where it is, its figures, its limit.

use onecopy::{Arena, ArenaError, Stats, counters, session as arena};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::OrRaise;
use crate::inspect::members;

/// Adds this file's names to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("SESSION_VARIABLE", onecopy::SESSION_VARIABLE)?;
    m.add_function(wrap_pyfunction!(session_hint, m)?)?;
    m.add_function(wrap_pyfunction!(stats, m)?)?;
    m.add_function(wrap_pyfunction!(set_limit, m)?)?;
    m.add_function(wrap_pyfunction!(parse_size, m)?)?;
    m.add_function(wrap_pyfunction!(reap, m)?)?;
    m.add_function(wrap_pyfunction!(check_work_memory, m)?)?;
    m.add_function(wrap_pyfunction!(trim, m)?)
}

/// Where the session's arena is, for the environment of children.
#[pyfunction]
fn session_hint(py: Python<'_>) -> PyResult<String> {
    onecopy::session_hint().or_raise(py)
}

/// Figures of the session's arena, and what this process moved.
#[pyfunction]
fn stats(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let out = figures_now(py, py.detach(arena).or_raise(py)?)?;
    let moved = counters();
    out.set_item("handles_sent", moved.handles_sent)?;
    out.set_item("bytes_by_handle", moved.bytes_by_handle)?;
    out.set_item("handles_received", moved.handles_received)?;
    out.set_item("arrays_moved_in", moved.arrays_moved_in)?;
    out.set_item("bytes_moved_in", moved.bytes_moved_in)?;
    out.set_item("arrays_copied", moved.arrays_copied)?;
    out.set_item("bytes_copied", moved.bytes_copied)?;
    Ok(out)
}

/// Figures of an arena that this process is in.
pub(crate) fn figures_now<'py>(py: Python<'py>, arena: &'static Arena) -> PyResult<Bound<'py, PyDict>> {
    let (stats, headroom) = py.detach(|| Ok::<_, ArenaError>((arena.stats()?, arena.headroom()?))).or_raise(py)?;
    let out = figures(py, &stats)?;
    out.set_item("headroom_bytes", headroom.free)?;
    out.set_item("headroom_bound", headroom.name)?;
    Ok(out)
}

/// Figures of an arena.
pub(crate) fn figures<'py>(py: Python<'py>, stats: &Stats) -> PyResult<Bound<'py, PyDict>> {
    let out = PyDict::new(py);
    out.set_item("arena", stats.id.to_string())?;
    out.set_item("limit", stats.limit)?;
    out.set_item("used_bytes", stats.used_bytes)?;
    out.set_item("warm_bytes", stats.warm_bytes)?;
    out.set_item("warm_budget", stats.warm_budget)?;
    out.set_item("promised_bytes", stats.promised_bytes)?;
    out.set_item("blocks", stats.blocks)?;
    out.set_item("handles_in_flight", stats.parcels)?;
    out.set_item("handles_of_dead_senders", stats.orphans)?;
    let living: Vec<u32> = stats.members.iter().filter(|member| member.lives).map(|member| member.pid).collect();
    out.set_item("processes", living)?;
    out.set_item("members", members(py, &stats.members)?)?;
    let capacity = PyDict::new(py);
    capacity.set_item("processes", stats.geometry.slots - 1)?;
    capacity.set_item("blocks", stats.geometry.blocks)?;
    capacity.set_item("handles_in_flight", stats.geometry.parcels)?;
    out.set_item("capacity", capacity)?;
    Ok(out)
}

/// Changes the limit of the session's arena.
#[pyfunction]
fn set_limit(py: Python<'_>, limit: u64, warm: Option<u64>) -> PyResult<()> {
    py.detach(|| Ok(arena()?.set_limit(limit, warm)?))
        .map_err(|error: onecopy::Error| crate::errors::to_python(py, &error))
}

/// Bytes of a size with a unit.
#[pyfunction]
fn parse_size(text: &str) -> PyResult<u64> {
    onecopy::parse_size(text).ok_or_else(|| {
        pyo3::exceptions::PyValueError::new_err(format!(
            "size {text:?}: expected a number of bytes or a size such as 8GiB or 500MB"
        ))
    })
}

/// Takes away what dead processes held, and if asked the handles in flight that they sent; (processes, blocks).
#[pyfunction]
fn reap(py: Python<'_>, in_flight: bool) -> PyResult<(u32, u32)> {
    let work = || {
        let arena = arena()?;
        let (processes, blocks) = arena.reap()?;
        let more = if in_flight { arena.reap_in_flight()?.1 } else { 0 };
        Ok::<_, onecopy::Error>((processes, blocks + more))
    };
    py.detach(work).or_raise(py)
}

/// Gives freed memory beyond `keep` bytes back to the system; bytes given.
#[pyfunction]
fn trim(py: Python<'_>, keep: u64) -> PyResult<u64> {
    py.detach(|| arena().and_then(|arena| Ok(arena.trim(keep)?))).or_raise(py)
}

/// Refuses work that needs `bytes` of this process's own memory when its address space has no room for them.
#[pyfunction]
fn check_work_memory(py: Python<'_>, bytes: u64) -> PyResult<()> {
    onecopy::check_work_memory(1, bytes).or_raise(py)
}
