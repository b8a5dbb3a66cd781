//! The futex of the models, in place of the kernel's.
//!
//! At first a sleep ends at the next poll: the transitions of the words are explored, and nobody oversleeps. A model that
//! has called [`trust_wakes`] sleeps until it is woken, so that a wake that is lost is a deadlock, which loom reports.

use std::cell::Cell;
use std::time::Duration;

use loom::sync::atomic::{AtomicU32, Ordering::Relaxed};
use loom::sync::{Condvar, Mutex};
use onecopy_os::Waited;

struct Sleeper {
    word: usize,
    woken: bool,
    ticket: u64,
}

#[derive(Default)]
struct Sleepers {
    all: Vec<Sleeper>,
    tickets: u64,
}

loom::lazy_static! {
    static ref SLEEPERS: Mutex<Sleepers> = Mutex::new(Sleepers::default());
    static ref WOKEN: Condvar = Condvar::new();
}

std::thread_local! {
    /// Of the thread that explores a model: those of the model are not threads of the system.
    static TRUST: Cell<bool> = const { Cell::new(false) };
}

/// From now on, in the models of this thread, only a wake ends a sleep.
pub fn trust_wakes(trust: bool) {
    TRUST.set(trust);
}

fn name_of(word: &AtomicU32) -> usize {
    std::ptr::from_ref(word) as usize
}

pub(crate) fn wait(word: &AtomicU32, expected: u32, _limit: Duration) -> Waited {
    if !TRUST.get() {
        loom::thread::yield_now();
        return Waited::TimedOut;
    }
    let mut sleepers = SLEEPERS.lock().unwrap();
    if word.load(Relaxed) != expected {
        return Waited::Again;
    }
    let ticket = sleepers.tickets;
    sleepers.tickets += 1;
    sleepers.all.push(Sleeper { word: name_of(word), woken: false, ticket });
    let mine = |sleepers: &Sleepers| sleepers.all.iter().position(|sleeper| sleeper.ticket == ticket);
    loop {
        if let Some(place) = mine(&sleepers).filter(|&place| sleepers.all[place].woken) {
            sleepers.all.remove(place);
            return Waited::Again;
        }
        sleepers = WOKEN.wait(sleepers).unwrap();
    }
}

pub(crate) fn wake(word: &AtomicU32, count: u32) -> usize {
    if !TRUST.get() {
        return 0;
    }
    let mut sleepers = SLEEPERS.lock().unwrap();
    let asleep = sleepers.all.iter_mut().filter(|sleeper| sleeper.word == name_of(word) && !sleeper.woken);
    let woken = asleep.take(count as usize).map(|sleeper| sleeper.woken = true).count();
    if woken > 0 {
        WOKEN.notify_all();
    }
    woken
}
