//! Values that live in an arena under a name, until they are unpublished or the arena ends.
//!
//! The arena's root is a block with a lock. A *record* is a sealed block that lies in the root by a parcel; the arrays
//! that it names lie in the record in the same way. So one store makes a value exist, with all that belongs to it, and
//! one makes it cease. Of two records of one name, which a crash while replacing leaves, the one of the higher turn
//! counts.
//!
//! | bytes of a record | what |
//! |---|---|
//! | 4 | `on`, version, whether there is a payload |
//! | 8 | turn |
//! | 4 + n | name |
//! | 4, then 4 + n each | arrays, as [`ArrayHandle`] says |
//! | rest | payload |

use onecopy_arena::{Arena, ArenaError, Block, ParcelId};
use onecopy_sync::{Acquired, Guard, RobustMutex};

use crate::reader::Reader;
use crate::{ArrayHandle, Error, HandleError, Kind, Shareable, Shared};

const MAGIC: [u8; 3] = *b"on\x01";
/// Longest name, in bytes: with what stands around it, it has to fit a file name.
const MOST_NAME: usize = 100;
/// Bytes of a record up to the end of the longest name.
const MOST_HEAD: u64 = 3 + 1 + 8 + 4 + MOST_NAME as u64;

#[repr(C)]
struct Root {
    /// Held by whoever changes what lies in the root; readers need it not.
    lock: RobustMutex,
}

// SAFETY: a lock, which is one atomic word; zero is free, and nothing relies on its value for the safety of memory.
unsafe impl Shareable for Root {
    const KIND: Kind = Kind::Names;
}

/// A value under a name, held by this process.
#[derive(Debug)]
pub struct Published {
    /// Keeps the arrays alive until they have been received.
    _record: Block,
    /// What a program made of the value besides its arrays; none for a plain array.
    pub payload: Option<Vec<u8>>,
    /// The arrays; the handles can be received as often as one likes, as long as this value is there.
    pub arrays: Vec<ArrayHandle>,
}

struct Record {
    name: String,
    turn: u64,
    block: Block,
    parcel: ParcelId,
}

/// Refuses a name that is not portable as part of a file name.
pub fn check_name(name: &str) -> Result<(), Error> {
    let portable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=MOST_NAME).contains(&name.len()) && name.chars().all(portable) && !name.starts_with('.') {
        return Ok(());
    }
    Err(Error::Name(format!(
        "name {name:?}: expected 1 to {MOST_NAME} letters, digits, \".\", \"_\" or \"-\" of ASCII, not beginning with \".\""
    )))
}

/// Publishes arrays of `arena`, each with the block that it lies in, and what else makes up the value.
pub fn publish(
    arena: &'static Arena,
    name: &str,
    payload: Option<&[u8]>,
    arrays: &[(Block, ArrayHandle)],
    replace: bool,
) -> Result<(), Error> {
    check_name(name)?;
    let root = root_or_new(arena)?;
    let _guard = locked(&root)?;
    let old: Vec<Record> = records(&root)?.into_iter().filter(|record| record.name == name).collect();
    if !old.is_empty() && !replace {
        return Err(Error::NameTaken(name.into()));
    }
    let turn = old.iter().map(|record| record.turn).max().unwrap_or(0).saturating_add(1);
    let record = write(arena, &encode(name, turn, payload, arrays))?;
    for (block, _) in arrays {
        block.post_owned(&record)?;
    }
    // Until here a crash leaves a block that only the dead process held; from here on the value exists.
    record.post_owned(root.block())?;
    for record in old {
        arena.discard(record.parcel)?;
    }
    Ok(())
}

/// The value of a name, if there is one.
pub fn attach(arena: &'static Arena, name: &str) -> Result<Option<Published>, Error> {
    check_name(name)?;
    let Some(root) = root(arena)? else { return Ok(None) };
    let newest = records(&root)?.into_iter().filter(|record| record.name == name).max_by_key(|record| record.turn);
    newest.map(|record| decode(record.block)).transpose()
}

