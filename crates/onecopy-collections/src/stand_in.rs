//! What queues and containers use of the arena, for the models: the heap is a table under one lock, which has a model of
//! its own.

use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};

use loom::cell::UnsafeCell;
use loom::sync::Mutex;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Acquire};
use onecopy_arena::{Access, ArenaError, BlockId, Contents, Owned, ParcelId};
use onecopy_sync::{Owners, Tag};

// --- death ---

loom::thread_local! {
    /// Steps that the process of this thread has left; none where it is not killed.
    static LEFT: std::cell::Cell<Option<u32>> = std::cell::Cell::new(None);
}

/// What unwinds a process that is killed. Nothing that it has is dropped in good order.
pub(crate) struct Killed;

/// A step is done; after its last a process is killed.
pub(crate) fn pass(_name: &str) {
    if let Some(left) = LEFT.with(std::cell::Cell::get) {
        LEFT.with(|cell| cell.set(Some(left.wrapping_sub(1))));
        if left == 0 {
            std::panic::resume_unwind(Box::new(Killed));
        }
    }
}

// --- the arena ---

/// What a unit of the queue's memory is.
pub(crate) type Unit = UnsafeCell<[u8; UNIT]>;
pub(crate) const UNIT: usize = 16;

/// Memory of a block, as who made it uses it.
#[derive(Debug)]
struct Slab {
    len: u64,
    units: Vec<Unit>,
    words: OnceLock<Vec<AtomicU64>>,
}

#[derive(Debug)]
struct Entry {
    memory: Arc<Slab>,
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
pub(crate) const SLOTS: usize = 4;

/// The arena as all processes share it.
#[derive(Debug)]
pub(crate) struct Heap {
    tables: Mutex<Tables>,
    /// A bit for each process that was killed.
    dead: AtomicU32,
}

/// The arena as a process has it.
#[derive(Debug, Clone)]
pub(crate) struct Arena {
    heap: Arc<Heap>,
    slot: u32,
}

/// A reference of a process to a block.
#[derive(Debug)]
pub struct Block {
    arena: Arena,
    index: u32,
    memory: Arc<Slab>,
}

/// Who lives.
#[derive(Debug)]
pub(crate) struct Viewer(Arena);

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
    pub(crate) fn new() -> [Self; SLOTS] {
        let heap = Arc::new(Heap { tables: Mutex::new(Tables::default()), dead: AtomicU32::new(0) });
        std::array::from_fn(|slot| Self { heap: heap.clone(), slot: slot as u32 })
    }

    /// A process comes to an end after so many steps, if it does not end before; answers whether it was killed.
    pub(crate) fn run_and_kill(&self, steps: u32, work: impl FnOnce()) -> bool {
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
    pub(crate) fn blocks(&self) -> usize {
        self.heap.tables.lock().unwrap().entries.iter().filter(|entry| entry.used).count()
    }

    pub(crate) fn me(&self) -> Result<Tag, ArenaError> {
        Ok(Tag::new(self.slot, 1))
    }

    pub(crate) fn owners(&self) -> Result<Viewer, ArenaError> {
        Ok(Viewer(self.clone()))
    }

    pub(crate) fn allocate(&self, len: u64) -> Result<(Block, Contents), ArenaError> {
        let units = (0..len.div_ceil(UNIT as u64)).map(|_| Unit::new([0; UNIT])).collect();
        let memory = Arc::new(Slab { len, units, words: OnceLock::new() });
        let mut held = [0; SLOTS];
        held[self.slot as usize] = 1;
        let mut tables = self.heap.tables.lock().unwrap();
        let index = tables.entries.len() as u32;
        tables.entries.push(Entry { memory: memory.clone(), held, used: true });
        drop(tables);
        Ok((Block { arena: self.clone(), index, memory }, Contents::Zeros))
    }

    pub(crate) fn receive(&self, id: BlockId, parcel: Option<ParcelId>) -> Result<Block, ArenaError> {
        let mut tables = self.heap.tables.lock().unwrap();
        let index = tables.used(id.index)?;
        tables.entries[index].held[self.slot as usize] += 1;
        if let Some(parcel) = parcel {
            tables.parcels[parcel.index as usize].full = false;
        }
        let memory = tables.entries[index].memory.clone();
        drop(tables);
        Ok(Block { arena: self.clone(), index: id.index, memory })
    }

    pub(crate) fn get(&self, id: BlockId) -> Result<Block, ArenaError> {
        self.receive(id, None)
    }

    pub(crate) fn discard(&self, parcel: ParcelId) -> Result<bool, ArenaError> {
        let mut tables = self.heap.tables.lock().unwrap();
        let was_full = std::mem::replace(&mut tables.parcels[parcel.index as usize].full, false);
        tables.free_garbage();
        Ok(was_full)
    }
}

impl Block {
    pub(crate) fn arena(&self) -> &Arena {
        &self.arena
    }

    pub(crate) fn id(&self) -> BlockId {
        BlockId { index: self.index, generation: 0 }
    }

    /// Its memory as units, which nothing orders.
    pub(crate) fn units(&self) -> &[Unit] {
        &self.memory.units
    }

    /// The address of its memory as words, which are atomics of the checker: longer than those of the machine.
    pub(crate) fn address(&self, _access: Access) -> Option<NonNull<u8>> {
        let words = || (0..self.memory.len / 8).map(|_| AtomicU64::new(0)).collect();
        self.memory.words.get_or_init(words).first().map(|word| NonNull::from(word).cast())
    }

    pub(crate) fn len(&self) -> u64 {
        self.memory.len
    }

    pub(crate) fn post_owned(&self, owner: &Self) -> Result<ParcelId, ArenaError> {
        let mut tables = self.arena.heap.tables.lock().unwrap();
        let parcel = Parcel { block: self.index, owner: owner.index, sender: self.arena.slot, full: true };
        tables.parcels.push(parcel);
        Ok(ParcelId { index: tables.parcels.len() as u32 - 1, sequence: 0 })
    }

    pub(crate) fn owned(&self) -> Result<Vec<Owned>, ArenaError> {
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
