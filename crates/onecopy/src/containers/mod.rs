//! Dictionaries and lists that live in the arena, as a process has them.

use std::borrow::Cow;

use onecopy_arena::Block;
use onecopy_collections::container::{ContainerError, Item, Key, LockFailure, Open, WaitError};
use onecopy_sync::{OnOwnerDied, Patience};

mod dict;
mod key;
mod list;

pub use dict::{Dict, DictIter};
pub use key::{DictKey, KeyKind};
pub use list::List;

use crate::locks::Told;
use crate::value::LONG;
use crate::{Array, Error, LockError, Value, ValueKind, copy_into, outbox};

/// Contents that are longer lie in a block of their own, so that they need not be moved when their container grows.
const MOST_INLINE: usize = 4 << 10;

/// A value in the form in which a container keeps it. What it refers to lives as long as this.
#[derive(Debug)]
pub struct Encoded<'a> {
    tag: u8,
    contents: Cow<'a, [u8]>,
    blocks: Vec<Block>,
}

impl<'a> Encoded<'a> {
    /// A value for a container that lives in `home`, whose bytes are these.
    #[inline]
    pub fn new(home: &Block, kind: ValueKind, contents: impl Into<Cow<'a, [u8]>>) -> Result<Self, Error> {
        Self::enclosing(home, kind, contents.into(), Vec::new())
    }

    /// A value for a container that lives in `home`, whose bytes are made by `make` and refer by handles to blocks.
    pub fn made<E: From<Error>>(
        home: &Block,
        make: impl FnOnce() -> Result<(ValueKind, Vec<u8>), E>,
    ) -> Result<Self, E> {
        let (made, blocks) = outbox::collect_blocks(home, make);
        let (kind, contents) = made?;
        Ok(Self::enclosing(home, kind, Cow::Owned(contents), blocks)?)
    }

    fn enclosing(
        home: &Block,
        kind: ValueKind,
        contents: Cow<'a, [u8]>,
        mut blocks: Vec<Block>,
    ) -> Result<Self, Error> {
        if contents.len() <= MOST_INLINE {
            return Ok(Self { tag: kind as u8, contents, blocks });
        }
        blocks.insert(0, copy_into(home.arena(), &contents)?);
        Ok(Self { tag: kind as u8 | LONG, contents: Cow::Borrowed(&[]), blocks })
    }

    /// A value of the Rust API.
    fn of(home: &Block, value: &'a Value) -> Result<Self, Error> {
        match value {
            Value::Array(array) => Self::made(home, || Ok((ValueKind::Array, Array::send(array)?))),
            other => {
                let (kind, contents) = other.plain();
                Self::new(home, kind, contents)
            }
        }
    }

    #[inline]
    fn item(&self, key: Option<&Key<'_>>) -> Result<Item<'_>, Error> {
        Ok(Item::new(key, self.tag, &self.contents, &self.blocks)?)
    }
}

/// What all containers have: a lock that keeps the others from changing them.
///
/// While a thread holds it, what others want to write waits; what they read is what the thread has written so far. The
/// thread may take it several times. After a holder died, everybody is told so once, as by [`Lock`](crate::Lock).
///
/// ```
/// use onecopy::{Container, Dict, DictKey, Patience, Value, session};
///
/// let dict = Dict::new(session()?)?;
/// dict.insert(&DictKey::Str("hits"), &Value::Int(0))?;
/// dict.lock(&Patience::FOREVER)?;
/// if let Some(Value::Int(hits)) = dict.get(&DictKey::Str("hits"))? {
///     dict.insert(&DictKey::Str("hits"), &Value::Int(hits + 1))?;
/// }
/// dict.unlock()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Container {
    /// The block that it lives in.
    fn home(&self) -> &Block;

    #[doc(hidden)]
    fn open(&self) -> Open<'_>;

    #[doc(hidden)]
    fn told(&self) -> &Told;

    /// Takes the lock; whether a holder of it died, and this is the taker who accepts that.
    fn lock(&self, patience: &Patience<'_>) -> Result<bool, LockError> {
        lock_as(self, patience, self.told().policy())
    }

    /// Takes the lock, whatever happened to those who held it.
    fn recover(&self, patience: &Patience<'_>) -> Result<bool, LockError> {
        lock_as(self, patience, OnOwnerDied::Take)
    }

    /// Takes the lock, whatever happened; who takes it by [`lock`](Self::lock) is still told.
    fn hold(&self, patience: &Patience<'_>) -> Result<(), LockError> {
        match self.open().hold(patience) {
            Ok(()) => Ok(()),
            Err(LockFailure::Refused(refused)) => self.told().outcome(Err(refused)).map(drop),
            Err(LockFailure::Container(error)) => Err(Error::from(error).into()),
        }
    }

    /// Releases the lock once.
    fn unlock(&self) -> Result<(), LockError> {
        if self.open().unlock().map_err(Error::from)? { Ok(()) } else { Err(LockError::NotOwned) }
    }

    /// Says that what the holder of the lock, who calls this, was to change is half changed: the next takers are told.
    fn give_up(&self) {
        self.open().give_up();
    }

    /// Whether anybody holds the lock.
    fn is_locked(&self) -> bool {
        self.open().is_locked()
    }

    /// Waits until nobody else holds the lock.
    fn wait_unlocked(&self, patience: &Patience<'_>) -> Result<(), LockError> {
        self.open().wait(patience).map_err(|error| match error {
            WaitError::Stopped(stopped) => stopped.into(),
            WaitError::Arena(error) => Error::from(error).into(),
        })
    }
}

fn lock_as<C: Container + ?Sized>(
    container: &C,
    patience: &Patience<'_>,
    policy: OnOwnerDied,
) -> Result<bool, LockError> {
    match container.open().lock(patience, policy) {
        Ok(held) => container.told().outcome(Ok(held)),
        Err(LockFailure::Refused(refused)) => container.told().outcome(Err(refused)),
        Err(LockFailure::Container(error)) => Err(Error::from(error).into()),
    }
}

/// Does what changes a container, after those who hold its lock are done with it.
fn patiently<C: Container, T>(container: &C, mut work: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    loop {
        match work() {
            Err(Error::Container(ContainerError::Locked)) => {
                // Without another error this patience does not end.
                if let Err(LockError::Shared(error)) = container.wait_unlocked(&Patience::FOREVER) {
                    return Err(error);
                }
            }
            other => return other,
        }
    }
}
