//! Where records go.

use std::io;
use std::sync::Mutex;

use crate::error::FieldId;
use crate::layout::Scalar;

/// What to expect, as far as it can be known before the text is parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Size of one record in bytes.
    pub record_size: usize,
    /// No more records than this will come; `None` when the size of the text is not known (compressed, a pipe).
    pub at_most: Option<u64>,
    /// A guess from the length of the first line; `None` as above.
    pub estimate: Option<u64>,
    /// The names that the header gives to the columns of the records, if there is one.
    pub names: Option<Vec<String>>,
    /// The fields that the sink has to make of their texts, in the order in which [`Batch::raw`] has them.
    pub raw: Vec<RawTarget>,
}

/// An element of the record that the sink makes of the text of its field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawTarget {
    /// Which entry of [`Options::raw`](crate::Options::raw) chose it; 0 if all fields are raw.
    pub entry: usize,
    /// Which element of the record it is.
    pub element: usize,
    /// Byte offset of the element in the record.
    pub offset: usize,
    /// Type of the element.
    pub scalar: Scalar,
    /// The field, for messages.
    pub field: FieldId,
}

/// Records on their way into a sink.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Index of the first record in the result.
    pub first_record: u64,
    /// Whole records. Raw elements hold whatever was there.
    pub records: &'a [u8],
    /// For each record the number of lines before it; empty unless [`Options::lines`](crate::Options::lines) is set or
    /// there are raw fields.
    pub lines: &'a [u64],
    /// All raw fields, record by record; see [`Expected::raw`].
    pub raw: &'a [RawField],
    /// Their texts, one behind the other.
    pub raw_text: &'a [u8],
}

/// The text of a raw field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawField {
    /// Where the text ends in [`Batch::raw_text`]. It begins where the one before ends, and quotes are removed.
    pub end: usize,
    /// Column of the file, from 0.
    pub column: usize,
    /// Line on which it begins, from 1.
    pub line: u64,
    /// Byte in that line, from 1.
    pub byte: u64,
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

    /// Takes records; from any thread, disjoint, in any order.
    ///
    /// # Errors
    /// What the sink cannot take, for example because a disk is full; the read ends with it.
    fn write(&self, batch: &Batch<'_>) -> io::Result<()>;

    /// Has `make` put records straight into memory of the sink, which then need not be copied there: up to `most`, the first
    /// of which is `first_record`. It gets room for at least one, as long as whole records are, and answers how many it has
    /// made. What was there before does not matter, and none of it is read. False if the sink has no such memory: the
    /// records come by [`write`](Self::write) then.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    fn fill(&self, first_record: u64, most: usize, make: &mut dyn FnMut(&mut [u8]) -> usize) -> io::Result<bool> {
        let _ = (first_record, most, make);
        Ok(false)
    }

    /// Says that the read has failed and no record from `record` on will be of use: a [`write`](Self::write) of such
    /// records that waits for earlier ones has to return. May be called again with an earlier record.
    fn end_before(&self, record: u64) {
        let _ = record;
    }
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

    fn write(&self, batch: &Batch<'_>) -> io::Result<()> {
        let mut state = self.state.lock().expect("no panic under this lock");
        let start = batch.first_record as usize * state.record_size;
        let end = start + batch.records.len();
        if state.bytes.len() < end {
            state.bytes.resize(end, 0);
        }
        state.bytes[start..end].copy_from_slice(batch.records);
        Ok(())
    }
}