/// Takes a name away; answers whether there was one. Those that have attached the value keep it.
pub fn unpublish(arena: &'static Arena, name: &str) -> Result<bool, Error> {
    check_name(name)?;
    let Some(root) = root(arena)? else { return Ok(false) };
    let _guard = locked(&root)?;
    let mut found = false;
    for record in records(&root)?.into_iter().filter(|record| record.name == name) {
        found |= arena.discard(record.parcel)?;
    }
    Ok(found)
}

/// The published names, sorted.
pub fn names(arena: &'static Arena) -> Result<Vec<String>, Error> {
    let Some(root) = root(arena)? else { return Ok(Vec::new()) };
    let mut names: Vec<String> = records(&root)?.into_iter().map(|record| record.name).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

fn root(arena: &'static Arena) -> Result<Option<Shared<Root>>, Error> {
    arena.root()?.map(Shared::attach).transpose()
}

fn root_or_new(arena: &'static Arena) -> Result<Shared<Root>, Error> {
    if let Some(root) = root(arena)? {
        return Ok(root);
    }
    let new = Shared::<Root>::new(arena)?;
    if arena.set_root(new.block())? {
        return Ok(new);
    }
    root(arena)?.ok_or_else(|| ArenaError::Damaged("it has lost its root".into()).into())
}

fn locked(root: &Shared<Root>) -> Result<Guard<'_>, Error> {
    match root.lock.lock(&root.owners()?) {
        // Nothing to repair: every change of the root is one store.
        Acquired::Clean(guard) | Acquired::OwnerDied(guard) => Ok(guard),
    }
}

