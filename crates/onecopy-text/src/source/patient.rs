//! Files that can keep their reader waiting: pipes, terminals, sockets. Cancelling ends the wait.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::progress::Progress;

/// How often a waiting reader looks whether the read was cancelled.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Opens a file without waiting for the writer of a named pipe.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let is_pipe = path.metadata()?.file_type().is_fifo();
    let flags = if is_pipe { rustix::fs::OFlags::NONBLOCK.bits() as i32 } else { 0 };
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Reads a file as it comes.
pub(super) struct Patient<'a> {
    pub(super) file: File,
    pub(super) progress: &'a Progress,
}

impl Read for Patient<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.progress.is_cancelled() {
                return Err(io::Error::other("cancelled"));
            }
            match poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&LOOK)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
            match self.file.read(out) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
    }
}
