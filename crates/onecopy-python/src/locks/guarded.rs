//! `Guarded`: an object that is used while a lock is held; the fast parts of `Value` and `Array`.

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::lock::RLock;
use super::{OrRaiseLockError, enter};

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Guarded>()?;
    m.add_class::<GuardedArray>()?;
    m.add_class::<GuardedField>()
}

/// An object and its lock.
#[pyclass(frozen, subclass, module = "onecopy._native")]
struct Guarded {
    object: Py<PyAny>,
    lock: Py<PyAny>,
}

impl Guarded {
    /// Does something with the object while the lock is held.
    #[inline]
    fn with<'py, T>(&self, py: Python<'py>, work: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<T>) -> PyResult<T> {
        let (object, lock) = (self.object.bind(py), self.lock.bind(py));
        if let Ok(lock) = lock.cast_exact::<RLock>() {
            let lock = &lock.get().inner;
            enter(py, lock)?;
            let done = work(object);
            lock.release().or_raise(py)?;
            return done;
        }
        lock.call_method0(pyo3::intern!(py, "acquire"))?;
        let done = work(object);
        lock.call_method0(pyo3::intern!(py, "release"))?;
        done
    }
}

#[pymethods]
impl Guarded {
    #[new]
    fn new(object: Py<PyAny>, lock: Py<PyAny>) -> Self {
        Self { object, lock }
    }
}

/// An array and its lock.
#[pyclass(frozen, subclass, extends = Guarded, module = "onecopy._native")]
struct GuardedArray;

#[pymethods]
impl GuardedArray {
    #[new]
    fn new(object: Py<PyAny>, lock: Py<PyAny>) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Guarded { object, lock }).add_subclass(Self)
    }

    fn __getitem__<'py>(slf: &Bound<'py, Self>, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        slf.as_super().get().with(slf.py(), |array| array.get_item(index))
    }

    fn __setitem__<'py>(slf: &Bound<'py, Self>, index: &Bound<'py, PyAny>, value: &Bound<'py, PyAny>) -> PyResult<()> {
        slf.as_super().get().with(slf.py(), |array| array.set_item(index, value))
    }
}

/// An attribute of the object, read and written while the lock is held.
#[pyclass(frozen, module = "onecopy._native")]
struct GuardedField {
    name: Py<PyString>,
}

#[pymethods]
impl GuardedField {
    #[new]
    fn new(name: Py<PyString>) -> Self {
        Self { name }
    }

    fn __get__<'py>(
        slf: &Bound<'py, Self>,
        instance: &Bound<'py, PyAny>,
        _owner: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if instance.is_none() {
            return Ok(slf.clone().into_any());
        }
        let name = slf.get().name.bind(slf.py());
        instance.cast::<Guarded>()?.get().with(slf.py(), |object| object.getattr(name))
    }

    fn __set__<'py>(slf: &Bound<'py, Self>, instance: &Bound<'py, PyAny>, value: &Bound<'py, PyAny>) -> PyResult<()> {
        let name = slf.get().name.bind(slf.py());
        instance.cast::<Guarded>()?.get().with(slf.py(), |object| object.setattr(name, value))
    }
}
