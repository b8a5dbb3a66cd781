//! `Counter`.

#![expect(clippy::doc_markdown, reason = "the docstrings are Python's")]

use onecopy::{CounterOverflow, SharedObject};
use pyo3::exceptions::{PyAttributeError, PyOverflowError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::OrRaise;
use crate::locks::{handle_of, python_side};

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Counter>()
}

/// An integer that processes and threads count with together, without a lock.
///
/// Each method is one atomic operation on 64 bits of shared memory: nobody comes in between, and a process that is
/// killed has done all of it or nothing. What is read and then written by two calls is not atomic; use
/// `compare_exchange` for that.
///
/// A sum that does not fit is an `OverflowError` and changes nothing. Only while another process sets the counter to
/// within 2**31 of a limit, and an addition is under way that saw the value before, can others see a value that has
/// wrapped around, for the nanoseconds until it is taken back; that addition is an `OverflowError` too.
///
/// Parameters
/// ----------
/// initial : int, optional
///     Value at first, from -2**63 to 2**63 - 1, as all values.
///
/// Attributes
/// ----------
/// value : int
///     The value at this moment, to be read only: ``counter.value += 1`` would lose what others add in between.
///
/// Examples
/// --------
/// >>> import onecopy as oc
/// >>> counter = oc.Counter()
/// >>> counter.add(), counter.add(10), counter.sub(1)
/// (1, 11, 10)
/// >>> counter.fetch_max(99), counter.value
/// (10, 99)
/// >>> counter.compare_exchange(99, 0), counter
/// (True, <Counter(0)>)
#[pyclass(frozen, subclass, weakref, module = "onecopy")]
struct Counter {
    inner: onecopy::Counter,
}

fn overflow(error: CounterOverflow) -> PyErr {
    PyOverflowError::new_err(error.to_string())
}

#[pymethods]
impl Counter {
    #[new]
    #[pyo3(signature = (initial=0, *, handle=None))]
    fn new(py: Python<'_>, initial: i64, handle: Option<&[u8]>) -> PyResult<Self> {
        let inner = match handle {
            Some(handle) => onecopy::Counter::receive(handle),
            None => onecopy::session().and_then(|arena| onecopy::Counter::new(arena, initial)),
        };
        Ok(Self { inner: inner.or_raise(py)? })
    }

    /// Add to the counter.
    ///
    /// Parameters
    /// ----------
    /// n : int, optional
    ///     What to add; may be negative.
    ///
    /// Returns
    /// -------
    /// int
    ///     The sum: the value right after this addition. No two callers that count up get the same one.
    ///
    /// Raises
    /// ------
    /// OverflowError
    ///     The sum is beyond 64 bits. The counter stays as it was.
    #[pyo3(signature = (n=1))]
    fn add(&self, n: i64) -> PyResult<i64> {
        self.inner.add(n).map_err(overflow)
    }

    /// Subtract from the counter; as `add`.
    #[pyo3(signature = (n=1))]
    fn sub(&self, n: i64) -> PyResult<i64> {
        self.inner.sub(n).map_err(overflow)
    }

    /// Return the value at this moment.
    ///
    /// Returns
    /// -------
    /// int
    fn get(&self) -> i64 {
        self.inner.get()
    }

    /// Store a value.
    ///
    /// Parameters
    /// ----------
    /// value : int
    ///     The value.
    fn set(&self, value: i64) {
        self.inner.set(value);
    }

    /// Store a value, and return the one before.
    ///
    /// Parameters
    /// ----------
    /// value : int
    ///     The new value.
    ///
    /// Returns
    /// -------
    /// int
    ///     The value before.
    fn exchange(&self, value: i64) -> i64 {
        self.inner.exchange(value)
    }

    /// Store a value if the counter has the value that the caller expects.
    ///
    /// Parameters
    /// ----------
    /// expected : int
    ///     What the value has to be.
    /// new : int
    ///     The new value.
    ///
    /// Returns
    /// -------
    /// bool
    ///     Whether it was stored.
    fn compare_exchange(&self, expected: i64, new: i64) -> bool {
        self.inner.compare_exchange(expected, new).is_ok()
    }

    /// Store the larger of the value and another; return the value before.
    fn fetch_max(&self, value: i64) -> i64 {
        self.inner.fetch_max(value)
    }

    /// Store the smaller of the value and another; return the value before.
    fn fetch_min(&self, value: i64) -> i64 {
        self.inner.fetch_min(value)
    }

    /// Store the value's bits that are set in another too (``&``); return the value before.
    fn fetch_and(&self, value: i64) -> i64 {
        self.inner.fetch_and(value)
    }

    /// Store the value's bits together with those of another (``|``); return the value before.
    fn fetch_or(&self, value: i64) -> i64 {
        self.inner.fetch_or(value)
    }

    /// Store the value with the bits of another changed (``^``); return the value before.
    fn fetch_xor(&self, value: i64) -> i64 {
        self.inner.fetch_xor(value)
    }

    #[getter]
    fn value(&self) -> i64 {
        self.inner.get()
    }

    #[setter]
    #[expect(clippy::unused_self, reason = "a property, which is there to say what to use instead")]
    fn set_value(&self, _value: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(PyAttributeError::new_err(
            "the value of a Counter is to be read only, as others may count meanwhile: use add(n), or set(value)",
        ))
    }

    fn __int__(&self) -> i64 {
        self.inner.get()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        Ok(format!("<{}({})>", slf.get_type().name()?, slf.get().inner.get()))
    }

    fn _send<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        handle_of(py, &self.inner)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        python_side(slf.py(), "_reduce", (slf,))
    }
}
