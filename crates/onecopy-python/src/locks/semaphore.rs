//! `Semaphore` and `BoundedSemaphore`.

#![expect(clippy::doc_markdown, reason = "the docstrings are Python's")]

use onecopy::{LockError, Patience};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::waiting::{Mailbox, Watch, in_task};

use super::{Asked, OrRaiseLockError, Taken, acquire, enter, handle_of, make, python_side};

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Semaphore>()
}

/// A number of permits, shared by processes and threads.
///
/// The permits of a process that ends come back, unless the semaphore is used to signal: from the first release by a
/// process that holds no permit, permits belong to nobody.
///
/// Parameters
/// ----------
/// value : int, optional
///     Permits at first, from 0 to 2147483647.
///
/// Examples
/// --------
/// >>> import onecopy as oc
/// >>> semaphore = oc.Semaphore(2)
/// >>> with semaphore:
/// ...     semaphore.get_value()
/// 1
#[pyclass(frozen, subclass, weakref, module = "onecopy")]
struct Semaphore {
    inner: onecopy::Semaphore,
    bounded: bool,
}

impl Taken for onecopy::Semaphore {
    fn try_take(&self) -> Result<Option<bool>, LockError> {
        Ok(self.try_acquire()?.then_some(false))
    }
    fn take(&self, patience: &Patience<'_>) -> Result<bool, LockError> {
        self.acquire(patience).map(|()| false)
    }
    fn recover(&self, patience: &Patience<'_>) -> Result<bool, LockError> {
        self.take(patience)
    }
}

impl Semaphore {
    fn give_back(&self, py: Python<'_>, count: u32) -> PyResult<()> {
        let release = if self.bounded { onecopy::Semaphore::release_bounded } else { onecopy::Semaphore::release };
        release(&self.inner, count).or_raise(py)
    }
}

#[pymethods]
impl Semaphore {
    #[new]
    #[pyo3(signature = (value=1, *, bounded=false, handle=None))]
    fn new(py: Python<'_>, value: i64, bounded: bool, handle: Option<&[u8]>) -> PyResult<Self> {
        let inner = make(py, handle, || onecopy::Semaphore::new(onecopy::session()?, value))?;
        Ok(Self { inner, bounded })
    }

    fn _send<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        handle_of(py, &self.inner)
    }

    /// Take a permit.
    ///
    /// Parameters
    /// ----------
    /// block : bool, optional
    ///     Whether to wait while there is none; `threading` calls it `blocking`.
    /// timeout : float, optional
    ///     Seconds to wait at most; for ever by default. A negative number is zero, as in `multiprocessing`.
    ///
    /// Returns
    /// -------
    /// bool
    ///     Whether there was one in time.
    #[pyo3(
        signature = (block=None, timeout=None, *, blocking=None),
        text_signature = "($self, block=True, timeout=None, *, blocking=True)"
    )]
    fn acquire(
        &self,
        py: Python<'_>,
        block: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
        blocking: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        acquire(py, &self.inner, &Asked { block, timeout, blocking, on_owner_died: None })
    }

    /// Give permits back, or make as many more.
    ///
    /// Parameters
    /// ----------
    /// n : int, optional
    ///     How many.
    ///
    /// Raises
    /// ------
    /// ValueError
    ///     There would be more permits than a semaphore can have, or than a `BoundedSemaphore` had at first; or `n` is
    ///     less than 1.
    #[pyo3(signature = (n=1))]
    fn release(&self, py: Python<'_>, n: i64) -> PyResult<()> {
        let count = u32::try_from(n).ok().filter(|&count| count > 0);
        let count = count.ok_or_else(|| PyValueError::new_err(format!("n={n}: expected a number from 1")))?;
        self.give_back(py, count)
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
        self.give_back(py, 1)
    }

    /// Take a permit as `acquire` does, in a task of an event loop, without a thread. See `Lock.aacquire`.
    #[pyo3(signature = (timeout=None))]
    fn aacquire<'py>(slf: &Bound<'py, Self>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        in_task(slf.py(), "acquire", (slf, timeout))
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
        mailbox.get().watch(py, self.inner.awaited().or_raise(py)?, token)
    }

    /// Return how many permits there are to be had.
    ///
    /// Returns
    /// -------
    /// int
    fn get_value(&self) -> u32 {
        self.inner.value()
    }

    /// Tell whether there is no permit to be had.
    ///
    /// Returns
    /// -------
    /// bool
    fn locked(&self) -> bool {
        self.inner.value() == 0
    }

    fn _initial(&self) -> u32 {
        self.inner.initial()
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        python_side(slf.py(), "_describe_semaphore", (slf,))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        python_side(slf.py(), "_reduce", (slf,))
    }
}
