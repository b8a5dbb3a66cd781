//! What a record looks like in memory: the packed layout that text is parsed into.

use std::fmt;

/// Unit of a [`Scalar::DateTime`], as in numpy's `datetime64[unit]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Years.
    Year,
    /// Months.
    Month,
    /// Weeks that begin on a Thursday, as the epoch does.
    Week,
    /// Days.
    Day,
    /// Hours.
    Hour,
    /// Minutes.
    Minute,
    /// Seconds.
    Second,
    /// 10⁻³ s.
    Millisecond,
    /// 10⁻⁶ s.
    Microsecond,
    /// 10⁻⁹ s.
    Nanosecond,
    /// 10⁻¹² s.
    Picosecond,
    /// 10⁻¹⁵ s.
    Femtosecond,
    /// 10⁻¹⁸ s.
    Attosecond,
}

impl Unit {
    /// The unit that numpy calls `code`: `"Y"`, `"M"`, `"W"`, `"D"`, `"h"`, `"m"`, `"s"`, `"ms"` … `"as"`.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::CODES.iter().find(|(_, known)| *known == code).map(|(unit, _)| *unit)
    }

    /// numpy's code for the unit.
    pub fn code(self) -> &'static str {
        Self::CODES.iter().find(|(unit, _)| *unit == self).map_or("", |(_, code)| code)
    }

    const CODES: [(Self, &'static str); 13] = [
        (Self::Year, "Y"),
        (Self::Month, "M"),
        (Self::Week, "W"),
        (Self::Day, "D"),
        (Self::Hour, "h"),
        (Self::Minute, "m"),
        (Self::Second, "s"),
        (Self::Millisecond, "ms"),
        (Self::Microsecond, "us"),
        (Self::Nanosecond, "ns"),
        (Self::Picosecond, "ps"),
        (Self::Femtosecond, "fs"),
        (Self::Attosecond, "as"),
    ];
}

/// The type of one element; its name in messages is numpy's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scalar {
    /// One byte, 0 or 1. The text is an integer, as for numpy; anything but zero is true.
    Bool,
    /// `int8`.
    I8,
    /// `int16`.
    I16,
    /// `int32`.
    I32,
    /// `int64`.
    I64,
    /// `uint8`.
    U8,
    /// `uint16`.
    U16,
    /// `uint32`.
    U32,
    /// `uint64`.
    U64,
    /// `float16`.
    F16,
    /// `float32`.
    F32,
    /// `float64`.
    F64,
    /// `complex64`: two `float32`.
    C64,
    /// `complex128`: two `float64`.
    C128,
    /// `S<width>`: bytes, padded with zeros. Characters beyond ASCII are stored as Latin-1, as numpy does.
    Bytes(usize),
    /// `U<length>`: that many characters of four bytes each, padded with zeros.
    Unicode(usize),
    /// `datetime64[<step><unit>]`: ISO 8601 text, a bare year, or `NaT`; an empty field is `NaT`.
    DateTime(Unit, u32),
    /// `timedelta64` of any unit: an integer or `NaT`; an empty field is `NaT`.
    TimeDelta,
}

impl Scalar {
    /// Size in bytes of one element.
    ///
    /// ```
    /// use onecopy_text::Scalar;
    /// assert_eq!(Scalar::I32.size(), 4);
    /// assert_eq!(Scalar::Unicode(3).size(), 12);
    /// ```
    pub fn size(self) -> usize {
        match self {
            Self::Bool | Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 | Self::F16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 | Self::C64 | Self::DateTime(..) | Self::TimeDelta => 8,
            Self::C128 => 16,
            Self::Bytes(width) => width,
            Self::Unicode(length) => 4 * length,
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Bool => "bool",
            Self::I8 => "int8",
            Self::I16 => "int16",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::U8 => "uint8",
            Self::U16 => "uint16",
            Self::U32 => "uint32",
            Self::U64 => "uint64",
            Self::F16 => "float16",
            Self::F32 => "float32",
            Self::F64 => "float64",
            Self::C64 => "complex64",
            Self::C128 => "complex128",
            Self::Bytes(width) => return write!(f, "S{width}"),
            Self::Unicode(length) => return write!(f, "U{length}"),
            Self::DateTime(unit, 1) => return write!(f, "datetime64[{}]", unit.code()),
            Self::DateTime(unit, step) => return write!(f, "datetime64[{step}{}]", unit.code()),
            Self::TimeDelta => "timedelta64",
        };
        f.write_str(name)
    }
}

/// One field of a record: one column of the text, or `count` consecutive columns (a sub-array).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The name that messages show.
    pub name: String,
    /// Type of each element.
    pub scalar: Scalar,
    /// Byte offset of the first element in the record.
    pub offset: usize,
    /// Whether elements are stored with the most significant byte first.
    pub big_endian: bool,
    /// Number of elements, one behind the other, each from a column of its own.
    pub count: usize,
}

