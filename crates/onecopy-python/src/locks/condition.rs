//! `Condition`.

use onecopy::ConditionLock;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::lock::{Lock, RLock};
use super::{OrRaiseLockError, handle_of, limit, make, wait};

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Condition>()
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
