//! numpy's dtypes in the form that crosses between processes, and back.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use numpy::{PyArrayDescr, PyArrayDescrMethods};
use onecopy::{DType, EncodedDType, Field};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use crate::errors::OrRaise;

/// Dtypes seen lately: making one of a structure takes numpy longer than all else in receiving an array.
static DECODED: Remembered<Vec<u8>, Py<PyArrayDescr>> = Mutex::new(None);
/// Crossing forms of dtypes without metadata seen lately, by the address of the dtype, which keeps that as long as it is remembered.
static ENCODED: Remembered<usize, (Py<PyArrayDescr>, EncodedDType)> = Mutex::new(None);
type Remembered<K, V> = Mutex<Option<HashMap<K, V>>>;
const MOST_REMEMBERED: usize = 256;

/// The crossing form of a dtype; an error for one with Python objects inside.
pub(crate) fn encode(dtype: &Bound<'_, PyArrayDescr>) -> PyResult<EncodedDType> {
    encode_with_metadata(dtype).map(|(form, _)| form)
}

/// The crossing form of a dtype, and whether there is metadata, which does not cross.
pub(crate) fn encode_with_metadata(dtype: &Bound<'_, PyArrayDescr>) -> PyResult<(EncodedDType, bool)> {
    let address = dtype.as_ptr() as usize;
    if let Some((_, form)) = lock(&ENCODED).as_ref().and_then(|known| known.get(&address)) {
        return Ok((form.clone(), false));
    }
    let mut out = Vec::with_capacity(8);
    to_rust(dtype)?.encode(&mut out);
    let has_metadata = has_metadata(dtype)?;
    // The names of fields can be changed in place; nothing else can.
    if !dtype.has_fields() && !dtype.has_subarray() && !has_metadata {
        remember(&ENCODED, address, (dtype.clone().unbind(), out.as_slice().into()));
    }
    Ok((out.into(), has_metadata))
}

/// Whether a dtype has metadata.
pub(crate) fn has_metadata(dtype: &Bound<'_, PyArrayDescr>) -> PyResult<bool> {
    Ok(!dtype.getattr("metadata")?.is_none())
}

/// Whether a dtype's items have a fixed size and no Python objects inside.
#[pyfunction]
pub(crate) fn is_plain(dtype: &Bound<'_, PyArrayDescr>) -> bool {
    b"biufcmMSUV".contains(&dtype.kind()) && !dtype.has_object()
}

fn to_rust(dtype: &Bound<'_, PyArrayDescr>) -> PyResult<DType> {
    if dtype.has_object() {
        return Err(PyTypeError::new_err(format!(
            "dtype {dtype} has Python objects inside, which live in one process; convert to a fixed type first"
        )));
    }
    if dtype.has_subarray() {
        let shape = dtype.shape().into_iter().map(|n| n as u64).collect();
        return Ok(DType::SubArray { shape, item: Box::new(to_rust(&dtype.base())?) });
    }
    if let Some(names) = dtype.names().filter(|_| dtype.has_fields()) {
        return record(dtype, names);
    }
    scalar(dtype)
}

fn scalar(dtype: &Bound<'_, PyArrayDescr>) -> PyResult<DType> {
    let (kind, size) = (dtype.kind(), dtype.itemsize());
    if matches!(kind, b'b' | b'i' | b'u' | b'f' | b'c') {
        let order = match dtype.byteorder() {
            b'=' if cfg!(target_endian = "little") => '<',
            b'=' => '>',
            other => char::from(other),
        };
        return DType::scalar(&format!("{order}{}{size}", char::from(kind))).or_raise(dtype.py());
    }
    DType::scalar(&dtype.getattr("str")?.extract::<String>()?).or_raise(dtype.py())
}

fn record(dtype: &Bound<'_, PyArrayDescr>, names: Vec<String>) -> PyResult<DType> {
    let by_name = dtype.getattr("fields")?;
    let field = |name: String| -> PyResult<Field> {
        let parts = by_name.get_item(&name)?.cast_into::<PyTuple>()?;
        let inner = parts.get_item(0)?.cast_into::<PyArrayDescr>()?;
        let title = if parts.len() > 2 { parts.get_item(2)?.extract()? } else { String::new() };
        Ok(Field { name, title, offset: parts.get_item(1)?.extract()?, dtype: to_rust(&inner)? })
    };
    Ok(DType::Record {
        itemsize: dtype.itemsize() as u64,
        aligned: dtype.is_aligned_struct(),
        fields: names.into_iter().map(field).collect::<PyResult<_>>()?,
    })
}

/// The dtype of a crossing form, and its item size.
pub(crate) fn decode<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyArrayDescr>> {
    let remembered = |known: &HashMap<Vec<u8>, Py<PyArrayDescr>>| known.get(bytes).map(|found| found.clone_ref(py));
    if let Some(found) = lock(&DECODED).as_ref().and_then(remembered) {
        return Ok(found.into_bound(py));
    }
    let dtype = to_numpy(py, &DType::decode(bytes).or_raise(py)?)?;
    remember(&DECODED, bytes.to_vec(), dtype.clone().unbind());
    Ok(dtype)
}

fn remember<K: Eq + Hash, V>(table: &Remembered<K, V>, key: K, value: V) {
    let mut known = lock(table);
    let known = known.get_or_insert_default();
    if known.len() >= MOST_REMEMBERED {
        known.clear();
    }
    known.insert(key, value);
}

fn lock<K, V>(table: &Remembered<K, V>) -> MutexGuard<'_, Option<HashMap<K, V>>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

fn to_numpy<'py>(py: Python<'py>, dtype: &DType) -> PyResult<Bound<'py, PyArrayDescr>> {
    match dtype {
        DType::Scalar(text) => PyArrayDescr::new(py, text.as_str()),
        DType::SubArray { shape, item } => PyArrayDescr::new(py, (to_numpy(py, item)?, PyTuple::new(py, shape)?)),
        DType::Record { itemsize, aligned, fields } => {
            let spec = PyDict::new(py);
            spec.set_item("names", fields.iter().map(|f| f.name.as_str()).collect::<Vec<_>>())?;
            let formats: Vec<_> = fields.iter().map(|f| to_numpy(py, &f.dtype)).collect::<PyResult<_>>()?;
            spec.set_item("formats", formats)?;
            spec.set_item("offsets", fields.iter().map(|f| f.offset).collect::<Vec<_>>())?;
            spec.set_item("itemsize", itemsize)?;
            if fields.iter().any(|f| !f.title.is_empty()) {
                let title = |f: &Field| (!f.title.is_empty()).then(|| PyString::new(py, &f.title));
                spec.set_item("titles", PyList::new(py, fields.iter().map(title))?)?;
            }
            let class = py.import("numpy")?.getattr("dtype")?;
            Ok(class.call1((spec, *aligned))?.cast_into()?)
        }
    }
}
