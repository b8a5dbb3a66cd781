//! What event loops and selectors wait with: mailboxes, watches, and descriptors of single objects.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use onecopy::Waitable;
use pyo3::prelude::*;

use crate::errors::OrRaise;

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Mailbox>()?;
    m.add_class::<Watch>()
}

/// Where tokens arrive of what may be ready.
#[pyclass(frozen, module = "onecopy._native")]
pub(crate) struct Mailbox {
    inner: Arc<onecopy::Mailbox>,
}

#[pymethods]
impl Mailbox {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        Ok(Self { inner: onecopy::Mailbox::new().or_raise(py)? })
    }

    /// A descriptor that is readable while there are tokens.
    fn fileno(&self) -> i32 {
        self.inner.number()
    }

    /// Take the tokens out.
    fn collect(&self) -> Vec<u64> {
        self.inner.collect()
    }
}

impl Mailbox {
    /// Has a token delivered when a source may be ready.
    pub(crate) fn watch(&self, py: Python<'_>, source: impl Waitable, token: u64) -> PyResult<Watch> {
        self.inner.watch(source, token).or_raise(py).map(|watch| Watch { inner: Mutex::new(Some(watch)) })
    }
}

/// Something that is waited for, until it may be ready.
#[pyclass(frozen, module = "onecopy._native")]
pub(crate) struct Watch {
    inner: Mutex<Option<onecopy::Watch>>,
}

#[pymethods]
impl Watch {
    /// Wait for it no longer.
    fn cancel(&self) {
        drop(unpoisoned(&self.inner).take());
    }
}

/// Calls a function of the Python module that waits in tasks; answers its coroutine.
pub(crate) fn in_task<'py>(
    py: Python<'py>,
    function: &str,
    arguments: impl pyo3::call::PyCallArgs<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    py.import("onecopy._tasks")?.getattr(function)?.call1(arguments)
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The descriptor of an object, once somebody has asked for it: readable while there is something to take, as far as this
/// process knows.
#[derive(Default)]
pub(crate) struct Readiness {
    asked: AtomicBool,
    told: Mutex<Option<Told>>,
}

struct Told {
    pid: u32,
    mailbox: Arc<onecopy::Mailbox>,
    watch: Option<onecopy::Watch>,
}

impl Readiness {
    /// The descriptor.
    pub(crate) fn number<S: Waitable>(
        &self,
        py: Python<'_>,
        is_ready: impl FnOnce() -> bool,
        source: impl FnOnce() -> Result<S, onecopy::Error>,
    ) -> PyResult<i32> {
        let mut told = unpoisoned(&self.told);
        // A child has a descriptor of its own: what it reads from its parent's would be missing there.
        let own = match told.take().filter(Told::is_own) {
            Some(own) => own,
            None => Told { pid: std::process::id(), mailbox: onecopy::Mailbox::new().or_raise(py)?, watch: None },
        };
        let told = told.insert(own);
        self.asked.store(true, Relaxed);
        told.update(is_ready, source);
        Ok(told.mailbox.number())
    }

    /// Makes the descriptor say what is true, after something was taken or was found not to be there.
    #[inline]
    pub(crate) fn update<S: Waitable>(
        &self,
        is_ready: impl FnOnce() -> bool,
        source: impl FnOnce() -> Result<S, onecopy::Error>,
    ) {
        if self.asked.load(Relaxed)
            && let Some(told) = unpoisoned(&self.told).as_mut().filter(|told| told.is_own())
        {
            told.update(is_ready, source);
        }
    }

    /// Closes the descriptor.
    pub(crate) fn close(&self) {
        drop(unpoisoned(&self.told).take());
    }
}

impl Told {
    fn is_own(&self) -> bool {
        self.pid == std::process::id()
    }

    fn update<S: Waitable>(
        &mut self,
        is_ready: impl FnOnce() -> bool,
        source: impl FnOnce() -> Result<S, onecopy::Error>,
    ) {
        let tokens = self.mailbox.collect();
        if is_ready() {
            self.watch = None;
            self.mailbox.deliver(0);
        } else if self.watch.is_none() || !tokens.is_empty() {
            match source().and_then(|source| self.mailbox.watch(source, 0)) {
                Ok(watch) => self.watch = Some(watch),
                // Whoever is told for nothing tries, and is told why; what was taken must not be lost over it.
                Err(_) => self.mailbox.deliver(0),
            }
        }
    }
}
