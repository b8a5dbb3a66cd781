//! Calls that Python's `os` lacks and an output file needs: reserve room on the disk, write an array past the page
//! cache, start writing to the disk, and rename without replacing.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use rustix::fs::{CWD, FallocateFlags, RenameFlags, fallocate, renameat_with, syncfs};
use rustix::io::{Errno, pwrite};

use crate::ndarray::NdArray;
use crate::reads::borrowed;

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(reserve_space, module)?)?;
    module.add_function(wrap_pyfunction!(write_array, module)?)?;
    module.add_function(wrap_pyfunction!(start_writeback, module)?)?;
    module.add_function(wrap_pyfunction!(sync_file_system, module)?)?;
    module.add_function(wrap_pyfunction!(rename_noreplace, module)?)?;
    module.add_function(wrap_pyfunction!(rename_exchange, module)?)
}

/// Reserve room on the disk for the first `size` bytes of an open file without changing its length.
#[pyfunction]
#[pyo3(signature = (fd, size, /))]
fn reserve_space(py: Python<'_>, fd: i32, size: u64) -> PyResult<()> {
    if fd < 0 {
        return Err(os_error(Errno::BADF));
    }
    // SAFETY: the number is not -1, and the caller keeps the descriptor open during the call; one that is closed all
    // the same makes fallocate fail with EBADF.
    let file = unsafe { BorrowedFd::borrow_raw(fd) };
    py.detach(|| fallocate(file, FallocateFlags::KEEP_SIZE, 0, size)).map_err(os_error)
}

/// What direct writes must be multiples of, in the file and in memory: no disk's block is larger than the one, and none
/// known asks for more than the other. One that does refuses, and the bytes go through the page cache.
const FILE_UNIT: u64 = 4096;
const MEMORY_UNIT: usize = 512;
/// Written by one system call: a signal waits no longer than for that.
const PIECE: usize = 8 << 20;

/// Write the bytes of a contiguous array at a position of an open file.
///
/// `direct` is a second descriptor of the file, opened with `O_DIRECT`, or -1: what can goes through it, the rest through
/// the page cache. A page of the file never goes through both in one call.
#[pyfunction]
#[pyo3(signature = (fd, direct, array, position, /))]
fn write_array(py: Python<'_>, fd: i32, direct: i32, array: &Bound<'_, PyAny>, position: u64) -> PyResult<()> {
    let array = NdArray::of(array)?;
    let Some(bytes) = array.bytes() else { return Err(PyValueError::new_err("the array is not contiguous")) };
    if fd < 0 {
        return Err(os_error(Errno::BADF));
    }
    // SAFETY: the numbers are not -1, and the caller keeps the descriptors open during the call; one that is closed all
    // the same makes the write fail with EBADF.
    let borrow = |number: i32| unsafe { BorrowedFd::borrow_raw(number) };
    let (file, direct) = (borrow(fd), (direct >= 0).then(|| borrow(direct)));
    py.detach(|| write_at(file, direct, bytes, position)).map_err(os_error)
}

fn write_at(file: BorrowedFd<'_>, direct: Option<BorrowedFd<'_>>, bytes: &[u8], position: u64) -> Result<(), Errno> {
    let head = (position.next_multiple_of(FILE_UNIT) - position).min(bytes.len() as u64) as usize;
    let (head, rest) = bytes.split_at(head);
    let whole = rest.len() / FILE_UNIT as usize * FILE_UNIT as usize;
    let (body, tail) = rest.split_at(whole);
    let body_at = position + head.len() as u64;
    let aligned = body.as_ptr().addr().is_multiple_of(MEMORY_UNIT);
    let written = match direct.filter(|_| aligned) {
        Some(direct) => match write_all(direct, body, body_at) {
            // A disk, or a file system, that asks for more than was thought.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => write_all(file, body, body_at),
            other => other,
        },
        None => write_all(file, body, body_at),
    };
    written?;
    write_all(file, head, position)?;
    write_all(file, tail, body_at + whole as u64)
}

fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8], mut position: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match pwrite(file, &bytes[..bytes.len().min(PIECE)], position) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => {
                bytes = &bytes[written..];
                position += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Let the system begin to put what was written to an open file on the disk, and do not wait for it.
///
/// A later fsync then has little left to wait for. It is a hint: where it is refused, nothing is lost.
#[pyfunction]
#[pyo3(signature = (fd, /))]
fn start_writeback(py: Python<'_>, fd: i32) {
    // SAFETY: the call takes no memory; a descriptor that is not open makes it fail with EBADF.
    let begin = || unsafe { libc::sync_file_range(fd, 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
    let _ = py.detach(begin);
}

/// Wait until everything that was written to the file system of an open file is on the disk.
///
/// For a directory of many files, one call is faster than an fsync for each.
#[pyfunction]
#[pyo3(signature = (fd, /))]
fn sync_file_system(py: Python<'_>, fd: i32) -> PyResult<()> {
    let file = borrowed(fd)?;
    py.detach(|| syncfs(file)).map_err(os_error)
}

/// Exchange the names of two files or directories in one step.
#[pyfunction]
#[pyo3(signature = (one, other, /))]
fn rename_exchange(one: PathBuf, other: PathBuf) -> PyResult<()> {
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).map_err(os_error)
}

/// Rename a file; `FileExistsError` when the new name is taken already.
#[pyfunction]
#[pyo3(signature = (old, new, /))]
fn rename_noreplace(old: PathBuf, new: PathBuf) -> PyResult<()> {
    renameat_with(CWD, old, CWD, new, RenameFlags::NOREPLACE).map_err(os_error)
}

/// An `OSError` with its number, from which Python makes the subclass (`FileExistsError`, …).
fn os_error(errno: Errno) -> PyErr {
    let message = std::io::Error::from(errno).to_string();
    PyOSError::new_err((errno.raw_os_error(), message))
}
