//! Bytes of arrays into an open file, past the page cache.

use std::os::fd::BorrowedFd;
use std::sync::{Mutex, PoisonError};

use onecopy::HugeBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rustix::io::{Errno, pwrite};

use crate::array::locate;
use crate::files::os_error;
use crate::ndarray::NdArray;
use crate::reads::borrowed;

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Staging>()?;
    module.add_function(wrap_pyfunction!(write_array, module)?)
}

/// What direct writes must be multiples of, in the file and in memory: no disk's block is larger than the one, and none
/// known asks for more than the other. One that does refuses, and the bytes go through the page cache.
const FILE_UNIT: u64 = 4096;
const MEMORY_UNIT: usize = 512;
/// Written by one system call: a signal waits no longer than for that.
const PIECE: usize = 8 << 20;
/// Fewer bytes than this are not worth a buffer.
const LEAST_STAGED: usize = 1 << 20;

/// Memory in huge pages through which arrays go to the disk, `PIECE` bytes for each thread that writes.
///
/// Shared memory has small pages as a rule. A disk is told of each of them, and takes only so many in one request: from
/// huge pages it fetches more at a time, and is so much faster that a copy pays.
#[pyclass(module = "onecopy._native", frozen)]
struct Staging {
    spare: Mutex<Vec<HugeBuffer>>,
}

#[pymethods]
impl Staging {
    #[new]
    fn new() -> Self {
        Self { spare: Mutex::default() }
    }
}

impl Staging {
    /// Lends a buffer, if there is memory for one.
    fn lend<T>(&self, work: impl FnOnce(Option<&mut HugeBuffer>) -> T) -> T {
        let spare = || self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = spare().pop().or_else(|| HugeBuffer::new(PIECE));
        let result = work(buffer.as_mut());
        spare().extend(buffer);
        result
    }
}

/// Write the bytes of a contiguous array at a position of an open file.
///
/// `direct` is a second descriptor of the file, opened with `O_DIRECT`, or -1: what can goes through it, the rest through
/// the page cache. A page of the file never goes through both in one call.
#[pyfunction]
#[pyo3(signature = (fd, direct, array, position, staging, /))]
fn write_array(
    py: Python<'_>,
    fd: i32,
    direct: i32,
    array: &Bound<'_, PyAny>,
    position: u64,
    staging: &Bound<'_, Staging>,
) -> PyResult<()> {
    let array = NdArray::of(array)?;
    let Some(bytes) = array.bytes() else { return Err(PyValueError::new_err("the array is not contiguous")) };
    let target = Target { file: borrowed(fd)?, direct: (direct >= 0).then(|| borrowed(direct)).transpose()? };
    // The allocators of private memory ask for huge pages by themselves, and the disk fetches from these as they are.
    let stage = locate(&array).is_some_and(|place| !place.block.is_in_huge_pages());
    let staging = staging.get();
    py.detach(|| target.write(bytes, position, stage, staging)).map_err(os_error)
}

/// Where bytes go.
#[derive(Clone, Copy)]
struct Target<'fd> {
    file: BorrowedFd<'fd>,
    direct: Option<BorrowedFd<'fd>>,
}

impl Target<'_> {
    fn write(self, bytes: &[u8], position: u64, stage: bool, staging: &Staging) -> Result<(), Errno> {
        let head = (position.next_multiple_of(FILE_UNIT) - position).min(bytes.len() as u64) as usize;
        let (head, rest) = bytes.split_at(head);
        let whole = rest.len() / FILE_UNIT as usize * FILE_UNIT as usize;
        let (body, tail) = rest.split_at(whole);
        let body_at = position + head.len() as u64;
        let aligned = body.as_ptr().addr().is_multiple_of(MEMORY_UNIT);
        if self.direct.is_some() && body.len() >= LEAST_STAGED && (stage || !aligned) {
            staging.lend(|buffer| match buffer {
                Some(buffer) => self.write_staged(body, body_at, buffer),
                None => self.write_body(body, body_at, aligned),
            })?;
        } else {
            self.write_body(body, body_at, aligned)?;
        }
        write_all(self.file, head, position)?;
        write_all(self.file, tail, body_at + whole as u64)
    }

    fn write_staged(self, bytes: &[u8], position: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        let mut at = position;
        for piece in bytes.chunks(PIECE) {
            let staged = &mut buffer[..piece.len()];
            staged.copy_from_slice(piece);
            self.write_body(staged, at, true)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    fn write_body(self, bytes: &[u8], position: u64, aligned: bool) -> Result<(), Errno> {
        match self.direct.filter(|_| aligned) {
            Some(direct) => match write_all(direct, bytes, position) {
                // A disk, or a file system, that asks for more than was thought.
                Err(Errno::INVAL | Errno::OPNOTSUPP) => write_all(self.file, bytes, position),
                other => other,
            },
            None => write_all(self.file, bytes, position),
        }
    }
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
