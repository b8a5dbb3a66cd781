//! `Dict` and `List`: the hot paths of reading and writing Python objects.

use std::borrow::Cow;
use std::time::Duration;

use onecopy::{Block, Container, ContainerError, Dict, Encoded, Error, LockError, Patience, Picked, Record, ValueKind};
use pyo3::exceptions::{PyAssertionError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::errors::{OrRaise, to_python};
use crate::locks::{OrRaiseLockError, limit, wait};
use crate::value::{self, Raised};

mod dict;
mod key;
mod list;
mod slice;

/// Adds the names of the files beside this one to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Handle>()?;
    dict::register(m)?;
    list::register(m)
}

/// What `__new__` is given to attach to a container instead of making one.
#[pyclass(frozen, name = "ContainerHandle", module = "onecopy._native")]
struct Handle(Vec<u8>);

#[pymethods]
impl Handle {
    #[new]
    fn new(handle: &[u8]) -> Self {
        Self(handle.to_vec())
    }
}

/// A new container, or the one whose handle is the only argument.
fn make<C: onecopy::SharedObject>(
    arguments: &Bound<'_, PyTuple>,
    new: impl FnOnce() -> Result<C, Error>,
) -> PyResult<C> {
    let handle = arguments.get_item(0).ok().filter(|_| arguments.len() == 1);
    let handle = handle.as_ref().and_then(|handle| handle.cast_exact::<Handle>().ok());
    handle.map_or_else(new, |handle| C::receive(&handle.get().0)).or_raise(arguments.py())
}

/// Does what changes a container; waits, with the GIL released, for those who hold its lock.
#[inline]
fn patiently<C: Container + Sync, T>(
    py: Python<'_>,
    container: &C,
    mut work: impl FnMut() -> Result<T, Error>,
) -> PyResult<T> {
    loop {
        match work() {
            Err(Error::Container(ContainerError::Locked)) => {
                wait(py, None, |patience| container.wait_unlocked(patience))?;
            }
            other => return other.or_raise(py),
        }
    }
}

/// Shows an object in the form in which containers keep it.
#[inline]
fn with_value<T>(
    py: Python<'_>,
    home: &Block,
    object: &Bound<'_, PyAny>,
    show: impl FnOnce(&Encoded<'_>) -> PyResult<T>,
) -> PyResult<T> {
    let plain = value::plain(object);
    show(&match &plain {
        Some((kind, plain)) => Encoded::new(home, *kind, plain.as_bytes()).or_raise(py)?,
        None => Encoded::made(home, || value::made(py, object)).map_err(|Raised(error)| error)?,
    })
}

/// Objects in the form in which containers keep them.
fn encode_all(py: Python<'_>, home: &Block, objects: &Bound<'_, PyAny>) -> PyResult<Vec<Encoded<'static>>> {
    let encode = |object: PyResult<Bound<'_, PyAny>>| {
        let object = object?;
        match value::plain(&object) {
            Some((kind, plain)) => Encoded::new(home, kind, Cow::Owned(plain.as_bytes().to_vec())).or_raise(py),
            None => Encoded::made(home, || value::made(py, &object)).map_err(|Raised(error)| error),
        }
    };
    objects.try_iter()?.map(encode).collect()
}

/// The object that the value of a record is.
#[inline]
fn decode<'py>(py: Python<'py>, record: Record<'_>, blocks: &[Block]) -> PyResult<Bound<'py, PyAny>> {
    let (kind, payload) = Dict::value_of(record, blocks).or_raise(py)?;
    value::decode(py, kind, &payload)
}

fn decode_picked<'py>(py: Python<'py>, picked: &Picked) -> PyResult<Bound<'py, PyAny>> {
    decode(py, picked.record().or_raise(py)?, picked.blocks())
}

/// Takes the lock of a container as `policy` says; whether a holder of it died, or nothing when the time was up.
fn acquire<C: Container + Sync>(
    py: Python<'_>,
    container: &C,
    timeout: Option<f64>,
    policy: &str,
) -> PyResult<Option<bool>> {
    let take = |patience: &Patience<'_>| match policy {
        "raise" => container.lock(patience),
        "take" => container.recover(patience),
        _ => container.hold(patience).map(|()| false),
    };
    if !["raise", "take", "hold"].contains(&policy) {
        return Err(PyValueError::new_err(format!("on_owner_died={policy:?}: expected \"raise\" or \"take\"")));
    }
    let limit = limit(timeout)?;
    // One that is free is taken without giving up the GIL.
    match take(&Patience::none()) {
        Err(LockError::TimedOut) if limit != Some(Duration::ZERO) => wait(py, limit, take),
        Err(LockError::TimedOut) => Ok(None),
        taken => OrRaiseLockError::or_raise(taken.map(Some), py),
    }
}

fn release<C: Container>(py: Python<'_>, container: &C) -> PyResult<()> {
    container.unlock().map_err(|error| match error {
        LockError::Shared(error) => to_python(py, &error),
        other => PyAssertionError::new_err(other.to_string()),
    })
}

fn reduce<'py>(container: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    container.py().import("onecopy._containers.travel")?.getattr("reduce")?.call1((container,))
}

/// Bytes as the object of a kind.
fn decode_bytes<'py>(py: Python<'py>, kind: ValueKind, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    value::decode(py, kind, &onecopy::Payload::Inline(bytes))
}

fn handle_of<'py>(py: Python<'py>, container: &impl onecopy::SharedObject) -> PyResult<Bound<'py, PyBytes>> {
    crate::locks::handle_of(py, container)
}

fn name_of(container: &impl Container) -> u64 {
    let id = container.home().id();
    u64::from(id.generation) << 32 | u64::from(id.index)
}
