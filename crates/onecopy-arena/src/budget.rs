//! Whether memory may be committed: the only place where running out of it can be an error value.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use onecopy_os::{Bound, ByteSize, crash_point};

use crate::ArenaError;
use crate::arena::Arena;
use crate::heap::{Heap, LEAVING, State, committed_of, state_of};
use onecopy_os::OsError;

/// What is left to the others within a limit of the machine or of a cgroup, as the check races against strangers: an
/// eighth of the limit, but no less and no more than this.
const LEAST_RESERVE: u64 = 8 << 20;
const MOST_RESERVE: u64 = 64 << 20;

/// Why memory may not be committed.
#[derive(Debug)]
pub(crate) struct Shortage {
    committing: u64,
    bound: Bound,
}

impl Shortage {
    /// Bytes that would have to be given back first.
    pub(crate) fn deficit(&self) -> u64 {
        self.committing - self.bound.free.min(self.committing)
    }

    /// What the user is told, who knows of the bytes asked for but not of those among them that were had before.
    pub(crate) fn into_error(mut self, asked: u64, warm: u64) -> ArenaError {
        let had = warm.saturating_add(asked.saturating_sub(self.committing));
        self.bound.free = self.bound.free.saturating_add(had);
        ArenaError::out_of_memory(asked, self.bound)
    }
}

impl Heap<'_> {
    /// Bytes with memory behind them or about to have.
    pub(crate) fn committed(&self) -> u64 {
        self.first().used_bytes.load(Relaxed).saturating_add(self.first().warm_bytes.load(Relaxed))
    }

    /// Bytes that processes which live are giving back to the system at this moment.
    pub(crate) fn leaving(&self) -> Result<u64, ArenaError> {
        let mut bytes = 0_u64;
        for index in 0..self.first().entries_touched.load(Relaxed).min(self.meta.geometry().blocks) {
            let entry = self.entry(index)?;
            if state_of(entry) == State::Used && entry.flags.load(Relaxed) & LEAVING != 0 {
                bytes = bytes.saturating_add(committed_of(entry));
            }
        }
        Ok(bytes)
    }

    /// Whether `bytes` more may be committed now. If so, answers how many bytes of warm memory had better be given back
    /// before, for the sake of soft limits.
    pub(crate) fn check_budget(&self, bytes: u64) -> Result<u64, Shortage> {
        let (hard, soft) = self.narrowest();
        let shortage = |bound: Bound| (bound.free < bytes).then_some(Shortage { committing: bytes, bound });
        match shortage(hard) {
            Some(shortage) => Err(shortage),
            None => Ok(soft.and_then(shortage).map_or(0, |shortage| shortage.deficit())),
        }
    }

    /// What may still be committed, and what sets that bound.
    pub(crate) fn headroom(&self) -> Bound {
        self.narrowest().0
    }

    /// The limits that leave the least: of those that are enforced, and of those that slow down.
    fn narrowest(&self) -> (Bound, Option<Bound>) {
        let (own, promised) = (self.own_limit(), self.roll().promised());
        let (disk, machine) = self.data.bounds();
        // A disk needs no reserve: whoever is late there gets an error, and nobody is killed.
        let disk = disk.map(|disk| Bound { free: disk.free.saturating_sub(promised), ..disk });
        narrowest(disk.filter(|disk| disk.free < own.free).unwrap_or(own), machine, promised)
    }

    fn own_limit(&self) -> Bound {
        let limit = self.first().limit.load(Relaxed);
        Bound {
            free: limit.saturating_sub(self.committed()),
            limit,
            name: format!("the arena's limit of {}", ByteSize(limit)),
            way_out: "drop arrays that are not needed, or raise it by set_limit() or ONECOPY_LIMIT".to_owned(),
            soft: false,
        }
    }
}

/// Of the machine's limits, what is promised and a reserve are not free: the system does not count them yet. The arena
/// counts its promises as committed.
fn narrowest(own: Bound, machine: Vec<Bound>, promised: u64) -> (Bound, Option<Bound>) {
    let (mut hard, mut soft) = (own, None::<Bound>);
    for mut bound in machine {
        bound.free = bound.free.saturating_sub(promised).saturating_sub(reserve(bound.limit));
        match &mut soft {
            _ if !bound.soft && bound.free < hard.free => hard = bound,
            None if bound.soft => soft = Some(bound),
            Some(least) if bound.soft && bound.free < least.free => *least = bound,
            _ => {}
        }
    }
    (hard, soft)
}

