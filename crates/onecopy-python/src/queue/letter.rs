//! Letters: objects with a stamp that says what for, which is read before anything of the object is.
//!
//! A pool needs them. Whoever takes a letter knows which task it is even if the object kills the process that unpickles
//! it, and arrays stay until the letter is emptied or dropped. The stamp stands behind the object's bytes.
//!
//! A letter is sealed first and put into its queue later where its sender has to let go of the object in between: who
//! gets the object and drops it is to find its memory free.

use std::mem;
use std::sync::{Mutex, PoisonError};

use onecopy::{Batch, Block, Payload, ValueKind};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::Queue;
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
    /// Those that the object refers to.
    blocks: Mutex<Vec<Block>>,
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
        (self.len, self.blocks.lock().unwrap_or_else(PoisonError::into_inner).iter().map(Block::len).sum())
    }

    /// Return the object; it is made anew each time.
    fn open<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let bytes = self.bytes.bind(py);
        match self.kind {
            ValueKind::Pickle => loads(py, bytes),
            kind => value::decode(py, kind, &Payload::Inline(&bytes.as_bytes()[..self.len])),
        }
    }

    /// Return the object, which alone keeps the blocks that it refers to from then on, and lets go of them if it cannot be
    /// made.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let object = self.open(py);
        drop(mem::take(&mut *self.blocks.lock().unwrap_or_else(PoisonError::into_inner)));
        object
    }
}

/// A letter that is ready to be put into its queue, and is dropped if nobody does so.
#[pyclass(frozen, module = "onecopy._native")]
pub(super) struct Sealed {
    queue: Py<Queue>,
    batch: Mutex<Option<Batch>>,
}

#[pymethods]
impl Sealed {
    /// Put the letter into its queue, once.
    fn post(&self, py: Python<'_>) -> PyResult<()> {
        let batch = self.take().ok_or_else(|| PyValueError::new_err("the letter has been posted"))?;
        self.queue.get().put_batch(py, &batch, None).map(drop)
    }
}

impl Sealed {
    pub(super) fn new(queue: &Bound<'_, Queue>, batch: Batch) -> Self {
        Self { queue: queue.clone().unbind(), batch: Mutex::new(Some(batch)) }
    }

    fn take(&self) -> Option<Batch> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        if let Some(batch) = self.take() {
            // What cannot be let go of now goes with the queue.
            let _ = self.queue.get().inner.drop_rest(&batch, 0);
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

/// The letters of a batch that was taken, each with the blocks of its own.
pub(super) fn all_of(py: Python<'_>, batch: Batch) -> PyResult<Vec<Letter>> {
    let read = |message| {
        let payload = onecopy::Queue::contents(&batch, &message).or_raise(py)?;
        let bytes = bytes_of(py, &payload)?;
        let (stamp, kind, len) = Stamp::read(bytes.as_bytes()).ok_or_else(changed)?;
        if ValueKind::of(&message).or_raise(py)? != ValueKind::Letter {
            return Err(changed());
        }
        // The first block of a long letter is the letter, which has been copied out.
        let is_long = usize::from(matches!(payload, Payload::Block(_)));
        let letter = Letter { stamp, kind, len, bytes: bytes.unbind(), blocks: Mutex::default() };
        Ok((letter, is_long, message.enclosed().len()))
    };
    let letters: Vec<_> = batch.messages().map(read).collect::<PyResult<_>>()?;
    let mut blocks = batch.into_blocks();
    let with_blocks = |(letter, skipped, count): (Letter, usize, usize)| {
        let own = blocks.by_ref().take(count).skip(skipped).collect();
        Letter { blocks: Mutex::new(own), ..letter }
    };
    Ok(letters.into_iter().map(with_blocks).collect())
}
