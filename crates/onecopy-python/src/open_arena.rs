//! Arenas that a program opens besides its session's: by name, by path, or without either.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use onecopy::{Arena, ArrayHandle, Block, Error, Options, names, rendezvous};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::array::{arena_of, described};
use crate::errors::{OrRaise, to_python};
use crate::named::{Value, value};
use crate::session::figures_now;

/// Adds this file's names to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<OpenArena>()
}

/// An arena, until it is closed.
#[pyclass(frozen, module = "onecopy._native")]
pub(crate) struct OpenArena {
    arena: &'static Arena,
    name: Option<String>,
    closed: AtomicBool,
}

impl OpenArena {
    /// The arena, if it is open.
    pub(crate) fn get(&self) -> PyResult<&'static Arena> {
        if self.closed.load(Relaxed) {
            return Err(PyValueError::new_err("the arena has been closed; open it again with onecopy.arena()"));
        }
        Ok(self.arena)
    }

    /// Does `work` with the arena while other threads of Python run.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&'static Arena) -> Result<T, Error> + Send,
    ) -> PyResult<T> {
        let arena = self.get()?;
        py.detach(|| work(arena)).or_raise(py)
    }

    fn close_once(&self) -> Result<(), Error> {
        if self.closed.swap(true, Relaxed) {
            return Ok(());
        }
        match &self.name {
            Some(name) => rendezvous::close(name, self.arena),
            None => Ok(self.arena.close()?),
        }
    }
}

impl Drop for OpenArena {
    fn drop(&mut self) {
        // A destructor has nobody to tell; the end of the process closes it in any case.
        let _ = self.close_once();
    }
}

#[pymethods]
impl OpenArena {
    /// By name, by path, by hint, or a new one; with huge pages where allowed, always or never.
    #[new]
    #[pyo3(signature = (name, path, hint, limit, create, huge_pages))]
    #[expect(clippy::needless_pass_by_value, reason = "arguments from Python arrive by value")]
    fn new(
        py: Python<'_>,
        name: Option<String>,
        path: Option<PathBuf>,
        hint: Option<&str>,
        limit: Option<u64>,
        create: Option<bool>,
        huge_pages: Option<bool>,
    ) -> PyResult<Self> {
        let options = Options { limit, warm: None };
        let open = || -> Result<&'static Arena, Error> {
            Ok(match (&name, &path, hint) {
                (Some(name), _, _) => rendezvous::open(name, options, create)?,
                (_, Some(path), _) => Arena::open_path(path, options, create)?,
                (_, _, Some(hint)) => Arena::open_hint(hint.parse()?)?,
                _ => Arena::open_new(options)?,
            })
        };
        let arena = py.detach(open).map_err(|error| to_python(py, &error))?;
        // From here on it is closed again if anything fails.
        let opened = Self { arena, name, closed: AtomicBool::new(false) };
        match huge_pages {
            None => arena.advise_huge_pages(),
            Some(true) => opened.with(py, |arena| Ok(arena.insist_on_huge_pages()?))?,
            Some(false) => {}
        }
        Ok(opened)
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.close_once()).or_raise(py)
    }

    #[getter]
    fn closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    #[getter]
    fn id(&self) -> String {
        self.arena.id().to_string()
    }

    #[getter]
    fn path(&self) -> Option<PathBuf> {
        self.arena.path()
    }

    #[getter]
    fn hint(&self) -> PyResult<String> {
        Ok(self.get()?.hint().to_string())
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        figures_now(py, self.get()?)
    }

    fn set_limit(&self, py: Python<'_>, limit: u64, warm: Option<u64>) -> PyResult<()> {
        self.with(py, |arena| Ok(arena.set_limit(limit, warm)?))
    }

    fn verify(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |arena| Ok(arena.verify()?))
    }

    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |arena| Ok(arena.flush()?))
    }

    /// Whether an array lies in this arena.
    fn holds(&self, array: &Bound<'_, PyAny>) -> bool {
        arena_of(array).is_some_and(|arena| std::ptr::eq(arena, self.arena))
    }

    fn names(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.with(py, names::names)
    }

    #[expect(clippy::needless_pass_by_value, reason = "arguments from Python arrive by value")]
    fn publish(
        &self,
        py: Python<'_>,
        name: &str,
        payload: Option<Vec<u8>>,
        arrays: Vec<Bound<'_, PyAny>>,
        replace: bool,
    ) -> PyResult<()> {
        let arrays = arrays.iter().map(described).collect::<PyResult<Vec<(Block, ArrayHandle)>>>()?;
        self.with(py, |arena| names::publish(arena, name, payload.as_deref(), &arrays, replace))
    }

    fn attach<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Value<'py>> {
        let find = |arena| match names::attach(arena, name)? {
            Some(published) => Ok(published),
            None => Err(unknown(arena, name)?),
        };
        value(py, &self.with(py, find)?)
    }

    fn unpublish(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        let remove = |arena| if names::unpublish(arena, name)? { Ok(()) } else { Err(unknown(arena, name)?) };
        self.with(py, remove)
    }
}

fn unknown(arena: &'static Arena, name: &str) -> Result<Error, Error> {
    Ok(Error::NameUnknown { name: name.into(), known: names::names(arena)? })
}
