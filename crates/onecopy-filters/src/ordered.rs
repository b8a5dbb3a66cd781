//! Work on several threads whose results are taken in order, with a bound on how many wait.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Builder, JoinHandle};

use crate::error::Error;

/// Finished results that wait, or pieces of work under way, per thread.
pub const IN_FLIGHT_PER_THREAD: usize = 3;

/// What consists of pieces, each of which one thread does.
pub(crate) trait Work: Send + Sync + 'static {
    /// What a thread keeps from piece to piece.
    type Tools: Default;
    /// What becomes of a piece.
    type Output: Send + 'static;

    /// How many pieces there are.
    fn pieces(&self) -> usize;

    /// Does one.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when this thread lacks memory for it, which another one may have.
    fn run(&self, tools: &mut Self::Tools, piece: usize) -> Result<Self::Output, Error>;
}

/// Threads that do the pieces of one work after the other: those of the next one as soon as none of the one before is
/// left to begin.
pub(crate) struct Ordered<W: Work> {
    window: Arc<Window<W>>,
    threads: Vec<JoinHandle<()>>,
    /// For when there is no thread.
    own: W::Tools,
    process: u32,
}

struct Window<W: Work> {
    /// How many threads there are at most.
    most: usize,
    state: Mutex<State<W>>,
    /// A result is ready, or a worker panicked.
    ready: Condvar,
    /// There is room for another ticket, or something to do, or the work is over.
    room: Condvar,
}

struct State<W: Work> {
    /// What is left to begin of each work.
    waiting: VecDeque<(Arc<W>, usize)>,
    /// Begun by threads that lacked memory for it.
    returned: Vec<Ticket<W>>,
    /// Results of the tickets `first ..`, `None` while they are under way.
    results: VecDeque<Option<Result<W::Output, Error>>>,
    first: usize,
    /// Pieces that were put in and not taken out.
    outstanding: usize,
    /// Threads that take tickets.
    active: usize,
    over: bool,
}

/// A piece of work that one thread does.
struct Ticket<W: Work> {
    number: usize,
    work: Arc<W>,
    piece: usize,
}

impl<W: Work> Ordered<W> {
    /// At most so many threads, and at least one; they are started when there is something to do.
    pub(crate) fn new(threads: usize) -> Self {
        let window = Arc::new(Window::new(threads.max(1)));
        Self { window, threads: Vec::new(), own: W::Tools::default(), process: std::process::id() }
    }

    /// Adds work behind all that there is.
    pub(crate) fn put(&mut self, work: Arc<W>) {
        let pieces = work.pieces();
        if pieces == 0 {
            return;
        }
        let missing = {
            let mut state = self.window.lock();
            state.waiting.push_back((work, 0));
            state.outstanding += pieces;
            self.window.most.min(state.outstanding).saturating_sub(state.active)
        };
        self.window.room.notify_all();
        // Those that left.
        self.threads.retain(|thread| !thread.is_finished());
        for _ in 0..missing {
            let window = Arc::clone(&self.window);
            // Counted before it runs, as it may also leave before it is seen here.
            window.lock().active += 1;
            // Fewer threads than wanted (`ulimit -v`, `ulimit -u`) are slower and nothing worse.
            match Builder::new().name("onecopy-chunks".to_owned()).spawn(move || window.work_on()) {
                Ok(thread) => self.threads.push(thread),
                Err(_) => self.window.lock().active -= 1,
            }
        }
    }

    /// Pieces whose results have not been taken.
    pub(crate) fn outstanding(&self) -> usize {
        self.window.lock().outstanding
    }

    /// The most results that wait, and pieces that are under way.
    pub(crate) fn in_flight(&self) -> usize {
        self.window.limit()
    }

    /// The next result in the order in which the work was put in; waits for it. None when there is nothing to do.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when no thread had memory for it.
    ///
    /// # Panics
    /// When a thread did, with what it panicked with.
    pub(crate) fn next(&mut self) -> Option<Result<W::Output, Error>> {
        let Self { window, own, .. } = self;
        if window.lock().outstanding == 0 {
            return None;
        }
        let result = window.take_result(own);
        if result.is_none()
            && let Some(panic) = self.end()
        {
            std::panic::resume_unwind(panic);
        }
        result
    }

    /// Gives up what has not been begun, waits for the rest, and forgets the results.
    pub(crate) fn abandon(&mut self) {
        self.end();
        self.window = Arc::new(Window::new(self.window.most));
    }

