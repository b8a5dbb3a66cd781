//! Integers, floats and complex numbers as numpy.loadtxt reads them; white space around the text is already gone.

use super::Fault;
use crate::dialect::trim;
use crate::options::Encoding;

fn split_sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    }
}

/// A decimal integer; what does not fit `T` is an overflow, never wrapped.
pub(super) fn integer<T: TryFrom<i128>>(text: &[u8]) -> Result<T, Fault> {
    let (negative, digits) = split_sign(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Fault::Bad);
    }
    let add = |sum: i128, digit: &u8| sum.checked_mul(10)?.checked_add((digit - b'0') as i128);
    let magnitude = digits.iter().try_fold(0, add).ok_or(Fault::Overflow)?;
    T::try_from(if negative { -magnitude } else { magnitude }).map_err(|_| Fault::Overflow)
}

/// A decimal float, `inf`, `infinity` or `nan` in any case; too large is infinite, too small is zero.
pub(super) fn float(text: &[u8]) -> Result<f64, Fault> {
    match float_prefix(text) {
        Some((value, length)) if length == text.len() => Ok(value),
        _ => Err(Fault::Bad),
    }
}

/// The longest float at the start of `text`, and its length.
fn float_prefix(text: &[u8]) -> Option<(f64, usize)> {
    let (negative, unsigned) = split_sign(text);
    // fast-float2 takes a sign of its own; a second one is an error.
    if matches!(unsigned.first(), None | Some(b'-' | b'+')) {
        return None;
    }
    let (value, length) = fast_float2::parse_partial::<f64, _>(unsigned).ok()?;
    let value = if negative { -value } else { value };
    Some((value, text.len() - unsigned.len() + length))
}

/// The nearest half precision number, ties to even. (The crate `half` drops or rounds bits of the double first.)
pub(super) fn half_bits(value: f64) -> u16 {
    const NOT_FINITE: u64 = 0x7ff << 52;
    let sign = (value.to_bits() >> 48) as u16 & 0x8000;
    let magnitude = value.to_bits() & !(1 << 63);
    let exponent = (magnitude >> 52) as i32 - 1023;
    if magnitude > NOT_FINITE {
        return sign | 0x7e00;
    }
    if exponent > 15 {
        return sign | 0x7c00;
    }
    // 11 of 53 bits remain, fewer when the result is subnormal; a carry runs on into the exponent, up to infinity.
    let shift = 42 + (-14 - exponent).clamp(0, 12);
    let mantissa = magnitude & ((1 << 52) - 1) | 1 << 52;
    let (kept, dropped, half) = (mantissa >> shift, mantissa & ((1 << shift) - 1), 1 << (shift - 1));
    let rounded = kept + u64::from(dropped > half || (dropped == half && kept % 2 == 1));
    let exponent_bits = ((exponent + 14).max(0) as u64) << 10;
    sign | (exponent_bits + rounded) as u16
}

