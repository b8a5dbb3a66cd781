//! The chunk filters for Python: numpy arrays in and out, the GIL released while chunks are coded.

#![expect(clippy::needless_pass_by_value, reason = "PyO3 hands arguments over by value")]

use std::os::fd::BorrowedFd;
use std::sync::{Mutex, PoisonError, TryLockError};

use numpy::npyffi::{_PyArray_GET_ITEM_DATA, NPY_ARRAY_WRITEABLE};
use numpy::{PyArray1, PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use onecopy::{check_work_memory, work_memory_error};
use onecopy_filters::{
    Codec, Compressor, Course, Encoded, Error, Grid, IN_FLIGHT_PER_THREAD, Pipeline, Source, Stored, StoredChunk,
    Target, decompress,
};
use pyo3::exceptions::{PyMemoryError, PyOSError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyIterator, PyTuple};

use crate::errors::{OrRaise, to_python};
use crate::reads::{FileChunk, borrowed};

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<ChunkCourse>()?;
    module.add_class::<ChunkCompressor>()?;
    module.add_function(wrap_pyfunction!(read_chunks, module)?)
}

/// Compress arrays one after the other on `threads` threads, which go from one to the next.
///
/// Their chunks are handed to Python in order, in the thread that calls `put` or `settle`, and only there.
#[pyclass(module = "onecopy._native", frozen)]
struct ChunkCompressor {
    compressor: Mutex<Compressor<Part>>,
    threads: usize,
}

/// What Python gave of an array.
struct Part {
    /// Keeps the memory.
    _array: Py<PyUntypedArray>,
    grid: Grid,
    write: Py<PyAny>,
}

#[pymethods]
impl ChunkCompressor {
    #[new]
    fn new(threads: usize) -> Self {
        Self { compressor: Mutex::new(Compressor::new(threads)), threads }
    }

    /// Begin with a C-contiguous array, which nobody may change until it is settled.
    ///
    /// `write(origin, stored, filter_mask)` is called for each chunk in order, with the index of its first element along
    /// each axis, the bytes to store as an array, and HDF5's mask of skipped filters; behind those of arrays before, and
    /// not for the last few yet, which come when there is more, or with `settle`. With a `course`, the array is the next
    /// part of one. After an error, also of an array before, all that was not written is given up.
    #[pyo3(signature = (array, chunks, *, codec, level, shuffle, fletcher32, write, course=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
    fn put(
        &self,
        py: Python<'_>,
        array: &Bound<'_, PyUntypedArray>,
        chunks: Vec<usize>,
        codec: Option<&str>,
        level: u8,
        shuffle: bool,
        fletcher32: bool,
        write: Py<PyAny>,
        course: Option<&ChunkCourse>,
    ) -> PyResult<()> {
        let grid = grid_over(array, &chunks)?;
        let pipeline = pipeline(array, codec, level, shuffle, fletcher32)?;
        check_room(py, &grid, self.threads)?;
        // SAFETY: the array is C-contiguous (checked by `grid_over`), and the part's reference keeps it alive as long as
        // the compressor uses it.
        let source = unsafe { Source::new(data_of(array), grid.array_bytes()) };
        let part = Part { _array: array.clone().unbind(), grid: grid.clone(), write };
        self.run(py, |compressor| match course {
            Some(course) => {
                course.go_on(|course| compressor.put(part, source, &grid, &pipeline, Some(course), &mut write_chunk))
            }
            None => compressor.put(part, source, &grid, &pipeline, None, &mut write_chunk),
        })
    }

    /// Write the chunks of all arrays.
    fn settle(&self, py: Python<'_>) -> PyResult<()> {
        self.run(py, |compressor| compressor.settle(&mut write_chunk))
    }

    /// Give up what has not been written, and end the threads.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.run(py, |compressor| {
            compressor.abandon();
            Ok(())
        })
    }
}

