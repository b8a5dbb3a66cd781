//! Stored chunks back into an array, on several threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Builder};

use crate::buffer::{reserve, resize};
use crate::error::Error;
use crate::fletcher32;
use crate::grid::Grid;
use crate::ordered::IN_FLIGHT_PER_THREAD;
use crate::pipeline::{Decoder, Pipeline};
use crate::region::Target;
use crate::stored::Stored;

/// A chunk as it was found in the file.
#[derive(Debug, Clone)]
pub struct StoredChunk<B> {
    /// Index of the cell, see [`Grid::cell_at`].
    pub cell: usize,
    /// The stored bytes, or where they are.
    pub bytes: B,
    /// HDF5's filter mask: the filters that were skipped.
    pub filter_mask: u32,
}

/// Decodes `chunks`, which come in any order and are taken on the calling thread, into `target` on `threads` threads.
/// A few chunks per thread are in memory at a time. Elements of cells that do not come are left as they are.
///
/// # Errors
/// [`Error::MemorySize`] when `target` is not as large as the array, [`Error::Cell`] when a cell comes twice or does
/// not exist, [`Error::Read`] and [`Error::Corrupt`] when a chunk cannot be fetched or decoded, [`Error::OutOfMemory`]
/// when no thread can have buffers as large as a chunk, and the first error among `chunks`. Part of `target` may have
/// been written then.
pub fn decompress<B: Stored, E: From<Error>>(
    target: &mut Target,
    grid: &Grid,
    pipeline: &Pipeline,
    threads: usize,
    chunks: impl IntoIterator<Item = Result<StoredChunk<B>, E>>,
) -> Result<(), E> {
    check_size(target.len(), grid)?;
    let threads = threads.clamp(1, grid.cells().max(1));
    let (sender, receiver) = sync_channel(threads * IN_FLIGHT_PER_THREAD);
    // Owned by the workers alone: when the last one leaves, for whatever reason, the sender notices.
    let receiver = Arc::new(Mutex::new(receiver));
    let failure = Failure::default();
    let fed = thread::scope(|scope| {
        let (target, failure) = (&*target, &failure);
        let worker = || {
            let receiver = Arc::clone(&receiver);
            move || decode_all(&receiver, target, grid, pipeline, failure)
        };
        // Fewer threads than wanted (`ulimit -v`, `ulimit -u`) are slower and nothing worse.
        let started = (0..threads).filter(|_| Builder::new().spawn_scoped(scope, worker()).is_ok()).count();
        drop(receiver);
        if started == 0 {
            return Err(Error::Threads.into());
        }
        let fed = feed(&sender, grid, chunks, failure);
        drop(sender);
        fed.inspect_err(|_| failure.raised.store(true, Ordering::Relaxed))
    });
    failure.end()?;
    fed
}

/// The first error of a worker, and whether everybody shall stop.
#[derive(Default)]
struct Failure {
    raised: AtomicBool,
    error: Mutex<Option<Error>>,
    room: Mutex<Room>,
}

/// Whether threads have the buffers that they need.
#[derive(Default)]
struct Room {
    found: bool,
    lacking: Option<Error>,
}

impl Failure {
    fn raise(&self, error: Error) {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.raised.store(true, Ordering::Relaxed);
    }

    /// A thread's tools, unless there is no memory for them: another thread may have it.
    fn tools(&self, grid: &Grid, pipeline: &Pipeline) -> Option<Tools> {
        // One at a time: two could be in each other's way.
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let tools = Tools::new(grid, pipeline).map_err(|error| room.lacking = Some(error)).ok();
        room.found |= tools.is_some();
        tools
    }

    fn end(self) -> Result<(), Error> {
        let room = self.room.into_inner().unwrap_or_else(PoisonError::into_inner);
        let lacking = room.lacking.filter(|_| !room.found);
        self.error.into_inner().unwrap_or_else(PoisonError::into_inner).or(lacking).map_or(Ok(()), Err)
    }
}

/// What a thread decodes with.
struct Tools {
    decoder: Decoder,
    fetched: Vec<u8>,
    buffer: Vec<u8>,
}

