//! BGZF: gzip members of at most 64 KiB that tell their size, so that each thread inflates its own. What follows them
//! may be gzip of any kind, as in a file to which others were appended: one thread at a time inflates that.

use std::sync::{Mutex, PoisonError};

use libdeflater::{Crc, Decompressor};

use super::stream::StreamFeed;
use super::{Feed, Portion, ReadAt, Sequential, TextSize};
use crate::block::Block;
use crate::error::{Compression, ReadError};
use crate::progress::Progress;

/// Size of the largest block, compressed or not.
const MAX_BLOCK: usize = 64 << 10;
/// CRC-32 and size of the text at the end of each block.
const TRAILER: usize = 8;
/// Size of the header of a block; a whole gzip member is longer.
const HEADER: usize = 18;
/// Of every gzip member.
const GZIP: &[u8] = &[0x1f, 0x8b, 8];

/// Where the compressed data of the block at the start of `bytes` begins, and the size of the whole block.
///
/// `None` if it is not a BGZF header, or not all of it is there.
pub(super) fn block_size(bytes: &[u8]) -> Option<(usize, usize)> {
    const EXTRA_FLAG: u8 = 4;
    let [0x1f, 0x8b, 8, flags, _, _, _, _, _, _, low, high, rest @ ..] = bytes else { return None };
    let mut extra = rest.get(..usize::from(u16::from_le_bytes([*low, *high])))?;
    let data = 12 + extra.len();
    while let [id1, id2, low, high, rest @ ..] = extra {
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        if let ([b'B', b'C'], [low, high, ..], 2) = ([*id1, *id2], rest, length) {
            let size = usize::from(u16::from_le_bytes([*low, *high])) + 1;
            return (*flags == EXTRA_FLAG && size >= data + TRAILER).then_some((data, size));
        }
        extra = rest.get(length..)?;
    }
    None
}

pub(super) struct BgzfFeed<'a, R> {
    input: R,
    size: u64,
    name: String,
    block_size: usize,
    state: Mutex<State<'a>>,
    progress: &'a Progress,
}

struct State<'a> {
    offset: u64,
    next: u64,
    /// Whether the last block so far is empty; the last block of a complete file is.
    ends_with_marker: bool,
    finished: bool,
    /// What follows the blocks, and the ticket of its first portion.
    rest: Option<(StreamFeed<'a>, u64)>,
}

/// What there is at a place.
enum Found {
    Blocks(Taken),
    /// gzip without sizes, or the zeros behind it.
    Members,
}

/// Blocks that one thread has taken.
struct Taken {
    compressed: Vec<u8>,
    offset: u64,
    last: bool,
}

