//! What this process moved, and how: by handle or by copying.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static HANDLES_SENT: AtomicU64 = AtomicU64::new(0);
static BYTES_BY_HANDLE: AtomicU64 = AtomicU64::new(0);
static HANDLES_RECEIVED: AtomicU64 = AtomicU64::new(0);
static ARRAYS_MOVED_IN: AtomicU64 = AtomicU64::new(0);
static BYTES_MOVED_IN: AtomicU64 = AtomicU64::new(0);
static ARRAYS_COPIED: AtomicU64 = AtomicU64::new(0);
static BYTES_COPIED: AtomicU64 = AtomicU64::new(0);

/// Totals of this process since it started; a forked child goes on from its parent's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// Arrays sent as handles.
    pub handles_sent: u64,
    /// Their bytes, which stayed where they are.
    pub bytes_by_handle: u64,
    /// Arrays received as handles.
    pub handles_received: u64,
    /// Arrays copied into the arena, once each.
    pub arrays_moved_in: u64,
    /// Their bytes.
    pub bytes_moved_in: u64,
    /// Arrays whose bytes crossed to another process inside a message.
    pub arrays_copied: u64,
    /// Their bytes.
    pub bytes_copied: u64,
}

/// The totals of this moment.
pub fn counters() -> Counters {
    Counters {
        handles_sent: HANDLES_SENT.load(Relaxed),
        bytes_by_handle: BYTES_BY_HANDLE.load(Relaxed),
        handles_received: HANDLES_RECEIVED.load(Relaxed),
        arrays_moved_in: ARRAYS_MOVED_IN.load(Relaxed),
        bytes_moved_in: BYTES_MOVED_IN.load(Relaxed),
        arrays_copied: ARRAYS_COPIED.load(Relaxed),
        bytes_copied: BYTES_COPIED.load(Relaxed),
    }
}

fn count(number: &AtomicU64, total: &AtomicU64, bytes: u64) {
    number.fetch_add(1, Relaxed);
    total.fetch_add(bytes, Relaxed);
}

pub(crate) fn received() {
    HANDLES_RECEIVED.fetch_add(1, Relaxed);
}

pub(crate) fn moved_in(bytes: u64) {
    count(&ARRAYS_MOVED_IN, &BYTES_MOVED_IN, bytes);
}

impl Counters {
    /// Says that an array of `bytes` bytes was sent as a handle.
    pub fn count_sent(bytes: u64) {
        count(&HANDLES_SENT, &BYTES_BY_HANDLE, bytes);
    }

    /// Says that an array's bytes went into a message.
    pub fn count_copied(bytes: u64) {
        count(&ARRAYS_COPIED, &BYTES_COPIED, bytes);
    }
}
