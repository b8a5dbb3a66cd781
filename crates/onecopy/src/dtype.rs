//! Data types of array items, as numpy has them, in a form that crosses between processes.

use crate::reader::Reader;

/// A type that cannot be shared, or bytes that describe none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("data type {text}: {reason}")]
pub struct DTypeError {
    text: String,
    reason: String,
}

impl DTypeError {
    pub(crate) fn new(text: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { text: text.into(), reason: reason.into() }
    }
}

/// The type of an item: everything numpy knows that has no Python objects inside.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DType {
    /// One value, in the notation of numpy's `dtype.str`: `<f8`, `|S10`, `<M8[ns]`, ….
    Scalar(String),
    /// A fixed number of items of one type.
    SubArray {
        /// Its shape.
        shape: Vec<u64>,
        /// The type of its items.
        item: Box<DType>,
    },
    /// A structure.
    Record {
        /// Bytes, padding included.
        itemsize: u64,
        /// Laid out as a C compiler would.
        aligned: bool,
        /// In order; they may overlap.
        fields: Vec<Field>,
    },
}

/// A field of a structure.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Field {
    /// Name.
    pub name: String,
    /// Second name, or empty.
    pub title: String,
    /// Bytes from the start of the structure.
    pub offset: u64,
    /// Type.
    pub dtype: DType,
}

/// Structures nested deeper than this are refused: the bytes may be anybody's.
const MOST_DEPTH: u32 = 32;

impl DType {
    /// A scalar type in numpy's notation.
    ///
    /// ```
    /// # use onecopy::DType;
    /// assert_eq!(DType::scalar("<f8")?.itemsize(), 8);
    /// assert_eq!(DType::scalar("<U5")?.itemsize(), 20);
    /// assert!(DType::scalar("|O").is_err());
    /// # Ok::<(), onecopy::Error>(())
    /// ```
    pub fn scalar(text: &str) -> Result<Self, crate::Error> {
        scalar_size(text)?;
        Ok(Self::Scalar(text.to_owned()))
    }

    /// Bytes of one item.
    pub fn itemsize(&self) -> u64 {
        match self {
            // Checked when the value was made.
            Self::Scalar(text) => scalar_size(text).unwrap_or(0),
            // In this order, as `decode` checks it: many times nothing is nothing.
            Self::SubArray { shape, item } => shape.iter().fold(item.itemsize(), |size, &n| size.saturating_mul(n)),
            Self::Record { itemsize, .. } => *itemsize,
        }
    }

    /// Appends the form that crosses between processes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Scalar(text) => {
                out.push(b's');
                put_text(out, text);
            }
            Self::SubArray { shape, item } => {
                out.push(b'a');
                put_number(out, shape.len() as u64);
                for &n in shape {
                    put_number(out, n);
                }
                item.encode(out);
            }
            Self::Record { itemsize, aligned, fields } => {
                out.push(b'r');
                put_number(out, *itemsize);
                out.push(u8::from(*aligned));
                put_number(out, fields.len() as u64);
                for field in fields {
                    put_text(out, &field.name);
                    put_text(out, &field.title);
                    put_number(out, field.offset);
                    field.dtype.encode(out);
                }
            }
        }
    }

    /// Reads what [`encode`](Self::encode) wrote; anything else is an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, DTypeError> {
        let mut reader = Reader { bytes };
        let dtype = reader.dtype(0).ok_or_else(|| DTypeError::new("in a handle", "it is not well formed"))?;
        if reader.bytes.is_empty() { Ok(dtype) } else { Err(DTypeError::new("in a handle", "bytes are left over")) }
    }
}

