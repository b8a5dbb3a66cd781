//! Locks that exclude: what they protect is whole, unless a taker is told of a death.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use onecopy::{Arena, BlockId, Kind, Lock, LockError, Patience, RLock, RwLock, Shareable, Shared, SharedObject, Side};

use crate::contents::Choices;
use crate::process::{Log, Worker, patience};
use crate::subjects::{Scene, Subject};

const SHARED: [&str; 5] =
    ["onecopy_sync::word", "onecopy_sync::deaths", "onecopy_sync::hunger", "onecopy_sync::lock", "onecopy_sync::mutex"];

pub(crate) const LOCK: Subject = Subject { name: "lock", begin: begin::<Lock>, work: work::<Lock>, modules: &SHARED };
pub(crate) const RLOCK: Subject =
    Subject { name: "rlock", begin: begin::<RLock>, work: work::<RLock>, modules: &["onecopy_sync::rlock"] };
pub(crate) const RWLOCK: Subject = Subject {
    name: "rwlock",
    begin: begin::<RwLock>,
    work: work::<RwLock>,
    modules: &["onecopy_sync::rwlock", "onecopy_sync::ledger"],
};

/// What a lock protects: both are the same whenever nobody is inside.
#[repr(C)]
pub(crate) struct Pair(AtomicU64, AtomicU64);

// SAFETY: a structure of atomics whose values nothing relies on; zeros are a pair.
unsafe impl Shareable for Pair {
    const KIND: Kind = Kind::Custom;
}

impl Pair {
    /// Changes it; `told` says that it may be half changed.
    fn change(&self, told: bool) {
        let first = self.0.load(Relaxed);
        assert!(told || first == self.1.load(Relaxed), "a lock let somebody in untold");
        self.0.store(first + 1, Relaxed);
        std::hint::spin_loop();
        self.1.store(first + 1, Relaxed);
    }

    fn look(&self) {
        assert_eq!(self.0.load(Relaxed), self.1.load(Relaxed), "a lock let somebody in untold");
    }
}

/// What the locks have in common.
trait Exclusive: SharedObject + Sync {
    fn make(arena: &'static Arena) -> Self;
    fn acquire(&self, patience: &Patience<'_>) -> Result<bool, LockError>;
    fn recover(&self, patience: &Patience<'_>) -> Result<bool, LockError>;
    fn release(&self);
    /// What else it can do.
    fn more(&self, pair: &Pair);
    /// Another thread comes while it is held for longer than a poll.
    fn compete(&self, pair: &Pair) {
        enter(self, pair, || {
            std::thread::scope(|scope| {
                let other = scope.spawn(|| enter(self, pair, || ()));
                std::thread::sleep(Duration::from_millis(3));
                self.release();
                other.join().unwrap();
                // The one that released it will release it once more.
                if hold(self) {
                    pair.change(true);
                }
            });
        });
    }
}

/// Takes a lock; answers whether a holder died.
fn hold<L: Exclusive>(lock: &L) -> bool {
    match lock.acquire(&patience()) {
        Ok(inherited) => inherited,
        Err(LockError::OwnerDied) => lock.recover(&patience()).unwrap(),
        Err(error) => panic!("{error}"),
    }
}

fn enter<L: Exclusive>(lock: &L, pair: &Pair, inside: impl FnOnce()) {
    // Who is told of a death and then finds that another has taken it over finds a whole pair too.
    let told = hold(lock);
    pair.change(told);
    inside();
    lock.release();
}

impl Exclusive for Lock {
    fn make(arena: &'static Arena) -> Self {
        Self::new(arena).unwrap()
    }
    fn acquire(&self, patience: &Patience<'_>) -> Result<bool, LockError> {
        Self::acquire(self, patience)
    }
    fn recover(&self, patience: &Patience<'_>) -> Result<bool, LockError> {
        Self::recover(self, patience)
    }
    fn release(&self) {
        Self::release(self).unwrap();
    }
    fn more(&self, pair: &Pair) {
        if let Ok(Some(told)) = self.try_acquire() {
            pair.change(told);
            Exclusive::release(self);
        }
    }
}

impl Exclusive for RLock {
    fn make(arena: &'static Arena) -> Self {
        Self::new(arena).unwrap()
    }
    fn acquire(&self, patience: &Patience<'_>) -> Result<bool, LockError> {
        Self::acquire(self, patience)
    }
    fn recover(&self, patience: &Patience<'_>) -> Result<bool, LockError> {
        Self::recover(self, patience)
    }
    fn release(&self) {
        Self::release(self).unwrap();
    }
    fn more(&self, pair: &Pair) {
        enter(self, pair, || enter(self, pair, || assert_eq!(self.depth(), 2)));
    }
}

impl Exclusive for RwLock {
    fn make(arena: &'static Arena) -> Self {
        Self::new(arena).unwrap()
    }
    fn acquire(&self, patience: &Patience<'_>) -> Result<bool, LockError> {
        Self::acquire(self, Side::Write, patience)
    }
    fn recover(&self, patience: &Patience<'_>) -> Result<bool, LockError> {
        Self::recover(self, Side::Write, patience)
    }
    fn release(&self) {
        Self::release(self, Side::Write).unwrap();
    }
    fn more(&self, pair: &Pair) {
        match Self::acquire(self, Side::Read, &patience()) {
            Ok(told) => {
                if !told {
                    pair.look();
                }
                Self::release(self, Side::Read).unwrap();
            }
            Err(LockError::OwnerDied) => enter(self, pair, || ()),
            Err(error) => panic!("{error}"),
        }
    }
}

struct Protected<L: Exclusive> {
    lock: L,
    pair: Shared<Pair>,
}

fn begin<L: Exclusive + 'static>(arena: &'static Arena, _: &mut Choices) -> Box<dyn Scene> {
    Box::new(Protected { lock: L::make(arena), pair: Shared::new(arena).unwrap() })
}

impl<L: Exclusive> Scene for Protected<L> {
    fn blocks(&self) -> Vec<BlockId> {
        vec![self.lock.part().block().id(), self.pair.block().id()]
    }

    fn go_on(&mut self) {
        enter(&self.lock, &self.pair, || ());
        self.lock.more(&self.pair);
    }

    fn settle(self: Box<Self>, _: &[Log]) {
        enter(&self.lock, &self.pair, || ());
        self.pair.look();
    }
}

fn work<L: Exclusive>(worker: &mut Worker) {
    let lock: L = worker.object(0);
    let pair = worker.shared::<Pair>(1);
    for _ in 0..5 {
        enter(&lock, &pair, || ());
        lock.more(&pair);
    }
    lock.compete(&pair);
    worker.let_a_child_die(None, |_| {
        pair.change(hold(&lock));
        pair.0.fetch_add(1, Relaxed);
    });
    enter(&lock, &pair, || ());
    lock.more(&pair);
}
