//! Messages as they lie in the ring, and batches of them on their way in and out.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | length of the contents |
//! | 1 | tag of the message |
//! | 1 | [`Kind`] |
//! | 2 | number n of the blocks that it refers to |
//! | 16 × n | block (index, generation), parcel (index, sequence) |
//! | rest | contents, filled up to whole units |

use onecopy_arena::{BlockId, ParcelId};

use super::door::Block;

/// What memory is given out in.
pub(super) const UNIT: usize = 16;
pub(super) const HEADER: usize = 8;
const ENCLOSED: usize = 16;
/// Room that is made for a message before its length is known: enough for a number or the handle of an array.
const SHORT: usize = 128;

/// The most blocks that a message may refer to: a quarter of the largest segment.
pub const MOST_ENCLOSED: usize = 16 << 10;
/// The longest contents of a message. Longer ones go into a block of their own, which the message refers to.
pub const MOST_BYTES: usize = 16 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Message = 1,
    /// Nothing; the next record is at the start of the ring.
    Pad = 2,
    /// The records go on in another segment.
    Link = 3,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) tag: u8,
    pub(super) len: u32,
    pub(super) enclosed: u16,
}

impl Header {
    pub(super) const fn pad(units: u32) -> Self {
        Self { kind: Kind::Pad, tag: 0, len: (units as usize * UNIT - HEADER) as u32, enclosed: 0 }
    }

    pub(super) fn pack(self) -> u64 {
        u64::from(self.len)
            | u64::from(self.tag) << 32
            | u64::from(self.kind as u8) << 40
            | u64::from(self.enclosed) << 48
    }

    pub(super) fn unpack(word: u64) -> Option<Self> {
        let kind = match (word >> 40) as u8 {
            1 => Kind::Message,
            2 => Kind::Pad,
            3 => Kind::Link,
            _ => return None,
        };
        Some(Self { kind, tag: (word >> 32) as u8, len: word as u32, enclosed: (word >> 48) as u16 })
    }

    /// Units of the whole record.
    pub(super) fn units(self) -> u32 {
        let bytes = HEADER as u64 + u64::from(self.enclosed) * ENCLOSED as u64 + u64::from(self.len);
        u32::try_from(bytes.div_ceil(UNIT as u64)).unwrap_or(u32::MAX)
    }
}

/// A block that a message refers to, with the parcel that keeps it alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Enclosed {
    /// The block.
    pub block: BlockId,
    /// Its parcel, which the queue's block owns.
    pub parcel: ParcelId,
}

impl Enclosed {
    pub(super) fn encode(self) -> [u8; ENCLOSED] {
        let words = [self.block.index, self.block.generation, self.parcel.index, self.parcel.sequence];
        let mut bytes = [0; ENCLOSED];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Self {
        let word = |i: usize| u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
        Self {
            block: BlockId { index: word(0), generation: word(4) },
            parcel: ParcelId { index: word(8), sequence: word(12) },
        }
    }
}

/// A message of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// What the sender says that the contents are.
    pub tag: u8,
    /// The contents.
    pub bytes: &'a [u8],
    enclosed: &'a [u8],
}

impl<'a> Message<'a> {
    /// The blocks that it refers to.
    pub fn enclosed(&self) -> impl ExactSizeIterator<Item = Enclosed> + use<'a> {
        self.enclosed.chunks_exact(ENCLOSED).map(Enclosed::decode)
    }
}

/// Messages on their way into a queue or out of it, one behind the other as they lie in the ring.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    blocks: Vec<Block>,
}

