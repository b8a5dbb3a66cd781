//! Arrays of any number through pipelines, on several threads that go from one array to the next.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use crate::buffer::resize;
use crate::deflate::Plan;
use crate::error::Error;
use crate::grid::Grid;
use crate::ordered::{Ordered, Work};
use crate::pipeline::{Encoded, Encoder, Pipeline};
use crate::plans::{self, Plans};
use crate::region::Source;

/// Encodes every cell of `grid` over `source` on `threads` threads and passes the chunks to `emit` on the calling
/// thread, in order. Cells at the edge are padded with zeros. While `emit` stores a chunk, the threads encode the next
/// ones; a few chunks per thread are in memory at a time, however large the array is.
///
/// # Errors
/// [`Error::MemorySize`] when `source` is not as large as the array, [`Error::OutOfMemory`] when there is none for a
/// chunk, and the first error of `emit`.
pub fn compress<E: From<Error>>(
    source: Source,
    grid: &Grid,
    pipeline: &Pipeline,
    threads: usize,
    mut emit: impl FnMut(usize, Encoded) -> Result<(), E>,
) -> Result<(), E> {
    let mut compressor = Compressor::new(threads);
    let mut emit = |(): &(), cell, chunk| emit(cell, chunk);
    compressor.put((), source, grid, pipeline, None, &mut emit)?;
    compressor.settle(&mut emit)
}

/// Threads that compress one array after the other, and begin with the next one before all chunks of the one before are
/// stored.
///
/// Chunks come out in order, on the thread that puts arrays in, and only while it does or when it settles. With each
/// goes what its array was put in with.
#[expect(missing_debug_implementations, reason = "the compressors have none")]
pub struct Compressor<T> {
    /// Before `parts`: what these are read from is there until no thread reads it.
    pool: Ordered<Part>,
    parts: VecDeque<Given<T>>,
}

/// An array whose chunks have not all come out.
struct Given<T> {
    with: T,
    next: usize,
    cells: usize,
}

/// What is known of arrays of rows that come one after the other, and are one array in the file: how its chunks are
/// encoded is found out for all of them.
#[derive(Debug, Default)]
pub struct Course(plans::Course<Leader>);

/// A chunk on which a plan is found.
#[derive(Debug)]
struct Leader {
    /// Gone when its array was given up.
    part: Weak<Part>,
    cell: usize,
}

/// What threads know of an array.
struct Part {
    source: Source,
    grid: Grid,
    pipeline: Pipeline,
    plans: Plans<Leader>,
}

impl<T> Compressor<T> {
    /// With at most so many threads, which begin when there is something to do.
    pub fn new(threads: usize) -> Self {
        Self { pool: Ordered::new(threads), parts: VecDeque::new() }
    }

    /// Puts an array in, as [`compress`] does, and passes chunks to `emit` until no more are left to come than may be
    /// under way. So the array, and copies of `source`, are in use until the last of its chunks has come out, or an
    /// error; until then, `with` is kept.
    ///
    /// With a `course`, it is the next one of several arrays that become one.
    ///
    /// # Errors
    /// As for [`compress`], of this array and those before. All that had not come out is given up then.
    pub fn put<E: From<Error>>(
        &mut self,
        with: T,
        source: Source,
        grid: &Grid,
        pipeline: &Pipeline,
        course: Option<&mut Course>,
        emit: &mut impl FnMut(&T, usize, Encoded) -> Result<(), E>,
    ) -> Result<(), E> {
        if source.len() != grid.array_bytes() {
            return Err(Error::MemorySize { found: source.len(), expected: grid.array_bytes() }.into());
        }
        self.parts.push_back(Given { with, next: 0, cells: grid.cells() });
        self.pool.put(Part::new(source, grid, pipeline, course));
        self.emit_until(self.pool.in_flight(), emit)
    }

    /// Passes all chunks to `emit` that are left to come.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub fn settle<E: From<Error>>(
        &mut self,
        emit: &mut impl FnMut(&T, usize, Encoded) -> Result<(), E>,
    ) -> Result<(), E> {
        self.emit_until(0, emit)
    }

    /// Gives up what has not come out, and waits for threads that are at it.
    pub fn abandon(&mut self) {
        self.pool.abandon();
        self.parts.clear();
    }

    fn emit_until<E: From<Error>>(
        &mut self,
        outstanding: usize,
        emit: &mut impl FnMut(&T, usize, Encoded) -> Result<(), E>,
    ) -> Result<(), E> {
        // Also when `emit` panics: nobody reads an array any more that is let go of.
        let this = AbandonOnDrop(self);
        while this.0.pool.outstanding() > outstanding {
            this.0.emit_next(emit)?;
        }
        this.0.parts.retain(|part| part.next < part.cells);
        std::mem::forget(this);
        Ok(())
    }

    fn emit_next<E: From<Error>>(
        &mut self,
        emit: &mut impl FnMut(&T, usize, Encoded) -> Result<(), E>,
    ) -> Result<(), E> {
        while self.parts.front().is_some_and(|part| part.next == part.cells) {
            self.parts.pop_front();
        }
        let (Some(part), Some(chunk)) = (self.parts.front_mut(), self.pool.next()) else { return Ok(()) };
        part.next += 1;
        emit(&part.with, part.next - 1, chunk?)
    }
}

