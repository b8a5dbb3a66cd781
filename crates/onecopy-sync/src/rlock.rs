//! The re-entrant lock.

use std::cell::Cell;

use crate::door::{AtomicU32, AtomicU64, Ordering, crash_point};
use crate::{Bell, Death, Held, Lock, OnOwnerDied, Owners, Patience, Refused, Stopped, Tag};

/// A lock that the thread that holds it may take again, and that only this thread releases.
#[derive(Debug)]
#[repr(C)]
pub struct RLock {
    /// Tag and thread of the holder, zero while free. Only a holder writes its own name here, and takes it away before
    /// it releases: so who reads its own name holds the lock.
    holder: AtomicU64,
    lock: Lock,
    depth: AtomicU32,
}

/// Releasing what another thread holds, or nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not held by this thread")]
pub struct NotOwned;

/// A number of this thread that no other thread of the process has or will have. A forked child keeps that of the thread
/// that forked; its tag is another.
pub fn this_thread() -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
    thread_local! {
        static THREAD: Cell<u32> = const { Cell::new(0) };
    }
    THREAD.with(|thread| {
        if thread.get() == 0 {
            thread.set(NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        }
        thread.get()
    })
}

fn name(me: Tag, thread: u32) -> u64 {
    u64::from(me.bits()) << 32 | u64::from(thread)
}

impl RLock {
    /// A free lock.
    pub fn new() -> Self {
        Self { holder: AtomicU64::new(0), lock: Lock::new(), depth: AtomicU32::new(0) }
    }

    /// Takes the lock once more, or for the first time as [`Lock::acquire`] does. `thread` is the caller's
    /// [`this_thread`].
    #[inline]
    pub fn acquire(
        &self,
        owners: &impl Owners,
        thread: u32,
        patience: &Patience<'_>,
        policy: OnOwnerDied,
    ) -> Result<Held, Refused> {
        if self.enter_again(owners.me(), thread) {
            return Ok(Held::Clean);
        }
        let held = self.lock.acquire(owners, patience, policy)?;
        self.enter(owners.me(), thread, 1);
        Ok(held)
    }

    /// As [`Lock::try_acquire`].
    #[inline]
    pub fn try_acquire(&self, me: Tag, thread: u32, policy: OnOwnerDied) -> Option<Result<Held, Refused>> {
        if self.enter_again(me, thread) {
            return Some(Ok(Held::Clean));
        }
        let taken = self.lock.try_acquire(me, policy)?;
        if taken.is_ok() {
            self.enter(me, thread, 1);
        }
        Some(taken)
    }

    fn enter_again(&self, me: Tag, thread: u32) -> bool {
        let mine = self.is_owned(me, thread);
        if mine {
            let depth = self.depth.load(Ordering::Relaxed);
            self.depth.store(depth.checked_add(1).expect("a lock taken four billion times"), Ordering::Relaxed);
        }
        mine
    }

    fn enter(&self, me: Tag, thread: u32, depth: u32) {
        self.depth.store(depth, Ordering::Relaxed);
        crash_point!("rlock.counted");
        self.holder.store(name(me, thread), Ordering::Relaxed);
        crash_point!("rlock.named");
    }

    /// Releases the lock once; the last time it is free.
    #[inline]
    pub fn release(&self, me: Tag, thread: u32) -> Result<(), NotOwned> {
        if !self.is_owned(me, thread) {
            return Err(NotOwned);
        }
        match self.depth.load(Ordering::Relaxed) {
            0 | 1 => self.leave(),
            depth => self.depth.store(depth - 1, Ordering::Relaxed),
        }
        Ok(())
    }

    fn leave(&self) {
        self.holder.store(0, Ordering::Relaxed);
        crash_point!("rlock.unnamed");
        // Damage alone makes the lock free here already; then there is nothing to release.
        let _ = self.lock.release();
    }

    /// Releases the lock however often it was taken; answers how often, for [`reacquire`](Self::reacquire).
    pub fn release_all(&self, me: Tag, thread: u32) -> Result<u32, NotOwned> {
        if !self.is_owned(me, thread) {
            return Err(NotOwned);
        }
        let depth = self.depth.load(Ordering::Relaxed);
        self.leave();
        Ok(depth)
    }

