//! The chunk filters for Python: numpy arrays in and out, the GIL released while chunks are coded.

#![expect(clippy::needless_pass_by_value, reason = "PyO3 hands arguments over by value")]

use std::os::fd::BorrowedFd;

use numpy::npyffi::{_PyArray_GET_ITEM_DATA, NPY_ARRAY_WRITEABLE};
use numpy::{PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use onecopy::check_work_memory;
use onecopy_filters::{
    Codec, Error, Grid, IN_FLIGHT_PER_THREAD, Pipeline, Source, StoredChunk, Target, compress, decompress,
};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyIterator, PyTuple};

use crate::errors::OrRaise;
use crate::reads::{FileChunk, borrowed};

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(compress_chunks, module)?)?;
    module.add_function(wrap_pyfunction!(read_chunks, module)?)
}

/// Compress all chunks of a C-contiguous array on `threads` threads.
///
/// `write(origin, stored, filter_mask)` is called for each chunk in order, with the index of its first element along
/// each axis, the bytes to store, and HDF5's mask of skipped filters.
#[pyfunction]
#[pyo3(signature = (array, chunks, *, codec, level, shuffle, threads, write))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
fn compress_chunks(
    py: Python<'_>,
    array: &Bound<'_, PyUntypedArray>,
    chunks: Vec<usize>,
    codec: &str,
    level: u8,
    shuffle: bool,
    threads: usize,
    write: Py<PyAny>,
) -> PyResult<()> {
    let grid = grid_over(array, &chunks)?;
    let pipeline = pipeline(array, codec, level, shuffle)?;
    check_room(py, &grid, threads)?;
    // SAFETY: the array is C-contiguous (checked by `grid_over`), and the caller's reference keeps it alive during the
    // call.
    let source = unsafe { Source::new(data_of(array), grid.array_bytes()) };
    py.detach(|| {
        compress(source, &grid, &pipeline, threads, |cell, chunk| {
            attached(|py| {
                py.check_signals()?;
                let origin = PyTuple::new(py, grid.origin(cell))?;
                write.call1(py, (origin, PyBytes::new(py, &chunk.bytes), chunk.filter_mask))?;
                Ok(())
            })
        })
    })
    .map_err(|Failure(error)| error)
}

/// Read chunks of an open file into a C-contiguous array on `threads` threads, and decompress them.
///
/// `places` yields (origin, position in the file, stored bytes, filter mask) in any order; elements of chunks that it
/// leaves out stay as they are. Chunks without filters have the codec `None`.
#[pyfunction]
#[pyo3(signature = (fd, array, chunks, *, codec, shuffle, threads, places))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
fn read_chunks(
    py: Python<'_>,
    fd: i32,
    array: &Bound<'_, PyUntypedArray>,
    chunks: Vec<usize>,
    codec: Option<&str>,
    shuffle: bool,
    threads: usize,
    places: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let grid = grid_over(array, &chunks)?;
    // Without filters, all of them count as skipped.
    let (codec, skipped) = codec.map_or(("lzf", u32::MAX), |name| (name, 0));
    let pipeline = pipeline(array, codec, 0, shuffle)?;
    check_room(py, &grid, threads)?;
    // SAFETY: reading the flags of a live array object with the GIL held.
    if unsafe { (*_PyArray_GET_ITEM_DATA(array.as_array_ptr())).flags } & NPY_ARRAY_WRITEABLE == 0 {
        return Err(PyValueError::new_err("the array is read-only: give one that can be written"));
    }
    let file = borrowed(fd)?;
    // SAFETY: the array is C-contiguous (checked by `grid_over`) and writable, and the caller's reference keeps it
    // alive. It was made for this call, so nobody else uses it (`from_hdf5` is the only caller).
    let mut target = unsafe { Target::new(data_of(array), grid.array_bytes()) };
    let places = Py::from(places.try_iter()?);
    py.detach(|| {
        let chunks = std::iter::from_fn(|| next_chunk(&places, &grid, file, skipped).transpose());
        decompress(&mut target, &grid, &pipeline, threads, chunks)
    })
    .map_err(|Failure(error)| error)
}

/// Runs `work` with Python, or fails where a daemon thread outlives the interpreter.
fn attached<T>(work: impl FnOnce(Python<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
    let ended = || Failure(PyRuntimeError::new_err("the interpreter has ended"));
    Python::try_attach(work).unwrap_or_else(|| Err(ended()))
}

type Where = (Vec<usize>, u64, usize, u32);

fn next_chunk<'fd>(
    places: &Py<PyIterator>,
    grid: &Grid,
    file: BorrowedFd<'fd>,
    skipped: u32,
) -> Result<Option<StoredChunk<FileChunk<'fd>>>, Failure> {
    attached(|py| {
        py.check_signals()?;
        let Some(next) = places.bind(py).clone().next() else { return Ok(None) };
        let (origin, position, len, mask): Where = next?.extract()?;
        let cell = grid.cell_at(&origin).ok_or_else(|| {
            PyValueError::new_err(format!(
                "no chunk begins at {origin:?}: the file is damaged, or the shape is not the dataset's"
            ))
        })?;
        Ok(Some(StoredChunk { cell, bytes: FileChunk { file, position, len }, filter_mask: mask | skipped }))
    })
}

/// Each thread works on a chunk, and a few more wait for it.
fn check_room(py: Python<'_>, grid: &Grid, threads: usize) -> PyResult<()> {
    let chunks = 2 * IN_FLIGHT_PER_THREAD as u64;
    check_work_memory(threads.min(grid.cells()), grid.cell_bytes() as u64 * chunks).or_raise(py)
}

/// The chunks over an array whose bytes may be copied as they are.
fn grid_over(array: &Bound<'_, PyUntypedArray>, chunks: &[usize]) -> PyResult<Grid> {
    let dtype = array.dtype();
    if dtype.has_object() {
        return Err(PyTypeError::new_err(format!(
            "dtype {dtype} holds Python objects, which have no bytes of their own"
        )));
    }
    if !array.is_c_contiguous() {
        return Err(PyValueError::new_err("the array is not C-contiguous: pass numpy.ascontiguousarray(array)"));
    }
    Grid::new(array.shape(), chunks, dtype.itemsize()).map_err(|error| Failure::from(error).0)
}

fn pipeline(array: &Bound<'_, PyUntypedArray>, codec: &str, level: u8, shuffle: bool) -> PyResult<Pipeline> {
    let codec = match codec {
        "gzip" if level <= 9 => Codec::Deflate { level },
        "gzip" => return Err(PyValueError::new_err(format!("gzip level {level}: give 0 (none) to 9 (smallest)"))),
        "lzf" => Codec::Lzf,
        other => return Err(PyValueError::new_err(format!("codec '{other}': give 'gzip' or 'lzf'"))),
    };
    Ok(Pipeline { shuffle: shuffle.then(|| array.dtype().itemsize()), codec })
}

fn data_of(array: &Bound<'_, PyUntypedArray>) -> *mut u8 {
    // SAFETY: reading a field of a live array object with the GIL held.
    unsafe { (*_PyArray_GET_ITEM_DATA(array.as_array_ptr())).data.cast() }
}

/// A Python exception on its way through the filters.
struct Failure(PyErr);

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Self(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        Self(match error {
            Error::Corrupt { .. } | Error::Read { .. } | Error::Cell { .. } | Error::Threads => {
                PyOSError::new_err(message)
            }
            _ => PyValueError::new_err(message),
        })
    }
}
