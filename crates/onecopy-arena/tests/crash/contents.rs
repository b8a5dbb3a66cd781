//! Blocks whose bytes can be checked by whoever comes by them.

use onecopy_arena::{Access, Arena, ArenaError, Block};

/// A source of choices that a seed repeats.
pub(crate) struct Choices(pub(crate) u64);

impl Choices {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// The bytes of a block that was filled with `seed`: the seed, and then words that follow from it.
pub(crate) fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len.next_multiple_of(8)];
    let mut word = seed;
    for place in bytes.chunks_exact_mut(8) {
        place.copy_from_slice(&word.to_ne_bytes());
        word = (word ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23).wrapping_add(1);
    }
    bytes.truncate(len);
    bytes
}

fn bytes(block: &Block) -> Vec<u8> {
    let first = block.address(Access::ReadOnly).unwrap();
    // SAFETY: the block is as long as it says, and a block with a pattern is never written to again.
    unsafe { std::slice::from_raw_parts(first.as_ptr(), block.len() as usize) }.to_vec()
}

/// Fills a block that nobody else has been told of.
pub(crate) fn fill(block: &Block, seed: u64) {
    let bytes = pattern(seed, block.len() as usize);
    let first = block.address(Access::ReadWrite).unwrap();
    // SAFETY: the block is as long as the pattern, and only this process has it.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), first.as_ptr(), bytes.len()) }
}

/// Ends the process if a block of at least 8 bytes does not hold its pattern.
pub(crate) fn check(block: &Block) {
    let bytes = bytes(block);
    let seed = u64::from_ne_bytes(bytes[..8].try_into().unwrap());
    assert!(bytes == pattern(seed, bytes.len()), "block {:?} of {} bytes holds wrong bytes", block.id(), bytes.len());
}

/// A new block with a pattern.
pub(crate) fn filled(arena: &'static Arena, len: u64, seed: u64) -> Result<Block, ArenaError> {
    let (block, _) = arena.allocate(len.max(8))?;
    fill(&block, seed);
    Ok(block)
}
