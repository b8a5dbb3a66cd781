//! `Event`.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::waiting::{Mailbox, Watch, in_task};

use super::{handle_of, limit, make, python_side, wait};

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Event>()
}

/// A flag that processes and threads wait for.
///
/// Examples
/// --------
/// >>> import onecopy as oc
/// >>> event = oc.Event()
/// >>> event.wait(timeout=0.01)
/// False
/// >>> event.set()
/// >>> event.wait(), event.is_set()
/// (True, True)
#[pyclass(frozen, subclass, weakref, module = "onecopy")]
struct Event {
    inner: onecopy::Event,
}

#[pymethods]
impl Event {
    #[new]
    #[pyo3(signature = (*, handle=None))]
    fn new(py: Python<'_>, handle: Option<&[u8]>) -> PyResult<Self> {
        make(py, handle, || Ok(onecopy::Event::new(onecopy::session()?)?)).map(|inner| Self { inner })
    }

    fn _send<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        handle_of(py, &self.inner)
    }

    /// Tell whether the event is set.
    ///
    /// Returns
    /// -------
    /// bool
    fn is_set(&self) -> bool {
        self.inner.is_set()
    }

    /// Set the event and wake all that wait for it.
    fn set(&self) {
        self.inner.set();
    }

    /// Unset the event.
    fn clear(&self) {
        self.inner.clear();
    }

    /// Wait until the event is set, if only for a moment.
    ///
    /// Parameters
    /// ----------
    /// timeout : float, optional
    ///     Seconds to wait at most; for ever by default.
    ///
    /// Returns
    /// -------
    /// bool
    ///     Whether it was set in time.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        Ok(self.inner.is_set() || wait(py, limit(timeout)?, |patience| self.inner.wait(patience))?.is_some())
    }

    /// Wait as `wait` does, in a task of an event loop, without a thread.
    ///
    /// The name is that of `wait` with the ``a`` of such methods, and a stroke as ``await`` is a keyword.
    ///
    /// Parameters
    /// ----------
    /// timeout : float, optional
    ///     Seconds to wait at most; for ever by default.
    ///
    /// Returns
    /// -------
    /// bool
    ///     Whether it was set in time.
    #[pyo3(signature = (timeout=None))]
    fn await_<'py>(slf: &Bound<'py, Self>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        in_task(slf.py(), "event", (slf, timeout))
    }

    fn _watch(&self, py: Python<'_>, mailbox: &Bound<'_, Mailbox>, token: u64) -> PyResult<Watch> {
        mailbox.get().watch(py, self.inner.awaited(), token)
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        python_side(slf.py(), "_describe_event", (slf,))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        python_side(slf.py(), "_reduce", (slf,))
    }
}