struct AbandonOnDrop<'a, T>(&'a mut Compressor<T>);

impl<T> Drop for AbandonOnDrop<'_, T> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl Part {
    fn new(source: Source, grid: &Grid, pipeline: &Pipeline, course: Option<&mut Course>) -> Arc<Self> {
        Arc::new_cyclic(|part: &Weak<Self>| {
            let leader = |cell| Leader { part: Weak::clone(part), cell };
            let plans = match course {
                Some(course) => Plans::following(&mut course.0, grid, pipeline, leader),
                None => Plans::new(grid, pipeline, leader),
            };
            Self { source, grid: grid.clone(), pipeline: *pipeline, plans }
        })
    }

    /// Copies a cell; the buffer becomes as long as it.
    fn gather(&self, cell: usize, buffer: &mut Vec<u8>) -> Result<(), Error> {
        resize(buffer, self.grid.cell_bytes())?;
        let mut inside = 0;
        self.grid.runs(cell, |run| inside += run.len);
        if inside < buffer.len() {
            buffer.fill(0);
        }
        self.grid.runs(cell, |run| self.source.read(run.array, &mut buffer[run.cell..run.cell + run.len]));
        Ok(())
    }
}

/// What a thread has, in use again for chunk after chunk.
#[derive(Default)]
struct Tools {
    encoder: Option<(Pipeline, Encoder)>,
    buffer: Vec<u8>,
}

impl Tools {
    fn encoder(&mut self, pipeline: Pipeline) -> (&mut Encoder, &mut Vec<u8>) {
        if self.encoder.as_ref().is_none_or(|(its, _)| *its != pipeline) {
            self.encoder = None;
        }
        let (_, encoder) = self.encoder.get_or_insert_with(|| (pipeline, Encoder::new(pipeline)));
        (encoder, &mut self.buffer)
    }
}

impl Work for Part {
    type Tools = Tools;
    type Output = Encoded;

    fn pieces(&self) -> usize {
        self.grid.cells()
    }

