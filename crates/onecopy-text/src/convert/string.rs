//! Fixed-width strings.

use super::{Fault, Rules};
use crate::options::Encoding;

/// `S`: ASCII as it is, other characters as Latin-1 (numpy's rule), zeros behind.
pub(super) fn bytes(text: &[u8], rules: Rules, out: &mut [u8]) -> Result<(), Fault> {
    if rules.encoding == Encoding::Latin1 || text.is_ascii() {
        return fill(text.iter().copied().map(Ok), text.len(), rules, out.iter_mut(), |out, byte| *out = byte);
    }
    let text = std::str::from_utf8(text).map_err(|_| Fault::Utf8)?;
    let latin1 = text.chars().map(|c| u8::try_from(c).map_err(|_| Fault::NotLatin1(c)));
    fill(latin1, text.chars().count(), rules, out.iter_mut(), |out, byte| *out = byte)
}

/// `U`: four bytes per character, zeros behind.
pub(super) fn unicode(text: &[u8], rules: Rules, big_endian: bool, out: &mut [u8]) -> Result<(), Fault> {
    let put = |out: &mut [u8], value: u32| {
        out.copy_from_slice(&if big_endian { value.to_be_bytes() } else { value.to_le_bytes() });
    };
    let slots = out.chunks_exact_mut(4);
    if rules.encoding == Encoding::Latin1 {
        return fill(text.iter().map(|&byte| Ok(byte.into())), text.len(), rules, slots, put);
    }
    let text = std::str::from_utf8(text).map_err(|_| Fault::Utf8)?;
    fill(text.chars().map(|c| Ok(c.into())), text.chars().count(), rules, slots, put)
}

/// Puts `values` into `slots` and `T::default()` into the slots that remain.
fn fill<T: Default, Slot>(
    values: impl Iterator<Item = Result<T, Fault>>,
    length: usize,
    rules: Rules,
    slots: impl ExactSizeIterator<Item = Slot>,
    put: impl Fn(Slot, T),
) -> Result<(), Fault> {
    let width = slots.len();
    if length > width && !rules.truncate {
        return Err(Fault::TooLong { length, width });
    }
    let mut values = values.fuse();
    for slot in slots {
        put(slot, values.next().transpose()?.unwrap_or_default());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Rules = Rules { encoding: Encoding::Utf8, truncate: false };
    const TRUNCATE: Rules = Rules { encoding: Encoding::Utf8, truncate: true };
    const LATIN1: Rules = Rules { encoding: Encoding::Latin1, truncate: false };

    fn s3(text: &[u8], rules: Rules) -> Result<[u8; 3], Fault> {
        let mut out = [0xaa; 3];
        bytes(text, rules, &mut out).map(|()| out)
    }

    #[test]
    fn bytes_are_padded_cut_or_refused() {
        assert_eq!(s3(b"ab", STRICT), Ok(*b"ab\0"));
        assert_eq!(s3(b" a ", STRICT), Ok(*b" a "));
        assert_eq!(s3(b"abcd", STRICT), Err(Fault::TooLong { length: 4, width: 3 }));
        assert_eq!(s3(b"abcd", TRUNCATE), Ok(*b"abc"));
    }

    #[test]
    fn bytes_beyond_ascii_are_latin1() {
        assert_eq!(s3("ééé".as_bytes(), STRICT), Ok([0xe9; 3]));
        assert_eq!(s3("€".as_bytes(), STRICT), Err(Fault::NotLatin1('€')));
        assert_eq!(s3(b"\xff\xfe", STRICT), Err(Fault::Utf8));
        assert_eq!(s3(b"\xff\xfe", LATIN1), Ok([0xff, 0xfe, 0]));
    }

    #[test]
    fn unicode_counts_characters() {
        let mut out = [0xaa; 8];
        unicode("é€".as_bytes(), STRICT, false, &mut out).unwrap();
        assert_eq!(out, [0xe9, 0, 0, 0, 0xac, 0x20, 0, 0]);
        unicode(b"\xe9", LATIN1, true, &mut out).unwrap();
        assert_eq!(out, [0, 0, 0, 0xe9, 0, 0, 0, 0]);
        assert_eq!(unicode("äöü".as_bytes(), STRICT, false, &mut out), Err(Fault::TooLong { length: 3, width: 2 }));
        assert_eq!(unicode(b"\x80", STRICT, false, &mut out), Err(Fault::Utf8));
    }
}