fn reserve(limit: u64) -> u64 {
    (limit / 8).clamp(LEAST_RESERVE, MOST_RESERVE)
}

/// Bytes that passed the budget check and have no memory behind them yet; taken back when dropped.
///
/// They stand in the slot of this process, so that its death takes them back too.
#[derive(Debug)]
pub(crate) struct Promise {
    arena: &'static Arena,
    bytes: AtomicU64,
}

impl Promise {
    /// A promise of nothing yet.
    pub(crate) fn none(arena: &'static Arena) -> Self {
        Self { arena, bytes: AtomicU64::new(0) }
    }

    /// Promises `bytes`.
    pub(crate) fn make(arena: &'static Arena, heap: &Heap<'_>, bytes: u64) -> Self {
        let promise = Self::none(arena);
        promise.extend(heap, bytes);
        promise
    }

    /// Promises `bytes` more. The heap lock is held, so that nobody else passes the budget check in between.
    pub(crate) fn extend(&self, heap: &Heap<'_>, bytes: u64) {
        heap.meta.slot(heap.me.slot()).promised.fetch_add(bytes, Relaxed);
        crash_point!("promise.made");
        self.bytes.fetch_add(bytes, Relaxed);
    }

    /// Says that `bytes` of it have memory now, which the system counts from here on.
    pub(crate) fn keep(&self, bytes: u64) {
        let before = self.bytes.fetch_update(Relaxed, Relaxed, |left| Some(left.saturating_sub(bytes)));
        let kept = before.unwrap_or(0).min(bytes);
        if kept > 0 {
            self.arena.take_promise_back(kept);
            crash_point!("promise.kept");
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.keep(u64::MAX);
    }
}

impl ArenaError {
    /// Running into `bound` when `asked` bytes were asked for.
    pub(crate) fn out_of_memory(asked: u64, bound: Bound) -> Self {
        Self::OutOfMemory { asked, free: bound.free, limit: bound.limit, bound: bound.name, way_out: bound.way_out }
    }

    /// A system call that failed when memory for `asked` bytes was wanted.
    pub(crate) fn refused(error: OsError, asked: u64) -> Self {
        match error.bound() {
            Some(bound) => Self::out_of_memory(asked, bound),
            None => error.into(),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::Options;

    #[test]
    fn a_promise_shrinks_as_memory_comes_and_never_below_nothing() {
        let arena = Arena::create(Options { limit: Some(64 << 20), warm: None }).unwrap();
        let promised = || arena.stats().unwrap().promised_bytes;
        let promise = Promise::make(arena, &arena.heap().unwrap(), 1000);
        promise.keep(300);
        assert_eq!(promised(), 700);
        promise.extend(&arena.heap().unwrap(), 50);
        assert_eq!(promised(), 750);
        promise.keep(2000);
        assert_eq!(promised(), 0);
        let again = Promise::make(arena, &arena.heap().unwrap(), 10);
        drop(promise);
        assert_eq!(promised(), 10);
        drop(again);
        assert_eq!(promised(), 0);
    }

    fn bound(name: &str, free: u64, soft: bool) -> Bound {
        Bound { free, limit: free, name: name.into(), way_out: String::new(), soft }
    }

    #[test]
    fn the_narrowest_limit_binds_and_a_soft_one_only_advises() {
        const GIB: u64 = 1 << 30;
        let machine = || {
            let mut all: Vec<_> = [9, 7].map(|n| bound(&format!("hard {n}"), n * GIB, false)).into();
            all.extend([5, 3, 4].map(|n| bound(&format!("soft {n}"), n * GIB, true)));
            all
        };
        let own = |gib: u64| bound("own", gib * GIB, false);
        let (hard, soft) = narrowest(own(8), machine(), GIB);
        assert_eq!((hard.name.as_str(), hard.free), ("hard 7", 6 * GIB - MOST_RESERVE));
        assert_eq!(soft.map(|bound| bound.name).as_deref(), Some("soft 3"));
        let (hard, _) = narrowest(own(6), machine(), 0);
        assert_eq!((hard.name.as_str(), hard.free), ("own", 6 * GIB));
        let (hard, _) = narrowest(own(6), machine(), 100 * GIB);
        assert_eq!(hard.free, 0);
    }

    #[test]
    fn the_reserve_fits_the_limit() {
        assert_eq!([1 << 20, 256 << 20, 1 << 40].map(reserve), [LEAST_RESERVE, 32 << 20, MOST_RESERVE]);
    }
}
