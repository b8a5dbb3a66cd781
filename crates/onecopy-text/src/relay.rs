//! Work that must happen in the order of the file while threads race ahead: a baton that goes from ticket to ticket.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The first ticket that is not wanted any more, because of an error or because enough was read.
#[derive(Debug)]
pub(crate) struct Stop(AtomicU64);

// Relaxed: the value carries no other data; whoever waits is woken through the mutex of the relay.
impl Stop {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }

    /// Tickets from `first` on are not wanted.
    pub(crate) fn from(&self, first: u64) {
        self.0.fetch_min(first, Ordering::Relaxed);
    }

    pub(crate) fn applies_to(&self, ticket: u64) -> bool {
        self.0.load(Ordering::Relaxed) <= ticket
    }

    /// Whether anything was stopped.
    pub(crate) fn is_set(&self) -> bool {
        self.applies_to(u64::MAX - 1)
    }
}

/// Hands `T` from each ticket to the next.
#[derive(Debug)]
pub(crate) struct Relay<T> {
    state: Mutex<State<T>>,
    passed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    next: u64,
    /// Threads that wait for their turn: without any, nobody needs to be woken, which is a system call.
    waiting: usize,
    baton: T,
}

impl<T> Relay<T> {
    /// `first` is the first ticket that will come.
    pub(crate) fn new(first: u64, baton: T) -> Self {
        Self { state: Mutex::new(State { next: first, waiting: 0, baton }), passed: Condvar::new() }
    }

    /// Waits until all earlier tickets have passed; `None` if this ticket is not wanted any more.
    pub(crate) fn turn(&self, ticket: u64, stop: &Stop) -> Option<Turn<'_, T>> {
        let mut state = self.lock();
        while state.next != ticket && !stop.applies_to(ticket) {
            state.waiting += 1;
            state = self.passed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        (!stop.applies_to(ticket)).then(|| Turn { relay: self, state })
    }

    /// Lets those who wait look at the stop again.
    pub(crate) fn wake(&self) {
        // Taken so that nobody is between looking and falling asleep.
        drop(self.lock());
        self.passed.notify_all();
    }

    pub(crate) fn into_inner(self) -> T {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).baton
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // After a panic the baton is not used any more: the panic stops all tickets.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The baton in the hand of a ticket; dropping passes it on.
pub(crate) struct Turn<'a, T> {
    relay: &'a Relay<T>,
    state: MutexGuard<'a, State<T>>,
}

impl<T> Deref for Turn<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.state.baton
    }
}

impl<T> DerefMut for Turn<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.state.baton
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        self.state.next += 1;
        if self.state.waiting > 0 {
            self.relay.passed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn tickets_pass_in_order_whatever_thread_comes_first() {
        let (relay, stop) = (Relay::new(3, Vec::new()), Stop::new());
        thread::scope(|scope| {
            for ticket in (3..40).rev() {
                let (relay, stop) = (&relay, &stop);
                scope.spawn(move || relay.turn(ticket, stop).unwrap().push(ticket));
            }
        });
        assert_eq!(relay.into_inner(), (3..40).collect::<Vec<_>>());
    }

    #[test]
    fn stop_releases_later_tickets_and_not_earlier_ones() {
        let (relay, stop) = (Relay::new(0, ()), Stop::new());
        thread::scope(|scope| {
            let later = scope.spawn(|| relay.turn(2, &stop).is_none());
            stop.from(1);
            relay.wake();
            assert!(later.join().unwrap());
        });
        assert!(relay.turn(0, &stop).is_some());
        assert!(relay.turn(1, &stop).is_none());
    }
}
