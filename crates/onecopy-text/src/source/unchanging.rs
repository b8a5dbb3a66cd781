//! Regular files, which are not to change while they are read: the result would be of no state that they ever had.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use super::{Feed, Portion, TextSize};
use crate::block::Block;
use crate::error::ReadError;

/// What is another one after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) size: u64,
    modified: (i64, i64),
}

impl Stamp {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { size: metadata.len(), modified: (metadata.mtime(), metadata.mtime_nsec()) })
    }
}

/// A feed from a file that is looked at again at the end, and when something is wrong with its data.
pub(super) struct Unchanging<'a> {
    pub(super) feed: Box<dyn Feed + 'a>,
    pub(super) file: Arc<File>,
    pub(super) before: Stamp,
    pub(super) name: String,
}

impl Unchanging<'_> {
    fn check(&self) -> Result<(), ReadError> {
        let now = Stamp::of(&self.file).map_err(|error| ReadError::from_io(&self.name, error))?;
        if now == self.before {
            return Ok(());
        }
        Err(ReadError::Changed { file: self.name.clone(), before: self.before.size, now: now.size })
    }
}

impl Feed for Unchanging<'_> {
    fn next(&self, block: &mut Block) -> Option<Portion> {
        let portion = self.feed.next(block)?;
        // Data that ends early or does not fit together is what a change looks like from inside.
        let outcome = portion.outcome.map_err(|error| match error {
            ReadError::Cancelled => error,
            error => self.check().err().unwrap_or(error),
        });
        Some(Portion { outcome, ..portion })
    }

    fn text_size(&self) -> TextSize {
        self.feed.text_size()
    }

    fn finish(&self) -> Result<(), ReadError> {
        self.feed.finish()?;
        self.check()
    }
}
