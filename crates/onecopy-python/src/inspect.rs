//! Looking into arenas and tidying them up, for the command line: what Rust found, as dictionaries.

use std::path::PathBuf;

use onecopy::{Arena, ArenaError, ByteSize, Details, JoinHint, Machine, Member, Sighting, examine, rendezvous};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::{OrRaise, arena_error};
use crate::session::figures;

/// Adds this file's names to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(leave, m)?)?;
    m.add_function(wrap_pyfunction!(arenas, m)?)?;
    m.add_function(wrap_pyfunction!(look, m)?)?;
    m.add_function(wrap_pyfunction!(look_at_path, m)?)?;
    m.add_function(wrap_pyfunction!(reap_arena, m)?)?;
    m.add_function(wrap_pyfunction!(verify_arena, m)?)?;
    m.add_function(wrap_pyfunction!(doctor, m)?)?;
    m.add_function(wrap_pyfunction!(format_size, m)?)
}

/// Leaves the session's arena, so that this process only looks from here on.
#[pyfunction]
fn leave(py: Python<'_>) -> PyResult<()> {
    onecopy::leave_session().or_raise(py)
}

/// An arena as (id, hint, pids, path, name).
type Seen = (String, String, Vec<u32>, Option<PathBuf>, Option<String>);

/// The arenas that other processes of this user have open.
#[pyfunction]
fn arenas(py: Python<'_>) -> Vec<Seen> {
    // A runtime directory that cannot be used tells no names, and hides no arena.
    let (seen, names) =
        py.detach(|| (Arena::sightings(Machine::this()), rendezvous::arena_names().unwrap_or_default()));
    let describe = |Sighting { hint, pids, path }| {
        (hint.id.to_string(), hint.to_string(), pids, path, names.get(&hint.id).cloned())
    };
    seen.into_iter().map(describe).collect()
}

/// An arena in detail, without joining it.
#[pyfunction]
fn look<'py>(py: Python<'py>, hint: &str) -> PyResult<Bound<'py, PyDict>> {
    let found = py.detach(|| hint.parse::<JoinHint>().and_then(Arena::look)).or_raise(py)?;
    let out = figures(py, &found.stats)?;
    add_details(py, &out, &found)?;
    Ok(out)
}

/// The arena in a directory in detail, without joining it.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "arguments from Python arrive by value")]
fn look_at_path(py: Python<'_>, path: PathBuf) -> PyResult<Bound<'_, PyDict>> {
    let found = py.detach(|| Arena::look_at_path(&path)).or_raise(py)?;
    let out = figures(py, &found.stats)?;
    add_details(py, &out, &found)?;
    Ok(out)
}

fn add_details(py: Python<'_>, out: &Bound<'_, PyDict>, found: &Details) -> PyResult<()> {
    let largest = found.largest.iter().map(|block| {
        let about = PyDict::new(py);
        about.set_item("block", block.index)?;
        about.set_item("bytes", block.bytes)?;
        about.set_item("handles", block.parcels)?;
        about.set_item("read_only", block.sealed)?;
        about.set_item("holders", &block.holders)?;
        Ok(about)
    });
    out.set_item("largest_blocks", largest.collect::<PyResult<Vec<_>>>()?)?;
    for (name, space) in [("warm", found.warm), ("fresh", found.fresh)] {
        let about = PyDict::new(py);
        about.set_item("extents", space.extents)?;
        about.set_item("bytes", space.bytes)?;
        about.set_item("largest", space.largest)?;
        out.set_item(name, about)?;
    }
    let lock = found.heap_lock.map(|(pid, alive)| {
        let about = PyDict::new(py);
        about.set_item("pid", pid).and_then(|()| about.set_item("alive", alive)).map(|()| about)
    });
    out.set_item("heap_lock", lock.transpose()?)
}

/// The processes of an arena as dictionaries.
pub(crate) fn members<'py>(py: Python<'py>, members: &[Member]) -> PyResult<Vec<Bound<'py, PyDict>>> {
    let describe = |member: &Member| {
        let about = PyDict::new(py);
        about.set_item("pid", member.pid)?;
        about.set_item("command", member.command(Machine::this()))?;
        about.set_item("alive", member.lives)?;
        about.set_item("blocks", member.blocks)?;
        about.set_item("bytes", member.bytes)?;
        about.set_item("promised_bytes", member.promised_bytes)?;
        Ok(about)
    };
    members.iter().map(describe).collect()
}

/// Joins an arena, takes away what the dead left, and leaves: (processes, blocks, handles in flight).
#[pyfunction]
fn reap_arena(py: Python<'_>, hint: &str, in_flight: bool) -> PyResult<(u32, u32, u32)> {
    let reap = |arena: &'static Arena| {
        let (processes, blocks) = arena.reap()?;
        let (handles, more) = if in_flight { arena.reap_in_flight()? } else { (0, 0) };
        Ok((processes, blocks + more, handles))
    };
    py.detach(|| as_member(hint, reap)).map_err(|error| arena_error(py, &error))
}

/// Joins an arena, checks all its tables against each other, and leaves.
#[pyfunction]
fn verify_arena(py: Python<'_>, hint: &str) -> PyResult<()> {
    py.detach(|| as_member(hint, Arena::verify)).map_err(|error| arena_error(py, &error))
}

fn as_member<T>(hint: &str, work: impl FnOnce(&'static Arena) -> Result<T, ArenaError>) -> Result<T, ArenaError> {
    let hint: JoinHint = hint.parse()?;
    let member_before = Arena::find(hint.id).is_some_and(Arena::is_member);
    let arena = Arena::join_unswept(hint)?;
    let done = work(arena);
    if !member_before {
        arena.leave()?;
    }
    done
}

/// What of this machine helps or hinders, as (topic, verdict, found, way out).
#[pyfunction]
fn doctor(py: Python<'_>) -> Vec<(String, &'static str, String, String)> {
    let findings = py.detach(|| examine(Machine::this()));
    findings
        .into_iter()
        .map(|finding| (finding.topic, finding.verdict.word(), finding.found, finding.way_out))
        .collect()
}

/// A number of bytes with a unit.
#[pyfunction]
fn format_size(bytes: u64) -> String {
    ByteSize(bytes).to_string()
}
