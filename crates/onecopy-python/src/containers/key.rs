//! Keys of dictionaries.

use onecopy::{DictKey, KeyKind, ValueKind};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;

use crate::value::{self, Plain};

/// Shows an object as a key.
#[inline]
pub(super) fn with_key<T>(object: &Bound<'_, PyAny>, show: impl FnOnce(&DictKey<'_>) -> PyResult<T>) -> PyResult<T> {
    let Some((kind, plain)) = value::plain(object) else { return with_other(object, show) };
    show(&match (&plain, kind) {
        (Plain::Text(text), _) => DictKey::Str(text),
        (Plain::Word(word), ValueKind::Float) => DictKey::Float(f64::from_le_bytes(*word)),
        (Plain::Word(word), _) => DictKey::Int(i64::from_le_bytes(*word)),
        (Plain::Bytes(bytes), _) => DictKey::Bytes(bytes),
        (Plain::Nothing, ValueKind::None) => DictKey::None,
        (Plain::Nothing, kind) => DictKey::Bool(kind == ValueKind::True),
    })
}

/// Shows an object of another type as a key, if it has a hash.
fn with_other<T>(object: &Bound<'_, PyAny>, show: impl FnOnce(&DictKey<'_>) -> PyResult<T>) -> PyResult<T> {
    static FORM: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = object.py();
    let form = FORM.get_or_try_init(py, || PyResult::Ok(py.import("onecopy._keys")?.getattr("form_of")?.unbind()))?;
    let (kind, bytes, pickle): (u8, Bound<'_, PyBytes>, Bound<'_, PyBytes>) =
        form.bind(py).call1((object,))?.extract()?;
    let kinds = [KeyKind::Int, KeyKind::Float, KeyKind::Str, KeyKind::Bytes, KeyKind::BigInt, KeyKind::Other];
    let kind = kinds.into_iter().find(|known| *known as u8 == kind);
    let kind = kind.ok_or_else(|| PyValueError::new_err("a key of a kind that there is not"))?;
    show(&DictKey::Other { kind, bytes: bytes.as_bytes(), pickle: pickle.as_bytes() })
}
