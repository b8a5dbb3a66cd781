//! Keys of dictionaries: numbers that are equal are one key, whatever their types are, as in Python.

use onecopy_collections::container::{Key, Record};

use crate::value::{Payload, Value, ValueKind};
use crate::{Error, HandleError};

/// What the bytes of a key are, in the form in which equal keys are the same. The numbers stand in shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum KeyKind {
    /// Python's `None`.
    None = 0,
    /// An integer of 64 bits, little-endian: also of truth values, and of numbers without a fraction.
    Int = 1,
    /// A number of 64 bits that is no integer, little-endian.
    Float = 2,
    /// Text in UTF-8.
    Str = 3,
    /// Bytes.
    Bytes = 4,
    /// A larger integer, in as few bytes as hold it and its sign, little-endian.
    BigInt = 5,
    /// Anything else.
    Other = 6,
}

/// A key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DictKey<'a> {
    /// Python's `None`.
    None,
    /// A truth value: the same key as 0 or 1.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number. One without a fraction is the same key as the integer.
    Float(f64),
    /// Text.
    Str(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A Python object of another type.
    Other {
        /// What the form is in which equal keys are the same.
        kind: KeyKind,
        /// That form.
        bytes: &'a [u8],
        /// The object, pickled.
        pickle: &'a [u8],
    },
}

impl DictKey<'_> {
    /// Shows the key in the form in which equal keys are the same.
    #[inline]
    pub(super) fn with<T>(&self, show: impl FnOnce(&Key<'_>) -> T) -> T {
        match *self {
            Self::Str(text) => show(&Key::plain(KeyKind::Str as u8, text.as_bytes())),
            Self::Int(value) => show(&Key::plain(KeyKind::Int as u8, &value.to_le_bytes())),
            Self::Bytes(bytes) => show(&Key::plain(KeyKind::Bytes as u8, bytes)),
            Self::None => show(&Key::plain(KeyKind::None as u8, &[])),
            Self::Bool(value) => {
                let given = if value { ValueKind::True } else { ValueKind::False };
                let bytes = i64::from(value).to_le_bytes();
                show(&Key { tag: KeyKind::Int as u8, bytes: &bytes, given: Some((given as u8, &[])) })
            }
            Self::Float(value) => with_float(value, show),
            Self::Other { kind, bytes, pickle } => {
                show(&Key { tag: kind as u8, bytes, given: Some((ValueKind::Pickle as u8, pickle)) })
            }
        }
    }
}

fn with_float<T>(value: f64, show: impl FnOnce(&Key<'_>) -> T) -> T {
    let own = value.to_le_bytes();
    let given = Some((ValueKind::Float as u8, &own[..]));
    if value.fract() != 0.0 || !value.is_finite() {
        return show(&Key::plain(KeyKind::Float as u8, &own));
    }
    // 2⁶³ itself is the first that does not fit; −2⁶³ fits.
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value) {
        return show(&Key { tag: KeyKind::Int as u8, bytes: &(value as i64).to_le_bytes(), given });
    }
    show(&Key { tag: KeyKind::BigInt as u8, bytes: &big_bytes(value), given })
}

/// The bytes of a number without a fraction that is beyond 64 bits, as Python's
/// `int.to_bytes((n.bit_length() + 8) // 8, "little", signed=True)`.
fn big_bytes(value: f64) -> Vec<u8> {
    let bits = value.abs().to_bits();
    let mantissa = bits & ((1 << 52) - 1) | 1 << 52;
    // At least 11, as the number is at least 2⁶³.
    let shift = (bits >> 52) as usize - 1075;
    let mut bytes = vec![0; (shift + 53 + 8) / 8];
    let shifted = (u128::from(mantissa) << (shift % 8)).to_le_bytes();
    for (place, byte) in bytes[shift / 8..].iter_mut().zip(shifted) {
        *place = byte;
    }
    if value < 0.0 {
        let mut carry = true;
        for byte in &mut bytes {
            let (negated, overflow) = (!*byte).overflowing_add(u8::from(carry));
            (*byte, carry) = (negated, overflow);
        }
    }
    bytes
}

/// Kind and bytes of the key of a record, as it was given.
pub(super) fn given_key(record: Record<'_>) -> Result<(ValueKind, Vec<u8>), Error> {
    let is_given = record.is_key_given();
    let (tag, bytes) = record.given_key();
    if is_given {
        return Ok((ValueKind::of_tag(tag)?, bytes));
    }
    let kind = match tag {
        0 => ValueKind::None,
        1 => ValueKind::Int,
        2 => ValueKind::Float,
        3 => ValueKind::Str,
        4 => ValueKind::Bytes,
        _ => return Err(HandleError(format!("a key of kind {tag}")).into()),
    };
    Ok((kind, bytes))
}

/// The key of a record as a value.
pub(super) fn key_value(record: Record<'_>) -> Result<Value, Error> {
    let (kind, bytes) = given_key(record)?;
    Value::from_payload(kind, &Payload::Inline(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(key: DictKey<'_>) -> (u8, Vec<u8>) {
        key.with(|key| (key.tag, key.bytes.to_vec()))
    }

    #[test]
    fn equal_numbers_are_one_key() {
        assert_eq!(form(DictKey::Int(1)), form(DictKey::Float(1.0)));
        assert_eq!(form(DictKey::Int(1)), form(DictKey::Bool(true)));
        assert_eq!(form(DictKey::Int(0)), form(DictKey::Float(-0.0)));
        assert_eq!(form(DictKey::Int(i64::MIN)), form(DictKey::Float(i64::MIN as f64)));
        assert_ne!(form(DictKey::Int(1)), form(DictKey::Float(1.5)));
        assert_ne!(form(DictKey::Str("a")), form(DictKey::Bytes(b"a")));
        assert_eq!(form(DictKey::Float(f64::NAN)).0, KeyKind::Float as u8);
    }

    #[test]
    fn large_numbers_have_the_bytes_of_integers() {
        let exact = |n: i128, len: usize| (KeyKind::BigInt as u8, n.to_le_bytes()[..len].to_vec());
        assert_eq!(form(DictKey::Float(9_223_372_036_854_775_808.0)), exact(1 << 63, 9));
        assert_eq!(form(DictKey::Float(-18_446_744_073_709_551_616.0)), exact(-(1 << 64), 9));
        assert_eq!(form(DictKey::Float(1e30)), exact(1_000_000_000_000_000_019_884_624_838_656, 13));
        assert_eq!(form(DictKey::Float(f64::MAX)).1.len(), 129);
    }
}
