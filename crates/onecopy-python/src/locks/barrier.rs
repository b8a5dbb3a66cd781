//! `Barrier`.

use onecopy::{Arrival, LockError};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::waiting::{Mailbox, Watch};

use super::{OrRaiseLockError, handle_of, limit, lock_error, make, wait};

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Barrier>()
}

/// A barrier in shared memory.
#[pyclass(frozen, subclass, weakref, module = "onecopy._native")]
struct Barrier {
    inner: onecopy::Barrier,
}

#[pymethods]
impl Barrier {
    #[new]
    #[pyo3(signature = (parties, *, handle=None))]
    fn new(py: Python<'_>, parties: i64, handle: Option<&[u8]>) -> PyResult<Self> {
        let count = u32::try_from(parties).map_err(|_| {
            PyValueError::new_err(format!("parties={parties}: expected a number from 1 to {}", u32::MAX))
        })?;
        make(py, handle, || onecopy::Barrier::new(onecopy::session()?, count)).map(|inner| Self { inner })
    }

    fn _send<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        handle_of(py, &self.inner)
    }

    /// Waits for the others; the last one calls `action` before they go on.
    fn _wait(&self, py: Python<'_>, action: Option<&Bound<'_, PyAny>>, timeout: Option<f64>) -> PyResult<u32> {
        let arrived = wait(py, limit(timeout)?, |patience| self.inner.arrive(patience))?;
        match arrived.ok_or_else(|| lock_error(py, &LockError::BrokenBarrier))? {
            Arrival::Through(index) => Ok(index),
            Arrival::Last(index) => {
                let done = action.map_or(Ok(()), |action| action.call0().map(drop));
                let finished = self.inner.finish(done.is_ok());
                done?;
                finished.or_raise(py).map(|()| index)
            }
        }
    }

    /// Arrives, if those of the last time have left: which of the parties it is, and whether it is the last.
    fn _try_arrive(&self, py: Python<'_>) -> PyResult<Option<(u32, bool)>> {
        Ok(match self.inner.try_arrive().or_raise(py)? {
            None => None,
            Some(Arrival::Through(index)) => Some((index, false)),
            Some(Arrival::Last(index)) => Some((index, true)),
        })
    }

    /// Lets all go on, or breaks the barrier if the action was not `done`.
    fn _finish(&self, py: Python<'_>, done: bool) -> PyResult<()> {
        self.inner.finish(done).or_raise(py)
    }

    /// Leaves, if all have arrived; whether that was so. After an exception it has left too.
    fn _try_leave(&self, py: Python<'_>) -> PyResult<bool> {
        self.inner.try_leave().or_raise(py)
    }

    /// Leaves before all have arrived; whether it has.
    fn _give_up(&self, py: Python<'_>, late: bool) -> PyResult<bool> {
        self.inner.give_up(late).or_raise(py)
    }

    /// Changes whenever there may be reason to try again.
    fn _moment(&self) -> u32 {
        self.inner.moment()
    }

    /// Has a token delivered when something has changed since a moment.
    fn _watch(&self, py: Python<'_>, mailbox: &Bound<'_, Mailbox>, token: u64, moment: u32) -> PyResult<Watch> {
        mailbox.get().watch(py, self.inner.awaited(moment), token)
    }

    /// Make the barrier as new; those that wait get a `BrokenBarrierError`.
    fn reset(&self, py: Python<'_>) -> PyResult<()> {
        self.inner.reset().or_raise(py)
    }

    /// Break the barrier: all that wait or come get a `BrokenBarrierError`, until it is reset.
    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        self.inner.abort().or_raise(py)
    }

    /// The number of parties.
    #[getter]
    fn parties(&self) -> u32 {
        self.inner.parties()
    }

    /// How many wait for others to arrive.
    #[getter]
    fn n_waiting(&self) -> u32 {
        self.inner.waiting()
    }

    /// Whether it is broken.
    #[getter]
    fn broken(&self) -> bool {
        self.inner.is_broken()
    }
}
