//! The part that all handles have in common: which block of which arena, and what keeps it alive on the way.
//!
//! Little-endian, in this order:
//!
//! | bytes | what |
//! |---|---|
//! | 8 + 4 × 4 | arena: id, pid of the sender, its descriptors of the metadata and data files |
//! | 8 | block: index, generation |
//! | 8 | parcel: index, sequence (index 2³²−1: none) |

use onecopy_arena::{Arena, ArenaId, Block, BlockId, JoinHint, ParcelId};

use crate::reader::Reader;
use crate::{Error, outbox};

const NO_PARCEL: u32 = u32::MAX;

/// Bytes that are no handle, or one that does not fit the block it names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid handle: {0}; handles come from what was sent by onecopy of the same version")]
pub struct HandleError(pub(crate) String);

/// Names a block for a process that may not be in its arena yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockHandle {
    /// The arena and a process that has it.
    pub arena: JoinHint,
    /// The block.
    pub id: BlockId,
    /// What keeps the block alive until the handle is received.
    pub parcel: Option<ParcelId>,
}

impl BlockHandle {
    /// A handle to be received once; the block lives until then, or as long as the queue that the handle is for. One that
    /// is for a container has no parcel, and is received as often as somebody looks at the item.
    pub fn post(block: &Block) -> Result<Self, Error> {
        let parcel = outbox::post(block)?;
        Ok(Self { arena: block.arena().hint(), id: block.id(), parcel })
    }

    /// A handle for those who are in the block's arena already: nobody can join by it.
    pub fn within(block: &Block, parcel: Option<ParcelId>) -> Self {
        let arena = JoinHint { id: block.arena().id(), pid: 0, meta: 0, data: [0; 2] };
        Self { arena, id: block.id(), parcel }
    }

    /// Takes a reference to the block, joining its arena where this process is no member yet.
    pub fn receive(&self) -> Result<Block, Error> {
        let arena = match Arena::find(self.arena.id).filter(|arena| arena.is_member()) {
            Some(arena) => arena,
            None => Arena::join(self.arena)?,
        };
        Ok(arena.receive(self.id, self.parcel)?)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.arena.id.0.to_le_bytes());
        let parcel = self.parcel.unwrap_or(ParcelId { index: NO_PARCEL, sequence: 0 });
        let [a, b] = self.arena.data;
        let (pid, meta) = (self.arena.pid, self.arena.meta as u32);
        for number in [pid, meta, a as u32, b as u32, self.id.index, self.id.generation, parcel.index, parcel.sequence]
        {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let id = ArenaId(reader.u64()?);
        let (pid, meta, a, b) = (reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?);
        let block = BlockId { index: reader.u32()?, generation: reader.u32()? };
        let parcel = ParcelId { index: reader.u32()?, sequence: reader.u32()? };
        Some(Self {
            arena: JoinHint { id, pid, meta: meta as i32, data: [a as i32, b as i32] },
            id: block,
            parcel: (parcel.index != NO_PARCEL).then_some(parcel),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn block_handles() -> impl Strategy<Value = BlockHandle> {
        any::<([u32; 8], u64)>().prop_map(|(n, id)| BlockHandle {
            arena: JoinHint { id: ArenaId(id), pid: n[0], meta: n[1] as i32, data: [n[2] as i32, n[3] as i32] },
            id: BlockId { index: n[4], generation: n[5] },
            parcel: (n[6] % 2 == 0 && n[6] != NO_PARCEL).then_some(ParcelId { index: n[6], sequence: n[7] }),
        })
    }

    proptest! {
        #[test]
        fn every_block_handle_crosses(handle in block_handles()) {
            let mut bytes = Vec::new();
            handle.encode(&mut bytes);
            prop_assert_eq!(bytes.len(), 40);
            prop_assert_eq!(BlockHandle::decode(&mut Reader { bytes: &bytes }), Some(handle));
            prop_assert_eq!(BlockHandle::decode(&mut Reader { bytes: &bytes[..39] }), None);
        }
    }
}
