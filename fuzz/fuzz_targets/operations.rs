//! What the targets do with an arena.

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use onecopy_arena::{Access, Arena, Block, BlockId, ParcelId, Specimen};

/// Any use of an arena, and damage in between.
#[derive(Arbitrary, Debug)]
pub enum Operation {
    Allocate(u16),
    AllocateLarge(u8),
    Draft {
        expected: u16,
        bound: u16,
        len: u16,
    },
    Drop(u8),
    Clone(u8),
    Seal(u8),
    Post(u8),
    PostOwned(u8, u8),
    Receive(u8),
    ReceiveForged {
        index: u16,
        generation: u8,
        parcel: u16,
        sequence: u8,
    },
    Get {
        index: u16,
        generation: u8,
    },
    Discard(u8),
    Owned(u8),
    Find(u16),
    PrivateCopy(u8),
    Reap,
    Trim(u16),
    SetLimit(u16),
    Stats,
    Verify,
    /// A byte of the metadata, counted from the start of the file.
    Damage(u32, u8),
    /// A word of one of the first entries of a table.
    DamageEntry {
        table: u8,
        entry: u8,
        word: u8,
        value: Word,
    },
}

/// Values that fields of the tables have, nearly have, or must not have.
#[derive(Arbitrary, Debug)]
pub enum Word {
    Small(u8),
    Any(u32),
    Offset(u16),
    Huge,
    Negative(u8),
}

impl Word {
    fn value(self) -> u32 {
        match self {
            Self::Small(value) => value.into(),
            Self::Any(value) => value,
            Self::Offset(grains) => u32::from(grains) << 6,
            Self::Huge => u32::MAX,
            Self::Negative(value) => u32::MAX - u32::from(value),
        }
    }
}

/// The state of a run: what the process holds.
#[derive(Default)]
struct Held {
    blocks: Vec<Block>,
    parcels: Vec<(BlockId, ParcelId)>,
}

impl Held {
    fn block(&self, number: u8) -> Option<&Block> {
        self.blocks.get(usize::from(number) % self.blocks.len().max(1))
    }

    fn keep(&mut self, block: Block) {
        touch(&block);
        self.blocks.push(block);
    }
}

/// Every byte that a block claims must be there.
fn touch(block: &Block) {
    let (len, Some(first)) = (block.len() as usize, block.address(Access::ReadOnly)) else { return };
    for at in (0..len).step_by(4096).chain(len.checked_sub(1)) {
        // SAFETY: the arena promises that the block lies inside the mapping.
        unsafe { first.add(at).read_volatile() };
    }
}

/// Runs all operations; whatever they answer, none may panic or touch memory that is not the arena's.
pub fn run(specimen: &Specimen, operations: Vec<Operation>) {
    let mut held = Held::default();
    for operation in operations.into_iter().take(64) {
        step(specimen, &mut held, operation);
    }
}

fn step(specimen: &Specimen, held: &mut Held, operation: Operation) {
    let arena: &'static Arena = specimen.arena();
    match operation {
        Operation::Allocate(len) => {
            if let Ok((block, _)) = arena.allocate(len.into()) {
                held.keep(block);
            }
        }
        Operation::AllocateLarge(pages) => {
            if let Ok(block) = arena.allocate_zeroed(u64::from(pages) << 16) {
                held.keep(block);
            }
        }
        Operation::Draft { expected, bound, len } => {
            let draft = match expected {
                0 => arena.draft_in_huge_pages(u64::from(bound) << 8),
                _ => arena.draft(expected.into(), u64::from(bound) << 8),
            };
            let made = draft.and_then(|draft| {
                draft.write_at(0, &vec![7; len.into()])?;
                draft.finish(len.into())
            });
            if let Ok(block) = made {
                held.keep(block);
            }
        }
        Operation::Drop(number) if !held.blocks.is_empty() => {
            let at = usize::from(number) % held.blocks.len();
            drop(held.blocks.swap_remove(at));
        }
        Operation::Clone(number) => {
            if let Some(block) = held.block(number).cloned() {
                held.keep(block);
            }
        }
        Operation::Seal(number) if !held.blocks.is_empty() => {
            let at = usize::from(number) % held.blocks.len();
            let _ = held.blocks[at].seal();
        }
        Operation::Post(number) => {
            if let Some((id, Ok(parcel))) = held.block(number).map(|block| (block.id(), block.post())) {
                held.parcels.push((id, parcel));
            }
        }
        Operation::PostOwned(number, owner) => {
            if let (Some(block), Some(owner)) = (held.block(number), held.block(owner)) {
                let _ = block.post_owned(owner);
            }
        }
        Operation::Receive(number) if !held.parcels.is_empty() => {
            let at = usize::from(number) % held.parcels.len();
            let (id, parcel) = held.parcels.swap_remove(at);
            if let Ok(block) = arena.receive(id, Some(parcel)) {
                held.keep(block);
            }
        }
        Operation::ReceiveForged { index, generation, parcel, sequence } => {
            let id = BlockId { index: index.into(), generation: generation.into() };
            let parcel = ParcelId { index: parcel.into(), sequence: sequence.into() };
            if let Ok(block) = arena.receive(id, Some(parcel)) {
                held.keep(block);
            }
        }
        Operation::Get { index, generation } => {
            if let Ok(block) = arena.get(BlockId { index: index.into(), generation: generation.into() }) {
                held.keep(block);
            }
        }
        Operation::Discard(number) if !held.parcels.is_empty() => {
            let at = usize::from(number) % held.parcels.len();
            let _ = arena.discard(held.parcels[at].1);
        }
        Operation::Owned(number) => {
            let _ = held.block(number).map(Block::owned);
        }
        Operation::Find(at) => {
            let first = held.block(0).and_then(|block| block.address(Access::ReadOnly));
            let _ = first.map(|first| arena.block_at(first.addr().get().wrapping_add(at.into())));
        }
        Operation::PrivateCopy(number) => {
            let _ = held.block(number).map(Block::private_copy);
        }
        Operation::Reap => drop(arena.reap()),
        Operation::Trim(keep) => drop(arena.trim(keep.into())),
        Operation::SetLimit(kib) => drop(arena.set_limit(u64::from(kib) << 10, None)),
        Operation::Stats => drop(arena.stats()),
        Operation::Verify => drop(arena.verify()),
        Operation::Damage(position, value) => specimen.damage(position as usize, value),
        Operation::DamageEntry { table, entry, word, value } => {
            let (start, size) = specimen.tables()[usize::from(table) % 5];
            let at = start + usize::from(entry % 16) * size + usize::from(word) * 4 % size;
            for (i, byte) in value.value().to_le_bytes().into_iter().enumerate() {
                specimen.damage(at + i, byte);
            }
        }
        _ => {}
    }
}
