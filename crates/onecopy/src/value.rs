//! Values as they lie in queues and containers: what they are, and where their bytes are.

use std::borrow::Cow;

use onecopy_arena::{Access, Block};
use onecopy_collections::container::Record;
use onecopy_collections::queue::Message;

use crate::{Array, Error, HandleError};

/// Set in a tag where the contents lie in the first block that the message or item refers to.
pub(crate) const LONG: u8 = 0x80;

/// What the contents of a message, or of an item of a container, are. The numbers stand in shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ValueKind {
    /// Nothing: no value.
    None = 0,
    /// False.
    False = 1,
    /// True.
    True = 2,
    /// An integer of 64 bits, little-endian.
    Int = 3,
    /// A number of 64 bits, little-endian.
    Float = 4,
    /// Text in UTF-8.
    Str = 5,
    /// Bytes.
    Bytes = 6,
    /// The handle of an array.
    Array = 7,
    /// A Python object, pickled.
    Pickle = 8,
    /// Bytes that are no object: what `send_bytes` sends.
    Raw = 9,
    /// A value of another kind with a stamp behind it, as the pools of the Python package send them.
    Letter = 10,
}

impl ValueKind {
    const ALL: [Self; 11] = [
        Self::None,
        Self::False,
        Self::True,
        Self::Int,
        Self::Float,
        Self::Str,
        Self::Bytes,
        Self::Array,
        Self::Pickle,
        Self::Raw,
        Self::Letter,
    ];

    /// What a message says that it is.
    pub fn of(message: &Message<'_>) -> Result<Self, Error> {
        Self::of_tag(message.tag)
    }

    /// The kind of a number, if it is one.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }

    /// What a tag says.
    #[inline]
    pub(crate) fn of_tag(tag: u8) -> Result<Self, Error> {
        Self::from_byte(tag & !LONG).ok_or_else(|| HandleError(format!("a value of kind {tag}")).into())
    }
}

/// Something that goes through a queue, or lies in a container.
#[derive(Debug, Clone)]
pub enum Value {
    /// Python's `None`.
    None,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number.
    Float(f64),
    /// Text.
    Str(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// An array, which stays where it is.
    Array(Array),
    /// A Python object, pickled.
    Pickle(Vec<u8>),
    /// Bytes that are no object: what Python's `send_bytes` sends.
    Raw(Vec<u8>),
}

/// The bytes of a value.
#[derive(Debug)]
pub enum Payload<'a> {
    /// In the batch.
    Inline(&'a [u8]),
    /// In a block.
    Block(&'a Block),
    /// In a container.
    Record(Record<'a>),
}

impl<'a> Payload<'a> {
    /// Where the value of a record is.
    #[inline]
    pub(crate) fn of(record: Record<'a>, blocks: &'a [Block]) -> Result<Self, Error> {
        if record.tag() & LONG == 0 {
            return Ok(Self::Record(record));
        }
        let block = blocks.first().ok_or_else(|| HandleError("a value without the block that it is in".into()))?;
        Ok(Self::Block(block))
    }

    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.len(),
            Self::Block(block) => block.len() as usize,
            Self::Record(record) => record.value_len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Eight of them, if that is all.
    #[inline]
    pub fn word(&self) -> Option<[u8; 8]> {
        match self {
            Self::Inline(bytes) => <[u8; 8]>::try_from(*bytes).ok(),
            Self::Record(record) => record.value_word(),
            Self::Block(_) => None,
        }
    }

    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len()];
        self.copy_to(&mut bytes);
        bytes
    }

    /// Copies them out.
    ///
    /// # Panics
    ///
    /// If `to` is not as long as they are.
    pub fn copy_to(&self, to: &mut [u8]) {
        match self {
            Self::Inline(bytes) => to.copy_from_slice(bytes),
            Self::Record(record) => record.copy_value(to),
            Self::Block(block) => {
                assert_eq!(to.len() as u64, block.len());
                if let Some(first) = block.address(Access::ReadOnly) {
                    // SAFETY: the block has as many bytes as are copied (checked), and a slice of this process's does
                    // not overlap with it.
                    unsafe { first.as_ptr().copy_to_nonoverlapping(to.as_mut_ptr(), to.len()) };
                }
            }
        }
    }
}

impl Value {
    /// What the bytes of a value are.
    pub(crate) fn from_payload(kind: ValueKind, payload: &Payload<'_>) -> Result<Self, Error> {
        let number = || payload.word().ok_or_else(|| HandleError(format!("a number of {} bytes", payload.len())));
        Ok(match kind {
            ValueKind::None => Self::None,
            ValueKind::False => Self::Bool(false),
            ValueKind::True => Self::Bool(true),
            ValueKind::Int => Self::Int(i64::from_le_bytes(number()?)),
            ValueKind::Float => Self::Float(f64::from_le_bytes(number()?)),
            ValueKind::Str => {
                Self::Str(String::from_utf8(payload.to_vec()).map_err(|error| HandleError(format!("a text: {error}")))?)
            }
            ValueKind::Bytes => Self::Bytes(payload.to_vec()),
            ValueKind::Pickle => Self::Pickle(payload.to_vec()),
            ValueKind::Raw => Self::Raw(payload.to_vec()),
            ValueKind::Array => Self::Array(Array::receive(&payload.to_vec())?),
            ValueKind::Letter => return Err(HandleError("a letter among values".into()).into()),
        })
    }

    /// Kind and bytes of a value that is no array.
    pub(crate) fn plain(&self) -> (ValueKind, Cow<'_, [u8]>) {
        match self {
            Self::None | Self::Array(_) => (ValueKind::None, Cow::Borrowed(&[])),
            Self::Bool(value) => (if *value { ValueKind::True } else { ValueKind::False }, Cow::Borrowed(&[])),
            Self::Int(value) => (ValueKind::Int, Cow::Owned(value.to_le_bytes().to_vec())),
            Self::Float(value) => (ValueKind::Float, Cow::Owned(value.to_le_bytes().to_vec())),
            Self::Str(text) => (ValueKind::Str, Cow::Borrowed(text.as_bytes())),
            Self::Bytes(bytes) => (ValueKind::Bytes, Cow::Borrowed(bytes)),
            Self::Pickle(bytes) => (ValueKind::Pickle, Cow::Borrowed(bytes)),
            Self::Raw(bytes) => (ValueKind::Raw, Cow::Borrowed(bytes)),
        }
    }
}
