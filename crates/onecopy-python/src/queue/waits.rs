//! Putting and taking batches: at once where that can be, and else after a wait without the GIL.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use onecopy::{Batch, Error, LockError, Patience, QueueError};
use pyo3::prelude::*;

use super::Queue;
use crate::errors::OrRaise;
use crate::locks::{limit, wait};

impl Queue {
    pub(super) fn put_batch(&self, py: Python<'_>, batch: &Batch, limit: Option<Duration>) -> PyResult<u32> {
        self.used.store(true, Relaxed);
        let mut from = 0;
        // With room in the queue nothing has to be waited for, and the GIL is kept.
        let put = match self.inner.put_rest(batch, &mut from, &Patience::none()) {
            Err(Error::Queue(QueueError::TimedOut)) if limit != Some(Duration::ZERO) => {
                wait(py, limit, |patience| self.inner.put_rest(batch, &mut from, patience).map_err(stopped))
            }
            Err(Error::Queue(QueueError::TimedOut)) => Ok(None),
            Ok(put) if limit != Some(Duration::ZERO) && from < batch.len() => {
                wait(py, limit, |patience| self.inner.put_rest(batch, &mut from, patience).map_err(stopped))
                    .map(|more| Some(put + more.unwrap_or(0)))
            }
            other => other.map(Some).or_raise(py),
        };
        if from < batch.len() {
            self.inner.drop_rest(batch, from).or_raise(py)?;
        }
        put?.ok_or_else(|| raise_from_queue(py, "Full"))
    }

    pub(super) fn take(&self, py: Python<'_>, most: u32, batch: &mut Batch, limit: Option<Duration>) -> PyResult<()> {
        let taken = self.take_within(py, most, batch, limit)?;
        taken.map(drop).ok_or_else(|| raise_from_queue(py, "Empty"))
    }

    pub(super) fn take_within(
        &self,
        py: Python<'_>,
        most: u32,
        batch: &mut Batch,
        limit: Option<Duration>,
    ) -> PyResult<Option<u32>> {
        self.check_open()?;
        let taken = match self.inner.take_batch(most, batch, &Patience::none()) {
            Err(Error::Queue(QueueError::TimedOut)) if limit != Some(Duration::ZERO) => {
                wait(py, limit, |patience| self.inner.take_batch(most, batch, patience).map_err(stopped))
            }
            Err(Error::Queue(QueueError::TimedOut)) => Ok(None),
            other => other.map(Some).or_raise(py),
        };
        self.readiness.update(|| self.is_ready(), || Ok(self.inner.messages()));
        taken
    }
}

/// How long the caller of a method waits, as the standard library reads these arguments.
pub(super) fn how_long(block: bool, timeout: Option<f64>) -> PyResult<Option<Duration>> {
    if block { limit(timeout) } else { Ok(Some(Duration::ZERO)) }
}

pub(crate) fn stopped(error: Error) -> LockError {
    match error {
        Error::Queue(QueueError::TimedOut) => LockError::TimedOut,
        Error::Queue(QueueError::Interrupted) => LockError::Interrupted,
        other => LockError::Shared(other),
    }
}

/// `queue.Full` or `queue.Empty`, without arguments as in the standard library.
fn raise_from_queue(py: Python<'_>, name: &str) -> PyErr {
    let made = py.import("queue").and_then(|module| module.getattr(name)).and_then(|class| class.call0());
    made.map_or_else(|error| error, PyErr::from_value)
}
