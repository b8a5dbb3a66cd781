//! Closing an arena that was opened: the process is a member until the last block that it holds has gone, so that closing
//! takes nothing away under anybody's feet.

use std::sync::MutexGuard;

use super::{Arena, ArenaError, Holds, locked};

/// Whether this process wants to be in an arena.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    times: u32,
    closed: bool,
}

impl Opened {
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }
}

impl Arena {
    /// Says that this process wants to be in the arena until it has called [`close`](Self::close) as often as this.
    pub fn count_opened(&self) {
        let mut opened = locked(&self.opened);
        opened.times += 1;
        opened.closed = false;
    }

    /// How often this process has opened it and not closed it again.
    pub fn times_opened(&self) -> u32 {
        locked(&self.opened).times
    }

    /// Undoes one opening. With the last one this process leaves as soon as it holds no block of the arena any more:
    /// blocks that there are stay as they are. Its mapping stays until the process ends.
    pub fn close(&self) -> Result<(), ArenaError> {
        let mut opened = locked(&self.opened);
        opened.times = opened.times.saturating_sub(1);
        opened.closed = opened.times == 0;
        drop(opened);
        self.leave_if_done(locked(&self.holds)).1
    }

    /// Leaves an arena that is closed and of which nothing is held.
    pub(super) fn leave_if_done<'a>(
        &self,
        mut holds: MutexGuard<'a, Holds>,
    ) -> (MutexGuard<'a, Holds>, Result<(), ArenaError>) {
        let done = holds.is_empty() && locked(&self.opened).is_closed();
        let left = if done { self.leave_with(&mut holds) } else { Ok(()) };
        (holds, left)
    }
}
