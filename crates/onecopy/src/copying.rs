//! Copying large data into the arena with more than one thread.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::{Builder, available_parallelism, scope};

use onecopy_arena::{Arena, ArenaError, Block, CHUNK};

use crate::{Error, counters};

/// More threads than this do not make memory faster.
const MOST_THREADS: usize = 4;
/// Below this a thread costs more than it saves.
const LEAST_FOR_THREADS: usize = 2 * CHUNK;

/// A piece of this size is copied by stores that pass the caches by: the C library does so from some share of the last
/// cache on (240 MiB were seen), and with two threads it saves a third of the traffic, and a quarter of the time.
const STREAMED: usize = 256 << 20;

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
    let len = bytes.len() as u64;
    let piece = if bytes.len() < 2 * STREAMED { CHUNK } else { STREAMED };
    let draft = arena.draft(len, len)?;
    let lists: Vec<_> = draft.shares(len, piece).into_iter().map(|list| (list, AtomicUsize::new(0))).collect();
    let stopped = AtomicBool::new(false);
    let work = |first: usize, stop: &mut dyn FnMut() -> bool| -> Result<(), Error> {
        // Each thread begins with another list, and helps with the next when its own is done.
        for (list, next) in lists.iter().cycle().skip(first).take(lists.len()) {
            while let Some(&(start, size)) = list.get(next.fetch_add(1, Relaxed)) {
                if stopped.load(Relaxed) || stop() {
                    stopped.store(true, Relaxed);
                    return Err(ArenaError::Interrupted.into());
                }
                draft.write_at(start, &bytes[start as usize..(start + size) as usize])?;
            }
        }
        Ok(())
    };
    let threads = if bytes.len() < LEAST_FOR_THREADS { 1 } else { threads() };
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

fn threads() -> usize {
    available_parallelism().map_or(1, usize::from).min(MOST_THREADS)
}

#[cfg(test)]
mod tests {
    use onecopy_arena::{Access, Options};

    use super::*;

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
