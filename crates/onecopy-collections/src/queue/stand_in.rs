//! What the queue uses of memory and of the arena, for the models: the heap is a table under one lock, which has a model
//! of its own, and loom watches every unit of memory.

use std::ptr::NonNull;
use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::Mutex;
use loom::sync::atomic::{AtomicU32, Ordering::AcqRel, Ordering::Acquire};
use onecopy_arena::{ArenaError, BlockId, Contents, Owned, ParcelId};
use onecopy_sync::{Owners, Tag};

use super::record::{HEADER, Header, UNIT};

// --- death ---

loom::thread_local! {
    /// Steps that the process of this thread has left; none where it is not killed.
    static LEFT: std::cell::Cell<Option<u32>> = std::cell::Cell::new(None);
}

/// What unwinds a process that is killed. Nothing that it has is dropped in good order.
pub(super) struct Killed;

/// A step is done; after its last a process is killed.
pub(super) fn pass(_name: &str) {
    if let Some(left) = LEFT.with(std::cell::Cell::get) {
        LEFT.with(|cell| cell.set(Some(left.wrapping_sub(1))));
        if left == 0 {
            std::panic::resume_unwind(Box::new(Killed));
        }
    }
}

// --- memory ---

type Unit = UnsafeCell<[u8; UNIT]>;

/// As the real one, a position in memory that somebody else keeps.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    first: NonNull<Unit>,
    units: u32,
}

// SAFETY: whoever uses the memory keeps it; loom watches who touches which unit.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    pub(super) fn over(cells: &[Unit]) -> Self {
        assert!(cells.len().is_power_of_two());
        Self { first: NonNull::from(&cells[0]), units: cells.len() as u32 }
    }

    pub(super) fn of(block: &Block) -> Option<Self> {
        Some(Self::over(&block.cells))
    }

    pub(super) fn units(self) -> u32 {
        self.units
    }

    pub(super) fn to_end(self, position: u32) -> u32 {
        self.units - (position & (self.units - 1))
    }

    fn cells(&self, position: u32, bytes: usize) -> Option<&[Unit]> {
        let (start, units) = (position & (self.units - 1), bytes.div_ceil(UNIT));
        if start as usize + units > self.units as usize {
            return None;
        }
        // SAFETY: the units lie inside the memory, which somebody keeps.
        Some(unsafe { std::slice::from_raw_parts(self.first.as_ptr().add(start as usize), units) })
    }

    pub(super) fn header(self, position: u32) -> Option<Header> {
        let cells = self.cells(position, HEADER)?;
        // SAFETY: loom reports it where somebody writes at the same time.
        let unit = cells[0].with(|unit| unsafe { *unit });
        Header::unpack(u64::from_le_bytes(*unit.first_chunk().unwrap()))
    }

    #[must_use]
    pub(super) fn write(self, position: u32, record: &[u8]) -> bool {
        let Some(cells) = self.cells(position, record.len()) else { return false };
        for (cell, bytes) in cells.iter().zip(record.chunks(UNIT)) {
            // SAFETY: loom reports it where somebody reads or writes at the same time.
            cell.with_mut(|unit| unsafe { (&mut *unit)[..bytes.len()].copy_from_slice(bytes) });
        }
        true
    }

    pub(super) fn expect_write(self, _position: u32) {}

    #[must_use]
    pub(super) fn read(self, position: u32, header: Header, bytes: &mut Vec<u8>) -> bool {
        let Some(cells) = self.cells(position, header.units() as usize * UNIT) else { return false };
        for cell in cells {
            // SAFETY: loom reports it where somebody writes at the same time.
            bytes.extend_from_slice(&cell.with(|unit| unsafe { *unit }));
        }
        true
    }
}

// --- the arena ---

#[derive(Debug)]
struct Entry {
    cells: Arc<Vec<Unit>>,
    /// References of each process.
    held: [u32; SLOTS],
    used: bool,
}

#[derive(Debug)]
struct Parcel {
    block: u32,
    owner: u32,
    sender: u32,
    full: bool,
}

#[derive(Debug, Default)]
struct Tables {
    entries: Vec<Entry>,
    parcels: Vec<Parcel>,
}

/// Processes of a model.
pub(super) const SLOTS: usize = 4;

/// The arena as all processes share it.
#[derive(Debug)]
pub(super) struct Heap {
    tables: Mutex<Tables>,
    /// A bit for each process that was killed.
    dead: AtomicU32,
}

/// The arena as a process has it.
#[derive(Debug, Clone)]
pub(super) struct Arena {
    heap: Arc<Heap>,
    slot: u32,
}

/// A reference of a process to a block.
#[derive(Debug)]
pub struct Block {
    arena: Arena,
    index: u32,
    cells: Arc<Vec<Unit>>,
}

/// Who lives.
#[derive(Debug)]
pub(super) struct Viewer(Arena);

impl Owners for Viewer {
    fn me(&self) -> Tag {
        Tag::new(self.0.slot, 1)
    }

    fn is_alive(&self, tag: Tag) -> bool {
        // SYNC POINT: pairs with the store in `kill`: the kernel lets nobody see a death before what was done.
        self.0.heap.dead.load(Acquire) & 1 << tag.slot() == 0
    }
}

