//! The dictionary.

use onecopy_arena::{Arena, Block};
use onecopy_collections::container::{Local, Open, Picked, Record};
use onecopy_collections::map::{Channel, Cursor, Entry, Map as Part};
use onecopy_os::random_u64;

use super::key::{given_key, key_value};
use super::{Container, DictKey, Encoded, patiently};
use crate::locks::Told;
use crate::{Error, Kind, Payload, Shareable, Shared, SharedObject, Value, ValueKind};

// SAFETY: a structure of atomics; what is read there is checked before use. Zeros are never used: `Dict::new` begins.
unsafe impl Shareable for Part {
    const KIND: Kind = Kind::Dict;
}

/// A dictionary that any number of processes read and write, in the order in which keys were first put in.
///
/// Reading takes no lock. A process that is killed takes nothing of anybody else's with it, whatever it was doing. Arrays
/// stay where they are: they are kept by the dictionary, and not copied.
///
/// ```
/// use onecopy::{Dict, DictKey, SharedObject, Value, session};
///
/// let dict = Dict::new(session()?)?;
/// dict.insert(&DictKey::Str("answer"), &Value::Int(42))?;
/// let there = Dict::receive(&dict.send()?)?; // in another process
/// assert!(matches!(there.get(&DictKey::Str("answer"))?, Some(Value::Int(42))));
/// assert_eq!(there.len()?, 1);
/// # Ok::<(), onecopy::Error>(())
/// ```
#[derive(Debug)]
pub struct Dict {
    shared: Shared<Part>,
    local: Local,
    told: Told,
}

impl Dict {
    /// An empty dictionary.
    pub fn new(arena: &'static Arena) -> Result<Self, Error> {
        let dict = Self::from(Shared::<Part>::new(arena)?);
        dict.channel().begin(random_u64()?)?;
        Ok(dict)
    }

