//! Calls that Python's `os` lacks and an output file needs: reserve room on the disk, start writing to the disk, and
//! rename without replacing.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use rustix::fs::{CWD, FallocateFlags, RenameFlags, fallocate, renameat_with, syncfs};
use rustix::io::Errno;

use crate::reads::borrowed;

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(reserve_space, module)?)?;
    module.add_function(wrap_pyfunction!(start_writeback, module)?)?;
    module.add_function(wrap_pyfunction!(sync_file_system, module)?)?;
    module.add_function(wrap_pyfunction!(rename_noreplace, module)?)?;
    module.add_function(wrap_pyfunction!(rename_exchange, module)?)
}

/// Reserve room on the disk for the first `size` bytes of an open file; with `lengthen` it is at least so long afterwards.
///
/// Of a file that stays as short as what was written, a file system lets only one thread write behind the end at a time.
#[pyfunction]
#[pyo3(signature = (fd, size, /, *, lengthen))]
fn reserve_space(py: Python<'_>, fd: i32, size: u64, lengthen: bool) -> PyResult<()> {
    let file = borrowed(fd)?;
    let flags = if lengthen { FallocateFlags::empty() } else { FallocateFlags::KEEP_SIZE };
    py.detach(|| fallocate(file, flags, 0, size)).map_err(os_error)
}

/// Let the system begin to put what was written to an open file on the disk, and do not wait for it.
///
/// A later fsync then has little left to wait for. It is a hint: where it is refused, nothing is lost.
#[pyfunction]
#[pyo3(signature = (fd, /))]
fn start_writeback(py: Python<'_>, fd: i32) {
    if let Ok(file) = borrowed(fd) {
        py.detach(|| begin_writeback(file));
    }
}

pub(crate) fn begin_writeback(file: BorrowedFd<'_>) {
    // SAFETY: the call takes no memory, only the number of an open descriptor.
    let _ = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
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
pub(crate) fn os_error(errno: Errno) -> PyErr {
    let message = std::io::Error::from(errno).to_string();
    PyOSError::new_err((errno.raw_os_error(), message))
}
