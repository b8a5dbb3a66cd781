//! One field's text to the bytes of one element: every spelling, every check. The kernels are a faster way to the same bytes.

mod date;
mod number;
mod string;

use crate::dialect::trim;
use crate::layout::Scalar;
use crate::options::{Encoding, Options};

/// Why a text is not an element of the wanted type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Bad,
    Overflow,
    TooLong { length: usize, width: usize },
    Utf8,
    NotLatin1(char),
    Nul,
}

/// Rules that hold for all fields of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) encoding: Encoding,
    pub(crate) truncate: bool,
}

impl From<&Options> for Rules {
    fn from(options: &Options) -> Self {
        Self { encoding: options.encoding, truncate: options.truncate }
    }
}

/// Type and byte order of one element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) scalar: Scalar,
    pub(crate) big_endian: bool,
}

impl Cell {
    /// Writes the element that `text` stands for; `out` has the size of the scalar.
    pub(crate) fn convert(self, text: &[u8], rules: Rules, out: &mut [u8]) -> Result<(), Fault> {
        if memchr::memchr(0, text).is_some() {
            return Err(Fault::Nul);
        }
        match self.scalar {
            Scalar::Bytes(_) => return string::bytes(text, rules, out),
            Scalar::Unicode(_) => return string::unicode(text, rules, self.big_endian, out),
            _ => {}
        }
        let text = trim(text, rules.encoding);
        match self.scalar {
            Scalar::Bool => self.put(out, [u8::from(number::integer::<i64>(text)? != 0)]),
            Scalar::I8 => self.put(out, number::integer::<i8>(text)?.to_le_bytes()),
            Scalar::I16 => self.put(out, number::integer::<i16>(text)?.to_le_bytes()),
            Scalar::I32 => self.put(out, number::integer::<i32>(text)?.to_le_bytes()),
            Scalar::I64 => self.put(out, number::integer::<i64>(text)?.to_le_bytes()),
            Scalar::U8 => self.put(out, number::integer::<u8>(text)?.to_le_bytes()),
            Scalar::U16 => self.put(out, number::integer::<u16>(text)?.to_le_bytes()),
            Scalar::U32 => self.put(out, number::integer::<u32>(text)?.to_le_bytes()),
            Scalar::U64 => self.put(out, number::integer::<u64>(text)?.to_le_bytes()),
            Scalar::F16 => self.put(out, number::half_bits(number::float(text)?).to_le_bytes()),
            // numpy parses a double and then casts; so do we, for the same bits.
            Scalar::F32 => self.put(out, (number::float(text)? as f32).to_le_bytes()),
            Scalar::F64 => self.put(out, number::float(text)?.to_le_bytes()),
            Scalar::C64 => {
                let parts = number::complex(text, rules.encoding)?;
                for (out, part) in out.chunks_exact_mut(4).zip(parts) {
                    self.put(out, (part as f32).to_le_bytes());
                }
            }
            Scalar::C128 => {
                let parts = number::complex(text, rules.encoding)?;
                for (out, part) in out.chunks_exact_mut(8).zip(parts) {
                    self.put(out, part.to_le_bytes());
                }
            }
            Scalar::DateTime(unit, step) => self.put(out, date::datetime(text, unit, step)?.to_le_bytes()),
            Scalar::TimeDelta => self.put(out, date::timedelta(text)?.to_le_bytes()),
            Scalar::Bytes(_) | Scalar::Unicode(_) => unreachable!("returned above"),
        }
        Ok(())
    }

    /// The values that fit, for messages.
    pub(crate) fn range(self) -> String {
        fn show<T: std::fmt::Display>(low: T, high: T) -> String {
            format!("{low} to {high}")
        }
        match self.scalar {
            Scalar::I8 => show(i8::MIN, i8::MAX),
            Scalar::I16 => show(i16::MIN, i16::MAX),
            Scalar::I32 => show(i32::MIN, i32::MAX),
            Scalar::U8 => show(u8::MIN, u8::MAX),
            Scalar::U16 => show(u16::MIN, u16::MAX),
            Scalar::U32 => show(u32::MIN, u32::MAX),
            Scalar::U64 => show(u64::MIN, u64::MAX),
            Scalar::DateTime(..) => "a 64-bit count of its unit".into(),
            _ => show(i64::MIN, i64::MAX),
        }
    }

    fn put<const N: usize>(self, out: &mut [u8], mut little_endian: [u8; N]) {
        if self.big_endian {
            little_endian.reverse();
        }
        out.copy_from_slice(&little_endian);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Unit;

    const RULES: Rules = Rules { encoding: Encoding::Utf8, truncate: false };

    fn convert(scalar: Scalar, text: &str) -> Result<Vec<u8>, Fault> {
        let mut out = vec![0xaa; scalar.size()];
        Cell { scalar, big_endian: false }.convert(text.as_bytes(), RULES, &mut out)?;
        Ok(out)
    }

    #[test]
    fn bool_is_an_integer_as_in_numpy() {
        assert_eq!(convert(Scalar::Bool, "-1"), Ok(vec![1]));
        assert_eq!(convert(Scalar::Bool, " 00 "), Ok(vec![0]));
        for text in ["True", "false", "1.0", "", "t"] {
            assert_eq!(convert(Scalar::Bool, text), Err(Fault::Bad), "{text}");
        }
    }

    #[test]
    fn nul_is_named_whatever_the_type() {
        for scalar in [Scalar::I32, Scalar::F64, Scalar::Bytes(4), Scalar::Unicode(4), Scalar::TimeDelta] {
            assert_eq!(convert(scalar, "1\0"), Err(Fault::Nul), "{scalar}");
        }
    }

    #[test]
    fn big_endian_reverses_each_part() {
        let mut out = [0; 16];
        let cell = Cell { scalar: Scalar::C128, big_endian: true };
        cell.convert(b"1+2j", RULES, &mut out).unwrap();
        assert_eq!(out[..8], 1f64.to_be_bytes());
        assert_eq!(out[8..], 2f64.to_be_bytes());
    }

    #[test]
    fn dates_reach_their_unit() {
        let day = |text| convert(Scalar::DateTime(Unit::Day, 1), text);
        assert_eq!(day(" 1970-01-03 "), Ok(2i64.to_le_bytes().to_vec()));
        assert_eq!(day(""), Ok(i64::MIN.to_le_bytes().to_vec()));
    }
}