    /// As [`Lock::reacquire`], `depth` times.
    pub fn reacquire(
        &self,
        owners: &impl Owners,
        thread: u32,
        depth: u32,
        patience: &Patience<'_>,
    ) -> Result<Option<Death>, Stopped> {
        let death = self.lock.reacquire(owners, patience)?;
        self.enter(owners.me(), thread, depth);
        Ok(death)
    }

    /// Whether this thread holds it.
    #[inline]
    pub fn is_owned(&self, me: Tag, thread: u32) -> bool {
        self.holder.load(Ordering::Relaxed) == name(me, thread)
    }

    /// As [`Lock::bell`].
    pub fn bell(&self) -> Bell<'_> {
        self.lock.bell()
    }

    /// As [`Lock::is_to_be_had`].
    pub fn is_to_be_had(&self, owners: &impl Owners) -> bool {
        self.lock.is_to_be_had(owners)
    }

    /// As [`Lock::give_up`].
    pub fn give_up(&self) {
        self.lock.give_up();
    }

    /// The process that holds it at this moment.
    pub fn owner(&self) -> Option<Tag> {
        self.lock.owner()
    }

    /// Whether anybody holds it, dead or alive.
    pub fn is_held(&self) -> bool {
        self.lock.is_held()
    }

    /// How often the holder has taken it.
    pub fn depth(&self) -> u32 {
        if self.is_held() { self.depth.load(Ordering::Relaxed) } else { 0 }
    }
}

impl Default for RLock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::Death;
    use crate::table::{Dead, Process, process};

    fn try_lock(lock: &RLock, me: &Process<'_>, thread: u32) -> Result<Held, Refused> {
        lock.acquire(me, thread, &Patience::none(), OnOwnerDied::Refuse(Death(0)))
    }

    #[test]
    fn one_thread_of_one_process_takes_it_again() {
        let (lock, dead) = (RLock::new(), Dead::new(0));
        let [a, b] = [1, 2].map(|slot| process(slot, &dead));
        assert!(try_lock(&lock, &a, 5).is_ok() && try_lock(&lock, &a, 5).is_ok());
        assert_eq!(lock.depth(), 2);
        for (other, thread) in [(&a, 6), (&b, 5)] {
            assert!(try_lock(&lock, other, thread).is_err());
            assert_eq!(lock.release(other.me(), thread), Err(NotOwned));
        }
        lock.release(a.me(), 5).unwrap();
        assert!(try_lock(&lock, &b, 5).is_err());
        lock.release(a.me(), 5).unwrap();
        assert_eq!(lock.release(a.me(), 5), Err(NotOwned));
        assert!(try_lock(&lock, &b, 5).is_ok());
    }

    #[test]
    fn a_dead_holder_leaves_no_depth() {
        let (lock, dead) = (RLock::new(), Dead::new(0));
        let [a, b] = [1, 2].map(|slot| process(slot, &dead));
        for _ in 0..3 {
            let _ = try_lock(&lock, &a, 5);
        }
        a.die();
        assert!(matches!(try_lock(&lock, &b, 5), Err(Refused::OwnerDied(_))));
        assert!(!lock.is_owned(b.me(), 5));
        let _ = lock.acquire(&b, 5, &Patience::none(), OnOwnerDied::Take);
        assert_eq!(lock.depth(), 1);
        assert_eq!(lock.release_all(b.me(), 5), Ok(1));
    }

    #[test]
    fn all_of_it_is_released_and_taken_back() {
        let (lock, dead) = (RLock::new(), Dead::new(0));
        let me = process(1, &dead);
        let _ = (try_lock(&lock, &me, 5), try_lock(&lock, &me, 5));
        assert_eq!(lock.release_all(me.me(), 5), Ok(2));
        assert!(!lock.is_held());
        assert_eq!(lock.reacquire(&me, 5, 2, &Patience::FOREVER), Ok(None));
        assert_eq!(lock.depth(), 2);
    }

    #[test]
    fn threads_have_names_of_their_own() {
        let mine = this_thread();
        assert_eq!(this_thread(), mine);
        assert_ne!(std::thread::spawn(this_thread).join().unwrap(), mine);
    }
}