    /// Ends the threads; what one of them panicked with.
    fn end(&mut self) -> Option<Box<dyn std::any::Any + Send>> {
        if std::process::id() != self.process {
            // A forked child has a copy of this, but not of the threads, one of which may have held the lock.
            self.threads.clear();
            return None;
        }
        self.window.stop();
        let ends: Vec<_> = self.threads.drain(..).map(JoinHandle::join).collect();
        ends.into_iter().find_map(Result::err)
    }
}

impl<W: Work> Drop for Ordered<W> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<W: Work> Default for State<W> {
    fn default() -> Self {
        let (waiting, returned, results) = Default::default();
        Self { waiting, returned, results, first: 0, outstanding: 0, active: 0, over: false }
    }
}

impl<W: Work> State<W> {
    fn next_ticket(&mut self, limit: usize) -> Option<Ticket<W>> {
        if let Some(ticket) = self.returned.pop() {
            return Some(ticket);
        }
        if self.results.len() >= limit {
            return None;
        }
        let (work, piece) = self.waiting.front_mut()?;
        let ticket = Ticket { number: self.first + self.results.len(), work: Arc::clone(work), piece: *piece };
        *piece += 1;
        if *piece == work.pieces() {
            self.waiting.pop_front();
        }
        self.results.push_back(None);
        Some(ticket)
    }
}

impl<W: Work> Window<W> {
    fn new(most: usize) -> Self {
        Self { most, state: Mutex::default(), ready: Condvar::new(), room: Condvar::new() }
    }

