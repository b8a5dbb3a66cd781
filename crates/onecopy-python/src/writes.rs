//! Bytes into an open file, past the page cache.

use std::os::fd::BorrowedFd;
use std::sync::{Mutex, PoisonError};

use onecopy::HugeBuffer;
use rustix::io::{Errno, pwrite};

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
#[derive(Default)]
pub(crate) struct Staging {
    spare: Mutex<Vec<HugeBuffer>>,
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

/// An open file: what can be written past the page cache goes through the second descriptor, if there is one, and the rest
/// through the first. A page of the file never goes through both in one call.
#[derive(Clone, Copy)]
pub(crate) struct Target<'fd> {
    pub(crate) file: BorrowedFd<'fd>,
    /// Opened with `O_DIRECT`.
    pub(crate) direct: Option<BorrowedFd<'fd>>,
}

impl Target<'_> {
    /// Writes bytes at a position of the file, with `stage` by way of memory in huge pages.
    pub(crate) fn write(self, bytes: &[u8], position: u64, stage: bool, staging: &Staging) -> Result<(), Errno> {
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