/// Bytes of a scalar; refuses what has no fixed size of plain bytes.
fn scalar_size(text: &str) -> Result<u64, DTypeError> {
    let refuse = |reason: &str| DTypeError::new(format!("{text:?}"), reason);
    let mut chars = text.chars();
    let (order, kind) = (chars.next(), chars.next());
    let rest = chars.as_str();
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let size: u64 = rest[..digits].parse().map_err(|_| refuse("it has no size"))?;
    let unit = &rest[digits..];
    if !matches!(order, Some('<' | '>' | '|' | '=')) {
        return Err(refuse("it has no byte order"));
    }
    let plausible = match kind {
        Some('b') => size == 1,
        Some('i' | 'u') => matches!(size, 1 | 2 | 4 | 8),
        Some('f') => matches!(size, 2 | 4 | 8 | 12 | 16),
        Some('c') => matches!(size, 8 | 16 | 24 | 32),
        Some('m' | 'M') => size == 8,
        Some('S' | 'V') => size <= 1 << 31,
        Some('U') => size <= 1 << 29,
        Some('O') => return Err(refuse("Python objects cannot be shared; convert the array to a fixed type")),
        _ => return Err(refuse("it is not a type of fixed size")),
    };
    let unit_fits = unit.is_empty() || matches!(kind, Some('m' | 'M')) && unit.starts_with('[') && unit.ends_with(']');
    if !plausible || !unit_fits {
        return Err(refuse("there is no such type"));
    }
    Ok(if kind == Some('U') { 4 * size } else { size })
}

fn put_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

impl Reader<'_> {
    fn dtype(&mut self, depth: u32) -> Option<DType> {
        if depth > MOST_DEPTH {
            return None;
        }
        match self.u8()? {
            b's' => DType::scalar(&self.text()?).ok(),
            b'a' => self.sub_array(depth),
            b'r' => self.record(depth),
            _ => None,
        }
    }

    fn sub_array(&mut self, depth: u32) -> Option<DType> {
        let count = self.u64().filter(|&n| n <= 64)?;
        let shape: Vec<u64> = (0..count).map(|_| self.u64()).collect::<Option<_>>()?;
        let item = Box::new(self.dtype(depth + 1)?);
        shape.iter().try_fold(item.itemsize(), |size, &n| size.checked_mul(n))?;
        Some(DType::SubArray { shape, item })
    }

    fn record(&mut self, depth: u32) -> Option<DType> {
        let itemsize = self.u64()?;
        let aligned = self.u8()? != 0;
        let count = self.u64()?;
        let mut fields = Vec::new();
        for _ in 0..count {
            let (name, title, offset) = (self.text()?, self.text()?, self.u64()?);
            let dtype = self.dtype(depth + 1)?;
            let end = offset.checked_add(dtype.itemsize())?;
            if end > itemsize {
                return None;
            }
            fields.push(Field { name, title, offset, dtype });
        }
        Some(DType::Record { itemsize, aligned, fields })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dtypes() -> impl Strategy<Value = DType> {
        let scalar = prop::sample::select(vec!["<f8", "|S10", "<U3", ">i4", "|b1", "<M8[25s]", "|V0", "<c16", "<f16"])
            .prop_map(|text| DType::scalar(text).unwrap());
        scalar.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                (prop::collection::vec(0_u64..4, 0..3), inner.clone())
                    .prop_map(|(shape, item)| DType::SubArray { shape, item: Box::new(item) }),
                (prop::collection::vec((".{0,5}", 0_u64..9, inner), 0..4), 0_u64..5, any::<bool>()).prop_map(
                    |(fields, padding, aligned)| {
                        let fields: Vec<_> = fields
                            .into_iter()
                            .map(|(name, offset, dtype)| Field { name, title: String::new(), offset, dtype })
                            .collect();
                        let end = fields.iter().map(|f| f.offset + f.dtype.itemsize()).max().unwrap_or(0);
                        DType::Record { itemsize: end + padding, aligned, fields }
                    }
                ),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_type_crosses(dtype in dtypes()) {
            let mut bytes = Vec::new();
            dtype.encode(&mut bytes);
            prop_assert_eq!(DType::decode(&bytes).unwrap(), dtype);
            for cut in 0..bytes.len() {
                prop_assert!(DType::decode(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = DType::decode(&bytes);
        }
    }

    #[test]
    fn what_has_no_fixed_size_is_refused() {
        for text in ["|O", "|T16", "<f3", "f8", "<i", "", "<i8[ns]", "<é8"] {
            assert!(DType::scalar(text).is_err(), "{text}");
        }
    }
}
