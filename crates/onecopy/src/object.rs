//! Any object in one block, its record: what a pickler wrote, and the buffers that it set aside.
//!
//! Little-endian, in this order:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `ob`, version, mode |
//! | 4 | number of buffers n |
//! | 8, 8 | start and length of the stream |
//! | n × 32 | of each buffer: its block's index (2³²−1: this one) and generation, start, length, whether it is read-only, 4 bytes of nothing |
//! | rest | stream and own buffers, each at a multiple of 64 |
//!
//! Blocks that buffers lie in, other than the record itself, are kept alive by parcels that lie in the record.

use std::collections::HashSet;

use onecopy_arena::{Arena, Block, BlockId};

use crate::copying::{Piece, gather_interruptibly};
use crate::reader::Reader;
use crate::{BlockHandle, Error, HandleError, Mode};

const MAGIC: [u8; 3] = *b"ob\x01";
const HEAD: u64 = 24;
const ENTRY: u64 = 32;
const ALIGNMENT: u64 = 64;
/// Stands for the record among blocks.
const OWN: u32 = u32::MAX;

/// Where the bytes of a buffer come from.
#[derive(Debug, Clone)]
pub enum Source<'a> {
    /// From anywhere: they are copied.
    Bytes(&'a [u8]),
    /// From a block, where they stay.
    Shared {
        /// The block.
        block: Block,
        /// Bytes before the buffer.
        start: u64,
        /// Bytes of the buffer, all inside the block.
        len: u64,
        /// Whether those who get the object may only read it although they may write to others.
        read_only: bool,
    },
}

/// A buffer of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// None for the record.
    block: Option<BlockId>,
    start: u64,
    len: u64,
    read_only: bool,
}

/// Bytes of an object, in a block that this process holds.
#[derive(Debug, Clone)]
pub struct Extent {
    /// The block.
    pub block: Block,
    /// Bytes before them.
    pub start: u64,
    /// How many they are; all lie in the block.
    pub len: u64,
    /// What this process may do with them.
    pub mode: Mode,
}

/// An object in shared memory. It lives as long as any process has a reference to it, or a handle is in flight.
///
/// ```
/// use onecopy::{Mode, Source, StoredObject};
///
/// let arena = onecopy::session()?;
/// let buffers = [Source::Bytes(&[1, 2, 3])];
/// let stored = StoredObject::store(arena, Mode::ReadOnly, b"stream", &buffers, &mut || false)?;
/// let handle = stored.send()?; // bytes for another process
/// drop(stored);
/// let received = StoredObject::receive(&handle)?;
/// assert_eq!((received.stream().len, received.buffers()?[0].len), (6, 3));
/// # Ok::<(), onecopy::Error>(())
/// ```
#[derive(Debug)]
pub struct StoredObject {
    record: Block,
    mode: Mode,
    stream: (u64, u64),
    entries: Vec<Entry>,
}

