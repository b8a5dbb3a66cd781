//! Which arenas this process is a member of, what it holds of each, and what a fork does to both.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use onecopy_os::{ForkHooks, OsError, on_fork};

use crate::arena::Arena;
use crate::layout::ArenaId;
use crate::meta::BlockId;
use crate::slots::Cradle;

/// A block that this process holds.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) id: BlockId,
    pub(crate) len: u64,
    pub(crate) sealed: bool,
    /// References inside this process; the arena knows only that there are some.
    pub(crate) count: u64,
}

/// The blocks that this process holds, by offset.
pub(crate) type Holds = BTreeMap<u64, Held>;

static ARENAS: Mutex<Vec<&'static Arena>> = Mutex::new(Vec::new());

/// A panic elsewhere leaves these tables whole: each is changed by single insertions and removals.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The arenas of this process. Whoever joins or creates keeps it locked meanwhile.
pub(crate) fn arenas() -> MutexGuard<'static, Vec<&'static Arena>> {
    locked(&ARENAS)
}

pub(crate) fn find(id: ArenaId) -> Option<&'static Arena> {
    arenas().iter().copied().find(|arena| arena.id() == id)
}

pub(crate) fn watch_forks() -> Result<(), OsError> {
    on_fork(ForkHooks { before, parent, child })
}

/// What the forking thread keeps locked between the two sides of a fork, so that the child finds tables that no other
/// thread was changing.
struct Crossing {
    arenas: MutexGuard<'static, Vec<&'static Arena>>,
    each: Vec<(MutexGuard<'static, Holds>, Option<Cradle>)>,
}

thread_local! {
    static CROSSING: RefCell<Option<Crossing>> = const { RefCell::new(None) };
}

fn before() {
    let arenas = arenas();
    let each = arenas.iter().map(|arena| arena.prepare_fork()).collect();
    // A thread that is ending has no thread locals any more; its fork then goes unnoticed, as one by a raw system call
    // does.
    let _ = CROSSING.try_with(|crossing| *crossing.borrow_mut() = Some(Crossing { arenas, each }));
}

fn parent() {
    let _ = CROSSING.try_with(|crossing| crossing.borrow_mut().take());
}

fn child() {
    let Ok(Some(crossing)) = CROSSING.try_with(|crossing| crossing.borrow_mut().take()) else { return };
    for (arena, (holds, cradle)) in crossing.arenas.iter().zip(crossing.each) {
        arena.finish_fork(cradle);
        drop(holds);
    }
}
