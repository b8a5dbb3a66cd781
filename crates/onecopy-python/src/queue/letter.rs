//! Letters: objects with a stamp that says what for, which is read before anything of the object is.
//!
//! A pool needs them. Whoever takes a letter knows which task it is even if the object kills the process that unpickles
//! it, and arrays stay until the letter is dropped, opened or not. The stamp stands behind the object's bytes.

use std::sync::Arc;

use onecopy::{Batch, Block, Message, Payload, ValueKind};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::errors::OrRaise;
use crate::value::{self, Raised, bytes_of, changed, loads};

/// What stands behind the bytes of an object: its kind, and three numbers for the receiver.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    pub(super) topic: u8,
    pub(super) number: i64,
    pub(super) extra: i64,
}

const STAMP: usize = 18;

impl Stamp {
    fn put_behind(self, mut bytes: Vec<u8>, kind: ValueKind) -> Vec<u8> {
        bytes.reserve_exact(STAMP);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.extra.to_le_bytes());
        bytes.extend_from_slice(&[self.topic, kind as u8]);
        bytes
    }

    /// The stamp, the kind of the object and how long its bytes are.
    fn read(bytes: &[u8]) -> Option<(Self, ValueKind, usize)> {
        let (object, stamp) = bytes.split_last_chunk::<STAMP>()?;
        let (number, rest) = stamp.split_first_chunk::<8>()?;
        let (extra, rest) = rest.split_first_chunk::<8>()?;
        let &[topic, kind] = rest else { return None };
        let stamp = Self { topic, number: i64::from_le_bytes(*number), extra: i64::from_le_bytes(*extra) };
        Some((stamp, ValueKind::from_byte(kind)?, object.len()))
    }
}

/// A letter that was taken out of a queue.
#[pyclass(frozen, module = "onecopy._native")]
pub(super) struct Letter {
    stamp: Stamp,
    kind: ValueKind,
    len: usize,
    bytes: Py<PyBytes>,
    /// Keeps the blocks that the object refers to.
    batch: Arc<Batch>,
    /// Which message of the batch it is.
    place: usize,
}

#[pymethods]
impl Letter {
    #[getter]
    fn topic(&self) -> u8 {
        self.stamp.topic
    }

    #[getter]
    fn number(&self) -> i64 {
        self.stamp.number
    }

    #[getter]
    fn extra(&self) -> i64 {
        self.stamp.extra
    }

    /// Bytes of the object in the letter, and bytes of the blocks that it refers to.
    fn sizes(&self) -> (usize, u64) {
        let message = self.batch.messages().nth(self.place);
        let is_long = message
            .is_some_and(|message| matches!(onecopy::Queue::contents(&self.batch, &message), Ok(Payload::Block(_))));
        // The first block of a long letter is the letter.
        let enclosed = message.iter().flat_map(Message::enclosed).skip(usize::from(is_long));
        (self.len, enclosed.filter_map(|enclosed| self.batch.block(enclosed.block)).map(Block::len).sum())
    }

    /// Return the object; it is made anew each time.
    fn open<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let bytes = self.bytes.bind(py);
        match self.kind {
            ValueKind::Pickle => loads(py, bytes),
            kind => value::decode(py, kind, &Payload::Inline(&bytes.as_bytes()[..self.len])),
        }
    }
}

/// Adds a letter to a batch for a queue.
pub(super) fn push(
    queue: &onecopy::Queue,
    batch: &mut Batch,
    stamp: Stamp,
    object: &Bound<'_, PyAny>,
    dumps: &Bound<'_, PyAny>,
) -> PyResult<()> {
    // Most letters without an object are of the pool itself, and of no interest to an audit.
    let plain = if object.is_none() { value::plain(object) } else { value::plain_unless_audited(object) };
    if let Some((kind, plain)) = plain {
        let sealed = stamp.put_behind(plain.as_bytes().to_vec(), kind);
        return queue.push(batch, ValueKind::Letter, &sealed).or_raise(object.py());
    }
    let sealed = || {
        let (kind, bytes) = value::made_with(object, dumps)?;
        Ok((ValueKind::Letter, stamp.put_behind(bytes, kind)))
    };
    queue.push_made(batch, sealed).map_err(|Raised(error)| error)
}

/// The same for a letter that a tuple describes.
pub(super) fn push_described(
    queue: &onecopy::Queue,
    batch: &mut Batch,
    letter: &Bound<'_, PyAny>,
    dumps: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let letter = letter.cast::<PyTuple>()?;
    let topic = letter.get_item(0)?.extract()?;
    let (number, extra) = (letter.get_item(1)?.extract()?, letter.get_item(2)?.extract()?);
    push(queue, batch, Stamp { topic, number, extra }, &letter.get_item(3)?, dumps)
}

/// The letters of a batch that was taken.
pub(super) fn all_of(py: Python<'_>, batch: Batch) -> PyResult<Vec<Letter>> {
    let batch = Arc::new(batch);
    let letter = |(place, message)| {
        let payload = onecopy::Queue::contents(&batch, &message).or_raise(py)?;
        let bytes = bytes_of(py, &payload)?;
        let (stamp, kind, len) = Stamp::read(bytes.as_bytes()).ok_or_else(changed)?;
        if ValueKind::of(&message).or_raise(py)? != ValueKind::Letter {
            return Err(changed());
        }
        Ok(Letter { stamp, kind, len, bytes: bytes.unbind(), batch: Arc::clone(&batch), place })
    };
    batch.messages().enumerate().map(letter).collect()
}