impl ChunkCompressor {
    fn run(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Compressor<Part>) -> Result<(), Failure> + Send,
    ) -> PyResult<()> {
        py.detach(|| match self.compressor.try_lock() {
            Ok(mut compressor) => work(&mut compressor),
            Err(TryLockError::Poisoned(poisoned)) => work(&mut poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(PyRuntimeError::new_err("another call is using the threads").into()),
        })
        .map_err(|Failure(error)| error)
    }
}

fn write_chunk(part: &Part, cell: usize, chunk: Encoded) -> Result<(), Failure> {
    attached(|py| {
        py.check_signals()?;
        let origin = PyTuple::new(py, part.grid.origin(cell))?;
        // As it is: there may be no memory for a copy.
        let stored = PyArray1::from_vec(py, chunk.bytes);
        part.write.call1(py, (origin, stored, chunk.filter_mask))?;
        Ok(())
    })
}

/// What is known of an array that comes in several parts.
#[pyclass(module = "onecopy._native", frozen)]
struct ChunkCourse(Mutex<Course>);

#[pymethods]
impl ChunkCourse {
    #[new]
    fn new() -> Self {
        Self(Mutex::default())
    }
}

impl ChunkCourse {
    /// Nobody else can go on with it meanwhile, and nobody waits for that: what is then known is nothing, as after an
    /// error.
    fn go_on<E>(&self, part: impl FnOnce(&mut Course) -> Result<(), E>) -> Result<(), E> {
        let mut course = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        part(&mut course)?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = course;
        Ok(())
    }
}

/// Read chunks into a C-contiguous array on `threads` threads, and undo their filters.
///
/// `stored` yields (origin, bytes, filter mask) in any order, with the stored bytes themselves, or their position and
/// number in the open file `fd`; elements of chunks that it leaves out stay as they are.
#[pyfunction]
#[pyo3(signature = (fd, array, chunks, *, codec, shuffle, fletcher32, threads, stored))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
fn read_chunks(
    py: Python<'_>,
    fd: Option<i32>,
    array: &Bound<'_, PyUntypedArray>,
    chunks: Vec<usize>,
    codec: Option<&str>,
    shuffle: bool,
    fletcher32: bool,
    threads: usize,
    stored: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let grid = grid_over(array, &chunks)?;
    let pipeline = pipeline(array, codec, 1, shuffle, fletcher32)?;
    check_room(py, &grid, threads)?;
    // SAFETY: reading the flags of a live array object with the GIL held.
    if unsafe { (*_PyArray_GET_ITEM_DATA(array.as_array_ptr())).flags } & NPY_ARRAY_WRITEABLE == 0 {
        return Err(PyValueError::new_err("the array is read-only: give one that can be written"));
    }
    let file = fd.map(borrowed).transpose()?;
    // SAFETY: the array is C-contiguous (checked by `grid_over`) and writable, and the caller's reference keeps it
    // alive. It was made for this call, so nobody else uses it (`read_rows` is the only caller).
    let mut target = unsafe { Target::new(data_of(array), grid.array_bytes()) };
    let stored = Py::from(stored.try_iter()?);
    py.detach(|| {
        let chunks = std::iter::from_fn(|| next_chunk(&stored, &grid, file).transpose());
        decompress(&mut target, &grid, &pipeline, threads, chunks)
    })
    .map_err(|Failure(error)| error)
}

/// Runs `work` with Python, or fails where a daemon thread outlives the interpreter.
fn attached<T>(work: impl FnOnce(Python<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
    let ended = || Failure(PyRuntimeError::new_err("the interpreter has ended"));
    Python::try_attach(work).unwrap_or_else(|| Err(ended()))
}

/// The bytes of a chunk as Python gives them.
#[derive(FromPyObject)]
enum Given {
    Place((u64, usize)),
    Bytes(PyBackedBytes),
}

/// The bytes of a chunk, or where they are.
enum ChunkBytes<'fd> {
    Held(PyBackedBytes),
    InFile(FileChunk<'fd>),
}

impl Stored for ChunkBytes<'_> {
    fn bytes<'a>(&'a self, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], Error> {
        match self {
            Self::Held(bytes) => Ok(bytes),
            Self::InFile(chunk) => chunk.bytes(buffer),
        }
    }
}

