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