/// `1`, `2j`, `1+2j`, `1-2j`, `1+-2j`, each also in parentheses: real and imaginary part.
pub(super) fn complex(text: &[u8], encoding: Encoding) -> Result<[f64; 2], Fault> {
    let text = match text {
        [b'(', inner @ .., b')'] => trim(inner, encoding),
        _ => text,
    };
    let (first, length) = float_prefix(text).ok_or(Fault::Bad)?;
    match &text[length..] {
        [] => Ok([first, 0.0]),
        b"j" => Ok([0.0, first]),
        [b'+' | b'-', ..] => {
            let rest = &text[length..];
            let rest = if rest.starts_with(b"+-") { &rest[1..] } else { rest };
            let (second, length) = float_prefix(rest).ok_or(Fault::Bad)?;
            if &rest[length..] == b"j" { Ok([first, second]) } else { Err(Fault::Bad) }
        }
        _ => Err(Fault::Bad),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_never_wrap() {
        assert_eq!(integer::<i8>(b"-128"), Ok(-128));
        assert_eq!(integer::<i8>(b"128"), Err(Fault::Overflow));
        assert_eq!(integer::<u8>(b"-1"), Err(Fault::Overflow));
        assert_eq!(integer::<u64>(b"+18446744073709551615"), Ok(u64::MAX));
        assert_eq!(integer::<u64>(b"18446744073709551616"), Err(Fault::Overflow));
        assert_eq!(integer::<i64>(&[b'9'; 60]), Err(Fault::Overflow));
        assert_eq!(integer::<i64>(b"-0"), Ok(0));
        for bad in ["", "-", "+-1", "1e3", "0x10", "1_0", "1.", "1 2", "\u{661}"] {
            assert_eq!(integer::<i64>(bad.as_bytes()), Err(Fault::Bad), "{bad}");
        }
    }

    #[test]
    fn floats_are_spelled_as_in_numpy() {
        let cases = [
            (".5", 0.5),
            ("5.", 5.0),
            ("+.5e-3", 0.0005),
            ("1E5", 1e5),
            ("1e400", f64::INFINITY),
            ("1e-400", 0.0),
            ("-INFINITY", f64::NEG_INFINITY),
            ("+Inf", f64::INFINITY),
            ("0.9999999999999999", 0.999_999_999_999_999_9),
        ];
        for (text, value) in cases {
            assert_eq!(float(text.as_bytes()), Ok(value), "{text}");
        }
        assert!(float(b"NaN").unwrap().is_nan());
        assert!(float(b"-nan").unwrap().is_sign_negative());
        assert!(float(b"-0").unwrap().is_sign_negative());
        for bad in
            ["", ".", "-", "+-1", "--1", "1e", "1e+", "1d5", "infi", "nan(123)", "0x1p3", "1_0", "1 2", "e5", "1,5"]
        {
            assert_eq!(float(bad.as_bytes()), Err(Fault::Bad), "{bad}");
        }
    }

    #[test]
    fn halves_are_rounded_once() {
        let cases = [
            (65519.0, 0x7bff),
            (65520.0, 0x7c00),
            (1e300, 0x7c00),
            (-1.0, 0xbc00),
            (1.000_488_281_25, 0x3c00),
            (1.000_488_281_26, 0x3c01), // beyond half way by less than a float32 can tell
            (6.2e-5, 0x0410),
            (2f64.powi(-14), 0x0400),
            (2f64.powi(-24), 0x0001),
            (2f64.powi(-25), 0x0000),
            (2.99e-8, 0x0001),
            (1e-300, 0x0000),
            (-0.0, 0x8000),
            (f64::NEG_INFINITY, 0xfc00),
        ];
        for (value, bits) in cases {
            assert_eq!(half_bits(value), bits, "{value}");
        }
        assert_eq!(half_bits(f64::NAN) & 0x7fff, 0x7e00);
    }

    #[test]
    fn complex_numbers_are_spelled_as_in_numpy() {
        let parse = |text: &str| complex(text.as_bytes(), Encoding::Utf8);
        let cases = [
            ("1+2j", [1.0, 2.0]),
            ("( 1-2j )", [1.0, -2.0]),
            ("(4)", [4.0, 0.0]),
            ("-19e2j", [0.0, -1900.0]),
            ("1e3+-1e2j", [1000.0, -100.0]),
            ("inf+1j", [f64::INFINITY, 1.0]),
        ];
        for (text, value) in cases {
            assert_eq!(parse(text), Ok(value), "{text}");
        }
        for bad in [
            "1 +2j", "1+ 2j", "1+2 j", "1+-+3", "(1j", "(1", "(1+2j", "1+2j)", "j", "1+j", "1+2J", "1+2i", "()", "1+2",
            "1+", "",
        ] {
            assert_eq!(parse(bad), Err(Fault::Bad), "{bad}");
        }
    }
}
