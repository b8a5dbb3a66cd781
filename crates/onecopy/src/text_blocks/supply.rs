//! A text that its taker supplies piece by piece, in the thread that takes the blocks: what makes it need not be for
//! any other thread.

use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::doorbell::Doorbell;

/// Between the thread that has the pieces and the one that reads them: one piece at a time.
#[derive(Debug)]
pub(super) struct Supply {
    state: Mutex<State>,
    changed: Condvar,
    bell: Arc<Doorbell>,
}

#[derive(Debug, Default)]
struct State {
    piece: Vec<u8>,
    /// How much of it has been read.
    read: usize,
    ended: bool,
    refused: bool,
}

impl State {
    fn is_empty(&self) -> bool {
        self.read == self.piece.len()
    }
}

impl Supply {
    pub(super) fn new(bell: Arc<Doorbell>) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), bell }
    }

    /// Whether the next piece is wanted.
    pub(super) fn is_hungry(&self) -> bool {
        let state = self.lock();
        state.is_empty() && !state.ended && !state.refused
    }

    /// Gives the next piece; an empty one is the end.
    pub(super) fn give(&self, piece: Vec<u8>) {
        let mut state = self.lock();
        state.ended = piece.is_empty();
        (state.piece, state.read) = (piece, 0);
        drop(state);
        self.changed.notify_all();
    }

    /// Says that no more will come, and that this is not the end.
    pub(super) fn refuse(&self) {
        self.lock().refused = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reading end.
pub(super) struct Supplied(pub(super) Arc<Supply>);

impl Read for Supplied {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        while state.is_empty() && !state.ended && !state.refused {
            self.0.bell.ring();
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_empty() && state.refused {
            return Err(io::Error::other("the rest of the text was not supplied"));
        }
        let length = (&state.piece[state.read..]).read(out)?;
        state.read += length;
        if state.is_empty() {
            // The next piece can be made while this one is parsed.
            drop(state);
            self.0.bell.ring();
        }
        Ok(length)
    }
}
