//! One number at a time: up to 16 plain characters in one go.

use crate::block::PADDING;

/// Eight bytes at `at`; there are always so many, for the sake of the padding.
#[inline(always)]
pub(super) fn load8(padded: &[u8], at: usize) -> u64 {
    const { assert!(PADDING >= 16) };
    u64::from_le_bytes(*padded[at..].first_chunk().expect("padding behind the text"))
}

#[inline(always)]
fn load16(padded: &[u8], at: usize) -> u128 {
    u128::from_le_bytes(*padded[at..].first_chunk().expect("padding behind the text"))
}

/// '0' in each byte.
pub(super) const ZEROS: u64 = 0x3030_3030_3030_3030;

/// The number whose digits are the bytes of `digits`, the first digit lowest, as values and not as characters; unused
/// bytes are zero and come first.
#[inline(always)]
fn digits8(digits: u64) -> Option<u64> {
    const MASK: u64 = 0x0000_00ff_0000_00ff;
    // A byte above 9 shows in its own upper half, or gets there when 6 is added.
    if (digits | digits.wrapping_add(0x0606_0606_0606_0606)) & 0xf0f0_f0f0_f0f0_f0f0 != 0 {
        return None;
    }
    // Neighbours are joined to pairs, pairs to fours, fours to the whole.
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let low = (pairs & MASK).wrapping_mul(100 + (1_000_000 << 32));
    let high = (pairs >> 16 & MASK).wrapping_mul(1 + (10_000 << 32));
    Some(low.wrapping_add(high) >> 32)
}

#[inline(always)]
fn digits16(digits: u128) -> Option<u64> {
    Some(digits8(digits as u64)? * 100_000_000 + digits8((digits >> 64) as u64)?)
}

/// Where the digits begin, whether there is a minus, and how many bytes there are behind it.
#[inline(always)]
fn sign(padded: &[u8], start: usize, end: usize) -> (usize, bool, usize) {
    let negative = padded[start] == b'-';
    let digits = start + usize::from(negative);
    (digits, negative, end.wrapping_sub(digits))
}

/// Up to 16 digits, perhaps with a minus.
#[inline(always)]
pub(super) fn integer(padded: &[u8], start: usize, end: usize) -> Option<i64> {
    let (start, negative, length) = sign(padded, start, end);
    // The shift moves what does not belong to the field out at the top and zeros in below.
    let magnitude = match length {
        1..=8 => digits8((load8(padded, start) ^ ZEROS) << (64 - 8 * length))?,
        9..=16 => digits16((load16(padded, start) ^ (ZEROS as u128 * ((1 << 64) + 1))) << (128 - 8 * length))?,
        _ => return None,
    } as i64;
    Some(if negative { -magnitude } else { magnitude })
}

/// What a point is among digits that were made values by XOR with '0'.
pub(super) const POINT: u8 = b'.' ^ b'0';

/// Every power of ten that a double holds exactly, as far as a fraction of 16 characters needs them.
pub(super) const POWERS: [f64; 16] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// Up to 16 characters of digits with at most one point, perhaps with a minus; others without any ado from `fast_float2`.
#[inline(always)]
pub(super) fn float(padded: &[u8], start: usize, end: usize) -> Option<f64> {
    let (digits, negative, length) = sign(padded, start, end);
    let magnitude = match length {
        1..=8 => decimal8((load8(padded, digits) ^ ZEROS) << (64 - 8 * length), length)?,
        9..=16 => decimal16((load16(padded, digits) ^ (ZEROS as u128 * ((1 << 64) + 1))) << (128 - 8 * length))?,
        _ => return long_float(&padded[start..end]),
    };
    Some(if negative { -magnitude } else { magnitude })
}

/// The value of bytes as [`digits8`] takes them, with at most one point among them.
#[inline(always)]
fn decimal8(bytes: u64, length: usize) -> Option<f64> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let difference = bytes ^ (ONES * POINT as u64);
    // The highest bit of each byte that is the point; of bytes behind it perhaps too, which the digits then betray.
    let point = difference.wrapping_sub(ONES) & !difference & (ONES << 7);
    if point == 0 {
        return digits8(bytes).map(|value| value as f64);
    }
    if length == 1 {
        return None;
    }
    let bit = point.trailing_zeros() & !7;
    let before = bytes & ((1 << bit) - 1);
    let behind = bytes & (!0xff << bit);
    let fraction = 7 - bit as usize / 8;
    // At most 15 digits make the integer exact, and a quotient of exact numbers is rounded once: the nearest double.
    Some(digits8(before << 8 | behind)? as f64 / POWERS[fraction])
}

/// As [`decimal8`], for 9 to 16 bytes.
#[inline(always)]
fn decimal16(bytes: u128) -> Option<f64> {
    const ONES: u128 = u128::from_ne_bytes([1; 16]);
    let difference = bytes ^ (ONES * POINT as u128);
    let point = difference.wrapping_sub(ONES) & !difference & (ONES << 7);
    let (digits, fraction) = if point == 0 {
        (bytes, 0)
    } else {
        let bit = point.trailing_zeros() & !7;
        (((bytes & ((1 << bit) - 1)) << 8) | (bytes & (!0xff << bit)), 15 - bit as usize / 8)
    };
    let integer = digits16(digits)?;
    // Beyond this the conversion to double would round, and the division again.
    if integer > 1 << 53 {
        return None;
    }
    Some(integer as f64 / POWERS[fraction])
}

/// Fields with an exponent or many digits, as `numpy.savetxt` writes them.
#[inline(never)]
fn long_float(text: &[u8]) -> Option<f64> {
    // Spellings that differ between fast-float2 and numpy begin with none of these.
    if !matches!(text.first(), Some(b'0'..=b'9' | b'-' | b'.')) || !text.last()?.is_ascii_digit() {
        return None;
    }
    if text.starts_with(b"-+") || text.starts_with(b"--") {
        return None;
    }
    fast_float2::parse(text).ok()
}
