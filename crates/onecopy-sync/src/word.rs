//! The word of a lock: who holds it, and whether somebody may sleep.
//!
//! | word | meaning |
//! |---|---|
//! | 0 | free |
//! | tag | held by `tag`, nobody sleeps |
//! | tag + WAITERS | held by `tag`, somebody may sleep |
//!
//! A taker that finds the word free installs its tag. A taker that sleeps wakes at intervals and asks whether the owner
//! lives; if not it replaces the dead tag by its own in one exchange, so that of several takers exactly one learns of
//! the death.

use onecopy_os::Waited;

use crate::door::{AtomicU32, Ordering, crash_point, relax, wake};
use crate::hunger::{Hunger, Turn};
use crate::{Bell, Owners, Patience, Stopped, Tag};

const FREE: u32 = 0;
const WAITERS: u32 = 1 << 31;
/// Looks at the word before sleeping: most critical sections are shorter than a futex round trip.
const SPINS: u32 = if cfg!(loom) { 1 } else { 100 };

/// A word that names its owner.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct OwnedWord {
    word: AtomicU32,
}

/// How a word was taken. Either way it is held now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The last owner released it.
    Clean,
    /// The last owner died with it.
    OwnerDied,
}

impl OwnedWord {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self { word: AtomicU32::new(FREE) }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self { word: AtomicU32::new(FREE) }
    }

    /// Takes the word if it is free.
    pub(crate) fn try_take(&self, me: Tag) -> bool {
        self.exchange(FREE, me.bits())
    }

    /// Takes the word; waits as long as its owner lives and the patience lasts, and until those that are hungrier have
    /// had their turn.
    pub(crate) fn take(
        &self,
        owners: &impl Owners,
        patience: &Patience<'_>,
        hunger: Option<&Hunger>,
    ) -> Result<Taken, Stopped> {
        if !hunger.is_some_and(Hunger::is_felt) && self.try_take(owners.me()) {
            crash_point!("mutex.taken");
            return Ok(Taken::Clean);
        }
        self.take_slowly(owners, patience, Turn::new(hunger, owners.me()))
    }

    #[cold]
    fn take_slowly(&self, owners: &impl Owners, patience: &Patience<'_>, mut turn: Turn<'_>) -> Result<Taken, Stopped> {
        // From here on this taker may sleep, and cannot know whether others do: it takes the word with WAITERS set,
        // which costs at most one needless wake.
        let mine = owners.me().bits() | WAITERS;
        if patience.is_none() {
            if self.try_take(owners.me()) {
                return Ok(Taken::Clean);
            }
            let inherited = self.inherit(owners, self.word.load(Ordering::Relaxed), mine);
            return if inherited { Ok(Taken::OwnerDied) } else { Err(Stopped::TimedOut) };
        }
        if turn.has_come() && self.spin(owners.me().bits()) {
            return Ok(Taken::Clean);
        }
        loop {
            let seen = self.word.load(Ordering::Relaxed);
            if seen == FREE && !turn.has_come() {
                // The wake that was this taker's is for all, as the hungry one may be any of them.
                wake(&self.word, u32::MAX >> 1);
                turn.defer(patience)?;
            } else if seen == FREE {
                if self.exchange(FREE, mine) {
                    crash_point!("mutex.taken-late");
                    return Ok(Taken::Clean);
                }
            } else if seen & WAITERS != 0 || self.exchange(seen, seen | WAITERS) {
                crash_point!("mutex.waiting");
                let slept = patience.sleep(&self.word, seen | WAITERS);
                if slept != Ok(Waited::Again) && self.inherit(owners, seen | WAITERS, mine) {
                    crash_point!("mutex.inherited");
                    return Ok(Taken::OwnerDied);
                }
                turn.slept(slept?);
            }
        }
    }

    /// Takes a word over that still is what was `seen` and whose owner is dead.
    fn inherit(&self, owners: &impl Owners, seen: u32, mine: u32) -> bool {
        seen != FREE
            && self.word.load(Ordering::Relaxed) == seen
            && !owner_lives(owners, seen)
            && self.exchange(seen, mine)
    }

    fn spin(&self, me: u32) -> bool {
        (0..SPINS).any(|_| {
            relax();
            self.word.load(Ordering::Relaxed) == FREE && self.exchange(FREE, me)
        })
    }

    fn exchange(&self, from: u32, to: u32) -> bool {
        // SYNC POINT: acquire pairs with the release in `release`; after a death nothing pairs, and the repair reads
        // only single words.
        self.word.compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Frees the word; answers whether it was held.
    pub(crate) fn release(&self) -> bool {
        // SYNC POINT: release pairs with the acquire of the next taker.
        let held = self.word.swap(FREE, Ordering::Release);
        if held & WAITERS != 0 {
            crash_point!("mutex.released");
            wake(&self.word, 1);
        }
        held != FREE
    }

    /// The tag that holds the word at this moment. Who finds nobody sees what the last holder did.
    pub(crate) fn owner(&self) -> Option<Tag> {
        // SYNC POINT: acquire pairs with the release in `release`.
        Tag::from_bits(self.word.load(Ordering::Acquire) & !WAITERS)
    }

    /// Says that the caller is about to sleep.
    pub(crate) fn bell(&self) -> Bell<'_> {
        loop {
            let seen = self.word.load(Ordering::Relaxed);
            if seen == FREE || seen & WAITERS != 0 || self.exchange(seen, seen | WAITERS) {
                return Bell::new(&self.word, if seen == FREE { FREE } else { seen | WAITERS });
            }
        }
    }

    /// Whether its owner is dead.
    pub(crate) fn is_orphan(&self, owners: &impl Owners) -> bool {
        let seen = self.word.load(Ordering::Relaxed);
        seen != FREE && !owner_lives(owners, seen)
    }

    /// Whether anybody holds it, dead or alive.
    pub(crate) fn is_held(&self) -> bool {
        self.word.load(Ordering::Relaxed) != FREE
    }

    /// A word that names nobody, as damage would leave it.
    #[cfg(all(test, not(loom)))]
    pub(crate) const fn damaged() -> Self {
        Self { word: AtomicU32::new(WAITERS) }
    }
}

fn owner_lives(owners: &impl Owners, word: u32) -> bool {
    // A word that names nobody is damage: nobody would ever release it, so it counts as a dead owner's.
    Tag::from_bits(word & !WAITERS).is_some_and(|tag| owners.lives(tag))
}
