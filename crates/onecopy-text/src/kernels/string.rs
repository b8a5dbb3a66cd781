//! Strings of ASCII without NUL.

use super::Kernel;
use super::number::load8;

/// `S` of some width: ASCII without NUL that fits the width.
#[derive(Clone, Copy)]
pub(super) struct Bytes(pub(super) usize);

impl Kernel for Bytes {
    type Bytes = [u8; 0];

    #[inline(always)]
    fn size(self) -> usize {
        self.0
    }

    #[inline(always)]
    fn one(self, padded: &[u8], start: usize, end: usize, place: &mut [u8]) -> bool {
        let (length, width) = (end - start, place.len());
        if length > width {
            return false;
        }
        match width {
            17.. => long(&padded[start..end], place),
            8..17 => {
                // Two words that overlap cover any width between; each is loaded on its own and cut where the text ends.
                let (head, head_is_plain) = word(padded, start, length.min(8));
                let (tail, tail_is_plain) = word(padded, start + width - 8, length.saturating_sub(width - 8));
                place[..8].copy_from_slice(&head.to_le_bytes());
                place[width - 8..].copy_from_slice(&tail.to_le_bytes());
                head_is_plain && tail_is_plain
            }
            _ => {
                let (bytes, is_plain) = word(padded, start, length);
                match width {
                    4.. => overlap(
                        (bytes as u32).to_le_bytes(),
                        ((bytes >> (8 * (width - 4))) as u32).to_le_bytes(),
                        place,
                    ),
                    2..4 => overlap(
                        (bytes as u16).to_le_bytes(),
                        ((bytes >> (8 * (width - 2))) as u16).to_le_bytes(),
                        place,
                    ),
                    _ => place.fill(bytes as u8),
                }
                is_plain
            }
        }
    }
}

/// Stores `head` at the start and `tail` at the end.
#[inline(always)]
fn overlap<const N: usize>(head: [u8; N], tail: [u8; N], place: &mut [u8]) {
    let end = place.len() - N;
    place[..N].copy_from_slice(&head);
    place[end..].copy_from_slice(&tail);
}

/// The highest bit of each byte.
const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);

/// All bits of the lowest n bytes.
const LOWEST: [u64; 9] = {
    let mut masks = [u64::MAX; 9];
    let mut n = 0;
    while n < 8 {
        masks[n] = (1 << (8 * n)) - 1;
        n += 1;
    }
    masks
};

/// The `length` bytes at `at` and zeros behind; and whether they are ASCII without NUL.
#[inline(always)]
fn word(padded: &[u8], at: usize, length: usize) -> (u64, bool) {
    let field = LOWEST[length];
    let bytes = load8(padded, at) & field;
    // Adding 0x7f sets the highest bit of all but NUL, and never carries where there is ASCII.
    let not_nul = bytes.wrapping_add(!HIGH) & HIGH;
    (bytes, bytes & HIGH == 0 && not_nul == field & HIGH)
}

#[inline(never)]
fn long(text: &[u8], place: &mut [u8]) -> bool {
    let (head, tail) = place.split_at_mut(text.len());
    head.copy_from_slice(text);
    tail.fill(0);
    is_plain(text)
}

fn is_plain(text: &[u8]) -> bool {
    text.iter().fold(true, |plain, byte| plain & matches!(byte, 1..=127))
}

/// `U` of some length: ASCII without NUL that fits.
#[derive(Clone, Copy)]
pub(super) struct Unicode(pub(super) usize);

impl Kernel for Unicode {
    type Bytes = [u8; 0];

    #[inline(always)]
    fn size(self) -> usize {
        4 * self.0
    }

    #[inline(always)]
    fn one(self, padded: &[u8], start: usize, end: usize, place: &mut [u8]) -> bool {
        let text = &padded[start..end];
        if text.len() > self.0 {
            return false;
        }
        let (head, tail) = place.split_at_mut(4 * text.len());
        for (slot, &byte) in head.as_chunks_mut().0.iter_mut().zip(text) {
            *slot = u32::from(byte).to_le_bytes();
        }
        tail.fill(0);
        is_plain(text)
    }
}
