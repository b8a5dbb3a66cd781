//! Bytes of an open file into arrays, on all cores and without a mapping: a file that shrinks meanwhile is an error, where
//! a mapping of it would be SIGBUS.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use onecopy_filters::{Error, Stored, resize};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use rustix::fs::fstat;
use rustix::io::Errno;

use crate::ndarray::NdArray;

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(read_array, module)?)
}

/// What a thread reads at a time: a signal waits no longer than for that.
const PIECE: u64 = 4 << 20;

/// Fill a contiguous array with the bytes of an open file from `position` on, on `threads` threads.
#[pyfunction]
#[pyo3(signature = (fd, array, position, /, *, threads))]
fn read_array(py: Python<'_>, fd: i32, array: &Bound<'_, PyAny>, position: u64, threads: usize) -> PyResult<()> {
    let array = NdArray::of(array)?;
    if !array.is_contiguous() || !array.is_writable() {
        return Err(PyValueError::new_err("the array is not contiguous, or it is read-only"));
    }
    let file = borrowed(fd)?;
    let place = Place { start: array.address(), len: array.nbytes() as u64, position };
    py.detach(|| place.fill(file, threads))
}

/// The descriptor that Python names.
pub(crate) fn borrowed<'fd>(fd: i32) -> PyResult<BorrowedFd<'fd>> {
    if fd < 0 {
        return Err(PyOSError::new_err((Errno::BADF.raw_os_error(), Errno::BADF.to_string())));
    }
    // SAFETY: the number is not -1, and the caller keeps the descriptor open during the call; one that is closed all the
    // same makes a read fail with EBADF.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Memory of an array, and where in a file its bytes are.
#[derive(Clone, Copy)]
struct Place {
    start: usize,
    len: u64,
    position: u64,
}

impl Place {
    fn fill(self, file: BorrowedFd<'_>, threads: usize) -> PyResult<()> {
        if self.position.checked_add(self.len).is_none_or(|end| end > i64::MAX.cast_unsigned()) {
            return Err(self.too_short(file).into());
        }
        let next = AtomicU64::new(0);
        let pieces = self.len.div_ceil(PIECE);
        let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&piece| piece < pieces);
        let stop = || next.store(pieces, Ordering::Relaxed);
        thread::scope(|scope| {
            let work = || {
                while let Some(piece) = take() {
                    self.read_piece(file, piece).inspect_err(|_| stop())?;
                }
                Ok(())
            };
            let others = (threads as u64).min(pieces).saturating_sub(1);
            // Fewer threads than wanted (`ulimit -v`, `ulimit -u`) are slower and nothing worse.
            let workers: Vec<_> =
                (0..others).filter_map(|_| thread::Builder::new().spawn_scoped(scope, work).ok()).collect();
            let mut result = Ok(());
            while let Some(piece) = take() {
                result = interrupted().and_then(|()| self.read_piece(file, piece).map_err(PyErr::from));
                if result.is_err() {
                    stop();
                    break;
                }
            }
            for worker in workers {
                let done: Result<(), ReadError> =
                    worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                result = result.and(done.map_err(PyErr::from));
            }
            result
        })
    }

    fn too_short(self, file: BorrowedFd<'_>) -> ReadError {
        ReadError::Short { position: self.position, len: self.len, file: size_of(file) }
    }

    fn read_piece(self, file: BorrowedFd<'_>, piece: u64) -> Result<(), ReadError> {
        let first = piece * PIECE;
        let end = (first + PIECE).min(self.len);
        let mut at = first;
        while at < end {
            let position = (self.position + at).cast_signed();
            // SAFETY: the range lies inside the array, whose bytes are contiguous and writable (checked by `read_array`),
            // which the caller's reference keeps alive, and of which each piece is one thread's alone. The kernel
            // writes to it as it would for `readinto`; no reference to the bytes exists here.
            let read = unsafe {
                let memory = std::ptr::with_exposed_provenance_mut::<u8>(self.start + at as usize);
                libc::pread(file.as_raw_fd(), memory.cast(), (end - at) as usize, position)
            };
            match read {
                0 => return Err(self.too_short(file)),
                1.. => at += read as u64,
                _ => match Errno::from_io_error(&std::io::Error::last_os_error()) {
                    Some(Errno::INTR) => {}
                    errno => return Err(ReadError::System(errno.unwrap_or(Errno::IO))),
                },
            }
        }
        Ok(())
    }
}

/// What Ctrl-C raises.
fn interrupted() -> PyResult<()> {
    let check = |py: Python<'_>| -> PyResult<()> { py.check_signals() };
    Python::try_attach(check).unwrap_or(Ok(()))
}

fn size_of(file: BorrowedFd<'_>) -> u64 {
    fstat(file).map_or(0, |status| u64::try_from(status.st_size).unwrap_or(0))
}

/// Why bytes of a file could not be read.
enum ReadError {
    System(Errno),
    Short { position: u64, len: u64, file: u64 },
}

impl ReadError {
    fn message(&self) -> String {
        match self {
            Self::System(errno) => std::io::Error::from(*errno).to_string(),
            Self::Short { position, len, file } => {
                format!("{len} bytes from byte {position} on belong to it, but the file has {file}: it is truncated")
            }
        }
    }
}

impl From<ReadError> for PyErr {
    fn from(error: ReadError) -> Self {
        let errno = if let ReadError::System(errno) = error { errno } else { Errno::IO };
        PyOSError::new_err((errno.raw_os_error(), error.message()))
    }
}

/// A stored chunk by its place in a file.
pub(crate) struct FileChunk<'fd> {
    pub(crate) file: BorrowedFd<'fd>,
    pub(crate) position: u64,
    pub(crate) len: usize,
}

impl Stored for FileChunk<'_> {
    fn bytes<'a>(&'a self, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], Error> {
        let failed = |error: ReadError| Error::Read { stored: self.len, reason: error.message() };
        let (position, len) = (self.position, self.len as u64);
        // What a damaged file says of a length is believed only as far as there is a file.
        let file = size_of(self.file);
        if position.checked_add(len).is_none_or(|end| end > file) {
            return Err(failed(ReadError::Short { position, len, file }));
        }
        resize(buffer, self.len)?;
        let mut at = 0;
        while at < self.len {
            match rustix::io::pread(self.file, &mut buffer[at..], position + at as u64) {
                Ok(0) => return Err(failed(ReadError::Short { position, len, file: size_of(self.file) })),
                Ok(read) => at += read,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed(ReadError::System(errno))),
            }
        }
        Ok(buffer)
    }
}
