//! Copying large data into the arena with more than one thread.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::{Builder, available_parallelism, scope};

use onecopy_arena::{Arena, ArenaError, Block, CHUNK, Draft};

use crate::{Error, counters};

/// More threads than this do not make memory faster.
const MOST_THREADS: usize = 4;
/// Below this a thread costs more than it saves.
const LEAST_FOR_THREADS: usize = 2 * CHUNK;

/// A piece of this size is copied by stores that pass the caches by: the C library does so from some share of the last
/// cache on (240 MiB were seen), and with two threads it saves a third of the traffic, and a quarter of the time.
const STREAMED: usize = 256 << 20;

/// Pieces up to this size are collected before they are written.
const STAGED: usize = 64 << 10;
/// Most of the gaps between pieces are shorter.
const ALIGNED: usize = 64;

/// Copies `bytes` into a new block.
///
/// Recycled memory is written by plain copies, fresh memory through the files, in both cases by as many threads as
/// help.
pub fn copy_into(arena: &'static Arena, bytes: &[u8]) -> Result<Block, Error> {
    copy_interruptibly(arena, bytes, &mut || false)
}

/// As [`copy_into`], but asks before each piece (4 MiB, of large copies 256), on the calling thread, whether to stop. The
/// error is then [`ArenaError::Interrupted`], and nothing is left of the copy.
pub fn copy_interruptibly(arena: &'static Arena, bytes: &[u8], stop: &mut dyn FnMut() -> bool) -> Result<Block, Error> {
    gather_interruptibly(arena, bytes.len() as u64, &[Piece { at: 0, bytes }], stop)
}

/// Bytes, and where in the new block they go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece<'a> {
    pub(crate) at: u64,
    pub(crate) bytes: &'a [u8],
}

impl Piece<'_> {
    fn end(&self) -> u64 {
        self.at + self.bytes.len() as u64
    }
}