impl Tools {
    fn new(grid: &Grid, pipeline: &Pipeline) -> Result<Self, Error> {
        let mut tools = Self { decoder: Decoder::new(*pipeline), fetched: Vec::new(), buffer: Vec::new() };
        resize(&mut tools.buffer, grid.cell_bytes())?;
        tools.decoder.reserve(grid.cell_bytes())?;
        // What is stored is hardly ever longer than the chunk. Not touched, it is addresses and no memory.
        reserve(&mut tools.fetched, grid.cell_bytes() + fletcher32::LEN)?;
        Ok(tools)
    }
}

/// Passes each chunk on, each cell once.
fn feed<B, E: From<Error>>(
    sender: &SyncSender<StoredChunk<B>>,
    grid: &Grid,
    chunks: impl IntoIterator<Item = Result<StoredChunk<B>, E>>,
    failure: &Failure,
) -> Result<(), E> {
    let mut seen = Vec::new();
    reserve(&mut seen, grid.cells())?;
    seen.resize(grid.cells(), false);
    for chunk in chunks {
        let chunk = chunk?;
        match seen.get_mut(chunk.cell) {
            Some(seen) if !*seen => *seen = true,
            _ => return Err(Error::Cell { cell: chunk.cell, cells: grid.cells() }.into()),
        }
        if failure.raised.load(Ordering::Relaxed) || sender.send(chunk).is_err() {
            break;
        }
    }
    Ok(())
}

fn decode_all<B: Stored>(
    receiver: &Mutex<Receiver<StoredChunk<B>>>,
    target: &Target,
    grid: &Grid,
    pipeline: &Pipeline,
    failure: &Failure,
) {
    let Some(Tools { mut decoder, mut fetched, mut buffer }) = failure.tools(grid, pipeline) else { return };
    while !failure.raised.load(Ordering::Relaxed) {
        let received = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(chunk) = received else { return };
        let stored = chunk.bytes.bytes(&mut fetched);
        if let Err(error) = stored.and_then(|bytes| decoder.decode(bytes, chunk.filter_mask, &mut buffer)) {
            return failure.raise(error);
        }
        grid.runs(chunk.cell, |run| {
            // SAFETY: runs of different cells do not overlap (property of `Grid`), and `feed` passes each cell on once.
            unsafe { target.write(run.array, &buffer[run.cell..run.cell + run.len]) }
        });
    }
}

