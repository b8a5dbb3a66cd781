//! The lock that programs see: released by anybody, refused after a death until somebody takes note.

use crate::deaths::Deaths;
use crate::door::crash_point;
use crate::hunger::Hunger;
use crate::word::{OwnedWord, Taken};
use crate::{Bell, Death, Held, OnOwnerDied, Owners, Patience, Refused, Stopped, Tag};

/// A lock that any thread of any process may release, as that of `multiprocessing`. It is not re-entrant.
///
/// After its holder died it is refused ([`Refused::OwnerDied`]) to everybody once, until a taker accepts the death
/// ([`OnOwnerDied`]).
#[derive(Debug)]
#[repr(C)]
pub struct Lock {
    word: OwnedWord,
    deaths: Deaths,
    hunger: Hunger,
}

/// Releasing what is not held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not held")]
pub struct NotHeld;

impl Lock {
    /// A free lock.
    pub fn new() -> Self {
        Self { word: OwnedWord::new(), deaths: Deaths::new(), hunger: Hunger::new() }
    }

    /// Takes the lock, waiting as long as its holder lives and the patience lasts.
    #[inline]
    pub fn acquire(&self, owners: &impl Owners, patience: &Patience<'_>, policy: OnOwnerDied) -> Result<Held, Refused> {
        self.take(owners, patience)?;
        self.keep(policy)
    }

    /// Takes the lock if it can be had at once, without asking who lives, and nobody has waited for long; whether it has been, or has been refused.
    #[inline]
    pub fn try_acquire(&self, me: Tag, policy: OnOwnerDied) -> Option<Result<Held, Refused>> {
        (!self.hunger.is_felt() && self.word.try_take(me)).then(|| self.keep(policy))
    }

    fn take(&self, owners: &impl Owners, patience: &Patience<'_>) -> Result<(), Stopped> {
        if self.word.take(owners, patience, Some(&self.hunger))? == Taken::OwnerDied {
            // A death before this store is a death with the word held, which the next taker notes.
            self.deaths.note();
            crash_point!("lock.noted");
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

    /// Says that the caller is about to sleep until the lock is released.
    pub fn bell(&self) -> Bell<'_> {
        self.word.bell()
    }

    /// Whether it can be had: nobody holds it, or somebody dead does.
    pub fn is_to_be_had(&self, owners: &impl Owners) -> bool {
        !self.is_held() || self.word.is_orphan(owners)
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::table::{Dead, Process, process};

    const UNTOLD: OnOwnerDied = OnOwnerDied::Refuse(Death(0));

    fn try_lock(lock: &Lock, me: &Process<'_>, policy: OnOwnerDied) -> Result<Held, Refused> {
        lock.acquire(me, &Patience::none(), policy)
    }

    /// The death that a taker is told of.
    fn told(refused: Result<Held, Refused>) -> Death {
        match refused {
            Err(Refused::OwnerDied(death)) => death,
            other => panic!("nobody was told: {other:?}"),
        }
    }

    #[test]
    fn anybody_releases_it_but_only_once() {
        let (lock, dead) = (Lock::new(), Dead::new(0));
        assert_eq!(try_lock(&lock, &process(1, &dead), UNTOLD), Ok(Held::Clean));
        let late = Err(Refused::Stopped(Stopped::TimedOut));
        assert_eq!(try_lock(&lock, &process(1, &dead), UNTOLD), late);
        assert_eq!(lock.release(), Ok(()));
        assert_eq!(lock.release(), Err(NotHeld));
    }

    #[test]
    fn everybody_is_told_until_somebody_accepts() {
        let (lock, dead) = (Lock::new(), Dead::new(0));
        let [a, b, c] = [1, 2, 3].map(|slot| process(slot, &dead));
        let _ = try_lock(&lock, &process(7, &dead), UNTOLD);
        process(7, &dead).die();
        let death = told(try_lock(&lock, &a, UNTOLD));
        assert_eq!(told(try_lock(&lock, &b, UNTOLD)), death);
        assert!(!lock.is_held());
        assert_eq!(try_lock(&lock, &a, OnOwnerDied::Refuse(death)), Ok(Held::Inherited));
        lock.release().unwrap();
        assert_eq!(try_lock(&lock, &c, UNTOLD), Ok(Held::Clean));
    }

    #[test]
    fn another_death_is_other_news() {
        let (lock, dead) = (Lock::new(), Dead::new(0));
        let me = process(1, &dead);
        let mut death = Death::default();
        for slot in [7, 8] {
            let _ = try_lock(&lock, &process(slot, &dead), OnOwnerDied::Take);
            process(slot, &dead).die();
            death = told(try_lock(&lock, &me, OnOwnerDied::Refuse(death)));
        }
        assert_eq!(try_lock(&lock, &me, OnOwnerDied::Take), Ok(Held::Inherited));
        lock.give_up();
        lock.release().unwrap();
        assert_ne!(told(try_lock(&lock, &me, OnOwnerDied::Refuse(death))), death);
    }

    #[test]
    fn who_takes_it_back_is_told_and_holds_it() {
        let (lock, dead) = (Lock::new(), Dead::new(0));
        let me = process(1, &dead);
        let _ = try_lock(&lock, &process(7, &dead), UNTOLD);
        process(7, &dead).die();
        assert!(lock.reacquire(&me, &Patience::FOREVER).unwrap().is_some());
        assert_eq!(lock.owner(), Some(me.me()));
        lock.release().unwrap();
        told(try_lock(&lock, &me, UNTOLD));
    }

    #[test]
    fn a_wait_ends_in_time_or_when_it_is_called_off() {
        let (lock, dead) = (Lock::new(), Dead::new(0));
        let me = process(1, &dead);
        let _ = try_lock(&lock, &process(2, &dead), UNTOLD);
        let soon = Patience::within(std::time::Duration::from_millis(5));
        assert_eq!(lock.acquire(&me, &soon, UNTOLD), Err(Refused::Stopped(Stopped::TimedOut)));
        let called_off = Patience::FOREVER.unless(&|_| true);
        assert_eq!(lock.acquire(&me, &called_off, UNTOLD), Err(Refused::Stopped(Stopped::Interrupted)));
    }
}
