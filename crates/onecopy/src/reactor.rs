//! One thread of the process that waits for everything that must not have a thread of its own: what event loops and
//! selectors wait for. Design: `docs/design/waiting.md`.
//!
//! Each thing is watched once: when it may be ready, a token goes into the mailbox of whoever asked, whose descriptor
//! becomes readable. Whether it is ready then is found out by trying; so nothing is lost with a token that nobody reads.
//!
//! **Invariant:** the thread takes nothing and holds nothing of what it watches.

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering::AcqRel, Ordering::Acquire};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use onecopy_os::{Doorbell, MOST_WORDS, crash_point, current_pid, spawn_without_signals, wait, wait_any, wake};
use onecopy_sync::Bell;

use crate::Error;

/// How long the thread trusts that nobody has died, and that it was not forgotten.
const LOOK: Duration = Duration::from_millis(5);
/// How long it sleeps where it cannot be woken for everything: too many words, or a kernel that waits for one only.
const BLIND: Duration = Duration::from_millis(1);
const FOR_EVER: Duration = Duration::from_secs(1 << 30);

/// Something that one can wait for.
pub trait Waitable: Send + Sync + 'static {
    /// Says that the thread is about to sleep until something has happened.
    fn bell(&self) -> Bell<'_>;
    /// Whether it is worth to try. If it is to `look`, deaths count too.
    fn is_ready(&self, look: bool) -> bool;
}

/// Where the tokens go of what may be ready.
///
/// ```
/// use onecopy::{Mailbox, Patience, Queue, Value, session};
///
/// let (queue, mailbox) = (Queue::new(session()?, None)?, Mailbox::new()?);
/// let _watch = mailbox.watch(queue.messages(), 7)?;
/// queue.put(&Value::None, &Patience::FOREVER)?; // here or in another process
/// while mailbox.collect().is_empty() {} // a program would poll `mailbox.number()`
/// # Ok::<(), onecopy::Error>(())
/// ```
#[derive(Debug)]
pub struct Mailbox {
    doorbell: Doorbell,
    tokens: Mutex<Vec<u64>>,
}

/// A source that is watched until it may be ready; forgotten when this is dropped. What the source counts as, such as a
/// writer that waits, it is as long as this lives: also between the token and what is done about it.
#[must_use]
pub struct Watch {
    reactor: &'static Reactor,
    id: u64,
    _source: Arc<dyn Waitable>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Mailbox {
    /// An empty one.
    pub fn new() -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self { doorbell: Doorbell::new()?, tokens: Mutex::default() }))
    }

    /// Number of a descriptor that is readable while there are tokens.
    pub fn number(&self) -> RawFd {
        self.doorbell.number()
    }

    /// Takes the tokens out. One whose watch has been dropped meanwhile may be among them.
    pub fn collect(&self) -> Vec<u64> {
        // In this order: what is delivered in between rings again.
        self.doorbell.silence();
        std::mem::take(&mut *unpoisoned(&self.tokens))
    }

    /// Puts a token in, as the reactor does.
    pub fn deliver(&self, token: u64) {
        unpoisoned(&self.tokens).push(token);
        self.doorbell.ring();
    }

    /// Has the token delivered once the source may be ready, which may be at once.
    pub fn watch(self: &Arc<Self>, source: impl Waitable, token: u64) -> Result<Watch, Error> {
        let reactor = Reactor::current();
        let source: Arc<dyn Waitable> = Arc::new(source);
        let id = reactor.add(Watched { source: source.clone(), mailbox: self.clone(), token })?;
        Ok(Watch { reactor, id, _source: source })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The thread of the parent is not there in a child, and may have had the lock when it forked.
        if self.reactor.pid == current_pid() {
            let forgotten = self.reactor.state().watched.remove(&self.id);
            drop(forgotten);
            crash_point!("reactor.forgotten");
        }
    }
}

struct Watched {
    source: Arc<dyn Waitable>,
    mailbox: Arc<Mailbox>,
    token: u64,
}

/// The thread, and what it watches.
struct Reactor {
    pid: u32,
    state: Mutex<State>,
    /// Changes when there is more to watch.
    changes: AtomicU32,
}

#[derive(Default)]
struct State {
    watched: HashMap<u64, Watched>,
    next: u64,
    runs: bool,
}

impl std::fmt::Debug for Reactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reactor").field("pid", &self.pid).finish_non_exhaustive()
    }
}

