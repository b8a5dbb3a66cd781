//! Stored objects: what pickle needs to write and to read them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use numpy::PyArrayDescr;
use onecopy::{Arena, BlockId, Extent, Mode, Source};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::array::{BlockOwner, Window, locate, mode_of, release_above, span_of};
use crate::errors::OrRaise;
use crate::ndarray::NdArray;

/// An object in a block of the arena.
#[pyclass(frozen, module = "onecopy._native")]
struct StoredObject {
    inner: onecopy::StoredObject,
}

/// Adds this file's names to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<StoredObject>()?;
    m.add_function(wrap_pyfunction!(span, m)?)
}

/// The bytes that the items of an array lie between, as an array, and how many of them are before the first item.
///
/// It says that it is writable, whatever the array is: what pickle makes of it shall be as the receiver's mode says.
#[pyfunction]
fn span<'py>(array: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, usize)> {
    span_of(array)
}

#[pymethods]
impl StoredObject {
    /// Stores what a pickler wrote and the buffers, arrays of bytes, that it set aside.
    #[new]
    #[expect(clippy::needless_pass_by_value, reason = "arguments from Python arrive by value")]
    fn new(py: Python<'_>, mode: &str, stream: &Bound<'_, PyAny>, buffers: Vec<Bound<'_, PyAny>>) -> PyResult<Self> {
        let mode = mode_of(mode)?;
        let arena = onecopy::session().or_raise(py)?;
        let stream = NdArray::of(stream)?;
        let stream = contiguous(&stream)?;
        let arrays = buffers.iter().map(NdArray::of).collect::<PyResult<Vec<_>>>()?;
        let sources = arrays.iter().map(|array| source(arena, array)).collect::<PyResult<Vec<_>>>()?;
        let copied = sources.iter().map(|source| if let Source::Bytes(bytes) = source { bytes.len() } else { 0 });
        let size = copied.fold(stream.len(), usize::saturating_add);
        let store = |stop: &mut dyn FnMut() -> bool| onecopy::StoredObject::store(arena, mode, stream, &sources, stop);
        Ok(Self { inner: release_above(py, size, store)? })
    }

    /// The object that a handle names.
    #[staticmethod]
    fn receive(py: Python<'_>, handle: &[u8]) -> PyResult<Self> {
        Ok(Self { inner: onecopy::StoredObject::receive(handle).or_raise(py)? })
    }

    /// The object whose record an array is the whole of.
    #[staticmethod]
    fn of_record(py: Python<'_>, array: &Bound<'_, PyAny>) -> PyResult<Self> {
        let place = locate(&NdArray::of(array)?).filter(|place| place.offset == 0);
        let place = place.ok_or_else(|| PyValueError::new_err("the array is no record"))?;
        Ok(Self { inner: onecopy::StoredObject::open(place.block).or_raise(py)? })
    }

    fn send<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.inner.send().or_raise(py)?))
    }

    /// Bytes of the whole record, as a read-only array.
    fn record<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let block = self.inner.record().clone();
        let extent = Extent { start: 0, len: block.len(), block, mode: Mode::ReadOnly };
        Windows::default().open(py, &extent)
    }

    /// Names the record among all of this process.
    fn key(&self) -> (u64, u32, u32) {
        let record = self.inner.record();
        (record.arena().id().0, record.id().index, record.id().generation)
    }

    fn nbytes(&self) -> u64 {
        self.inner.nbytes()
    }

    /// The stream and the buffers, as arrays of bytes.
    fn parts<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyList>)> {
        let buffers = self.inner.buffers().or_raise(py)?;
        let mut windows = Windows::default();
        let list = PyList::empty(py);
        for extent in &buffers {
            list.append(windows.open(py, extent)?)?;
        }
        Ok((Windows::default().open(py, &self.inner.stream())?, list))
    }
}

fn contiguous<'a>(array: &'a NdArray<'_>) -> PyResult<&'a [u8]> {
    array.bytes().ok_or_else(|| PyValueError::new_err("the bytes have gaps"))
}

/// Where the bytes of a buffer come from.
fn source<'a>(arena: &Arena, array: &'a NdArray<'_>) -> PyResult<Source<'a>> {
    let bytes = contiguous(array)?;
    match locate(array) {
        // A private view differs from its block, and another arena's blocks may go without this one.
        Some(place) if place.mode != Mode::CopyOnWrite && std::ptr::eq(place.block.arena(), arena) => {
            let read_only = place.mode == Mode::ReadOnly;
            Ok(Source::Shared { block: place.block, start: place.offset, len: bytes.len() as u64, read_only })
        }
        _ => Ok(Source::Bytes(bytes)),
    }
}

/// Blocks as arrays see them; many arrays look through one window.
#[derive(Default)]
struct Windows<'py> {
    open: HashMap<(BlockId, Mode), Window<'py>>,
    bytes: Option<Bound<'py, PyArrayDescr>>,
}

impl<'py> Windows<'py> {
    /// The bytes of an extent as an array.
    fn open(&mut self, py: Python<'py>, extent: &Extent) -> PyResult<Bound<'py, PyAny>> {
        let window = match self.open.entry((extent.block.id(), extent.mode)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(BlockOwner::window(py, extent.block.clone(), extent.mode)?),
        };
        let dtype = self.bytes.get_or_insert_with(|| numpy::dtype::<u8>(py)).clone();
        window.array(extent.start, dtype, (&[extent.len], &[1]))
    }
}
