//! Objects of Python as messages of a queue, and back.

use onecopy::{ArrayHandle, Batch, Message, Payload, ValueKind};
use pyo3::exceptions::{PyException, PyMemoryError};
use pyo3::intern;
use pyo3::prelude::*;

use super::Queue;
use crate::array;
use crate::errors::OrRaise;
use crate::value::{self, Raised, changed};

/// Adds an object to a batch for a queue.
pub(crate) fn push(
    py: Python<'_>,
    queue: &onecopy::Queue,
    batch: &mut Batch,
    object: &Bound<'_, PyAny>,
) -> PyResult<()> {
    if let Some((kind, plain)) = value::plain_unless_audited(object) {
        return queue.push(batch, kind, plain.as_bytes()).or_raise(py);
    }
    if let Some((block, handle)) = value::plain_array(object)? {
        return queue.push_array(batch, &block, handle).or_raise(py);
    }
    queue.push_made(batch, || value::pickled(py, object)).map_err(|Raised(error)| error)
}

/// Raises for an object that cannot be pickled; or leaves that to a derived class that promises otherwise, as the standard
/// library's queue does.
pub(super) fn not_put(queue: &Bound<'_, Queue>, object: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
    let py = queue.py();
    if !error.is_instance_of::<PyException>(py) || error.is_instance_of::<PyMemoryError>(py) {
        return Err(error);
    }
    match queue.getattr_opt(intern!(py, "_on_queue_feeder_error"))? {
        Some(report) => report.call1((error.into_value(py), object)).map(drop),
        None => Err(error),
    }
}

/// The object that the only message of a batch is.
pub(super) fn decode_alone(py: Python<'_>, mut batch: Batch) -> PyResult<Bound<'_, PyAny>> {
    let message = batch.messages().next().ok_or_else(changed)?;
    let is_array = ValueKind::of(&message).or_raise(py)? == ValueKind::Array;
    match onecopy::Queue::contents(&batch, &message).or_raise(py)? {
        Payload::Inline(handle) if is_array => {
            let handle = ArrayHandle::decode(handle).or_raise(py)?;
            array::taken_alone(py, &handle, &mut batch)
        }
        _ => decode(py, &batch, &message),
    }
}

/// The object that a message is.
pub(crate) fn decode<'py>(py: Python<'py>, batch: &Batch, message: &Message<'_>) -> PyResult<Bound<'py, PyAny>> {
    let kind = ValueKind::of(message).or_raise(py)?;
    let payload = onecopy::Queue::contents(batch, message).or_raise(py)?;
    match (kind, &payload) {
        // Its block came with it.
        (ValueKind::Array, Payload::Inline(handle)) => array::taken(py, handle, batch),
        (ValueKind::Array, _) => array::taken(py, value::bytes_of(py, &payload)?.as_bytes(), batch),
        _ => value::decode(py, kind, &payload),
    }
}
