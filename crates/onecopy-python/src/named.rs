//! Published values: in the session's arena for all programs of the user.

use onecopy::names::Published;
use onecopy::{ArrayHandle, Block, rendezvous};
use pyo3::prelude::*;

use crate::array::{described, received};
use crate::errors::OrRaise;

/// Adds this file's names to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(publish, m)?)?;
    m.add_function(wrap_pyfunction!(attach, m)?)?;
    m.add_function(wrap_pyfunction!(unpublish, m)?)?;
    m.add_function(wrap_pyfunction!(sweep_names, m)?)
}

/// Publishes shared arrays of the session's arena, and what else makes up the value.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "arguments from Python arrive by value")]
fn publish(
    py: Python<'_>,
    name: &str,
    payload: Option<Vec<u8>>,
    arrays: Vec<Bound<'_, PyAny>>,
    replace: bool,
) -> PyResult<()> {
    let arrays = arrays.iter().map(described).collect::<PyResult<Vec<(Block, ArrayHandle)>>>()?;
    py.detach(|| rendezvous::publish(name, payload.as_deref(), &arrays, replace)).or_raise(py)
}

/// The pickle of a value, for one that is no plain array, and its arrays.
pub(crate) type Value<'py> = (Option<Vec<u8>>, Vec<Bound<'py, PyAny>>);

/// What a name stands for.
#[pyfunction]
fn attach<'py>(py: Python<'py>, name: &str) -> PyResult<Value<'py>> {
    value(py, &py.detach(|| rendezvous::attach(name)).or_raise(py)?)
}

/// A value as Python has it.
pub(crate) fn value<'py>(py: Python<'py>, published: &Published) -> PyResult<Value<'py>> {
    let arrays = published.arrays.iter().map(|handle| received(py, handle)).collect::<PyResult<_>>()?;
    Ok((published.payload.clone(), arrays))
}

/// Takes a name away.
#[pyfunction]
fn unpublish(py: Python<'_>, name: &str) -> PyResult<()> {
    py.detach(|| rendezvous::unpublish(name)).or_raise(py)
}

/// Removes what processes that have ended left in the runtime directory.
#[pyfunction]
fn sweep_names(py: Python<'_>) -> PyResult<u32> {
    py.detach(rendezvous::sweep).or_raise(py)
}
