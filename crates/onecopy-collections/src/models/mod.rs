//! Models of containers and queues, explored by loom:
//! `RUSTFLAGS="--cfg loom" cargo test -p onecopy-collections --lib --release models`.
//!
//! The code is that which is shipped; only memory, arena and kernel stand in. Where nobody dies, a sleep ends by a wake
//! alone if the model trusts wakes, so that a wake that is lost is a deadlock. Where somebody does, it dies at each of
//! its steps in turn, as real processes do in `crates/onecopy/tests/crash`.

mod lists;
mod maps;
mod steps;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use onecopy_sync::trust_wakes;

use crate::door::Block;
use crate::stand_in::{Arena, SLOTS};

/// Something that processes share, in a block of theirs.
pub(crate) struct Shared<T, L> {
    pub(crate) object: T,
    /// Of each process.
    pub(crate) users: [User<L>; SLOTS],
}

/// What a process has of it.
pub(crate) struct User<L> {
    pub(crate) arena: Arena,
    pub(crate) block: Block,
    pub(crate) local: L,
}

impl<T, L: Default> Shared<T, L> {
    /// With a block of so many bytes.
    pub(crate) fn new(object: T, bytes: u64) -> Self {
        let arenas = Arena::new();
        let (first, _) = arenas[0].allocate(bytes).unwrap();
        let users = arenas.map(|arena| {
            let block = arena.get(first.id()).unwrap();
            User { arena, block, local: L::default() }
        });
        Self { object, users }
    }
}

impl<T, L> Shared<T, L> {
    pub(crate) fn arena(&self) -> &Arena {
        &self.users[0].arena
    }
}

/// What a process does; answers what it found.
pub(crate) type Process<S, R> = Arc<dyn Fn(&S) -> R + Send + Sync>;

pub(crate) fn process<S, R>(work: impl Fn(&S) -> R + Send + Sync + 'static) -> Process<S, R> {
    Arc::new(work)
}

/// Runs all orders of the steps of the processes, each a thread in the slot of its place in the list plus 1, and then
/// `after`, with what each found.
pub(crate) fn explore<T, L, R, const N: usize>(
    trust: bool,
    preemptions: usize,
    begin: impl Fn() -> Shared<T, L> + Send + Sync + 'static,
    processes: [Process<Shared<T, L>, R>; N],
    after: impl Fn(&Shared<T, L>, [R; N]) + Send + Sync + 'static,
) where
    T: 'static,
    L: 'static,
    R: 'static,
{
    trust_wakes(trust);
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.max_branches = 20_000;
    model.check(move || {
        let shared = Arc::new(begin());
        let threads = processes.clone().map(|process| {
            let shared = shared.clone();
            loom::thread::spawn(move || process(&shared))
        });
        let found = threads.map(|thread| thread.join().unwrap());
        after(&shared, found);
        let Ok(shared) = Arc::try_unwrap(shared) else { panic!("a process did not end") };
        let arena = shared.arena().clone();
        drop(shared);
        assert_eq!(arena.blocks(), 0, "blocks are left");
    });
}

/// Explores the death of a process after each number of steps, until there is an order in which it survives them all.
pub(crate) fn explore_deaths(explore: impl Fn(u32, Arc<AtomicBool>)) {
    for steps in 0..200 {
        let died = Arc::new(AtomicBool::new(false));
        explore(steps, died.clone());
        if !died.load(SeqCst) {
            assert!(steps > 15, "there are only {steps} steps");
            return;
        }
    }
    panic!("a process does not come to its end");
}

/// How many of its changes a process has made, so that it is known which states may be found after its death. No part
/// of what is modelled.
#[derive(Clone, Default)]
pub(crate) struct Made(Arc<AtomicUsize>);

impl Made {
    pub(crate) fn reset(&self) {
        self.0.store(0, SeqCst);
    }

    pub(crate) fn one_more(&self) {
        self.0.fetch_add(1, SeqCst);
    }

    /// The states after as many changes, and after one more, which may be made or not.
    pub(crate) fn states<'a, T>(&self, all: &'a [T]) -> &'a [T] {
        let made = self.0.load(SeqCst);
        &all[made..all.len().min(made + 2)]
    }
}

/// A process in slot 1 that is killed after so many steps.
pub(crate) fn dies<T, L, R: Default>(
    steps: u32,
    died: Arc<AtomicBool>,
    work: impl Fn(&Shared<T, L>) + Send + Sync + 'static,
) -> Process<Shared<T, L>, R> {
    process(move |shared: &Shared<T, L>| {
        if shared.users[1].arena.run_and_kill(steps, || work(shared)) {
            died.store(true, SeqCst);
        }
        R::default()
    })
}