impl StoredObject {
    /// Stores an object; `stop` is asked now and then, as by [`copy_interruptibly`](crate::copy_interruptibly).
    pub fn store(
        arena: &'static Arena,
        mode: Mode,
        stream: &[u8],
        buffers: &[Source<'_>],
        stop: &mut dyn FnMut() -> bool,
    ) -> Result<Self, Error> {
        let elsewhere = |source: &&Source<'_>| matches!(source, Source::Shared { block, .. } if !std::ptr::eq(block.arena(), arena));
        if buffers.iter().any(|source| elsewhere(&source)) {
            return Err(HandleError("a buffer lies in another arena, and has to be copied from there".into()).into());
        }
        let mut plan = Plan { end: HEAD + ENTRY * buffers.len() as u64, pieces: Vec::new() };
        let stream = (plan.add(stream), stream.len() as u64);
        let entries: Vec<Entry> = buffers.iter().map(|source| plan.place(source)).collect();
        let table = encode(mode, stream, &entries);
        plan.pieces.insert(0, Piece { at: 0, bytes: &table });
        let mut record = gather_interruptibly(arena, plan.end, &plan.pieces, stop)?;
        // A death from here on leaves a block that nobody holds, with the parcels that lie in it.
        let mut posted = HashSet::new();
        for source in buffers {
            if let Source::Shared { block, .. } = source
                && posted.insert(block.id())
            {
                block.post_owned(&record)?;
            }
        }
        if mode == Mode::ReadOnly {
            record.seal()?;
        }
        Ok(Self { record, mode, stream, entries })
    }

    /// The object whose record a block is.
    pub fn open(record: Block) -> Result<Self, Error> {
        let bytes = record.read_at(0, HEAD).ok_or_else(|| damaged("it is too short"))?;
        let mut head = Reader { bytes: &bytes };
        let (mode, count, stream) = head.object_head().ok_or_else(|| damaged("it does not begin like one"))?;
        let table = ENTRY * u64::from(count);
        let bytes = record.read_at(HEAD, table).ok_or_else(|| damaged("its table is longer than it"))?;
        let mut table = Reader { bytes: &bytes };
        let entries: Vec<Entry> =
            (0..count).map(|_| table.object_entry()).collect::<Option<_>>().ok_or_else(|| damaged("its table"))?;
        let own = entries.iter().filter(|entry| entry.block.is_none()).map(|entry| (entry.start, entry.len));
        if !own.chain([stream]).all(|(start, len)| start.checked_add(len).is_some_and(|end| end <= record.len())) {
            return Err(damaged("its bytes reach beyond it"));
        }
        if mode == Mode::ReadWrite && record.is_sealed() {
            return Err(damaged("it asks for write access to a sealed block"));
        }
        Ok(Self { record, mode, stream, entries })
    }

    /// Bytes of a handle, to be received once by any process of the user. The object lives on until then.
    pub fn send(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = MAGIC.to_vec();
        BlockHandle::post(&self.record)?.encode(&mut bytes);
        Ok(bytes)
    }

    /// The object that a handle names.
    pub fn receive(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader { bytes };
        let handle = (reader.take::<3>() == Some(MAGIC)).then(|| BlockHandle::decode(&mut reader)).flatten();
        let handle = handle.filter(|_| reader.bytes.is_empty());
        let handle = handle.ok_or_else(|| HandleError(format!("{} bytes that are no stored object's", bytes.len())))?;
        Self::open(handle.receive()?)
    }

    /// The block that it lies in.
    pub fn record(&self) -> &Block {
        &self.record
    }

    /// What those who read it may do with its buffers.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Bytes of the stream and of all buffers.
    pub fn nbytes(&self) -> u64 {
        self.entries.iter().fold(self.stream.1, |sum, entry| sum.saturating_add(entry.len))
    }

    /// What the pickler wrote.
    pub fn stream(&self) -> Extent {
        let (start, len) = self.stream;
        Extent { block: self.record.clone(), start, len, mode: Mode::ReadOnly }
    }

    /// The buffers, in the pickler's order.
    pub fn buffers(&self) -> Result<Vec<Extent>, Error> {
        self.entries.iter().map(|entry| self.buffer(entry)).collect()
    }

    fn buffer(&self, entry: &Entry) -> Result<Extent, Error> {
        let block = match entry.block {
            None => self.record.clone(),
            Some(id) => self.record.arena().get(id)?,
        };
        let stays_read_only = self.mode == Mode::ReadWrite && (entry.read_only || block.is_sealed());
        let mode = if stays_read_only { Mode::ReadOnly } else { self.mode };
        if entry.start.checked_add(entry.len).is_none_or(|end| end > block.len()) {
            return Err(damaged("a buffer reaches beyond its block"));
        }
        Ok(Extent { block, start: entry.start, len: entry.len, mode })
    }
}

/// What goes where in a record.
struct Plan<'a> {
    end: u64,
    pieces: Vec<Piece<'a>>,
}

impl<'a> Plan<'a> {
    fn add(&mut self, bytes: &'a [u8]) -> u64 {
        let at = self.end.next_multiple_of(ALIGNMENT);
        self.end = at + bytes.len() as u64;
        self.pieces.push(Piece { at, bytes });
        at
    }