impl Reactor {
    /// That of this process. A forked child begins with none: what its parent watched is left alone, as are its locks.
    fn current() -> &'static Self {
        static CURRENT: AtomicPtr<Reactor> = AtomicPtr::new(null_mut());
        let pid = current_pid();
        let mut seen = CURRENT.load(Acquire);
        loop {
            // SAFETY: null, or an address that was leaked below and is never freed.
            match unsafe { seen.as_ref() } {
                Some(reactor) if reactor.pid == pid => return reactor,
                _ => {}
            }
            let new = Box::into_raw(Box::new(Self { pid, state: Mutex::default(), changes: AtomicU32::new(0) }));
            match CURRENT.compare_exchange(seen, new, AcqRel, Acquire) {
                Ok(_) => seen = new,
                Err(now) => {
                    // SAFETY: nobody has seen it.
                    drop(unsafe { Box::from_raw(new) });
                    seen = now;
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        unpoisoned(&self.state)
    }

    fn add(&'static self, watched: Watched) -> Result<u64, Error> {
        let mut state = self.state();
        if !state.runs {
            spawn_without_signals("onecopy-reactor", || self.run())?;
            state.runs = true;
        }
        let id = state.next;
        state.next += 1;
        state.watched.insert(id, watched);
        drop(state);
        crash_point!("reactor.watched");
        self.changes.fetch_add(1, AcqRel);
        wake(&self.changes, 1);
        Ok(id)
    }

    fn run(&self) {
        let mut looked = Instant::now();
        loop {
            let changes = self.changes.load(Acquire);
            let look = looked.elapsed() >= LOOK;
            if look {
                looked = Instant::now();
            }
            let (bells, ready) = self.pass(look);
            for watched in ready {
                watched.mailbox.deliver(watched.token);
                crash_point!("reactor.told");
            }
            self.sleep(changes, bells);
        }
    }

    /// Looks at everything once; answers where to sleep, and takes out what may be ready.
    fn pass(&self, look: bool) -> (HashMap<usize, u32>, Vec<Watched>) {
        let mut state = self.state();
        // All bells first. Two may be of one word, which each asking changes: the last answer counts, and whatever happened
        // before it is seen by the looks, which all come later.
        let bells = state.watched.values().map(|watched| watched.source.bell());
        let bells = bells.map(|bell| (bell.address(), bell.seen())).collect();
        crash_point!("reactor.enrolled");
        let mut ready: Vec<u64> =
            state.watched.iter().filter(|(_, watched)| watched.source.is_ready(look)).map(|(&id, _)| id).collect();
        // Who has watched for longest is told first.
        ready.sort_unstable();
        let ready = ready.iter().filter_map(|id| state.watched.remove(id)).collect();
        (bells, ready)
    }

    fn sleep(&self, changes: u32, bells: HashMap<usize, u32>) {
        let limit = match bells.len() {
            0 => FOR_EVER,
            1..MOST_WORDS => LOOK,
            _ => BLIND,
        };
        let own = (std::ptr::from_ref(&self.changes).addr(), changes);
        let words: Vec<_> = std::iter::once(own).chain(bells).take(MOST_WORDS).collect();
        if wait_any(&words, limit).is_none() {
            wait(&self.changes, changes, limit.min(BLIND));
        }
    }
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use onecopy_arena::{Arena, Options};

    use super::*;
    use crate::{Event, Lock, Patience, Queue, RLock, RwLock, Semaphore, Side, Value, pipe};

    fn arena() -> &'static Arena {
        Arena::create(Options { limit: Some(64 << 20), warm: None }).unwrap()
    }

    /// The tokens that come, at least one.
    fn tokens(mailbox: &Mailbox) -> Vec<u64> {
        loop {
            let tokens = mailbox.collect();
            if !tokens.is_empty() {
                return tokens;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    #[test]
    fn a_queue_tells_of_messages_and_of_room() {
        let (queue, mailbox) = (Queue::new(arena(), Some(1)).unwrap(), Mailbox::new().unwrap());
        let _message = mailbox.watch(queue.messages(), 1).unwrap();
        queue.put(&Value::None, &Patience::none()).unwrap();
        assert_eq!(tokens(&mailbox), [1]);
        let _room = mailbox.watch(queue.room(), 2).unwrap();
        let _done = mailbox.watch(queue.done(), 3).unwrap();
        assert_eq!(mailbox.collect(), []);
        queue.get(&Patience::none()).unwrap();
        assert_eq!(tokens(&mailbox), [2]);
        queue.task_done().unwrap();
        assert_eq!(tokens(&mailbox), [3]);
    }

    #[test]
    fn what_is_ready_is_told_at_once_and_what_is_dropped_never() {
        let (event, mailbox) = (Event::new(arena()).unwrap(), Mailbox::new().unwrap());
        drop(mailbox.watch(event.awaited(), 1).unwrap());
        let waits = mailbox.watch(event.awaited(), 2).unwrap();
        event.set();
        event.clear();
        assert_eq!(tokens(&mailbox), [2]);
        drop(waits);
        event.set();
        let _again = mailbox.watch(event.awaited(), 3).unwrap();
        assert_eq!(tokens(&mailbox), [3]);
    }

    #[test]
    fn locks_tell_when_they_may_be_had() {
        let (arena, mailbox) = (arena(), Mailbox::new().unwrap());
        let lock = Lock::new(arena).unwrap();
        let rlock = RLock::new(arena).unwrap();
        let semaphore = Semaphore::new(arena, 0).unwrap();
        let rwlock = RwLock::new(arena).unwrap();
        lock.acquire(&Patience::FOREVER).unwrap();
        rlock.acquire(&Patience::FOREVER).unwrap();
        rwlock.acquire(Side::Read, &Patience::FOREVER).unwrap();
        let _watches = [
            mailbox.watch(lock.awaited(), 1).unwrap(),
            mailbox.watch(rlock.awaited(), 2).unwrap(),
            mailbox.watch(semaphore.awaited().unwrap(), 3).unwrap(),
            mailbox.watch(rwlock.awaited(Side::Write).unwrap(), 4).unwrap(),
        ];
        std::thread::sleep(2 * LOOK); // nothing comes, however long one waits
        assert_eq!(mailbox.collect(), []);
        assert!(rwlock.try_acquire(Side::Read).unwrap().is_none(), "a writer waits");
        lock.release().unwrap();
        assert_eq!(tokens(&mailbox), [1]);
        rlock.release().unwrap();
        assert_eq!(tokens(&mailbox), [2]);
        semaphore.release(1).unwrap();
        assert_eq!(tokens(&mailbox), [3]);
        rwlock.release(Side::Read).unwrap();
        assert_eq!(tokens(&mailbox), [4]);
    }

    #[test]
    fn a_writer_that_waits_no_longer_lets_readers_in() {
        let (rwlock, mailbox) = (RwLock::new(arena()).unwrap(), Mailbox::new().unwrap());
        rwlock.acquire(Side::Read, &Patience::FOREVER).unwrap();
        drop(mailbox.watch(rwlock.awaited(Side::Write).unwrap(), 1).unwrap());
        rwlock.acquire(Side::Read, &Patience::none()).unwrap();
    }

    #[test]
    fn a_pipe_tells_of_its_end() {
        let (a, b) = pipe(arena(), true).unwrap();
        let mailbox = Mailbox::new().unwrap();
        let _watch = mailbox.watch(a.messages().unwrap(), 1).unwrap();
        drop(b);
        assert_eq!(tokens(&mailbox), [1]);
    }

    #[test]
    fn more_than_the_kernel_waits_for_at_a_time() {
        let (arena, mailbox) = (arena(), Mailbox::new().unwrap());
        let events: Vec<_> = (0..3 * MOST_WORDS).map(|_| Event::new(arena).unwrap()).collect();
        let watches: Vec<_> =
            events.iter().zip(0..).map(|(event, token)| mailbox.watch(event.awaited(), token).unwrap()).collect();
        for (event, token) in events.iter().zip(0..) {
            event.set();
            assert_eq!(tokens(&mailbox), [token]);
        }
        drop(watches);
    }

    #[test]
    fn many_watches_of_one_word_and_many_who_put() {
        const ROUNDS: u64 = 2000;
        let (queue, stop) = (Queue::new(arena(), None).unwrap(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mailbox = Mailbox::new().unwrap();
                for token in 0..ROUNDS {
                    let _two = [0, 1].map(|_| mailbox.watch(queue.messages(), token).unwrap());
                    while !tokens(&mailbox).contains(&token) {}
                    queue.get(&Patience::none()).unwrap();
                }
                stop.store(true, std::sync::atomic::Ordering::SeqCst);
            });
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                if queue.is_empty() {
                    queue.put(&Value::None, &Patience::none()).unwrap();
                }
            }
        });
    }
}