impl<'a, R: ReadAt + Clone + Send + 'a> BgzfFeed<'a, R> {
    pub(super) fn new(input: R, size: u64, name: String, block_size: usize, progress: &'a Progress) -> Self {
        let state = State { offset: 0, next: 0, ends_with_marker: false, finished: false, rest: None };
        Self { input, size, name, block_size, state: Mutex::new(state), progress }
    }

    fn truncated(&self) -> ReadError {
        ReadError::Truncated { file: self.name.clone(), compression: Compression::Bgzf, offset: self.size }
    }

    fn corrupt(&self, offset: u64, reason: &str) -> ReadError {
        let (file, compression) = (self.name.clone(), Compression::Bgzf);
        ReadError::Corrupt { file, compression, offset, reason: reason.into() }
    }

    /// Takes blocks until they hold about `block_size` bytes of text.
    fn take(&self, state: &mut State<'_>) -> Result<Found, ReadError> {
        let length = ((self.size - state.offset) as usize).min(MAX_BLOCK.max(self.block_size / 2));
        let mut compressed = vec![0; length];
        self.input
            .read_exact_at(&mut compressed, state.offset)
            .map_err(|error| ReadError::from_io(&self.name, error))?;
        let (mut used, mut text_size) = (0, 0);
        while used < length && text_size < self.block_size {
            let rest = &compressed[used..];
            let Some(block) = block_size(rest).and_then(|(_, size)| rest.get(..size)) else { break };
            let size = text_size_of(block);
            if size > MAX_BLOCK {
                return Err(self.corrupt(state.offset + used as u64, "a block of more than 64 KiB"));
            }
            state.ends_with_marker = size == 0;
            text_size += size;
            used += block.len();
        }
        if used == 0 {
            return self.no_block(&compressed, state.offset);
        }
        compressed.truncate(used);
        let offset = state.offset;
        state.offset += used as u64;
        Ok(Found::Blocks(Taken { compressed, offset, last: state.offset == self.size }))
    }

    fn no_block(&self, rest: &[u8], offset: u64) -> Result<Found, ReadError> {
        let is_start = GZIP.iter().zip(rest).all(|(a, b)| a == b);
        if is_start && (block_size(rest).is_some() || rest.len() < HEADER) {
            Err(self.truncated())
        } else if is_start || rest[0] == 0 {
            Ok(Found::Members)
        } else {
            Err(self.corrupt(offset, "no BGZF block begins here"))
        }
    }

    fn members(&self, offset: u64) -> Result<StreamFeed<'a>, ReadError> {
        let reader = Box::new(Sequential { input: self.input.clone(), size: self.size, offset });
        StreamFeed::behind_bgzf(reader, offset, self.name.clone(), self.block_size, self.progress)
    }

    /// The next portion of what follows the blocks.
    fn next_of_rest(state: &mut State<'_>, block: &mut Block) -> Option<Portion> {
        let (feed, first) = state.rest.as_ref()?;
        let portion = feed.next(block)?;
        Some(Portion { ticket: portion.ticket + first, ..portion })
    }

    fn inflate(&self, taken: &Taken, block: &mut Block) -> Result<(), ReadError> {
        let mut decompressor = Decompressor::new();
        let mut used = 0;
        while let Some((data, size)) = block_size(&taken.compressed[used..]) {
            let member = &taken.compressed[used..used + size];
            let length = text_size_of(member);
            let out = block.spare(length);
            inflate_member(&mut decompressor, member, data, out)
                .map_err(|reason| self.corrupt(taken.offset + used as u64, &reason))?;
            block.grow(length);
            used += size;
        }
        self.progress.add_read(taken.compressed.len() as u64);
        Ok(())
    }
}

/// Inflates one block, whose compressed data begins at `data`, to exactly `out`.
fn inflate_member(decompressor: &mut Decompressor, member: &[u8], data: usize, out: &mut [u8]) -> Result<(), String> {
    let compressed = &member[data..member.len() - TRAILER];
    let length = decompressor.deflate_decompress(compressed, out).map_err(|error| error.to_string())?;
    if length != out.len() {
        return Err("a block is shorter than it says".into());
    }
    let mut crc = Crc::new();
    crc.update(out);
    let expected = &member[member.len() - TRAILER..][..4];
    if crc.sum().to_le_bytes() == *expected { Ok(()) } else { Err("the checksum does not match".into()) }
}

/// What a whole block says about the size of its text.
fn text_size_of(block: &[u8]) -> usize {
    block.last_chunk().map_or(0, |size: &[u8; 4]| u32::from_le_bytes(*size) as usize)
}

impl<'a, R: ReadAt + Clone + Send + 'a> Feed for BgzfFeed<'a, R> {
    fn next(&self, block: &mut Block) -> Option<Portion> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.rest.is_some() {
            return Self::next_of_rest(&mut state, block);
        }
        if state.finished {
            return None;
        }
        let ticket = state.next;
        state.next += 1;
        let taken = match self.take(&mut state) {
            Ok(Found::Blocks(taken)) => Ok(taken),
            Ok(Found::Members) => match self.members(state.offset) {
                Ok(members) => {
                    state.rest = Some((members, ticket));
                    return Self::next_of_rest(&mut state, block);
                }
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        let last = taken.as_ref().map_or(true, |taken| taken.last);
        let complete = !last || state.ends_with_marker;
        state.finished = last;
        drop(state);
        block.clear();
        let bytes_in = taken.as_ref().map_or(0, |taken| taken.compressed.len() as u64);
        let outcome = taken.and_then(|taken| self.inflate(&taken, block));
        // A file cut between two blocks would otherwise pass as complete.
        let outcome = outcome.and_then(|()| if complete { Ok(()) } else { Err(self.truncated()) });
        Some(Portion { ticket, last, bytes_in, outcome })
    }

    fn text_size(&self) -> TextSize {
        TextSize::of_compressed(self.size)
    }
}