    fn place(&mut self, source: &Source<'a>) -> Entry {
        match source {
            Source::Shared { block, start, len, read_only } => {
                Entry { block: Some(block.id()), start: *start, len: *len, read_only: *read_only }
            }
            Source::Bytes(bytes) => {
                Entry { block: None, start: self.add(bytes), len: bytes.len() as u64, read_only: false }
            }
        }
    }
}

fn damaged(what: &str) -> Error {
    HandleError(format!("a block that is no object's record: {what}")).into()
}

fn encode(mode: Mode, stream: (u64, u64), entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::with_capacity((HEAD + ENTRY * entries.len() as u64) as usize);
    out.extend_from_slice(&MAGIC);
    out.push(mode as u8);
    out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    out.extend([stream.0, stream.1].iter().flat_map(|n| n.to_le_bytes()));
    for entry in entries {
        let block = entry.block.unwrap_or(BlockId { index: OWN, generation: 0 });
        out.extend([block.index, block.generation].iter().flat_map(|n| n.to_le_bytes()));
        out.extend([entry.start, entry.len].iter().flat_map(|n| n.to_le_bytes()));
        out.extend([u32::from(entry.read_only), 0].iter().flat_map(|n| n.to_le_bytes()));
    }
    out
}

impl Reader<'_> {
    /// Mode, number of buffers, place of the stream.
    fn object_head(&mut self) -> Option<(Mode, u32, (u64, u64))> {
        if self.take::<3>()? != MAGIC {
            return None;
        }
        Some((Mode::from_bits(self.u8()?)?, self.u32()?, (self.u64()?, self.u64()?)))
    }

    fn object_entry(&mut self) -> Option<Entry> {
        let block = BlockId { index: self.u32()?, generation: self.u32()? };
        let (start, len, flags, _) = (self.u64()?, self.u64()?, self.u32()?, self.u32()?);
        Some(Entry { block: (block.index != OWN).then_some(block), start, len, read_only: flags & 1 != 0 })
    }
}

#[cfg(test)]
mod tests {
    use onecopy_arena::Options;
    use proptest::prelude::*;

    use super::*;