    #[inline]
    fn channel(&self) -> Channel<'_> {
        Channel::new(&self.shared, self.shared.block(), &self.local)
    }

    // --- values ---

    /// The value of a key.
    pub fn get(&self, key: &DictKey<'_>) -> Result<Option<Value>, Error> {
        self.read(key, value)?.transpose()
    }

    /// Puts a value under a key, instead of the one that it has.
    pub fn insert(&self, key: &DictKey<'_>, value: &Value) -> Result<(), Error> {
        let encoded = Encoded::of(self.home(), value)?;
        patiently(self, || self.set(key, &encoded))
    }

    /// Puts a value under a key that has none; the value that the key has now.
    pub fn get_or_insert(&self, key: &DictKey<'_>, default: Value) -> Result<Value, Error> {
        let encoded = Encoded::of(self.home(), &default)?;
        let there = patiently(self, || self.set_default(key, &encoded, value)?.transpose())?;
        Ok(there.unwrap_or(default))
    }

    /// Takes a key away; its value.
    pub fn remove(&self, key: &DictKey<'_>) -> Result<Option<Value>, Error> {
        let picked = patiently(self, || self.pop(key))?;
        picked.map(|picked| value(picked.record()?, picked.blocks())).transpose()
    }

    /// Takes the key away that was put in last; it and its value.
    pub fn pop_last(&self) -> Result<Option<(Value, Value)>, Error> {
        let picked = patiently(self, || self.try_pop_last())?;
        picked.map(|picked| pair(&picked)).transpose()
    }

    /// Takes all keys away.
    pub fn clear(&self) -> Result<(), Error> {
        patiently(self, || self.try_clear())
    }

    /// All keys and values at one moment, in order.
    pub fn items(&self) -> Result<Vec<(Value, Value)>, Error> {
        self.snapshot()?.iter().map(pair).collect()
    }

    /// Whether there is a key.
    #[inline]
    pub fn contains_key(&self, key: &DictKey<'_>) -> Result<bool, Error> {
        Ok(key.with(|key| self.channel().contains(key))?)
    }

    /// How many keys there are.
    pub fn len(&self) -> Result<usize, Error> {
        Ok(self.channel().len()?)
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.len()? == 0)
    }

    // --- bytes; what changes the dictionary fails with `ContainerError::Locked` instead of waiting ---

    /// Shows kind and bytes of the value of a key.
    #[inline]
    pub fn read<T>(&self, key: &DictKey<'_>, show: impl FnOnce(Record<'_>, &[Block]) -> T) -> Result<Option<T>, Error> {
        Ok(key.with(|key| self.channel().get(key, show))?)
    }

    /// Puts a value under a key.
    #[inline]
    pub fn set(&self, key: &DictKey<'_>, value: &Encoded<'_>) -> Result<(), Error> {
        key.with(|key| Ok(self.channel().set(key, value.item(Some(key))?)?))
    }

    /// Puts a value under a key that has none; shows the value of a key that has.
    pub fn set_default<T>(
        &self,
        key: &DictKey<'_>,
        default: &Encoded<'_>,
        show: impl FnOnce(Record<'_>, &[Block]) -> T,
    ) -> Result<Option<T>, Error> {
        let entry =
            key.with(|key| Ok::<_, Error>(self.channel().set_default(key, default.item(Some(key))?, show)?))?;
        Ok(match entry {
            Entry::There(shown) => Some(shown),
            Entry::Added => None,
        })
    }

    /// Takes a key away.
    pub fn pop(&self, key: &DictKey<'_>) -> Result<Option<Picked>, Error> {
        Ok(key.with(|key| self.channel().pop(key))?)
    }

    /// Takes a key away whose value nobody wants; whether it was there.
    pub fn delete(&self, key: &DictKey<'_>) -> Result<bool, Error> {
        Ok(key.with(|key| self.channel().remove(key))?)
    }

    /// Takes the key away that was put in last.
    pub fn try_pop_last(&self) -> Result<Option<Picked>, Error> {
        Ok(self.channel().pop_last()?)
    }

    /// Takes all keys away.
    pub fn try_clear(&self) -> Result<(), Error> {
        Ok(self.channel().clear()?)
    }

    /// All that is there at one moment, in order.
    pub fn snapshot(&self) -> Result<Vec<Picked>, Error> {
        Ok(self.channel().snapshot()?)
    }

    /// Goes through the dictionary while it may change: a key that is there all the time is met once, with the value of
    /// that moment or one that it had since the start.
    pub fn walk(&self) -> Result<DictIter, Error> {
        Ok(DictIter(self.channel().cursor()?))
    }

    /// Kind and bytes of the key of a record.
    pub fn key_of(record: Record<'_>) -> Result<(ValueKind, Vec<u8>), Error> {
        given_key(record)
    }

    /// Kind and bytes of the value of a record.
    #[inline]
    pub fn value_of<'a>(record: Record<'a>, blocks: &'a [Block]) -> Result<(ValueKind, Payload<'a>), Error> {
        Ok((ValueKind::of_tag(record.tag())?, Payload::of(record, blocks)?))
    }
}

/// A walk through a dictionary.
#[derive(Debug)]
pub struct DictIter(Cursor);

impl DictIter {
    /// Shows the next key and its value.
    pub fn next<T>(&mut self, dict: &Dict, show: impl FnOnce(Record<'_>, &[Block]) -> T) -> Result<Option<T>, Error> {
        Ok(self.0.next(&dict.channel(), show)?)
    }

    /// Shows the next key.
    pub fn next_key<T>(&mut self, show: impl FnOnce(Record<'_>) -> T) -> Result<Option<T>, Error> {
        Ok(self.0.next_key(show)?)
    }
}

pub(super) fn value(record: Record<'_>, blocks: &[Block]) -> Result<Value, Error> {
    let (kind, payload) = Dict::value_of(record, blocks)?;
    Value::from_payload(kind, &payload)
}

fn pair(picked: &Picked) -> Result<(Value, Value), Error> {
    let record = picked.record()?;
    Ok((key_value(record)?, value(record, picked.blocks())?))
}

impl Container for Dict {
    fn home(&self) -> &Block {
        self.shared.block()
    }

    fn open(&self) -> Open<'_> {
        *self.channel()
    }

    fn told(&self) -> &Told {
        &self.told
    }
}

impl From<Shared<Part>> for Dict {
    fn from(shared: Shared<Part>) -> Self {
        Self { shared, local: Local::default(), told: Told::default() }
    }
}

impl SharedObject for Dict {
    type Part = Part;

    fn part(&self) -> &Shared<Part> {
        &self.shared
    }
}
