//! Work on several threads whose results are consumed in order, with a bound on how many wait.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread::{self, Builder};

/// Finished results that wait, or pieces of work under way, per thread.
pub const IN_FLIGHT_PER_THREAD: usize = 3;

struct Window<T> {
    state: Mutex<State<T>>,
    /// A result is ready, or a worker panicked.
    ready: Condvar,
    /// There is room for another ticket, or the work is over.
    room: Condvar,
}

struct State<T> {
    /// The next piece of work to begin.
    next: usize,
    /// Results of the tickets `first ..`, `None` while they are under way.
    results: VecDeque<Option<T>>,
    first: usize,
    over: bool,
}

/// Computes `work(0) .. work(count - 1)` on `threads` threads and passes each result to `consume` on the calling
/// thread, in order. At most [`IN_FLIGHT_PER_THREAD`] results per thread exist at a time. `start` gives each thread its
/// own state.
///
/// # Errors
/// The first error of `consume`, after which no further work begins.
pub(crate) fn ordered<S, T: Send, E>(
    count: usize,
    threads: usize,
    start: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> T + Sync,
    mut consume: impl FnMut(usize, T) -> Result<(), E>,
) -> Result<(), E> {
    let threads = threads.clamp(1, count.max(1));
    if threads == 1 && count <= 1 {
        return (0..count).try_for_each(|i| consume(i, work(&mut start(), i)));
    }
    let window = Window::new();
    let worker = || {
        let _stop = StopOnPanic(&window);
        let mut state = start();
        while let Some(ticket) = window.take_ticket(count, threads * IN_FLIGHT_PER_THREAD) {
            window.put_result(ticket, work(&mut state, ticket));
        }
    };
    thread::scope(|scope| {
        // Fewer threads than wanted (`ulimit -v`, `ulimit -u`) are slower and nothing worse.
        let started = (0..threads).filter(|_| Builder::new().spawn_scoped(scope, worker).is_ok()).count();
        if started == 0 {
            let mut state = start();
            return (0..count).try_for_each(|i| consume(i, work(&mut state, i)));
        }
        // Also when `consume` panics: the scope waits for the workers, who would wait for room.
        let _stop = StopOnDrop(&window);
        for i in 0..count {
            let Some(result) = window.take_result() else {
                // A worker panicked; leaving the scope passes its panic on.
                return Ok(());
            };
            consume(i, result)?;
        }
        Ok(())
    })
}

impl<T> Window<T> {
    fn new() -> Self {
        let state = State { next: 0, results: VecDeque::new(), first: 0, over: false };
        Self { state: Mutex::new(state), ready: Condvar::new(), room: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code that can panic runs under this lock, and the state is whole between any two statements.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn take_ticket(&self, count: usize, limit: usize) -> Option<usize> {
        let mut state = self.lock();
        while !state.over && state.next < count && state.results.len() >= limit {
            state = self.room.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        if state.over || state.next == count {
            return None;
        }
        state.results.push_back(None);
        state.next += 1;
        Some(state.next - 1)
    }

    fn put_result(&self, ticket: usize, result: T) {
        let mut state = self.lock();
        let index = ticket - state.first;
        state.results[index] = Some(result);
        if index == 0 {
            self.ready.notify_one();
        }
    }

    fn take_result(&self) -> Option<T> {
        let mut state = self.lock();
        while !state.over && !matches!(state.results.front(), Some(Some(_))) {
            state = self.ready.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        if state.over {
            return None;
        }
        state.first += 1;
        self.room.notify_one();
        state.results.pop_front().flatten()
    }

    fn stop(&self) {
        self.lock().over = true;
        self.ready.notify_all();
        self.room.notify_all();
    }
}

struct StopOnDrop<'a, T>(&'a Window<T>);

impl<T> Drop for StopOnDrop<'_, T> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

struct StopOnPanic<'a, T>(&'a Window<T>);

impl<T> Drop for StopOnPanic<'_, T> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn results_come_in_order_and_few_wait() {
        for threads in [1, 2, 5] {
            let (begun, consumed) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let work = |(): &mut (), i: usize| {
                let ahead = begun.fetch_add(1, Ordering::SeqCst) + 1 - consumed.load(Ordering::SeqCst);
                // One more than the window: the result that `consume` is just looking at.
                assert!(ahead <= threads * IN_FLIGHT_PER_THREAD + 1, "{ahead} ahead");
                i * i
            };
            let mut seen = Vec::new();
            let result: Result<(), ()> = ordered(
                300,
                threads,
                || (),
                work,
                |i, square| {
                    assert_eq!(square, i * i);
                    seen.push(i);
                    consumed.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                },
            );
            assert_eq!(result, Ok(()));
            assert_eq!(seen, (0..300).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_error_stops_the_work() {
        let begun = AtomicUsize::new(0);
        let work = |(): &mut (), _: usize| {
            begun.fetch_add(1, Ordering::SeqCst);
        };
        let result = ordered(1_000_000, 2, || (), work, |i, ()| if i == 5 { Err("full") } else { Ok(()) });
        assert_eq!(result, Err("full"));
        assert!(begun.load(Ordering::SeqCst) <= 6 + 2 * IN_FLIGHT_PER_THREAD);
    }

    #[test]
    fn a_panic_of_either_side_comes_through() {
        let worker =
            std::panic::catch_unwind(|| ordered(100, 2, || (), |(), i| assert_ne!(i, 50), |_, ()| Ok::<(), ()>(())));
        assert!(worker.is_err());
        let consumer = std::panic::catch_unwind(|| {
            ordered(
                100,
                2,
                || (),
                |(), i| i,
                |_, i| {
                    assert_ne!(i, 50);
                    Ok::<(), ()>(())
                },
            )
        });
        assert!(consumer.is_err());
    }

    #[test]
    fn nothing_to_do() {
        assert_eq!(ordered(0, 4, || (), |(), i| i, |_, _| Err("called")), Ok(()));
    }
}
