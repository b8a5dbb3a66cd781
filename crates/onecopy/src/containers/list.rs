//! The list.

use onecopy_arena::{Arena, Block};
use onecopy_collections::container::{Local, Open, Picked, Record};
use onecopy_collections::list::{Channel, List as Part, Origin};

use super::dict::value;
use super::{Container, Encoded, patiently};
use crate::locks::Told;
use crate::{Error, Kind, Shareable, Shared, SharedObject, Value};

// SAFETY: a structure of atomics; what is read there is checked before use. Zeros are never used: `List::new` begins.
unsafe impl Shareable for Part {
    const KIND: Kind = Kind::List;
}

/// A list that any number of processes read and write. Indices count from the end where they are negative.
///
/// Reading takes no lock. A process that is killed takes nothing of anybody else's with it: whatever it was doing is done
/// as a whole or not at all.
///
/// ```
/// use onecopy::{List, SharedObject, Value, session};
///
/// let list = List::new(session()?)?;
/// list.push(&Value::Int(1))?;
/// let there = List::receive(&list.send()?)?; // in another process
/// there.insert(0, &Value::Str("first".into()))?;
/// assert_eq!(list.len()?, 2);
/// assert!(matches!(list.get(-1)?, Some(Value::Int(1))));
/// # Ok::<(), onecopy::Error>(())
/// ```
#[derive(Debug)]
pub struct List {
    shared: Shared<Part>,
    local: Local,
    told: Told,
}

impl List {
    /// An empty list.
    pub fn new(arena: &'static Arena) -> Result<Self, Error> {
        let list = Self::from(Shared::<Part>::new(arena)?);
        list.channel().begin()?;
        Ok(list)
    }

    #[inline]
    fn channel(&self) -> Channel<'_> {
        Channel::new(&self.shared, self.shared.block(), &self.local)
    }

    // --- values ---

    /// The item at an index.
    pub fn get(&self, index: i64) -> Result<Option<Value>, Error> {
        self.read(index, value)?.transpose()
    }

    /// Puts a value in the place of the item at an index; whether there is that index.
    pub fn replace(&self, index: i64, value: &Value) -> Result<bool, Error> {
        let encoded = Encoded::of(self.home(), value)?;
        patiently(self, || self.set(index, &encoded))
    }

    /// Puts a value behind the last.
    pub fn push(&self, value: &Value) -> Result<(), Error> {
        let encoded = [Encoded::of(self.home(), value)?];
        patiently(self, || self.extend(&encoded))
    }

    /// Puts a value before the item at an index; an index beyond either end is that end.
    pub fn insert(&self, index: i64, value: &Value) -> Result<(), Error> {
        let encoded = Encoded::of(self.home(), value)?;
        patiently(self, || self.try_insert(index, &encoded))
    }

    /// Takes the item at an index out.
    pub fn remove(&self, index: i64) -> Result<Option<Value>, Error> {
        let picked = patiently(self, || self.pop(index))?;
        picked.map(|picked| value(picked.record()?, picked.blocks())).transpose()
    }

    /// Takes all items out.
    pub fn clear(&self) -> Result<(), Error> {
        patiently(self, || self.try_clear())
    }

    /// All items at one moment.
    pub fn items(&self) -> Result<Vec<Value>, Error> {
        let all = self.snapshot(|len| (0..len).collect())?;
        all.iter().map(|picked| value(picked.record()?, picked.blocks())).collect()
    }

    /// How many items there are.
    #[inline]
    pub fn len(&self) -> Result<usize, Error> {
        Ok(self.channel().len()?)
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.len()? == 0)
    }

    // --- bytes; what changes the list fails with `ContainerError::Locked` instead of waiting ---

    /// Shows the item at an index.
    #[inline]
    pub fn read<T>(&self, index: i64, show: impl FnOnce(Record<'_>, &[Block]) -> T) -> Result<Option<T>, Error> {
        Ok(self.channel().get(index, show)?)
    }

    /// Puts a value in the place of the item at an index; whether there is that index.
    #[inline]
    pub fn set(&self, index: i64, value: &Encoded<'_>) -> Result<bool, Error> {
        Ok(self.channel().set(index, value.item(None)?)?)
    }

    /// Puts values behind the last, at once.
    #[inline]
    pub fn extend(&self, values: &[Encoded<'_>]) -> Result<(), Error> {
        let mut items = values.iter().map(|value| value.item(None)).collect::<Result<Vec<_>, _>>()?;
        Ok(self.channel().extend(&mut items)?)
    }

    /// Puts a value before the item at an index.
    pub fn try_insert(&self, index: i64, value: &Encoded<'_>) -> Result<(), Error> {
        Ok(self.channel().insert(index, value.item(None)?)?)
    }

    /// Takes the item at an index out.
    pub fn pop(&self, index: i64) -> Result<Option<Picked>, Error> {
        Ok(self.channel().pop(index)?)
    }

    /// Makes the list consist of old items and new values in another order, at once. `order` learns how long the list is
    /// and may refuse; what it does not name goes.
    pub fn arrange<E: From<Error>>(
        &self,
        order: impl FnOnce(usize) -> Result<Vec<Origin>, E>,
        values: &[Encoded<'_>],
    ) -> Result<(), E> {
        let mut items = values.iter().map(|value| value.item(None)).collect::<Result<Vec<_>, _>>()?;
        let arranged = self.channel().arrange(|len| order(len).map_err(Refusal::Caller), &mut items);
        arranged.map_err(|refusal| match refusal {
            Refusal::Caller(error) => error,
            Refusal::Container(error) => E::from(error.into()),
        })
    }

    /// Takes all items out.
    pub fn try_clear(&self) -> Result<(), Error> {
        Ok(self.channel().clear()?)
    }

    /// The items at some positions, all at one moment; `positions` learns how long the list is then.
    pub fn snapshot(&self, positions: impl FnOnce(usize) -> Vec<usize>) -> Result<Vec<Picked>, Error> {
        Ok(self.channel().snapshot(positions)?)
    }
}

/// Who refused a new order.
enum Refusal<E> {
    Caller(E),
    Container(crate::ContainerError),
}

impl<E> From<crate::ContainerError> for Refusal<E> {
    fn from(error: crate::ContainerError) -> Self {
        Self::Container(error)
    }
}

impl Container for List {
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

impl From<Shared<Part>> for List {
    fn from(shared: Shared<Part>) -> Self {
        Self { shared, local: Local::default(), told: Told::default() }
    }
}

impl SharedObject for List {
    type Part = Part;

    fn part(&self) -> &Shared<Part> {
        &self.shared
    }
}