impl Batch {
    /// Without messages.
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), blocks: Vec::new() }
    }

    /// Adds a message whose contents `write` appends to the bytes it is given; it may call the whole thing off.
    ///
    /// # Panics
    ///
    /// If there are more than [`MOST_ENCLOSED`] blocks, or more contents than [`MOST_BYTES`].
    #[inline]
    pub fn push_with<E>(
        &mut self,
        tag: u8,
        enclosed: &[Enclosed],
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        assert!(enclosed.len() <= MOST_ENCLOSED, "{} blocks in one message", enclosed.len());
        let start = self.bytes.len();
        self.bytes.reserve(SHORT + enclosed.len() * ENCLOSED);
        self.bytes.extend_from_slice(&[0; HEADER]);
        for enclosed in enclosed {
            self.bytes.extend_from_slice(&enclosed.encode());
        }
        let contents = self.bytes.len();
        if let Err(error) = write(&mut self.bytes) {
            self.bytes.truncate(start);
            return Err(error);
        }
        let len = self.bytes.len() - contents;
        assert!(len <= MOST_BYTES, "{len} bytes in one message");
        let header = Header { kind: Kind::Message, tag, len: len as u32, enclosed: enclosed.len() as u16 };
        self.bytes[start..start + HEADER].copy_from_slice(&header.pack().to_le_bytes());
        self.bytes.resize(start + header.units() as usize * UNIT, 0);
        Ok(())
    }

    /// Adds a message; limits as for [`push_with`](Self::push_with).
    #[inline]
    pub fn push(&mut self, tag: u8, bytes: &[u8], enclosed: &[Enclosed]) {
        let Ok(()) = self.push_with(tag, enclosed, |contents| {
            contents.extend_from_slice(bytes);
            Ok::<(), std::convert::Infallible>(())
        });
    }

    /// Takes all messages out.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.blocks.clear();
    }

    /// Whether there are no messages.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The messages in order.
    pub fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        self.records(0).filter_map(|record| message_of(record.1))
    }

    /// The block that a received message refers to. It lives at least as long as the batch.
    pub fn block(&self, id: BlockId) -> Option<&Block> {
        self.blocks.iter().find(|block| block.id() == id)
    }

    /// The same, given up by the batch.
    pub fn take_block(&mut self, id: BlockId) -> Option<Block> {
        let position = self.blocks.iter().position(|block| block.id() == id)?;
        Some(self.blocks.swap_remove(position))
    }

    /// The blocks that received messages refer to, those of the first message first. The messages go.
    pub fn into_blocks(self) -> impl Iterator<Item = Block> {
        self.blocks.into_iter()
    }

    /// Headers and records from a position that lies between two.
    #[inline]
    pub(super) fn records(&self, from: usize) -> impl Iterator<Item = (Header, &[u8])> {
        let mut rest = &self.bytes[from..];
        std::iter::from_fn(move || {
            let (word, _) = rest.split_first_chunk::<HEADER>()?;
            let header = Header::unpack(u64::from_le_bytes(*word))?;
            let (record, behind) = rest.split_at_checked(header.units() as usize * UNIT)?;
            rest = behind;
            Some((header, record))
        })
    }

    /// Bytes of all messages: the position behind the last.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    pub(super) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(super) fn last_from(&self, start: usize) -> Option<Message<'_>> {
        message_of(&self.bytes[start..])
    }

    pub(super) fn keep(&mut self, blocks: Vec<Block>) {
        self.blocks.extend(blocks);
    }
}

/// The parts of a record. A record from shared memory may have another header than the one that was checked before it
/// was copied out, so it is read with care here.
pub(super) fn message_of(record: &[u8]) -> Option<Message<'_>> {
    let (word, rest) = record.split_first_chunk::<HEADER>()?;
    let header = Header::unpack(u64::from_le_bytes(*word))?;
    let (enclosed, rest) = rest.split_at_checked(usize::from(header.enclosed) * ENCLOSED)?;
    Some(Message { tag: header.tag, bytes: rest.get(..header.len as usize)?, enclosed })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in(all in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..100), 0_u32..4), 0..9)) {
            let mut batch = Batch::new();
            let enclosed = |n: u32| -> Vec<_> {
                (0..n).map(|i| Enclosed { block: BlockId { index: i, generation: n }, parcel: ParcelId { index: 7 * i, sequence: i + 1 } }).collect()
            };
            for (tag, bytes, n) in &all {
                batch.push(*tag, bytes, &enclosed(*n));
            }
            let out: Vec<_> = batch.messages().map(|m| (m.tag, m.bytes.to_vec(), m.enclosed().collect::<Vec<_>>())).collect();
            let expected: Vec<_> = all.iter().map(|(tag, bytes, n)| (*tag, bytes.clone(), enclosed(*n))).collect();
            prop_assert_eq!(out, expected);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(message) = message_of(&bytes) {
                prop_assert!(message.bytes.len() < bytes.len());
            }
            let batch = Batch { bytes, blocks: Vec::new() };
            prop_assert!(batch.messages().count() <= 4);
        }
    }
}
