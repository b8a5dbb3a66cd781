//! `Condition`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use onecopy::{ConditionLock, LockError};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::waiting::{Mailbox, Watch};

use super::lock::{Lock, RLock};
use super::{OrRaiseLockError, handle_of, limit, make, wait};

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Condition>()?;
    m.add_class::<ConditionPlace>()
}

/// Those that wait for a condition, in shared memory. Its lock is given with each call.
#[pyclass(frozen, subclass, weakref, module = "onecopy._native")]
struct Condition {
    inner: onecopy::Condition,
}

/// The lock of a condition.
#[derive(FromPyObject)]
enum EitherLock<'py> {
    Lock(Bound<'py, Lock>),
    RLock(Bound<'py, RLock>),
}

impl EitherLock<'_> {
    fn get(&self) -> &(dyn ConditionLock + Sync) {
        match self {
            Self::Lock(lock) => &lock.get().inner,
            Self::RLock(lock) => &lock.get().inner,
        }
    }
}

#[pymethods]
impl Condition {
    #[new]
    #[pyo3(signature = (*, handle=None))]
    fn new(py: Python<'_>, handle: Option<&[u8]>) -> PyResult<Self> {
        make(py, handle, || Ok(onecopy::Condition::new(onecopy::session()?)?)).map(|inner| Self { inner })
    }

    fn _send<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        handle_of(py, &self.inner)
    }

    /// Waits for a notification; whether one came in time.
    #[expect(clippy::needless_pass_by_value, reason = "arguments from Python arrive by value")]
    fn _wait(&self, py: Python<'_>, lock: EitherLock<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let lock = lock.get();
        Ok(wait(py, limit(timeout)?, |patience| self.inner.wait(lock, patience))?.is_some())
    }

    /// Takes a place among those that wait, and releases the lock.
    #[expect(clippy::needless_pass_by_value, reason = "arguments from Python arrive by value")]
    fn _enter(&self, py: Python<'_>, lock: EitherLock<'_>) -> PyResult<ConditionPlace> {
        let waiter = self.inner.enter(lock.get()).or_raise(py)?;
        Ok(ConditionPlace { waiter: Mutex::new(Some(waiter)) })
    }

    /// Wakes up to `n` of those that wait; all of them where that is none.
    #[expect(clippy::needless_pass_by_value, reason = "arguments from Python arrive by value")]
    fn _notify(&self, py: Python<'_>, lock: EitherLock<'_>, n: Option<u32>) -> PyResult<u32> {
        match n {
            Some(count) => self.inner.notify(lock.get(), count),
            None => self.inner.notify_all(lock.get()),
        }
        .or_raise(py)
    }

    /// How many wait.
    fn _waiting(&self) -> usize {
        self.inner.waiting()
    }
}

/// A place of a task among those that wait for a condition.
#[pyclass(frozen, module = "onecopy._native")]
struct ConditionPlace {
    waiter: Mutex<Option<onecopy::Waiter>>,
}

impl ConditionPlace {
    fn waiter(&self) -> MutexGuard<'_, Option<onecopy::Waiter>> {
        self.waiter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, py: Python<'_>, work: impl FnOnce(&mut onecopy::Waiter) -> Result<T, LockError>) -> PyResult<T> {
        let mut waiter = self.waiter();
        let waiter = waiter.as_mut().ok_or_else(|| PyRuntimeError::new_err("the place was given back"))?;
        work(waiter).or_raise(py)
    }
}

#[pymethods]
impl ConditionPlace {
    fn _watch(&self, py: Python<'_>, mailbox: &Bound<'_, Mailbox>, token: u64) -> PyResult<Watch> {
        let source = self.with(py, |waiter| Ok(waiter.awaited()))?;
        mailbox.get().watch(py, source, token)
    }

    /// Waits no longer; whether there was a notification.
    fn withdraw(&self, py: Python<'_>) -> PyResult<bool> {
        self.with(py, onecopy::Waiter::withdraw)
    }

    /// Takes the lock again if it can be had now; whether it was.
    #[expect(clippy::needless_pass_by_value, reason = "arguments from Python arrive by value")]
    fn retake(&self, py: Python<'_>, lock: EitherLock<'_>) -> PyResult<bool> {
        self.with(py, |waiter| waiter.retake(lock.get()))
    }

    /// Gives the place back; a notification that was not `used` is passed on.
    fn leave(&self, used: bool) {
        if let Some(waiter) = self.waiter().take()
            && used
        {
            waiter.go_on();
        }
    }
}
