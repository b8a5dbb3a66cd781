//! A table of processes for tests, in which processes die on demand.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Owners, Tag};

/// The slots whose processes are dead, a bit for each.
pub(crate) type Dead = AtomicU32;

/// One of the processes.
#[derive(Debug)]
pub(crate) struct Process<'a> {
    me: Tag,
    dead: &'a Dead,
}

/// The process in a slot.
pub(crate) fn process(slot: u32, dead: &Dead) -> Process<'_> {
    Process { me: Tag::new(slot, 1), dead }
}

#[cfg(not(loom))]
impl Process<'_> {
    pub(crate) fn die(&self) {
        self.dead.fetch_or(1 << self.me.slot(), Ordering::SeqCst);
    }
}

impl Owners for Process<'_> {
    fn me(&self) -> Tag {
        self.me
    }

    fn is_alive(&self, tag: Tag) -> bool {
        self.dead.load(Ordering::SeqCst) & 1 << tag.slot() == 0
    }
}
