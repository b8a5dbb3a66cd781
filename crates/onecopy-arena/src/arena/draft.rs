//! Blocks that are being filled, by any number of threads, and whose length may not be known yet.

use std::sync::atomic::AtomicU64;
use std::sync::{PoisonError, RwLock};

use onecopy_os::crash_point;

use crate::data::Shares;

use super::allocate::Fresh;
use super::huge_pages::Pages;
use super::leases::Leases;
use super::{Arena, ArenaError, Block, DRAFT, Heap, Promise, Relaxed, SMALL_COMMIT, STEP, State, add, page_size};

/// A block that nobody else sees yet. Bytes go in by [`write_at`](Self::write_at); [`finish`](Self::finish) makes a
/// block of them.
///
/// Into fresh memory they go through the file, which makes pages without zeroing them and without a fault for each;
/// into recycled memory by a plain copy. A draft may begin in recycled memory and go on in the fresh memory behind it:
/// the block that was freed last is seldom exactly as long as the next one.
#[derive(Debug)]
pub struct Draft {
    arena: &'static Arena,
    place: RwLock<Place>,
    /// End of the last byte written.
    end: AtomicU64,
    leases: Leases,
}

#[derive(Debug)]
struct Place {
    block: Block,
    size: u64,
    /// How many of its first bytes are recycled, and have memory.
    warm: u64,
    /// The rest is fresh.
    growing: Option<Growth>,
    pages: Pages,
}

/// How far a place with fresh memory may be written to.
#[derive(Debug)]
struct Growth {
    /// How many of the place's first bytes have memory or passed the budget check.
    room: u64,
    /// Those of them that have no memory yet.
    promise: Promise,
}

impl Growth {
    fn extend(&mut self, heap: &Heap<'_>, room: u64) {
        self.promise.extend(heap, room - self.room);
        self.room = room;
    }
}

impl Arena {
    /// Starts a block of about `expected` and hardly more than `bound` bytes. Both are guesses: addresses are set aside
    /// for the bound, memory is taken as bytes come, and a draft that outgrows its bound moves. Where they are equal the
    /// size is known, and what is too large fails here.
    pub fn draft(&'static self, expected: u64, bound: u64) -> Result<Draft, ArenaError> {
        let size = self.extent_size(expected.min(bound))?;
        if let Some(id) = self.take_warm(size, size)? {
            return Ok(Draft::over(self.hold(id, size, false)?, size, Pages::Usual));
        }
        let mut place = if bound <= SMALL_COMMIT {
            let size = self.extent_size(bound)?;
            return Ok(Draft::over(self.allocate(bound)?.0, size, Pages::Usual));
        } else if let Some(place) = self.mixed_place(size, self.extent_size(bound)?)? {
            place
        } else {
            self.fresh_place(bound)?
        };
        if expected == bound {
            place.grow(bound.min(place.size), bound)?;
        }
        Ok(Draft::at(place))
    }

    /// Recycled memory for at least half of what is expected, with fresh addresses behind it for the rest, and up to the
    /// bound as far as there are some. To ask for all of these would leave blocks of nearly the same length where they
    /// are, and take fresh memory for each of the next ones.
    fn mixed_place(&'static self, expected: u64, bound: u64) -> Result<Option<Place>, ArenaError> {
        let [expected, bound] = [expected, bound].map(|size| size.next_multiple_of(page_size() as u64));
        let heap = self.heap()?;
        let Some((index, warm)) = heap.take_mixed(expected / 2, expected, bound)? else { return Ok(None) };
        let (_, size) = heap.span(index)?;
        let id = heap.publish(index, warm, DRAFT)?;
        drop(heap);
        let growing = Some(Growth { room: warm, promise: Promise::none(self) });
        Ok(Some(Place { block: self.hold(id, size, false)?, size, warm, growing, pages: Pages::Usual }))
    }

    /// Addresses without memory. If there are not as many as `bound`, all there are in one piece.
    fn fresh_place(&'static self, bound: u64) -> Result<Place, ArenaError> {
        let page = page_size() as u64;
        let largest = self.heap()?.largest(State::Fresh)?.map_or(0, |(_, size)| size);
        let size = self.extent_size(bound)?.next_multiple_of(page).min(largest.max(page));
        let (id, _) = self.take_fresh(bound, size, Fresh::Draft)?;
        let growing = Some(Growth { room: 0, promise: Promise::none(self) });
        Ok(Place { block: self.hold(id, size, false)?, size, warm: 0, growing, pages: Pages::Usual })
    }
}

impl Place {
    /// Makes the first `end` bytes of a growing place accountable, and as many again up to a step, so that this need not
    /// be done often: what is set aside here is memory that nobody else can have.
    fn budget(&mut self, end: u64) -> Result<(), ArenaError> {
        let target = end.saturating_add(end.clamp(SMALL_COMMIT, STEP)).min(self.size);
        match self.grow(target, end) {
            // Near a limit all of that may not fit although what is written now does.
            Err(ArenaError::OutOfMemory { .. }) if target > end => self.grow(end, end),
            other => other,
        }
    }

