//! `RWLock` and its two sides.

use std::sync::Arc;

use onecopy::{LockError, Patience, Side};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::waiting::{Mailbox, Watch, in_task};

use super::{Asked, OrRaiseLockError, Taken, acquire, enter, handle_of, limit, make, python_side, wait};

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<RWLock>()?;
    m.add_class::<RWLockSide>()
}

/// A lock for many readers or one writer in shared memory.
#[pyclass(frozen, subclass, weakref, module = "onecopy._native")]
struct RWLock {
    inner: Arc<onecopy::RwLock>,
}

/// One of the two ways to hold an `RWLock`, with the methods of a lock.
#[pyclass(frozen, weakref, module = "onecopy._native")]
struct RWLockSide {
    inner: OneSide,
}

struct OneSide {
    lock: Arc<onecopy::RwLock>,
    side: Side,
}

impl Taken for OneSide {
    fn try_take(&self) -> Result<Option<bool>, LockError> {
        self.lock.try_acquire(self.side)
    }
    fn take(&self, patience: &Patience<'_>) -> Result<bool, LockError> {
        self.lock.acquire(self.side, patience)
    }
    fn recover(&self, patience: &Patience<'_>) -> Result<bool, LockError> {
        self.lock.recover(self.side, patience)
    }
}

#[pymethods]
impl RWLock {
    #[new]
    #[pyo3(signature = (*, handle=None))]
    fn new(py: Python<'_>, handle: Option<&[u8]>) -> PyResult<Self> {
        let inner = make(py, handle, || Ok(onecopy::RwLock::new(onecopy::session()?)?))?;
        Ok(Self { inner: Arc::new(inner) })
    }

    fn _send<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        handle_of(py, &*self.inner)
    }

    /// One side: to write, or to read.
    fn _side(&self, write: bool) -> RWLockSide {
        let side = if write { Side::Write } else { Side::Read };
        RWLockSide { inner: OneSide { lock: self.inner.clone(), side } }
    }

    /// How many hold it to read.
    fn _readers(&self) -> u32 {
        self.inner.readers()
    }

    /// Pid of the process that holds it to write, if that is known to live.
    fn _writer(&self) -> Option<u32> {
        self.inner.writer_pid()
    }
}

#[pymethods]
impl RWLockSide {
    /// Take this side of the lock. See `Lock.acquire`.
    #[pyo3(
        signature = (block=None, timeout=None, *, blocking=None, on_owner_died=None),
        text_signature = "($self, block=True, timeout=None, *, blocking=True, on_owner_died='raise')"
    )]
    fn acquire(
        &self,
        py: Python<'_>,
        block: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
        blocking: Option<&Bound<'_, PyAny>>,
        on_owner_died: Option<&str>,
    ) -> PyResult<bool> {
        acquire(py, &self.inner, &Asked { block, timeout, blocking, on_owner_died })
    }

    /// Release this side of the lock. `ValueError` if this process does not hold it.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        self.inner.lock.release(self.inner.side).or_raise(py)
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        enter(py, &self.inner)
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _class: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.release(py)
    }

    /// Take this side in a task of an event loop. See `Lock.aacquire`.
    #[pyo3(
        signature = (timeout=None, *, on_owner_died="raise"),
        text_signature = "($self, timeout=None, *, on_owner_died='raise')"
    )]
    fn aacquire<'py>(slf: &Bound<'py, Self>, timeout: Option<f64>, on_owner_died: &str) -> PyResult<Bound<'py, PyAny>> {
        in_task(slf.py(), "acquire", (slf, timeout, on_owner_died))
    }

    fn __aenter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        in_task(slf.py(), "acquire", (slf,))
    }

    fn __aexit__<'py>(
        slf: &Bound<'py, Self>,
        _class: &Bound<'py, PyAny>,
        _value: &Bound<'py, PyAny>,
        _traceback: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        in_task(slf.py(), "release", (slf,))
    }

    fn _watch(&self, py: Python<'_>, mailbox: &Bound<'_, Mailbox>, token: u64) -> PyResult<Watch> {
        mailbox.get().watch(py, self.inner.lock.awaited(self.inner.side).or_raise(py)?, token)
    }

    /// Tell whether anybody holds this side.
    fn locked(&self) -> bool {
        match self.inner.side {
            Side::Read => self.inner.lock.readers() > 0,
            Side::Write => self.inner.lock.is_written(),
        }
    }

    /// Hold this side for a `with` statement, also after a writer has died. See `Lock.recover`.
    #[pyo3(signature = (timeout=None))]
    fn recover<'py>(slf: &Bound<'py, Self>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        python_side(slf.py(), "_Recovery", (slf, timeout))
    }

    fn _recover(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<bool>> {
        wait(py, limit(timeout)?, |patience| self.inner.recover(patience))
    }

    fn _give_up(&self, py: Python<'_>) -> PyResult<()> {
        self.inner.lock.give_up().or_raise(py)
    }
}
