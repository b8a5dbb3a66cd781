//! Where records go.

use std::io;
use std::sync::Mutex;

/// How many records to expect, as far as it can be known before the text is parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Size of one record in bytes.
    pub record_size: usize,
    /// No more records than this will come; `None` when the size of the text is not known (compressed, a pipe).
    pub at_most: Option<u64>,
    /// A guess from the length of the first line; `None` as above.
    pub estimate: Option<u64>,
}

/// Receives records from all threads.
///
/// Each record is written exactly once when the read succeeds. After an error in the text all records before it have been
/// written, and maybe some behind it.
pub trait Sink: Sync {
    /// Called once before the first write, from the thread that called [`read`](crate::read).
    ///
    /// # Errors
    /// What the sink cannot provide, for example memory; the read ends with it.
    fn begin(&self, expected: &Expected) -> io::Result<()>;

    /// Takes whole records, the first of which has the index `first_record`; from any thread, disjoint, in any order.
    ///
    /// # Errors
    /// What the sink cannot take, for example because a disk is full; the read ends with it.
    fn write(&self, first_record: u64, records: &[u8]) -> io::Result<()>;
}

/// A sink that keeps all records in one vector; for tests and small inputs.
#[derive(Debug, Default)]
pub struct MemorySink {
    state: Mutex<MemoryState>,
}

#[derive(Debug, Default)]
struct MemoryState {
    record_size: usize,
    bytes: Vec<u8>,
}

impl MemorySink {
    /// An empty sink.
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes of all records in the order of the file.
    pub fn into_bytes(self) -> Vec<u8> {
        self.state.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).bytes
    }
}

impl Sink for MemorySink {
    fn begin(&self, expected: &Expected) -> io::Result<()> {
        self.state.lock().expect("no panic under this lock").record_size = expected.record_size;
        Ok(())
    }

    fn write(&self, first_record: u64, records: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock().expect("no panic under this lock");
        let start = first_record as usize * state.record_size;
        let end = start + records.len();
        if state.bytes.len() < end {
            state.bytes.resize(end, 0);
        }
        state.bytes[start..end].copy_from_slice(records);
        Ok(())
    }
}
