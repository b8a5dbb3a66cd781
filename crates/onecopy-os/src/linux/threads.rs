//! Threads that work beside the program, and how they tell it that something has happened.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{read, write};

use crate::OsError;

/// Starts a thread that gets no signals: they are the program's, whose main thread shall wake for them.
pub fn spawn_without_signals(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), OsError> {
    let before = block_signals();
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    // SAFETY: the mask is one that the same call answered.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
    spawned.map(drop).map_err(|error| OsError::new("start a thread", error))
}

/// Blocks all signals for this thread and those that it starts; answers which were blocked before.
fn block_signals() -> libc::sigset_t {
    // SAFETY: both sets are written before they are read: by `sigfillset`, and by `pthread_sigmask`, which cannot fail with
    // valid arguments; all zeros are a valid set anyway.
    unsafe {
        let (mut all, mut before) = std::mem::zeroed::<(libc::sigset_t, libc::sigset_t)>();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        before
    }
}

/// A descriptor that can be polled: readable from when it is rung until it is silenced.
#[derive(Debug)]
pub struct Doorbell(OwnedFd);

impl Doorbell {
    /// A silent one.
    pub fn new() -> Result<Self, OsError> {
        let made = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        made.map(Self).map_err(|error| OsError::new("make an event descriptor", error))
    }

    /// Makes it readable.
    pub fn ring(&self) {
        // It fails only where it has been rung so often that it stays readable anyway.
        let _ = write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Makes it unreadable.
    pub fn silence(&self) {
        // It fails where it is silent.
        let _ = read(&self.0, &mut [0; 8]);
    }

    /// Its number.
    pub fn number(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn is_rung(doorbell: &Doorbell) -> bool {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(doorbell, PollFlags::IN)], Some(&at_once)).unwrap() == 1
    }

    #[test]
    fn a_doorbell_is_readable_while_it_rings() {
        let doorbell = Doorbell::new().unwrap();
        assert!(!is_rung(&doorbell));
        doorbell.ring();
        doorbell.ring();
        assert!(is_rung(&doorbell));
        doorbell.silence();
        doorbell.silence();
        assert!(!is_rung(&doorbell));
    }

    #[test]
    fn a_thread_gets_no_signals_and_its_starter_those_that_it_got_before() {
        let blocked = || std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let mask = |status: &str| status.lines().find_map(|line| line.strip_prefix("SigBlk:\t")).unwrap().to_owned();
        let before = mask(&blocked());
        let (sender, receiver) = std::sync::mpsc::channel();
        spawn_without_signals("quiet", move || sender.send(blocked()).unwrap()).unwrap();
        let there = u64::from_str_radix(&mask(&receiver.recv().unwrap()), 16).unwrap();
        assert_ne!(there & 1 << (libc::SIGINT - 1), 0);
        assert_eq!(mask(&blocked()), before);
    }
}