    fn limit(&self) -> usize {
        self.most.saturating_mul(IN_FLIGHT_PER_THREAD)
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        // No code that can panic runs under this lock, and the state is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a thread does.
    fn work_on(&self) {
        let _stop = StopOnPanic(self);
        let mut tools = W::Tools::default();
        while let Some(ticket) = self.take_ticket() {
            let mut result = ticket.work.run(&mut tools, ticket.piece);
            if result.is_err() {
                // Others, and the next attempt, have what this thread had.
                tools = W::Tools::default();
                let Some(ticket) = self.leave(ticket) else { return };
                result = ticket.work.run(&mut tools, ticket.piece);
                self.put_result(ticket, result);
                continue;
            }
            self.put_result(ticket, result);
        }
    }

    fn take_ticket(&self) -> Option<Ticket<W>> {
        let mut state = self.lock();
        loop {
            if state.over {
                return None;
            }
            if let Some(ticket) = state.next_ticket(self.limit()) {
                return Some(ticket);
            }
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Leaves a ticket to another thread, if there is one; otherwise the ticket is given back.
    fn leave(&self, ticket: Ticket<W>) -> Option<Ticket<W>> {
        let mut state = self.lock();
        if state.active <= 1 {
            return Some(ticket);
        }
        state.active -= 1;
        state.returned.push(ticket);
        drop(state);
        self.room.notify_all();
        None
    }

    fn put_result(&self, ticket: Ticket<W>, result: Result<W::Output, Error>) {
        let number = ticket.number;
        // Before anybody can see that it is done.
        drop(ticket);
        let mut state = self.lock();
        let index = number - state.first;
        state.results[index] = Some(result);
        if index == 0 {
            self.ready.notify_one();
        }
    }

    /// The first result; `None` when a thread panicked.
    fn take_result(&self, own: &mut W::Tools) -> Option<Result<W::Output, Error>> {
        let mut state = self.lock();
        while !state.over && !matches!(state.results.front(), Some(Some(_))) {
            if state.active > 0 {
                state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            // There was no thread to be had.
            let ticket = state.next_ticket(self.limit()).expect("what is outstanding is begun, waits, or was returned");
            drop(state);
            let result = ticket.work.run(own, ticket.piece);
            self.put_result(ticket, result);
            state = self.lock();
        }
        if state.over {
            return None;
        }
        state.first += 1;
        state.outstanding -= 1;
        let result = state.results.pop_front().flatten();
        drop(state);
        self.room.notify_one();
        result
    }

    fn stop(&self) {
        self.lock().over = true;
        self.ready.notify_all();
        self.room.notify_all();
    }
}

struct StopOnPanic<'a, W: Work>(&'a Window<W>);

impl<W: Work> Drop for StopOnPanic<'_, W> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

    /// Squares numbers, and counts how many are begun; what else happens, `before` says.
    struct Squares<F> {
        numbers: Vec<usize>,
        begun: AtomicUsize,
        before: F,
    }

    impl<F: Fn(usize) -> Result<(), Error> + Send + Sync + 'static> Work for Squares<F> {
        type Tools = ();
        type Output = usize;

        fn pieces(&self) -> usize {
            self.numbers.len()
        }

        fn run(&self, (): &mut (), piece: usize) -> Result<usize, Error> {
            self.begun.fetch_add(1, SeqCst);
            (self.before)(self.numbers[piece])?;
            Ok(self.numbers[piece] * self.numbers[piece])
        }
    }

    fn squares<F>(numbers: impl IntoIterator<Item = usize>, before: F) -> Arc<Squares<F>> {
        Arc::new(Squares { numbers: numbers.into_iter().collect(), begun: AtomicUsize::new(0), before })
    }

    #[expect(clippy::unnecessary_wraps, reason = "a work that never lacks memory")]
    fn nothing(_: usize) -> Result<(), Error> {
        Ok(())
    }

    fn all<W: Work>(pool: &mut Ordered<W>) -> Vec<Result<W::Output, Error>> {
        std::iter::from_fn(|| pool.next()).collect()
    }

    #[test]
    fn results_come_in_order_and_few_wait() {
        for threads in [1, 2, 5] {
            let mut pool = Ordered::new(threads);
            let works = [0..100, 100..100, 100..101, 101..300]
                .map(|part| squares(part, nothing as fn(usize) -> Result<(), Error>));
            for work in &works {
                pool.put(Arc::clone(work));
            }
            for i in 0..300 {
                let begun: usize = works.iter().map(|work| work.begun.load(SeqCst)).sum();
                assert!(begun <= i + pool.in_flight(), "{begun} begun before {i} is taken");
                assert_eq!(pool.next(), Some(Ok(i * i)));
            }
            assert_eq!((pool.next(), pool.outstanding()), (None, 0));
            // They go on afterwards.
            pool.put(squares(0..3, nothing as fn(usize) -> _));
            assert_eq!(all(&mut pool), [Ok(0), Ok(1), Ok(4)]);
        }
    }

    #[test]
    fn the_next_work_begins_before_all_results_of_the_last_are_taken() {
        let (next_begins, seen) = std::sync::mpsc::sync_channel(1);
        let mut pool = Ordered::new(2);
        let before = move |i| {
            if i == 1 {
                next_begins.send(()).unwrap();
            }
            Ok(())
        };
        pool.put(squares([0], before.clone()));
        pool.put(squares([1], before));
        seen.recv().unwrap();
        assert_eq!(all(&mut pool), [Ok(0), Ok(1)]);
    }

    #[test]
    fn what_is_abandoned_is_not_begun() {
        let work = squares(0..1_000_000, nothing);
        let mut pool = Ordered::new(2);
        pool.put(Arc::clone(&work));
        for _ in 0..5 {
            pool.next();
        }
        pool.abandon();
        assert!(work.begun.load(SeqCst) <= 5 + pool.in_flight());
        assert_eq!(Arc::strong_count(&work), 1);
        pool.put(squares(0..10, nothing));
        assert_eq!(all(&mut pool).len(), 10);
    }

    #[test]
    fn a_panic_comes_through() {
        let mut pool = Ordered::new(2);
        pool.put(squares(0..100, |i| {
            assert_ne!(i, 50);
            Ok(())
        }));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| all(&mut pool))).is_err());
    }

    const LACKING: Error = Error::OutOfMemory { bytes: 7 };

    #[test]
    fn who_lacks_memory_leaves_what_there_is_to_others() {
        thread_local!(static HAS_FAILED: AtomicBool = const { AtomicBool::new(false) });
        // Each thread fails with its first piece. The last one tries again, as then nobody else has anything.
        let before = |_| HAS_FAILED.with(|failed| if failed.swap(true, SeqCst) { Ok(()) } else { Err(LACKING) });
        for threads in [1, 4] {
            let mut pool = Ordered::new(threads);
            pool.put(squares(0..200, before));
            assert_eq!(all(&mut pool), (0..200).map(|i| Ok(i * i)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_no_thread_has_memory_for_is_an_error_of_its_piece() {
        let mut pool = Ordered::new(3);
        pool.put(squares(0..20, |i| if i == 13 { Err(LACKING) } else { Ok(()) }));
        let results = all(&mut pool);
        assert_eq!(results[13], Err(LACKING));
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 19);
    }

    #[test]
    fn without_threads_the_caller_does_it() {
        let mut pool = Ordered::new(2);
        let work = squares(0..20, nothing);
        // As `put` does where no thread can be started.
        let mut state = pool.window.lock();
        state.waiting.push_back((work, 0));
        state.outstanding = 20;
        drop(state);
        assert_eq!(all(&mut pool).len(), 20);
    }
}