    fn grow(&mut self, target: u64, asked: u64) -> Result<(), ArenaError> {
        let Some(growth) = &mut self.growing else { return Ok(()) };
        let target = target.max(growth.room);
        let more = target - growth.room;
        let heap = self.block.arena().heap_with_budget(more, asked)?;
        heap.block(self.block.id())?.len.store(target, Relaxed);
        crash_point!("draft.grown");
        add(&heap.first().used_bytes, more);
        growth.extend(&heap, target);
        crash_point!("draft.promised");
        Ok(())
    }

    fn room(&self) -> u64 {
        self.growing.as_ref().map_or(self.size, |growth| growth.room)
    }
}

impl Draft {
    /// Over a block that has memory, in an extent of `size` bytes.
    pub(super) fn over(block: Block, size: u64, pages: Pages) -> Self {
        Self::at(Place { block, size, warm: size, growing: None, pages })
    }

    fn at(place: Place) -> Self {
        let arena = place.block.arena();
        Self { arena, place: RwLock::new(place), end: AtomicU64::new(0), leases: Leases::default() }
    }

    /// Puts bytes at a position. Threads may write at the same time, to different positions.
    pub fn write_at(&self, position: u64, bytes: &[u8]) -> Result<(), ArenaError> {
        let end = position + bytes.len() as u64;
        let _lease = self.leases.take(position..end);
        self.end.fetch_max(end, Relaxed);
        loop {
            let place = self.place.read().unwrap_or_else(PoisonError::into_inner);
            if end <= place.room() {
                return self.write_into(&place, position, bytes);
            }
            drop(place);
            self.make_room(end)?;
        }
    }

    /// Has `make` write bytes from a position on where they stay, if all of that is memory that is there already. Threads
    /// may do so at the same time, at different positions.
    ///
    /// # Panics
    /// Another thread is being lent some of these bytes.
    pub fn fill<T>(&self, position: u64, len: usize, make: impl FnOnce(&mut [u8]) -> T) -> Option<T> {
        // Where it is until `make` is done.
        let place = self.place.read().unwrap_or_else(PoisonError::into_inner);
        let end = position.checked_add(len as u64).filter(|&end| end <= place.warm)?;
        let _lease = self.leases.take(position..end);
        self.end.fetch_max(end, Relaxed);
        Some(self.arena.data.lend(place.block.offset() + position, len, make))
    }

    fn write_into(&self, place: &Place, position: u64, bytes: &[u8]) -> Result<(), ArenaError> {
        let at = place.block.offset() + position;
        let recycled = place.warm.saturating_sub(position).min(bytes.len() as u64);
        let (warm, fresh) = bytes.split_at(recycled as usize);
        self.arena.data.copy_in(at, warm);
        let through = self.arena.data.write_through(at + recycled, fresh);
        through.map_err(|error| self.arena.data.refused(error, bytes.len() as u64))?;
        crash_point!("draft.written");
        if let Some(growth) = &place.growing {
            growth.promise.keep(fresh.len() as u64);
        }
        Ok(())
    }

    fn make_room(&self, end: u64) -> Result<(), ArenaError> {
        let mut place = self.place.write().unwrap_or_else(PoisonError::into_inner);
        if end <= place.room() {
            return Ok(());
        }
        if end > place.size {
            // The expectation was too small: move to fresh addresses, of which there is plenty.
            let mut larger = self.arena.fresh_place(end.saturating_mul(4).max(end + STEP))?;
            let written = self.end.load(Relaxed).min(place.room());
            larger.budget(end.min(larger.size))?;
            let (from, to) = (place.block.offset(), larger.block.offset());
            let moved = written.min(larger.size);
            self.arena.data.move_through(from, to, moved).map_err(|error| self.arena.data.refused(error, end))?;
            crash_point!("draft.moved");
            if let Some(growth) = &larger.growing {
                growth.promise.keep(moved);
            }
            *place = larger;
        }
        if end > place.size { Err(self.arena.no_addresses(end, place.size)) } else { place.budget(end) }
    }

    /// The first `len` bytes in parts for threads to write: those that keep to different lists do not wait for each other.
    pub fn shares(&self, len: u64, most: usize) -> Shares {
        let place = self.place.read().unwrap_or_else(PoisonError::into_inner);
        self.arena.data.shares(place.block.offset(), len, most)
    }

