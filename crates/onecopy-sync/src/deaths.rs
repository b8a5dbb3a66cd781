//! Deaths of holders that nobody has taken note of yet.
//!
//! | low bit | meaning |
//! |---|---|
//! | 0 | what the lock protects is whole |
//! | 1 | a holder died; what the lock protects may be half changed |
//!
//! The other bits count the deaths, so that who was told of one can say which. The word is changed only by the holder of
//! the lock that it belongs to, in single stores.

use crate::door::{AtomicU32, Ordering, crash_point};

const UNSETTLED: u32 = 1;
const ONE: u32 = 2;

/// A death of a holder, as told by a lock. The default is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Death(pub u32);

/// What a taker does about a lock whose holder died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnOwnerDied {
    /// It does not take the lock, unless the death is the one that it has been told of before.
    Refuse(Death),
    /// It takes the lock, and with it what the lock protects as it is.
    Take,
}

/// Why a lock was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A holder died, and nobody has taken note of it so far. The lock is not held by the caller.
    #[error("the holder of the lock died; what the lock protects may be half changed")]
    OwnerDied(Death),
    /// The wait ended.
    #[error(transparent)]
    Stopped(#[from] crate::Stopped),
}

/// How a lock was taken; it is held now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Held {
    /// What it protects is whole.
    Clean,
    /// A holder died: what it protects may be half changed, and the taker has accepted that.
    Inherited,
}

#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Deaths {
    word: AtomicU32,
}

impl Deaths {
    pub(crate) fn new() -> Self {
        Self { word: AtomicU32::new(0) }
    }

    /// Says that a holder left what the lock protects half changed.
    pub(crate) fn note(&self) -> Death {
        let next = (self.word.load(Ordering::Relaxed) & !UNSETTLED).wrapping_add(ONE) | UNSETTLED;
        self.word.store(next, Ordering::Relaxed);
        Death(next)
    }

    /// Whether the lock may be kept by a taker that has just taken it.
    pub(crate) fn settle(&self, policy: OnOwnerDied) -> Result<Held, Death> {
        let seen = self.word.load(Ordering::Relaxed);
        if seen & UNSETTLED == 0 { Ok(Held::Clean) } else { self.settle_death(seen, policy) }
    }

    #[cold]
    fn settle_death(&self, seen: u32, policy: OnOwnerDied) -> Result<Held, Death> {
        if policy != OnOwnerDied::Take && policy != OnOwnerDied::Refuse(Death(seen)) {
            return Err(Death(seen));
        }
        self.word.store(seen & !UNSETTLED, Ordering::Relaxed);
        crash_point!("deaths.settled");
        Ok(Held::Inherited)
    }

    /// The death that nobody has taken note of, if there is one.
    pub(crate) fn unsettled(&self) -> Option<Death> {
        let seen = self.word.load(Ordering::Relaxed);
        (seen & UNSETTLED != 0).then_some(Death(seen))
    }
}
