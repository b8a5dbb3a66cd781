//! The lock that programs see: released by anybody, refused after a death until somebody takes note.

use crate::deaths::Deaths;
use crate::word::{OwnedWord, Taken};
use crate::{Death, Held, OnOwnerDied, Owners, Patience, Refused, Stopped, Tag};

/// A lock that any thread of any process may release, as that of `multiprocessing`. It is not re-entrant.
///
/// After its holder died it is refused ([`Refused::OwnerDied`]) to everybody once, until a taker accepts the death
/// ([`OnOwnerDied`]).
#[derive(Debug)]
#[repr(C)]
pub struct Lock {
    word: OwnedWord,
    deaths: Deaths,
}

/// Releasing what is not held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not held")]
pub struct NotHeld;

impl Lock {
    /// A free lock.
    pub fn new() -> Self {
        Self { word: OwnedWord::new(), deaths: Deaths::new() }
    }

    /// Takes the lock, waiting as long as its holder lives and the patience lasts.
    #[inline]
    pub fn acquire(&self, owners: &impl Owners, patience: &Patience<'_>, policy: OnOwnerDied) -> Result<Held, Refused> {
        self.take(owners, patience)?;
        self.keep(policy)
    }

    /// Takes the lock if it can be had without asking or waiting; whether it has been, or has been refused.
    #[inline]
    pub fn try_acquire(&self, me: Tag, policy: OnOwnerDied) -> Option<Result<Held, Refused>> {
        self.word.try_take(me).then(|| self.keep(policy))
    }

    fn take(&self, owners: &impl Owners, patience: &Patience<'_>) -> Result<(), Stopped> {
        if self.word.take(owners, patience)? == Taken::OwnerDied {
            // A death before this store is a death with the word held, which the next taker notes.
            self.deaths.note();
        }
        Ok(())
    }

    fn keep(&self, policy: OnOwnerDied) -> Result<Held, Refused> {
        self.deaths.settle(policy).map_err(|death| {
            self.word.release();
            Refused::OwnerDied(death)
        })
    }

    /// Takes the lock whatever happened, for who must hold it to go on; a death stays for the next taker to be told.
    pub fn reacquire(&self, owners: &impl Owners, patience: &Patience<'_>) -> Result<Option<Death>, Stopped> {
        self.take(owners, patience)?;
        Ok(self.deaths.unsettled())
    }

    /// Releases the lock, whoever holds it.
    #[inline]
    pub fn release(&self) -> Result<(), NotHeld> {
        if self.word.release() { Ok(()) } else { Err(NotHeld) }
    }

    /// Says that what the lock protects is half changed, as if the holder, who calls this, died now. It still holds the
    /// lock.
    pub fn give_up(&self) {
        self.deaths.note();
    }

    /// The process that holds it at this moment.
    pub fn owner(&self) -> Option<Tag> {
        self.word.owner()
    }

    /// Whether anybody holds it, dead or alive.
    pub fn is_held(&self) -> bool {
        self.word.is_held()
    }
}

impl Default for Lock {
    fn default() -> Self {
        Self::new()
    }
}