    /// Ends the draft: a block of `len` bytes, all of which have been written.
    pub fn finish(self, len: u64) -> Result<Block, ArenaError> {
        let end = self.end.into_inner();
        assert!(len <= end, "a draft ends at byte {len}, but only {end} have been written");
        let place = self.place.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut size = self.arena.extent_size_on(len, place.pages)?;
        if place.growing.is_some() {
            size = size.next_multiple_of(page_size() as u64);
            let keep = size.max(place.warm);
            if end > keep {
                // What lies behind becomes fresh again, and fresh reads as zeros.
                let surplus = end.next_multiple_of(page_size() as u64) - keep;
                self.arena.data.punch(place.block.offset() + keep, surplus)?;
                crash_point!("draft.trimmed");
            }
        }
        self.arena.heap()?.shrink(place.block.id(), len, size.min(place.size), place.warm)?;
        let mut block = place.block;
        block.shorten(len);
        self.arena.make_huge_pages(block.offset(), len, Pages::Usual, &mut || false)?;
        Ok(block)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Arena, Options};

    #[test]
    fn a_draft_leaves_the_memory_that_it_has_no_use_for_yet_to_others() {
        let arena = Arena::create(Options { limit: Some(64 << 20), warm: None }).unwrap();
        // One of unknown size; and one that is longer than was expected, and moves to all the addresses that are left.
        for (bound, addresses) in [(60 << 20, 1 << 20), (2 << 20, 80 << 20)] {
            let _others = arena.draft(2 << 20, addresses).unwrap();
            let before = arena.stats().unwrap().used_bytes;
            let draft = arena.draft(2 << 20, bound).unwrap();
            let mut end = 0;
            for len in [2 << 20, 3 << 20, 10 << 20] {
                draft.write_at(end, &vec![1; len as usize]).unwrap();
                end += len;
                let used = arena.stats().unwrap().used_bytes - before;
                assert!(used <= 2 * end, "{used} bytes are taken, {end} have been written");
            }
            drop(draft.finish(end).unwrap());
        }
        arena.verify().unwrap();
    }

    #[test]
    fn bytes_can_be_made_where_they_stay_if_there_is_memory() {
        let arena = Arena::create(Options { limit: Some(64 << 20), warm: None }).unwrap();
        // Fresh memory is written through the file, which is faster; recycled memory is there.
        let fresh = arena.draft(3 << 20, 3 << 20).unwrap();
        assert!(fresh.fill(0, 10, |_| ()).is_none());
        fresh.write_at(0, &vec![9; 3 << 20]).unwrap();
        drop(fresh.finish(3 << 20).unwrap());
        let draft = arena.draft(3 << 20, 3 << 20).unwrap();
        let parts = [0..1_000_001_u64, 1_000_001..1_000_004, 1_000_004..3 << 20];
        std::thread::scope(|scope| {
            for (number, part) in parts.iter().enumerate() {
                let (draft, len) = (&draft, (part.end - part.start) as usize);
                scope.spawn(move || match number {
                    1 => draft.write_at(part.start, &vec![1; len]).unwrap(),
                    _ => draft.fill(part.start, len, |bytes| bytes.fill(number as u8)).unwrap(),
                });
            }
        });
        assert!(draft.fill(3 << 20, 1, |_| ()).is_none(), "it ends there");
        assert!(draft.fill(u64::MAX, 2, |_| ()).is_none());
        assert_eq!(draft.fill(5, 0, |bytes| bytes.len()), Some(0));
        let block = draft.finish(3 << 20).unwrap();
        for (number, part) in parts.into_iter().enumerate() {
            let bytes = block.read_at(part.start, part.end - part.start).unwrap();
            assert!(bytes.iter().all(|&byte| byte == number as u8), "part {number}");
        }
        arena.verify().unwrap();
    }

    #[test]
    fn drafts_of_nearly_the_same_length_use_the_same_memory_again() {
        let arena = Arena::create(Options { limit: Some(64 << 20), warm: Some(64 << 20) }).unwrap();
        let bytes = vec![1; 3 << 20];
        for round in 0..6 {
            let mut blocks = Vec::new();
            for pair in 0..4 {
                // Two at a time, as by two threads, each a little longer or shorter than those before.
                let lens = [0, 1].map(|which| (2 << 20) + (round * 3 + pair * 5 + which * 7) % 11 * 4096);
                let drafts = lens.map(|len| (len, arena.draft(len / 16 * 17, len * 5 / 2).unwrap()));
                for (len, draft) in drafts {
                    draft.write_at(0, &bytes[..len as usize]).unwrap();
                    blocks.push(draft.finish(len).unwrap());
                }
            }
            let used = arena.stats().unwrap().used_bytes;
            drop(blocks);
            let warm = arena.stats().unwrap().warm_bytes;
            assert!(warm < used + (1 << 20), "{warm} bytes are kept for {used} in round {round}");
            arena.verify().unwrap();
        }
    }

    #[test]
    #[should_panic(expected = "bytes 5..6 of a draft are to be written while 0..10 are")]
    fn nobody_is_lent_what_another_one_has() {
        let arena = Arena::create(Options { limit: Some(64 << 20), warm: None }).unwrap();
        let draft = arena.draft(100, 100).unwrap();
        draft.fill(0, 10, |_| draft.write_at(5, &[1]));
    }
}