    fn arena() -> &'static Arena {
        Arena::create(Options { limit: Some(8 << 20), warm: None }).unwrap()
    }

    fn bytes_of(extent: &Extent) -> Vec<u8> {
        extent.block.read_at(extent.start, extent.len).unwrap()
    }

    fn shared(block: &Block, start: u64, len: u64) -> Source<'static> {
        Source::Shared { block: block.clone(), start, len, read_only: false }
    }

    fn store(arena: &'static Arena, mode: Mode, buffers: &[Source<'_>]) -> Result<StoredObject, Error> {
        StoredObject::store(arena, mode, b"stream", buffers, &mut || false)
    }

    #[test]
    fn what_lies_in_the_arena_is_referred_to_and_kept() {
        let arena = arena();
        let block = crate::copy_into(arena, &[7; 1000]).unwrap();
        let buffers = [Source::Bytes(b"abc"), shared(&block, 10, 20), Source::Bytes(b""), shared(&block, 990, 10)];
        let stored = store(arena, Mode::ReadWrite, &buffers).unwrap();
        drop((buffers, block));
        assert_eq!((arena.stats().unwrap().blocks, arena.stats().unwrap().parcels), (2, 1), "one parcel for a block");
        assert_eq!(stored.nbytes(), 6 + 3 + 20 + 10);
        let handle = stored.send().unwrap();
        drop(stored);
        let received = StoredObject::receive(&handle).unwrap();
        let again = StoredObject::receive(&handle).unwrap();
        assert_eq!(bytes_of(&received.stream()), b"stream");
        let buffers = received.buffers().unwrap();
        drop((received, again));
        assert_eq!(buffers.iter().map(bytes_of).collect::<Vec<_>>(), [&b"abc"[..], &[7; 20], b"", &[7; 10]]);
        assert!(buffers.iter().all(|buffer| buffer.mode == Mode::ReadWrite && buffer.start % 2 == 0));
        assert!(StoredObject::receive(&handle).is_ok(), "its buffers hold the record");
        drop(buffers);
        assert!(StoredObject::receive(&handle).is_err());
        assert_eq!((arena.stats().unwrap().blocks, arena.stats().unwrap().parcels), (0, 0));
        arena.verify().unwrap();
    }

    #[test]
    fn sealed_parts_stay_read_only_and_read_only_records_are_sealed() {
        let arena = arena();
        let mut sealed = crate::copy_into(arena, &[7; 100]).unwrap();
        sealed.seal().unwrap();
        let stored = store(arena, Mode::ReadWrite, &[shared(&sealed, 0, 100), Source::Bytes(b"abc")]).unwrap();
        let modes: Vec<_> = stored.buffers().unwrap().iter().map(|buffer| buffer.mode).collect();
        assert_eq!(modes, [Mode::ReadOnly, Mode::ReadWrite]);
        assert!(!stored.record().is_sealed());
        assert!(store(arena, Mode::ReadOnly, &[]).unwrap().record().is_sealed());
    }

    #[test]
    fn what_does_not_fit_leaves_nothing() {
        let arena = arena();
        let block = crate::copy_into(arena, &[7; 1000]).unwrap();
        let too_much = vec![1; 9 << 20];
        let buffers = [shared(&block, 0, 10), Source::Bytes(&too_much)];
        assert!(matches!(store(arena, Mode::ReadOnly, &buffers), Err(Error::Arena(_))));
        let elsewhere = [shared(&crate::copy_into(self::arena(), &[7; 10]).unwrap(), 0, 10)];
        assert!(store(arena, Mode::ReadOnly, &elsewhere).unwrap_err().to_string().contains("another arena"));
        assert_eq!((arena.stats().unwrap().blocks, arena.stats().unwrap().parcels), (1, 0));
    }

    #[test]
    fn a_table_that_reaches_too_far_is_refused() {
        let arena = arena();
        let other = crate::copy_into(arena, &[7; 100]).unwrap();
        let entry = |block, start, len| Entry { block, start, len, read_only: false };
        let own = |start, len| encode(Mode::ReadOnly, (0, 24), &[entry(None, start, len)]);
        let foreign = |start, len| encode(Mode::ReadOnly, (0, 24), &[entry(Some(other.id()), start, len)]);
        let open = |bytes: &[u8]| StoredObject::open(crate::copy_into(arena, bytes).unwrap());
        assert!(open(&own(0, 56)).unwrap().buffers().is_ok());
        assert!(open(&foreign(50, 50)).unwrap().buffers().is_ok());
        for (start, len) in [(0, 57), (57, 0), (u64::MAX, 2), (2, u64::MAX)] {
            assert!(open(&own(start, len)).is_err());
        }
        for (start, len) in [(51, 50), (101, 0), (u64::MAX, 2)] {
            assert!(open(&foreign(start, len)).unwrap().buffers().is_err());
        }
        assert!(open(&encode(Mode::ReadOnly, (1, 24), &[])).is_err(), "the stream");
        let gone = BlockId { index: other.id().index, generation: other.id().generation + 1 };
        let stale = open(&encode(Mode::ReadOnly, (0, 24), &[entry(Some(gone), 0, 1)])).unwrap();
        assert!(matches!(stale.buffers(), Err(Error::Arena(_))));
    }

    proptest! {
        #[test]
        fn any_block_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), count in 0_u32..9) {
            let arena = arena();
            let head = [&MAGIC[..], &[0], &count.to_le_bytes()].concat();
            for bytes in [bytes.clone(), [head, bytes].concat()] {
                let opened = StoredObject::open(crate::copy_into(arena, &bytes).unwrap());
                if let Ok(buffers) = opened.and_then(|opened| opened.buffers()) {
                    prop_assert!(buffers.iter().all(|b| b.start + b.len <= b.block.len()));
                }
            }
        }
    }
}
