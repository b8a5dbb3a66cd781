//! What the index asks of 64 bytes.

use super::GROUP;

/// 64 bytes; each answer is a mask whose bit i is about byte i.
pub(super) trait Lanes {
    fn load(bytes: &[u8; GROUP]) -> Self;
    /// Bytes that are `byte`.
    fn equal(&self, byte: u8) -> u64;
    /// ASCII bytes from `low` to `high`.
    fn within(&self, low: u8, high: u8) -> u64;
    /// Bytes from 0x80 on.
    fn non_ascii(&self) -> u64;
}