    fn run(&self, tools: &mut Tools, cell: usize) -> Result<Encoded, Error> {
        let (encoder, buffer) = tools.encoder(self.pipeline);
        let plan = self.plans.of(cell, |leader| {
            // As long as a plan is not found, its leader has not come out, so that its array is there if its part is.
            let Some(part) = leader.part.upgrade() else { return Ok(Plan::Whole) };
            part.gather(leader.cell, buffer)?;
            encoder.plan(buffer)
        })?;
        self.gather(cell, buffer)?;
        encoder.encode_by(plan, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Codec;
    use proptest::prelude::*;

    const ELEMENTS: usize = 20_000;
    const CHUNK: usize = ELEMENTS * 4;
    const GZIP: Pipeline = Pipeline { shuffle: Some(4), codec: Codec::Deflate { level: 4 }, fletcher32: false };

    /// So many chunks. Each has a plane of noise, one that is worth a search in some of them, and two that are not.
    fn data(chunks: usize) -> Vec<u8> {
        // SplitMix64.
        let noise = |i: usize| {
            let state = (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            ((mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) >> 56) as u8
        };
        let skewed = |i: usize| noise(i).leading_zeros() as u8;
        let element = |i: usize| {
            let searched = (i / ELEMENTS / 37).is_multiple_of(2);
            [noise(i), skewed(i), if searched { noise(i % 8000) } else { skewed(i + 1) }, 7]
        };
        (0..chunks * ELEMENTS).flat_map(element).collect()
    }

    fn grid(chunks: usize) -> Grid {
        Grid::new(&[chunks * ELEMENTS], &[ELEMENTS], 4).unwrap()
    }

    fn source(data: &[u8]) -> Source {
        // SAFETY: in each of these tests, `data` is there when the compressor is dropped.
        unsafe { Source::new(data.as_ptr(), data.len()) }
    }

    /// All chunks of arrays that are one, each with the number of its array.
    fn in_parts(data: &[u8], parts: &[usize], threads: usize) -> Vec<(usize, usize, Vec<u8>)> {
        let (mut out, mut course) = (Vec::new(), Course::default());
        let mut emit = |with: &usize, cell, chunk: Encoded| {
            out.push((*with, cell, chunk.bytes));
            Ok::<(), Error>(())
        };
        let mut compressor = Compressor::new(threads);
        let mut rest = data;
        for (number, chunks) in parts.iter().enumerate() {
            let (part, behind) = rest.split_at(chunks * CHUNK);
            compressor.put(number, source(part), &grid(*chunks), &GZIP, Some(&mut course), &mut emit).unwrap();
            rest = behind;
        }
        compressor.settle(&mut emit).unwrap();
        assert!(compressor.parts.is_empty());
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn what_is_stored_does_not_depend_on_parts_or_threads(
            parts in proptest::collection::vec(0usize..60, 1..8), threads in 1usize..5,
        ) {
            let data = data(parts.iter().sum());
            let stored = in_parts(&data, &parts, threads);
            let places: Vec<_> = stored.iter().map(|(part, cell, _)| (*part, *cell)).collect();
            let expected: Vec<_> =
                parts.iter().enumerate().flat_map(|(part, cells)| (0..*cells).map(move |cell| (part, cell))).collect();
            prop_assert_eq!(places, expected);
            let whole = in_parts(&data, &[parts.iter().sum()], 1);
            let bytes = |(_, _, bytes): (usize, usize, Vec<u8>)| bytes;
            prop_assert!(stored.into_iter().map(bytes).eq(whole.into_iter().map(bytes)));
        }
    }

    #[test]
    fn what_is_stored_does_not_depend_on_the_threads() {
        let data = data(100);
        let stored = |threads| {
            let mut out = Vec::new();
            let emit = |_, chunk: Encoded| {
                out.push(chunk.bytes);
                Ok::<(), Error>(())
            };
            compress(source(&data), &grid(100), &GZIP, threads, emit).unwrap();
            out
        };
        let alone = stored(1);
        for threads in [2, 5] {
            assert_eq!(stored(threads), alone, "{threads} threads");
        }
        let mut encoder = Encoder::new(GZIP);
        let each: usize = data.chunks(CHUNK).map(|chunk| encoder.encode(chunk).unwrap().bytes.len()).sum();
        let shared: usize = alone.iter().map(Vec::len).sum();
        // Every group has chunks that are unlike the one that its plan was found on.
        assert!(shared < each + each / 10, "{shared} bytes by shared plans, {each} in one piece");
    }

    #[test]
    fn a_plan_is_found_on_its_leader_wherever_that_is() {
        // The leader is unlike the others.
        let mut data = data(38);
        data.rotate_right(CHUNK);
        let (first, rest) = data.split_at_mut(CHUNK);
        first.swap_with_slice(&mut rest[..CHUNK]);
        let whole = in_parts(&data, &[38], 1);
        assert!(matches!(Encoder::new(GZIP).plan(&data[..CHUNK]), Ok(Plan::Planes(_))));
        let part =
            |data: &[u8], course: &mut Course| Part::new(source(data), &grid(data.len() / CHUNK), &GZIP, Some(course));
        let second = |part: &Part| part.run(&mut Tools::default(), 0).unwrap().bytes;
        let mut course = Course::default();
        let (one, two) = (part(&data[..CHUNK], &mut course), part(&data[CHUNK..], &mut course));
        assert_eq!(second(&two), whole[1].2);
        drop(one);
        // One that is gone says nothing any more.
        let mut course = Course::default();
        drop(part(&data[..CHUNK], &mut course));
        let alone = Encoder::new(GZIP).encode(&data[CHUNK..2 * CHUNK]).unwrap().bytes;
        assert_eq!(second(&part(&data[CHUNK..], &mut course)), alone);
        assert_ne!(alone, whole[1].2);
    }

    #[test]
    fn an_array_is_let_go_of_when_its_last_chunk_is_out() {
        let (data, held) = (data(40), Arc::new(()));
        let mut compressor = Compressor::new(2);
        let mut out = 0;
        for _ in 0..10 {
            let mut emit = |_: &Arc<()>, _, _: Encoded| {
                out += 1;
                Ok::<(), Error>(())
            };
            compressor.put(Arc::clone(&held), source(&data[..4 * CHUNK]), &grid(4), &GZIP, None, &mut emit).unwrap();
            // Of six chunks that may be under way, the last two belong to the array before the last one.
            assert!(Arc::strong_count(&held) <= 1 + 2);
        }
        assert_eq!(out, 40 - 6);
    }

    #[test]
    fn after_an_error_nothing_is_read_any_more_and_others_can_follow() {
        let (data, held) = (data(40), Arc::new(()));
        let (mut compressor, mut course) = (Compressor::new(2), Course::default());
        let mut fail = |_: &Arc<()>, cell, _: Encoded| if cell == 5 { Err(Error::Threads) } else { Ok(()) };
        let grid = grid(40);
        let failed = compressor.put(Arc::clone(&held), source(&data), &grid, &GZIP, Some(&mut course), &mut fail);
        assert_eq!(failed, Err(Error::Threads));
        assert_eq!((compressor.pool.outstanding(), Arc::strong_count(&held)), (0, 1));
        // Leaders that were not come to are gone with their array.
        drop(data);
        let (again, mut cells) = (self::data(40), Vec::new());
        let mut emit = |_: &Arc<()>, cell, _: Encoded| {
            cells.push(cell);
            Ok::<(), Error>(())
        };
        compressor.put(Arc::clone(&held), source(&again), &grid, &GZIP, Some(&mut course), &mut emit).unwrap();
        compressor.settle(&mut emit).unwrap();
        assert!(cells.into_iter().eq(0..40));
    }

    #[test]
    fn memory_of_another_size_is_refused() {
        let mut emit = |(): &(), _, _: Encoded| Ok::<(), Error>(());
        let refused = Compressor::new(1).put((), source(&[0; 7]), &grid(1), &GZIP, None, &mut emit);
        assert_eq!(refused, Err(Error::MemorySize { found: 7, expected: CHUNK }));
    }
}