/// Copies pieces into a new block of `len` bytes; between them are zeros. They are in the order of their places, do not
/// overlap, and end at `len` at the latest.
pub(crate) fn gather_interruptibly(
    arena: &'static Arena,
    len: u64,
    pieces: &[Piece<'_>],
    stop: &mut dyn FnMut() -> bool,
) -> Result<Block, Error> {
    let most = if len < 2 * STREAMED as u64 { CHUNK } else { STREAMED };
    let draft = arena.draft(len, len)?;
    let lists: Vec<_> = draft.shares(len, most).into_iter().map(|list| (list, AtomicUsize::new(0))).collect();
    let stopped = AtomicBool::new(false);
    let work = |first: usize, stop: &mut dyn FnMut() -> bool| -> Result<(), Error> {
        // Each thread begins with another list, and helps with the next when its own is done.
        for (list, next) in lists.iter().cycle().skip(first).take(lists.len()) {
            while let Some(&(start, size)) = list.get(next.fetch_add(1, Relaxed)) {
                if stopped.load(Relaxed) || stop() {
                    stopped.store(true, Relaxed);
                    return Err(ArenaError::Interrupted.into());
                }
                Writer { draft: &draft, at: start, staged: Vec::new() }.write(pieces, start + size)?;
            }
        }
        Ok(())
    };
    let threads = if len < LEAST_FOR_THREADS as u64 { 1 } else { threads() };
    scope(|scope| {
        let help = |first| {
            let work = &work;
            let run = move || work(first, &mut || false);
            // A thread that cannot be had (`ulimit -v`, `ulimit -u`) costs only speed.
            Builder::new().name("onecopy-copy".into()).spawn_scoped(scope, run).ok()
        };
        let others: Vec<_> = (1..threads).filter_map(help).collect();
        let own = work(0, stop);
        others.into_iter().fold(own, |result, other| {
            result.and(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    })?;
    counters::moved_in(len);
    Ok(draft.finish(len)?)
}

/// Puts one range of a draft together. Small pieces are collected first: into fresh memory each write is a system call.
struct Writer<'a> {
    draft: &'a Draft,
    /// Where what is staged begins.
    at: u64,
    staged: Vec<u8>,
}

impl Writer<'_> {
    fn write(mut self, pieces: &[Piece<'_>], end: u64) -> Result<(), Error> {
        let begin = self.at;
        let first = pieces.partition_point(|piece| piece.end() <= begin);
        for piece in pieces[first..].iter().take_while(|piece| piece.at < end) {
            self.zeros_until(piece.at)?;
            let skipped = begin.saturating_sub(piece.at);
            let kept = piece.end().min(end) - piece.at;
            let bytes = &piece.bytes[skipped as usize..kept as usize];
            if bytes.len() as u64 == end - begin {
                return Ok(self.draft.write_at(begin, bytes)?);
            }
            self.bytes(bytes)?;
        }
        self.zeros_until(end)?;
        self.flush()
    }

    fn zeros_until(&mut self, end: u64) -> Result<(), Error> {
        while self.at + (self.staged.len() as u64) < end {
            let missing = end - self.at - self.staged.len() as u64;
            self.bytes(&[0; ALIGNED][..missing.min(ALIGNED as u64) as usize])?;
        }
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.staged.len() + bytes.len() > STAGED {
            self.flush()?;
        }
        if bytes.len() > STAGED {
            self.draft.write_at(self.at, bytes)?;
            self.at += bytes.len() as u64;
        } else {
            self.staged.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        if !self.staged.is_empty() {
            self.draft.write_at(self.at, &self.staged)?;
            self.at += self.staged.len() as u64;
            self.staged.clear();
        }
        Ok(())
    }
}

fn threads() -> usize {
    available_parallelism().map_or(1, usize::from).min(MOST_THREADS)
}

#[cfg(test)]
mod tests {
    use onecopy_arena::{Access, Options};

    use super::*;

    #[test]
    fn pieces_arrive_where_they_belong_with_zeros_between() {
        let arena = Arena::create(Options { limit: Some(256 << 20), warm: Some(64 << 20) }).unwrap();
        let bytes: Vec<u8> = (0..9_000_001_u32).map(|i| (i % 251) as u8 | 1).collect();
        // Of every length around the sizes at which pieces are treated in another way, across the ranges of threads.
        let lengths = [1, 0, 63, STAGED - 1, STAGED, STAGED + 1, CHUNK, 5, 3 * CHUNK + 7, 64, 2, 9_000_001, 1, 70_000];
        let (mut pieces, mut expected) = (Vec::new(), Vec::new());
        for (gap, len) in (0_usize..).zip(lengths) {
            expected.resize(expected.len() + gap * 37, 0);
            let piece = &bytes[..len.min(bytes.len())];
            pieces.push(Piece { at: expected.len() as u64, bytes: piece });
            expected.extend_from_slice(piece);
        }
        expected.resize(expected.len() + 100, 0);
        for _ in 0..2 {
            let block = gather_interruptibly(arena, expected.len() as u64, &pieces, &mut || false).unwrap();
            assert!(block.read_at(0, block.len()).unwrap() == expected);
        }
        arena.verify().unwrap();
    }

    #[test]
    fn every_byte_arrives_fresh_and_recycled() {
        let arena = Arena::create(Options { limit: Some(256 << 20), warm: Some(64 << 20) }).unwrap();
        let bytes: Vec<u8> = (0..40_000_003_u32).map(|i| (i % 253) as u8).collect();
        for _ in 0..2 {
            let block = copy_into(arena, &bytes).unwrap();
            let address = block.address(Access::ReadOnly).unwrap();
            // SAFETY: the block is as long as the bytes and nobody writes to it.
            let copied = unsafe { std::slice::from_raw_parts(address.as_ptr(), bytes.len()) };
            assert!(copied == bytes);
        }
    }
}
