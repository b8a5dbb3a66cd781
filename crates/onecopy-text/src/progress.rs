//! What other threads may watch, and how they stop a read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counters of a running [`read`](crate::read), and the flag that ends it; shared by reference between threads.
///
/// ```
/// let progress = onecopy_text::Progress::new();
/// assert_eq!(progress.bytes_read(), 0);
/// progress.cancel(); // from a signal handler or another thread
/// assert!(progress.is_cancelled());
/// ```
#[derive(Debug, Default)]
pub struct Progress {
    read: AtomicU64,
    total: AtomicU64,
    records: AtomicU64,
    cancelled: AtomicBool,
}

// All orderings are relaxed: the counters are for display, and the flag carries no data with it.
impl Progress {
    /// Counters at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes taken from the source so far, before decompression.
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Size of the source in bytes, before decompression; zero while it is not known, as for a pipe.
    pub fn bytes_total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Records handed to the sink so far.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Makes the running read return [`Cancelled`](crate::ReadError::Cancelled) soon.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    pub(crate) fn add_read(&self, bytes: u64) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_total(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_records(&self, records: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
    }
}
