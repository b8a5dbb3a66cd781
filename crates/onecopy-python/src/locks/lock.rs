//! `Lock` and `RLock`.

#![expect(clippy::doc_markdown, reason = "the docstrings are Python's")]

use onecopy::{LockError, Patience};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::waiting::{Mailbox, Watch, in_task};

use super::{Asked, OrRaiseLockError, Taken, acquire, enter, handle_of, limit, make, python_side, wait};

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Lock>()?;
    m.add_class::<RLock>()
}

/// A class with the methods that both locks have.
macro_rules! lock_class {
    ($(#[$documentation:meta])* $class:ident { $($method:item)* }) => {
        $(#[$documentation])*
        #[pyclass(frozen, subclass, weakref, module = "onecopy")]
        pub(super) struct $class {
            pub(super) inner: onecopy::$class,
        }

        impl Taken for onecopy::$class {
            #[inline]
            fn try_take(&self) -> Result<Option<bool>, LockError> {
                self.try_acquire()
            }
            fn take(&self, patience: &Patience<'_>) -> Result<bool, LockError> {
                self.acquire(patience)
            }
            fn recover(&self, patience: &Patience<'_>) -> Result<bool, LockError> {
                self.recover(patience)
            }
        }

        #[pymethods]
        impl $class {
            $($method)*

            #[new]
            #[pyo3(signature = (*, handle=None))]
            fn new(py: Python<'_>, handle: Option<&[u8]>) -> PyResult<Self> {
                make(py, handle, || Ok(onecopy::$class::new(onecopy::session()?)?)).map(|inner| Self { inner })
            }

            /// Take the lock.
            ///
            /// Parameters
            /// ----------
            /// block : bool, optional
            ///     Whether to wait for a holder; `threading` calls it `blocking`.
            /// timeout : float, optional
            ///     Seconds to wait at most; for ever by default. A negative number is zero, as in `multiprocessing`.
            /// on_owner_died : {'raise', 'take'}, optional
            ///     What to do when a holder has died: raise `OwnerDiedError`, once in every process, or take the lock
            ///     and with it what the lock protects as it is. See `recover`.
            ///
            /// Returns
            /// -------
            /// bool
            ///     Whether the lock is held now.
            ///
            /// Raises
            /// ------
            /// OwnerDiedError
            ///     A holder died. The lock is not held by the caller.
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

            /// Release the lock.
            ///
            /// Raises
            /// ------
            /// ValueError
            ///     Nobody holds the lock (`Lock`).
            /// AssertionError
            ///     Another thread holds it, or nobody (`RLock`).
            fn release(&self, py: Python<'_>) -> PyResult<()> {
                self.inner.release().or_raise(py)
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
                self.inner.release().or_raise(py)
            }

            /// Take the lock as `acquire` does, in a task of an event loop, without a thread.
            ///
            /// ``async with`` does the same. The lock is not held when the task is cancelled.
            ///
            /// Parameters
            /// ----------
            /// timeout : float, optional
            ///     Seconds to wait at most; for ever by default.
            /// on_owner_died : {'raise', 'take'}, optional
            ///     As for `acquire`.
            ///
            /// Returns
            /// -------
            /// bool
            ///     Whether the lock is held now.
            #[pyo3(
                signature = (timeout=None, *, on_owner_died="raise"),
                text_signature = "($self, timeout=None, *, on_owner_died='raise')"
            )]
            fn aacquire<'py>(
                slf: &Bound<'py, Self>,
                timeout: Option<f64>,
                on_owner_died: &str,
            ) -> PyResult<Bound<'py, PyAny>> {
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
                mailbox.get().watch(py, self.inner.awaited(), token)
            }

            /// Tell whether anybody holds the lock.
            ///
            /// Returns
            /// -------
            /// bool
            fn locked(&self) -> bool {
                self.inner.is_held()
            }

            /// Hold the lock for a `with` statement, also after a holder has died.
            ///
            /// If the statement ends with an exception, what the lock protects counts as damaged again, and the next
            /// takers are told.
            ///
            /// Parameters
            /// ----------
            /// timeout : float, optional
            ///     Seconds to wait at most; for ever by default.
            ///
            /// Returns
            /// -------
            /// context manager
            ///     Its value is a bool: whether a holder has died, so that what the lock protects needs repair.
            ///
            /// Raises
            /// ------
            /// TimeoutError
            ///     The lock could not be had in time.
            #[pyo3(signature = (timeout=None))]
            fn recover<'py>(slf: &Bound<'py, Self>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
                python_side(slf.py(), "_Recovery", (slf, timeout))
            }

            fn _recover(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<bool>> {
                wait(py, limit(timeout)?, |patience| self.inner.recover(patience))
            }

            fn _give_up(&self) {
                self.inner.give_up();
            }

            fn _owner(&self) -> Option<u32> {
                self.inner.owner_pid()
            }

            fn _send<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
                handle_of(py, &self.inner)
            }

            fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
                python_side(slf.py(), "_describe_lock", (slf,))
            }

            fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
                python_side(slf.py(), "_reduce", (slf,))
            }
        }
    };
}

lock_class! {
    /// A lock between processes and threads.
    ///
    /// It is not re-entrant, and any thread of any process may release it. When its holder dies, however it dies, the
    /// lock is taken from the dead within milliseconds: who takes it next is told by `OwnerDiedError`.
    ///
    /// Examples
    /// --------
    /// >>> import onecopy as oc
    /// >>> lock = oc.Lock()
    /// >>> with lock:
    /// ...     lock.acquire(block=False)
    /// False
    /// >>> lock.acquire(timeout=1.5)
    /// True
    /// >>> lock.release()
    /// >>> with lock.recover() as somebody_died:
    /// ...     somebody_died
    /// False
    Lock {}
}

lock_class! {
    /// A lock that the thread that holds it may take again, and that only this thread releases.
    ///
    /// It is free when it has been released as often as it was taken. A forked child does not hold what its parent
    /// held. The methods are those of `Lock`.
    ///
    /// Examples
    /// --------
    /// >>> import onecopy as oc
    /// >>> lock = oc.RLock()
    /// >>> with lock, lock:
    /// ...     lock
    /// <RLock(MainProcess, 2)>
    RLock {
        fn _depth(&self) -> u32 {
            self.inner.depth()
        }
    }
}