impl Tables {
    fn free_garbage(&mut self) {
        loop {
            let in_parcel = |parcels: &[Parcel], index| parcels.iter().any(|p| p.full && p.block == index);
            let garbage = |&index: &u32| {
                let entry = &self.entries[index as usize];
                entry.used && entry.held == [0; SLOTS] && !in_parcel(&self.parcels, index)
            };
            let Some(index) = (0..self.entries.len() as u32).find(garbage) else { return };
            self.entries[index as usize].used = false;
            for parcel in self.parcels.iter_mut().filter(|parcel| parcel.owner == index) {
                parcel.full = false;
            }
        }
    }

    fn used(&self, index: u32) -> Result<usize, ArenaError> {
        let stale = ArenaError::Stale { block: index, generation: 0 };
        self.entries.get(index as usize).filter(|entry| entry.used).map(|_| index as usize).ok_or(stale)
    }
}

impl Arena {
    pub(super) fn new() -> [Self; SLOTS] {
        let heap = Arc::new(Heap { tables: Mutex::new(Tables::default()), dead: AtomicU32::new(0) });
        std::array::from_fn(|slot| Self { heap: heap.clone(), slot: slot as u32 })
    }

    /// A process comes to an end after so many steps, if it does not end before; answers whether it was killed.
    pub(super) fn run_and_kill(&self, steps: u32, work: impl FnOnce()) -> bool {
        LEFT.with(|left| left.set(Some(steps)));
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        LEFT.with(|left| left.set(None));
        match ended {
            Ok(()) => false,
            Err(why) if why.is::<Killed>() => {
                self.kill();
                true
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// The kernel says so, and somebody sweeps.
    fn kill(&self) {
        self.heap.dead.fetch_or(1 << self.slot, AcqRel);
        let mut tables = self.heap.tables.lock().unwrap();
        tables.entries.iter_mut().for_each(|entry| entry.held[self.slot as usize] = 0);
        tables.free_garbage();
    }

    /// Blocks in use.
    pub(super) fn blocks(&self) -> usize {
        self.heap.tables.lock().unwrap().entries.iter().filter(|entry| entry.used).count()
    }

    pub(super) fn owners(&self) -> Result<Viewer, ArenaError> {
        Ok(Viewer(self.clone()))
    }

    pub(super) fn allocate(&self, len: u64) -> Result<(Block, Contents), ArenaError> {
        let units = (len as usize).div_ceil(UNIT);
        let cells: Arc<Vec<Unit>> = Arc::new((0..units).map(|_| UnsafeCell::new([0; UNIT])).collect());
        let mut held = [0; SLOTS];
        held[self.slot as usize] = 1;
        let mut tables = self.heap.tables.lock().unwrap();
        let index = tables.entries.len() as u32;
        tables.entries.push(Entry { cells: cells.clone(), held, used: true });
        drop(tables);
        Ok((Block { arena: self.clone(), index, cells }, Contents::Zeros))
    }

    pub(super) fn receive(&self, id: BlockId, parcel: Option<ParcelId>) -> Result<Block, ArenaError> {
        let mut tables = self.heap.tables.lock().unwrap();
        let index = tables.used(id.index)?;
        tables.entries[index].held[self.slot as usize] += 1;
        if let Some(parcel) = parcel {
            tables.parcels[parcel.index as usize].full = false;
        }
        let cells = tables.entries[index].cells.clone();
        drop(tables);
        Ok(Block { arena: self.clone(), index: id.index, cells })
    }

    pub(super) fn get(&self, id: BlockId) -> Result<Block, ArenaError> {
        self.receive(id, None)
    }

    pub(super) fn discard(&self, parcel: ParcelId) -> Result<bool, ArenaError> {
        let mut tables = self.heap.tables.lock().unwrap();
        let was_full = std::mem::replace(&mut tables.parcels[parcel.index as usize].full, false);
        tables.free_garbage();
        Ok(was_full)
    }
}

impl Block {
    pub(super) fn arena(&self) -> &Arena {
        &self.arena
    }

    pub(super) fn id(&self) -> BlockId {
        BlockId { index: self.index, generation: 0 }
    }

    pub(super) fn memory(&self) -> Memory {
        Memory::over(&self.cells)
    }

    pub(super) fn post_owned(&self, owner: &Self) -> Result<ParcelId, ArenaError> {
        let mut tables = self.arena.heap.tables.lock().unwrap();
        let parcel = Parcel { block: self.index, owner: owner.index, sender: self.arena.slot, full: true };
        tables.parcels.push(parcel);
        Ok(ParcelId { index: tables.parcels.len() as u32 - 1, sequence: 0 })
    }

    pub(super) fn owned(&self) -> Result<Vec<Owned>, ArenaError> {
        let dead = self.arena.heap.dead.load(Acquire);
        let tables = self.arena.heap.tables.lock().unwrap();
        let full = tables.parcels.iter().zip(0..).filter(|(parcel, _)| parcel.full && parcel.owner == self.index);
        Ok(full
            .map(|(parcel, index)| Owned {
                parcel: ParcelId { index, sequence: 0 },
                block: BlockId { index: parcel.block, generation: 0 },
                sender_lives: dead & 1 << parcel.sender == 0,
            })
            .collect())
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // A process that is killed drops nothing.
        if std::thread::panicking() {
            return;
        }
        let mut tables = self.arena.heap.tables.lock().unwrap();
        // A process that was killed has been swept already.
        let held = &mut tables.entries[self.index as usize].held[self.arena.slot as usize];
        *held = held.saturating_sub(1);
        tables.free_garbage();
    }
}