fn next_chunk<'fd>(
    stored: &Py<PyIterator>,
    grid: &Grid,
    file: Option<BorrowedFd<'fd>>,
) -> Result<Option<StoredChunk<ChunkBytes<'fd>>>, Failure> {
    attached(|py| {
        py.check_signals()?;
        let Some(next) = stored.bind(py).clone().next() else { return Ok(None) };
        let (origin, given, filter_mask): (Vec<usize>, Given, u32) = next?.extract()?;
        let cell = grid.cell_at(&origin).ok_or_else(|| {
            PyValueError::new_err(format!(
                "no chunk begins at {origin:?}: the file is damaged, or the shape is not the dataset's"
            ))
        })?;
        let bytes = match given {
            Given::Place((position, len)) => {
                let file = file.ok_or_else(|| PyValueError::new_err("a place in a file, and no descriptor of it"))?;
                ChunkBytes::InFile(FileChunk { file, position, len })
            }
            Given::Bytes(bytes) => ChunkBytes::Held(bytes),
        };
        Ok(Some(StoredChunk { cell, bytes, filter_mask }))
    })
}

/// Each thread works on a chunk, and a few more wait for it. This is what small chunks need, besides what libraries take
/// for themselves; for large ones, threads find out whether they have the memory, and leave it to others if not.
fn check_room(py: Python<'_>, grid: &Grid, threads: usize) -> PyResult<()> {
    let chunks = 2 * IN_FLIGHT_PER_THREAD as u64;
    check_work_memory(threads.min(grid.cells()), (grid.cell_bytes() as u64).min(SMALL) * chunks).or_raise(py)
}

const SMALL: u64 = 1 << 20;

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

fn pipeline(
    array: &Bound<'_, PyUntypedArray>,
    codec: Option<&str>,
    level: u8,
    shuffle: bool,
    fletcher32: bool,
) -> PyResult<Pipeline> {
    let codec = match codec {
        None => Codec::Plain,
        Some("gzip") if level <= 9 => Codec::Deflate { level },
        Some("gzip") => return Err(wrong(format!("gzip level {level}: give 0 (none) to 9 (smallest)"))),
        Some("lzf") => Codec::Lzf,
        Some("zstd") if (1..=22).contains(&level) => Codec::Zstd { level },
        Some("zstd") => return Err(wrong(format!("zstd level {level}: give 1 (fastest) to 22 (smallest)"))),
        Some(other) => return Err(wrong(format!("codec '{other}': give 'gzip', 'lzf', 'zstd' or None"))),
    };
    Ok(Pipeline { shuffle: shuffle.then(|| array.dtype().itemsize()), codec, fletcher32 })
}

fn wrong(message: String) -> PyErr {
    PyValueError::new_err(message)
}

fn data_of(array: &Bound<'_, PyUntypedArray>) -> *mut u8 {
    // SAFETY: reading a field of a live array object with the GIL held.
    unsafe { (*_PyArray_GET_ITEM_DATA(array.as_array_ptr())).data.cast() }
}

const WAY_OUT: &str = "a thread has up to three buffers like this one for a chunk: make chunks smaller, use fewer threads, \
                       or raise the limit (ulimit -v, ulimit -d)";

/// What is raised where there is no memory for a chunk.
fn out_of_memory(bytes: usize) -> PyErr {
    let error = work_memory_error(bytes as u64, WAY_OUT);
    let raised = Python::try_attach(|py| to_python(py, &error));
    raised.unwrap_or_else(|| PyMemoryError::new_err(error.to_string()))
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
            Error::OutOfMemory { bytes } => out_of_memory(bytes),
            Error::Corrupt { .. } | Error::Read { .. } | Error::Cell { .. } | Error::Threads => {
                PyOSError::new_err(message)
            }
            _ => PyValueError::new_err(message),
        })
    }
}
