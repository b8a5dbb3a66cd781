//! Plain text: any thread reads any block. `pread` and not `mmap`, because a mapping faults when the file shrinks.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Feed, Portion, ReadAt, TextSize};
use crate::block::Block;
use crate::error::ReadError;
use crate::progress::Progress;

pub(super) struct PlainFeed<'a, R> {
    input: R,
    size: u64,
    name: String,
    block_size: u64,
    next: AtomicU64,
    progress: &'a Progress,
}

impl<'a, R: ReadAt> PlainFeed<'a, R> {
    pub(super) fn new(input: R, size: u64, name: String, block_size: usize, progress: &'a Progress) -> Self {
        Self { input, size, name, block_size: block_size as u64, next: AtomicU64::new(0), progress }
    }

    fn read(&self, block: &mut Block, offset: u64, length: usize) -> Result<(), ReadError> {
        block.clear();
        let read = self.input.read_exact_at(block.spare(length), offset);
        read.map_err(|error| ReadError::from_io(&self.name, error))?;
        block.grow(length);
        self.progress.add_read(length as u64);
        Ok(())
    }
}

impl<R: ReadAt> Feed for PlainFeed<'_, R> {
    fn next(&self, block: &mut Block) -> Option<Portion> {
        // An empty file is one empty portion. The counter only hands out numbers: relaxed is enough.
        let count = self.size.div_ceil(self.block_size).max(1);
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        if ticket >= count {
            return None;
        }
        let offset = ticket * self.block_size;
        let length = self.block_size.min(self.size - offset) as usize;
        let outcome = self.read(block, offset, length);
        Some(Portion { ticket, last: ticket + 1 == count, bytes_in: length as u64, outcome })
    }

    fn text_size(&self) -> TextSize {
        TextSize::Exact(self.size)
    }
}