fn check_size(found: usize, grid: &Grid) -> Result<(), Error> {
    let expected = grid.array_bytes();
    if found == expected { Ok(()) } else { Err(Error::MemorySize { found, expected }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compressor::compress;
    use crate::pipeline::Codec;
    use crate::region::Source;
    use proptest::prelude::*;

    fn compress_all(data: &[u8], grid: &Grid, pipeline: &Pipeline, threads: usize) -> Vec<StoredChunk<Vec<u8>>> {
        let mut stored = Vec::new();
        // SAFETY: `data` outlives the call.
        let source = unsafe { Source::new(data.as_ptr(), data.len()) };
        compress::<Error>(source, grid, pipeline, threads, |cell, chunk| {
            stored.push(StoredChunk { cell, bytes: chunk.bytes, filter_mask: chunk.filter_mask });
            Ok(())
        })
        .unwrap();
        stored
    }

    fn decompress_all(
        len: usize,
        grid: &Grid,
        pipeline: &Pipeline,
        threads: usize,
        stored: Vec<StoredChunk<Vec<u8>>>,
    ) -> Result<Vec<u8>, Error> {
        let mut back = vec![0; len];
        // SAFETY: `back` outlives the call and is used by it alone.
        let mut target = unsafe { Target::new(back.as_mut_ptr(), len) };
        decompress(&mut target, grid, pipeline, threads, stored.into_iter().map(Ok::<_, Error>))?;
        Ok(back)
    }

    proptest! {
        #[test]
        fn arrays_come_back(
            axes in proptest::collection::vec((1usize..12, 1usize..9), 1..4), item in 1usize..6, threads in 1usize..5,
            shuffled in any::<bool>(), codec in 0usize..4, fletcher32 in any::<bool>(), reverse in any::<bool>(),
        ) {
            let (shape, chunk): (Vec<_>, Vec<_>) = axes.into_iter().unzip();
            let grid = Grid::new(&shape, &chunk, item).unwrap();
            let data: Vec<u8> = (0..grid.array_bytes()).map(|i| (i / 5) as u8).collect();
            let codec = [Codec::Lzf, Codec::Deflate { level: 3 }, Codec::Zstd { level: 1 }, Codec::Plain][codec];
            let pipeline = Pipeline { shuffle: shuffled.then_some(item), codec, fletcher32 };
            let mut stored = compress_all(&data, &grid, &pipeline, threads);
            prop_assert!(stored.iter().map(|chunk| chunk.cell).eq(0..grid.cells()));
            if reverse {
                stored.reverse();
            }
            prop_assert_eq!(decompress_all(data.len(), &grid, &pipeline, threads, stored).unwrap(), data);
        }
    }

    const DEFLATE: Pipeline = Pipeline { shuffle: None, codec: Codec::Deflate { level: 1 }, fletcher32: false };

    #[test]
    fn edges_are_padded_with_zeros() {
        let grid = Grid::new(&[100, 100], &[64, 64], 1).unwrap();
        let stored = compress_all(&[7; 10_000], &grid, &DEFLATE, 2);
        let mut cell = vec![1; grid.cell_bytes()];
        Decoder::new(DEFLATE).decode(&stored[3].bytes, 0, &mut cell).unwrap();
        let expected: Vec<u8> = (0..64 * 64).map(|i| if i / 64 < 36 && i % 64 < 36 { 7 } else { 0 }).collect();
        assert_eq!(cell, expected);
    }

    #[test]
    fn errors_end_the_work() {
        let grid = Grid::new(&[100_000], &[100], 1).unwrap();
        let stored = compress_all(&vec![1; 100_000], &grid, &DEFLATE, 2);
        let run = |stored| decompress_all(100_000, &grid, &DEFLATE, 2, stored).unwrap_err();
        let mut damaged = stored.clone();
        damaged[3].bytes.truncate(4);
        assert!(matches!(run(damaged), Error::Corrupt { codec: "gzip", stored: 4, .. }));
        let mut twice = stored.clone();
        twice[5].cell = 4;
        assert_eq!(run(twice), Error::Cell { cell: 4, cells: 1000 });
        let mut outside = stored;
        outside[999].cell = 1000;
        assert_eq!(run(outside), Error::Cell { cell: 1000, cells: 1000 });
    }

    /// A chunk whose bytes lie elsewhere.
    struct Elsewhere(Option<Vec<u8>>);

    impl Stored for Elsewhere {
        fn bytes<'a>(&'a self, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], Error> {
            let Some(bytes) = &self.0 else { return Err(Error::Read { stored: 9, reason: "gone".to_owned() }) };
            buffer.clone_from(bytes);
            Ok(buffer)
        }
    }

    #[test]
    fn workers_fetch_what_they_decode() {
        let grid = Grid::new(&[100_000], &[100], 1).unwrap();
        let data: Vec<u8> = (0..100_000).map(|i| (i / 7) as u8).collect();
        let mut back = vec![0; data.len()];
        let mut run = |lost: Option<usize>| {
            // SAFETY: `back` outlives the call and is used by it alone.
            let mut target = unsafe { Target::new(back.as_mut_ptr(), back.len()) };
            let stored = compress_all(&data, &grid, &DEFLATE, 2).into_iter().map(|chunk| {
                let bytes = Elsewhere((lost != Some(chunk.cell)).then_some(chunk.bytes));
                Ok::<_, Error>(StoredChunk { cell: chunk.cell, bytes, filter_mask: chunk.filter_mask })
            });
            decompress(&mut target, &grid, &DEFLATE, 2, stored)
        };
        assert_eq!(run(Some(700)), Err(Error::Read { stored: 9, reason: "gone".to_owned() }));
        assert_eq!(run(None), Ok(()));
        assert_eq!(back, data);
    }

    #[test]
    fn memory_of_another_size_is_refused() {
        let grid = Grid::new(&[10], &[4], 2).unwrap();
        let error = decompress_all(19, &grid, &DEFLATE, 1, Vec::new()).unwrap_err();
        assert_eq!(error, Error::MemorySize { found: 19, expected: 20 });
    }
}