fn records(root: &Shared<Root>) -> Result<Vec<Record>, Error> {
    let mut records = Vec::new();
    for owned in root.block().owned()? {
        match root.block().arena().get(owned.block) {
            Ok(block) => {
                let (turn, name) = read_head(&block)?;
                records.push(Record { name, turn, block, parcel: owned.parcel });
            }
            // Unpublished since it was listed.
            Err(ArenaError::Stale { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(records)
}

fn damaged() -> Error {
    HandleError("a published name's record".into()).into()
}

fn read_head(block: &Block) -> Result<(u64, String), Error> {
    let bytes = block.read_at(0, block.len().min(MOST_HEAD)).ok_or_else(damaged)?;
    let mut reader = Reader { bytes: &bytes };
    reader.head().map(|(_, turn, name)| (turn, name)).ok_or_else(damaged)
}

fn encode(name: &str, turn: u64, payload: Option<&[u8]>, arrays: &[(Block, ArrayHandle)]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.push(u8::from(payload.is_some()));
    out.extend_from_slice(&turn.to_le_bytes());
    out.extend_from_slice(&(name.len() as u32).to_le_bytes());
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(&(arrays.len() as u32).to_le_bytes());
    for (_, handle) in arrays {
        let handle = handle.encode();
        out.extend_from_slice(&(handle.len() as u32).to_le_bytes());
        out.extend_from_slice(&handle);
    }
    out.extend_from_slice(payload.unwrap_or_default());
    out
}

fn write(arena: &'static Arena, bytes: &[u8]) -> Result<Block, Error> {
    let draft = arena.draft(bytes.len() as u64, bytes.len() as u64)?;
    draft.write_at(0, bytes)?;
    let mut block = draft.finish(bytes.len() as u64)?;
    block.seal()?;
    Ok(block)
}

fn decode(record: Block) -> Result<Published, Error> {
    let bytes = record.read_at(0, record.len()).ok_or_else(damaged)?;
    let mut reader = Reader { bytes: &bytes };
    let (has_payload, arrays) = reader.value().ok_or_else(damaged)?;
    let mut arrays = arrays.into_iter().map(ArrayHandle::decode).collect::<Result<Vec<_>, _>>()?;
    // They lie in the record's own arena. Where that was when they were written, on disk perhaps years ago, leads nowhere.
    let home = record.arena().hint();
    for handle in &mut arrays {
        handle.block.arena = home;
    }
    Ok(Published { payload: has_payload.then(|| reader.bytes.to_vec()), arrays, _record: record })
}

impl<'a> Reader<'a> {
    fn head(&mut self) -> Option<(bool, u64, String)> {
        if self.take::<3>()? != MAGIC {
            return None;
        }
        Some((self.u8()? != 0, self.u64()?, self.text()?))
    }

    fn value(&mut self) -> Option<(bool, Vec<&'a [u8]>)> {
        let (has_payload, ..) = self.head()?;
        let mut arrays = Vec::new();
        for _ in 0..self.u32()? {
            let len = self.u32()? as usize;
            let (handle, rest) = self.bytes.split_at_checked(len)?;
            self.bytes = rest;
            arrays.push(handle);
        }
        Some((has_payload, arrays))
    }
}

#[cfg(test)]
mod tests {
    use onecopy_arena::Options;
    use proptest::prelude::*;

    use super::*;
    use crate::{BlockHandle, Mode};

    fn arena() -> &'static Arena {
        Arena::create(Options { limit: Some(8 << 20), warm: None }).unwrap()
    }

    fn array(arena: &'static Arena, len: u64) -> (Block, ArrayHandle) {
        let block = arena.allocate_zeroed(len).unwrap();
        let handle = ArrayHandle {
            block: BlockHandle { arena: arena.hint(), id: block.id(), parcel: None },
            mode: Mode::ReadWrite,
            offset: 0,
            shape: [len].into_iter().collect(),
            strides: [1].into_iter().collect(),
            dtype: crate::handle::EncodedDType::new(),
        };
        (block, handle)
    }

    #[test]
    fn a_name_keeps_its_value_until_it_is_unpublished() {
        let arena = arena();
        publish(arena, "x", None, &[array(arena, 1000)], false).unwrap();
        assert_eq!(arena.stats().unwrap().blocks, 3, "root, record, array");
        let published = attach(arena, "x").unwrap().unwrap();
        let received = published.arrays[0].receive(1).unwrap();
        drop(published);
        assert!(unpublish(arena, "x").unwrap());
        assert!(!unpublish(arena, "x").unwrap());
        assert!(attach(arena, "x").unwrap().is_none());
        assert_eq!((received.len(), arena.stats().unwrap().blocks), (1000, 2), "who has attached it keeps it");
        drop(received);
        assert_eq!(arena.stats().unwrap().blocks, 1, "the root stays");
        arena.verify().unwrap();
    }

    #[test]
    fn a_taken_name_is_replaced_only_when_asked() {
        let arena = arena();
        publish(arena, "x", Some(b"one"), &[array(arena, 10)], false).unwrap();
        assert!(matches!(publish(arena, "x", None, &[], false), Err(Error::NameTaken(_))));
        publish(arena, "x", Some(b"two"), &[], true).unwrap();
        assert_eq!(attach(arena, "x").unwrap().unwrap().payload.unwrap(), b"two");
        assert_eq!((names(arena).unwrap(), arena.stats().unwrap().blocks), (vec!["x".to_owned()], 2));
    }

    #[test]
    fn of_two_records_of_a_name_the_later_counts() {
        let arena = arena();
        publish(arena, "x", Some(b"one"), &[], false).unwrap();
        // As a process leaves it that died before it had discarded what it replaced.
        let root = root(arena).unwrap().unwrap();
        write(arena, &encode("x", 2, Some(b"two"), &[])).unwrap().post_owned(root.block()).unwrap();
        assert_eq!(attach(arena, "x").unwrap().unwrap().payload.unwrap(), b"two");
        assert_eq!(names(arena).unwrap(), ["x"]);
        assert!(unpublish(arena, "x").unwrap());
        assert!(attach(arena, "x").unwrap().is_none());
    }

    #[test]
    fn names_are_portable() {
        for good in ["a", "A-1_b.c", &"x".repeat(MOST_NAME)] {
            check_name(good).unwrap();
        }
        for bad in ["", ".", "..", ".a", "a/b", "a b", "a~b", "ä", "a\0", &"x".repeat(MOST_NAME + 1)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_record_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            for bytes in [bytes.clone(), [&MAGIC[..], &bytes].concat()] {
                let mut reader = Reader { bytes: &bytes };
                let _ = reader.value();
            }
        }
    }
}
