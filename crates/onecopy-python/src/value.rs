//! Python objects as values of queues and containers, and back.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use onecopy::{ArrayHandle, Block, BlockHandle, Error, Payload, ValueKind};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyString, PyType};

use crate::array::{self, RELEASE_GIL_ABOVE};

/// Whether all objects are to be pickled by the package, which notes what becomes of them.
static AUDITED: AtomicBool = AtomicBool::new(false);

/// Adds this file's names to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(audit_queues, m)?)
}

/// Says whether somebody wants to know what is put into queues.
#[pyfunction]
fn audit_queues(on: bool) {
    AUDITED.store(on, Relaxed);
}

/// Text up to this length is copied to the stack on its way.
const SHORT: usize = 256;

/// The bytes of an object that has a form of its own.
pub(crate) enum Plain<'a> {
    Nothing,
    Word([u8; 8]),
    Text(Cow<'a, str>),
    Bytes(&'a [u8]),
}

impl Plain<'_> {
    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Nothing => &[],
            Self::Word(word) => word,
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// Kind and bytes of an object that has a form of its own.
#[inline]
pub(crate) fn plain<'a>(object: &'a Bound<'_, PyAny>) -> Option<(ValueKind, Plain<'a>)> {
    if object.is_exact_instance_of::<PyInt>() {
        let value = object.extract::<i64>().ok()?;
        Some((ValueKind::Int, Plain::Word(value.to_le_bytes())))
    } else if let Ok(text) = object.cast_exact::<PyString>() {
        // A lone surrogate is no UTF-8, but pickles.
        Some((ValueKind::Str, Plain::Text(text.to_cow().ok()?)))
    } else if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        Some((ValueKind::Bytes, Plain::Bytes(bytes.as_bytes())))
    } else if let Ok(value) = object.cast_exact::<PyFloat>() {
        Some((ValueKind::Float, Plain::Word(value.value().to_le_bytes())))
    } else if object.is_none() {
        Some((ValueKind::None, Plain::Nothing))
    } else if let Ok(value) = object.cast_exact::<PyBool>() {
        Some((if value.is_true() { ValueKind::True } else { ValueKind::False }, Plain::Nothing))
    } else {
        None
    }
}

/// As [`plain`]; nothing has a form of its own while somebody wants to know what becomes of it.
#[inline]
pub(crate) fn plain_unless_audited<'a>(object: &'a Bound<'_, PyAny>) -> Option<(ValueKind, Plain<'a>)> {
    if AUDITED.load(Relaxed) { None } else { plain(object) }
}

/// An exception, as an error that those of the Rust API convert to.
pub(crate) struct Raised(pub(crate) PyErr);

impl From<Error> for Raised {
    fn from(error: Error) -> Self {
        Self(Python::attach(|py| crate::errors::to_python(py, &error)))
    }
}

impl From<PyErr> for Raised {
    fn from(error: PyErr) -> Self {
        Self(error)
    }
}

/// Bytes for an object that has no form of its own: a handle or a pickle.
pub(crate) fn made(py: Python<'_>, object: &Bound<'_, PyAny>) -> Result<(ValueKind, Vec<u8>), Raised> {
    made_with(object, &dumps(py)?)
}

/// The pickle of an object that is neither plain nor a plain array.
pub(crate) fn pickled(py: Python<'_>, object: &Bound<'_, PyAny>) -> Result<(ValueKind, Vec<u8>), Raised> {
    pickled_with(object, &dumps(py)?)
}

fn dumps(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let dumps = DUMPS.get_or_try_init(py, || PyResult::Ok(py.import("onecopy._queues")?.getattr("dumps")?.unbind()))?;
    Ok(dumps.bind(py).clone())
}

/// The same, with another function that pickles.
pub(crate) fn made_with(object: &Bound<'_, PyAny>, dumps: &Bound<'_, PyAny>) -> Result<(ValueKind, Vec<u8>), Raised> {
    if let Some((block, mut handle)) = plain_array(object)? {
        handle.block = BlockHandle::post(&block)?;
        return Ok((ValueKind::Array, handle.encode()));
    }
    pickled_with(object, dumps)
}

fn pickled_with(object: &Bound<'_, PyAny>, dumps: &Bound<'_, PyAny>) -> Result<(ValueKind, Vec<u8>), Raised> {
    let pickle = dumps.call1((object,))?;
    Ok((ValueKind::Pickle, pickle.cast::<PyBytes>().map_err(PyErr::from)?.as_bytes().to_vec()))
}

/// Where an array lies and how, if that is all there is to say of it.
pub(crate) fn plain_array(object: &Bound<'_, PyAny>) -> PyResult<Option<(Block, ArrayHandle)>> {
    if is_plain_array(object)? { array::plain(object) } else { Ok(None) }
}

fn is_plain_array(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    static NDARRAY: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    Ok(!AUDITED.load(Relaxed) && object.get_type().is(NDARRAY.import(object.py(), "numpy", "ndarray")?))
}

/// The object that a value is.
#[inline]
pub(crate) fn decode<'py>(py: Python<'py>, kind: ValueKind, payload: &Payload<'_>) -> PyResult<Bound<'py, PyAny>> {
    let bytes = || bytes_of(py, payload);
    let number = || payload.word().ok_or_else(changed);
    Ok(match kind {
        ValueKind::None => py.None().into_bound(py),
        ValueKind::False | ValueKind::True => PyBool::new(py, kind == ValueKind::True).to_owned().into_any(),
        ValueKind::Int => i64::from_le_bytes(number()?).into_pyobject(py)?.into_any(),
        ValueKind::Float => PyFloat::new(py, f64::from_le_bytes(number()?)).into_any(),
        ValueKind::Bytes | ValueKind::Raw => bytes()?.into_any(),
        ValueKind::Str => text(py, payload)?.into_any(),
        ValueKind::Array => array::decode(py, bytes()?.as_bytes())?,
        ValueKind::Pickle => loads(py, &bytes()?)?,
        ValueKind::Letter => return Err(PyValueError::new_err("a letter among values: only a pool reads these")),
    })
}

/// The object at the start of the bytes; what is behind it does not matter.
pub(crate) fn loads<'py>(py: Python<'py>, pickle: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    LOADS.import(py, "pickle", "loads")?.call1((pickle,))
}

/// The bytes of a value.
pub(crate) fn bytes_of<'py>(py: Python<'py>, payload: &Payload<'_>) -> PyResult<Bound<'py, PyBytes>> {
    PyBytes::new_with(py, payload.len(), |to| {
        copy_out(py, payload, to);
        Ok(())
    })
}

/// Copies the bytes of a value, with the GIL released if they are many.
pub(crate) fn copy_out(py: Python<'_>, payload: &Payload<'_>, to: &mut [u8]) {
    if to.len() > RELEASE_GIL_ABOVE { py.detach(|| payload.copy_to(to)) } else { payload.copy_to(to) }
}

fn text<'py>(py: Python<'py>, payload: &Payload<'_>) -> PyResult<Bound<'py, PyString>> {
    let len = payload.len();
    if let Payload::Inline(bytes) = payload {
        return PyString::from_bytes(py, bytes);
    }
    if len <= SHORT {
        let mut bytes = [0; SHORT];
        payload.copy_to(&mut bytes[..len]);
        return PyString::from_bytes(py, &bytes[..len]);
    }
    let mut bytes = vec![0; len];
    copy_out(py, payload, &mut bytes);
    PyString::from_bytes(py, &bytes)
}

pub(crate) fn changed() -> PyErr {
    PyValueError::new_err("a value was changed while it was read: another process writes where it must not")
}
