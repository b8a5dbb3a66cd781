//! What goes through a queue.

use std::borrow::Cow;

use onecopy_collections::queue::{Batch, Message};

use super::{LONG, array_in};
use crate::{Array, Error, HandleError};

/// What the contents of a message are. The numbers stand in shared memory.
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
}

impl ValueKind {
    const ALL: [Self; 10] = [
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
    ];

    /// What a message says that it is.
    pub fn of(message: &Message<'_>) -> Result<Self, Error> {
        let tag = Self::ALL.get(usize::from(message.tag & !LONG)).copied();
        tag.ok_or_else(|| HandleError(format!("a message of kind {}", message.tag)).into())
    }
}

/// Something that goes through a queue.
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

/// The value that the contents of a message are.
pub(super) fn value_of(batch: &Batch, tag: ValueKind, contents: Cow<'_, [u8]>) -> Result<Value, Error> {
    let number = || {
        let bytes = <[u8; 8]>::try_from(&*contents);
        bytes.map_err(|_| HandleError(format!("a number of {} bytes", contents.len())))
    };
    Ok(match tag {
        ValueKind::None => Value::None,
        ValueKind::False => Value::Bool(false),
        ValueKind::True => Value::Bool(true),
        ValueKind::Int => Value::Int(i64::from_le_bytes(number()?)),
        ValueKind::Float => Value::Float(f64::from_le_bytes(number()?)),
        ValueKind::Str => Value::Str(
            String::from_utf8(contents.into_owned()).map_err(|error| HandleError(format!("a text: {error}")))?,
        ),
        ValueKind::Bytes => Value::Bytes(contents.into_owned()),
        ValueKind::Pickle => Value::Pickle(contents.into_owned()),
        ValueKind::Raw => Value::Raw(contents.into_owned()),
        ValueKind::Array => {
            Value::Array(Array::receive_by(&contents, |handle, itemsize| array_in(batch, handle, itemsize))?)
        }
    })
}
