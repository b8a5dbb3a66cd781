//! Nanoseconds per operation on locks that nobody else wants, and per turn of two threads that want one lock.
//!
//! `cargo bench -p onecopy --bench locks`; the best of several runs.

use std::hint::black_box;
use std::time::{Duration, Instant};

use onecopy::{Event, Lock, LockError, Patience, RLock, RwLock, Semaphore, Side, session};

const TIMES: u32 = 1_000_000;

fn main() -> Result<(), LockError> {
    let arena = session()?;
    let (lock, rlock, rwlock) = (Lock::new(arena)?, RLock::new(arena)?, RwLock::new(arena)?);
    let (semaphore, event) = (Semaphore::new(arena, 1)?, Event::new(arena)?);
    report("Lock, lock and drop the guard", || drop(lock.lock()));
    report("Lock, acquire and release", || lock.acquire(&Patience::FOREVER).and(lock.release()));
    report("RLock, acquire and release", || rlock.acquire(&Patience::FOREVER).and(rlock.release()));
    for side in [Side::Read, Side::Write] {
        report(&format!("RwLock, {side:?}"), || rwlock.acquire(side, &Patience::FOREVER).and(rwlock.release(side)));
    }
    report("Semaphore, acquire and release", || semaphore.acquire(&Patience::FOREVER).and(semaphore.release(1)));
    report("Event, set and clear", || {
        event.set();
        event.clear();
    });
    report("std::sync::Mutex, lock and drop the guard", {
        let mutex = std::sync::Mutex::new(());
        move || drop(mutex.lock())
    });
    let turn = two_threads(|| drop(lock.lock()));
    println!("{:44} {turn:8.1} ns per turn", "Lock, two threads want it");
    Ok(())
}

fn report<T>(what: &str, mut work: impl FnMut() -> T) {
    let run = |work: &mut dyn FnMut() -> T| {
        let start = Instant::now();
        for _ in 0..TIMES {
            black_box(work());
        }
        start.elapsed()
    };
    let best = (0..7).map(|_| run(&mut work)).min().unwrap_or(Duration::ZERO);
    println!("{what:44} {:8.1} ns", best.as_secs_f64() * 1e9 / f64::from(TIMES));
}

fn two_threads(work: impl Fn() + Sync) -> f64 {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..TIMES).for_each(|_| work()));
        }
    });
    start.elapsed().as_secs_f64() * 1e9 / f64::from(2 * TIMES)
}
