//! Locks: waits with the GIL released, Ctrl-C answered, and the exceptions of the standard library.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use onecopy::{LockError, Patience, SharedObject, Waited};
use pyo3::exceptions::{PyAssertionError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::{OrRaise, raise, to_python};

mod barrier;
mod condition;
mod event;
mod guarded;
mod lock;
mod rwlock;
mod semaphore;

/// Adds the names of the files beside this one to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    lock::register(m)?;
    rwlock::register(m)?;
    semaphore::register(m)?;
    condition::register(m)?;
    event::register(m)?;
    guarded::register(m)?;
    barrier::register(m)
}

/// Sleeps that end by themselves between two looks whether Python has a signal to handle, each of which takes the GIL.
/// A signal that interrupts the sleep is looked for at once; this is for one that came just before.
const SLEEPS_PER_LOOK: u32 = 25;

/// Waits with the GIL released; none when the time was up.
pub(crate) fn wait<T: Send>(
    py: Python<'_>,
    limit: Option<Duration>,
    work: impl FnOnce(&Patience<'_>) -> Result<T, LockError> + Send,
) -> PyResult<Option<T>> {
    let (done, exception) = py.detach(move || {
        let (exception, sleeps) = (RefCell::new(None), Cell::new(0));
        let interrupted = |waited| {
            sleeps.set(sleeps.get() + 1);
            let look = waited == Waited::Interrupted || sleeps.get() % SLEEPS_PER_LOOK == 0;
            // Not at all when the interpreter has ended meanwhile, under a daemon thread.
            let raised = look.then(|| Python::try_attach(|py| py.check_signals().err()).flatten()).flatten();
            if raised.is_some() {
                *exception.borrow_mut() = raised;
                return true;
            }
            false
        };
        let patience = limit.map_or(Patience::FOREVER, Patience::within);
        let done = work(&patience.unless(&interrupted));
        (done, exception.into_inner())
    });
    match (done, exception) {
        (_, Some(exception)) => Err(exception),
        (Err(LockError::TimedOut), None) => Ok(None),
        (done, None) => done.map(Some).map_err(|error| lock_error(py, &error)),
    }
}

/// How long the caller of a method waits: for ever by default, and not at all where the time is negative.
pub(crate) fn limit(timeout: Option<f64>) -> PyResult<Option<Duration>> {
    let Some(seconds) = timeout else { return Ok(None) };
    if seconds.is_nan() {
        return Err(PyValueError::new_err("timeout=nan: expected a number of seconds, or None to wait for ever"));
    }
    // A time that is too long to be told is for ever.
    Ok(Duration::try_from_secs_f64(seconds.max(0.0)).ok())
}

/// The exception that the standard library raises for the same mistake, or that of onecopy.
fn lock_error(py: Python<'_>, error: &LockError) -> PyErr {
    match error {
        LockError::OwnerDied => raise(py, "OwnerDiedError", error),
        LockError::ReleasedTooOften | LockError::Value(_) | LockError::NoParties => {
            PyValueError::new_err(error.to_string())
        }
        LockError::NotOwned => PyAssertionError::new_err(error.to_string()),
        LockError::BrokenBarrier => raise(py, "BrokenBarrierError", error),
        LockError::TooManyWaiters(_) => raise(py, "OutOfMemoryError", error),
        LockError::Shared(error) => to_python(py, error),
        _ => raise(py, "OnecopyError", error),
    }
}

/// `result.map_err(lock_error)`.
pub(crate) trait OrRaiseLockError<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaiseLockError<T> for Result<T, LockError> {
    #[inline]
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| lock_error(py, &error))
    }
}

/// Handle of a shared object, for one receiver.
pub(crate) fn handle_of<'py>(py: Python<'py>, object: &impl SharedObject) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(py, &OrRaise::or_raise(object.send(), py)?))
}

/// Calls a function of the Python module that goes with these classes.
pub(crate) fn python_side<'py>(
    py: Python<'py>,
    function: &str,
    arguments: impl pyo3::call::PyCallArgs<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    py.import("onecopy._locks")?.getattr(function)?.call1(arguments)
}

/// A new object, or the one that a handle names.
fn make<T: SharedObject>(
    py: Python<'_>,
    handle: Option<&[u8]>,
    new: impl FnOnce() -> Result<T, LockError>,
) -> PyResult<T> {
    handle.map_or_else(new, |handle| Ok(T::receive(handle)?)).or_raise(py)
}

/// The arguments of `acquire` as `multiprocessing` and `threading` name them.
struct Asked<'a, 'py> {
    block: Option<&'a Bound<'py, PyAny>>,
    timeout: Option<f64>,
    blocking: Option<&'a Bound<'py, PyAny>>,
    on_owner_died: Option<&'a str>,
}

impl Asked<'_, '_> {
    fn limit(&self) -> PyResult<Option<Duration>> {
        let blocks = match self.block.or(self.blocking) {
            Some(block) => block.is_truthy()?,
            None => true,
        };
        if blocks { limit(self.timeout) } else { Ok(Some(Duration::ZERO)) }
    }

    fn takes_from_the_dead(&self) -> PyResult<bool> {
        match self.on_owner_died {
            None | Some("raise") => Ok(false),
            Some("take") => Ok(true),
            Some(other) => {
                Err(PyValueError::new_err(format!("on_owner_died={other:?}: expected \"raise\" or \"take\"")))
            }
        }
    }
}

/// What can be taken and may come from a dead holder.
trait Taken: Sync {
    fn try_take(&self) -> Result<Option<bool>, LockError>;
    fn take(&self, patience: &Patience<'_>) -> Result<bool, LockError>;
    fn recover(&self, patience: &Patience<'_>) -> Result<bool, LockError>;
}

/// Takes a lock; whether it was to be had in time.
#[inline]
fn acquire(py: Python<'_>, lock: &impl Taken, asked: &Asked<'_, '_>) -> PyResult<bool> {
    // A free lock is taken without giving up the GIL.
    if asked.on_owner_died.is_none() && lock.try_take().or_raise(py)?.is_some() {
        return Ok(true);
    }
    acquire_slowly(py, lock, asked)
}

#[cold]
fn acquire_slowly(py: Python<'_>, lock: &impl Taken, asked: &Asked<'_, '_>) -> PyResult<bool> {
    let limit = asked.limit()?;
    let taken = if asked.takes_from_the_dead()? {
        wait(py, limit, |patience| lock.recover(patience))
    } else {
        wait(py, limit, |patience| lock.take(patience))
    };
    Ok(taken?.is_some())
}

/// Takes a lock as `with` does.
#[inline]
fn enter(py: Python<'_>, lock: &impl Taken) -> PyResult<bool> {
    acquire(py, lock, &Asked { block: None, timeout: None, blocking: None, on_owner_died: None })
}