impl Field {
    /// A little-endian field of one element.
    pub fn new(name: impl Into<String>, scalar: Scalar, offset: usize) -> Self {
        Self { name: name.into(), scalar, offset, big_endian: false, count: 1 }
    }
}

/// A layout whose fields do not fit its record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field '{field}' ends at byte {end} of a record of {record_size} bytes; give the record size of the dtype")]
pub struct LayoutError {
    field: String,
    end: usize,
    record_size: usize,
}

/// The fields of a record in the order of the columns, and the size of the record; bytes between fields are zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    fields: Vec<Field>,
    record_size: usize,
}

/// Bytes of a record that no field has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Padding {
    None,
    Zeros,
}

impl Layout {
    /// A layout of `fields`, in the order of the columns, within records of `record_size` bytes.
    ///
    /// # Errors
    /// [`LayoutError`] when a field reaches beyond the record.
    ///
    /// ```
    /// use onecopy_text::{Field, Layout, Scalar};
    /// let layout = Layout::new(vec![Field::new("chr", Scalar::Bytes(10), 0), Field::new("pos", Scalar::I32, 10)], 14)?;
    /// assert_eq!(layout.columns(), 2);
    /// # Ok::<(), onecopy_text::LayoutError>(())
    /// ```
    pub fn new(fields: Vec<Field>, record_size: usize) -> Result<Self, LayoutError> {
        for field in &fields {
            let end = field.count.checked_mul(field.scalar.size()).and_then(|size| size.checked_add(field.offset));
            if end.is_none_or(|end| end > record_size) {
                return Err(LayoutError { field: field.name.clone(), end: end.unwrap_or(usize::MAX), record_size });
            }
        }
        Ok(Self { fields, record_size })
    }

    pub(crate) fn padding(&self) -> Padding {
        let mut parts: Vec<_> =
            self.fields.iter().map(|field| (field.offset, field.offset + field.count * field.scalar.size())).collect();
        parts.sort_unstable();
        let covered = parts.iter().try_fold(0, |covered, &(start, end)| (start <= covered).then_some(covered.max(end)));
        if covered == Some(self.record_size) { Padding::None } else { Padding::Zeros }
    }

    /// Fields one behind the other without padding.
    ///
    /// ```
    /// use onecopy_text::{Layout, Scalar};
    /// let layout = Layout::packed([("chr", Scalar::Bytes(10)), ("pos", Scalar::I32)]);
    /// assert_eq!(layout.record_size(), 14);
    /// ```
    pub fn packed<N: Into<String>>(columns: impl IntoIterator<Item = (N, Scalar)>) -> Self {
        let mut record_size = 0;
        let place = |(name, scalar): (N, Scalar)| {
            let field = Field::new(name, scalar, record_size);
            record_size += scalar.size();
            field
        };
        let fields = columns.into_iter().map(place).collect();
        Self { fields, record_size }
    }

    /// The fields in the order of the columns.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Bytes of one record.
    pub fn record_size(&self) -> usize {
        self.record_size
    }

    /// Number of columns that fill one record.
    pub fn columns(&self) -> usize {
        self.fields.iter().map(|field| field.count).sum()
    }
}

/// What each line of the text becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schema {
    /// A record with named fields (a structured dtype).
    Records(Layout),
    /// A row of equal elements, as many as the first line has columns (a plain dtype).
    Rows {
        /// Type of each element.
        scalar: Scalar,
        /// Whether elements are stored with the most significant byte first.
        big_endian: bool,
    },
}

impl Schema {
    /// Rows of little-endian elements.
    pub fn rows(scalar: Scalar) -> Self {
        Self::Rows { scalar, big_endian: false }
    }
}

impl From<Layout> for Schema {
    fn from(layout: Layout) -> Self {
        Self::Records(layout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_codes_are_a_bijection() {
        for (unit, code) in Unit::CODES {
            assert_eq!(Unit::from_code(code), Some(unit));
            assert_eq!(unit.code(), code);
        }
        assert_eq!(Unit::from_code("fortnight"), None);
    }

    #[test]
    fn names_are_those_of_numpy() {
        assert_eq!(Scalar::C64.to_string(), "complex64");
        assert_eq!(Scalar::Bytes(10).to_string(), "S10");
        assert_eq!(Scalar::DateTime(Unit::Second, 25).to_string(), "datetime64[25s]");
        assert_eq!(Scalar::DateTime(Unit::Day, 1).to_string(), "datetime64[D]");
    }

    #[test]
    fn field_beyond_the_record_is_refused() {
        let mut field = Field::new("pos", Scalar::I32, 3);
        let error = Layout::new(vec![field.clone()], 6).unwrap_err();
        assert!(error.to_string().contains("'pos' ends at byte 7"), "{error}");
        assert!(Layout::new(vec![field.clone()], 7).is_ok());
        field.count = usize::MAX;
        assert!(Layout::new(vec![field], 7).is_err());
    }
}
