//! Whether memory may be committed: the only place where running out of it can be an error value.

use std::sync::atomic::Ordering::Relaxed;

use onecopy_os::headroom;

use crate::ArenaError;
use crate::heap::Heap;
use crate::slots::Slots;

/// Left to the rest of the machine (or of the cgroup): the check races against strangers.
const RESERVE: u64 = 64 << 20;

/// Why memory may not be committed.
#[derive(Debug)]
pub(crate) struct Shortage {
    asked: u64,
    free: u64,
    limit: String,
    way_out: &'static str,
}

impl Shortage {
    /// Bytes that would have to be given back first.
    pub(crate) fn deficit(&self) -> u64 {
        self.asked - self.free.min(self.asked)
    }

    /// What the user is told, who knows of the bytes asked for but not of how much is committed at once.
    pub(crate) fn into_error(self, asked: u64, warm: u64) -> ArenaError {
        ArenaError::OutOfMemory {
            asked,
            free: self.free.saturating_add(warm),
            limit: self.limit,
            way_out: self.way_out,
        }
    }
}

impl Heap<'_> {
    /// Bytes with memory behind them or about to have.
    pub(crate) fn committed(&self) -> u64 {
        self.first().used_bytes.load(Relaxed).saturating_add(self.first().warm_bytes.load(Relaxed))
    }

    /// Whether `bytes` more may be committed now.
    pub(crate) fn check_budget(&self, bytes: u64) -> Result<(), Shortage> {
        let limit = self.first().limit.load(Relaxed);
        let free = limit.saturating_sub(self.committed());
        if free < bytes {
            return Err(Shortage {
                asked: bytes,
                free,
                limit: format!("the arena's limit of {limit} bytes"),
                way_out: "drop arrays that are not needed, or raise it by set_limit() or ONECOPY_LIMIT",
            });
        }
        let promised = Slots { meta: self.meta, data: self.data }.promised();
        let machine = headroom();
        let free = machine.bytes.saturating_sub(promised).saturating_sub(RESERVE);
        if free < bytes {
            return Err(Shortage {
                asked: bytes,
                free,
                limit: machine.source,
                way_out: "drop arrays that are not needed, end other programs, or allow this one more memory",
            });
        }
        Ok(())
    }
}
