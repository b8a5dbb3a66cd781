//! `Dict`.

#![expect(clippy::doc_markdown, reason = "the docstrings are Python's")]

use onecopy::{Container, DictIter, Record};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use super::key::with_key;
use super::{
    acquire, decode, decode_bytes, decode_picked, handle_of, make, name_of, patiently, reduce, release, with_value,
};
use crate::errors::OrRaise;

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Dict>()?;
    m.add_class::<DictIterator>()
}

/// The dictionary; what need not be fast is in Python.
#[pyclass(frozen, subclass, weakref, mapping, module = "onecopy._native")]
struct Dict {
    inner: onecopy::Dict,
}

#[pymethods]
impl Dict {
    #[new]
    #[pyo3(signature = (*args, **_kwargs))]
    fn new(args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        make(args, || onecopy::Dict::new(onecopy::session()?)).map(|inner| Self { inner })
    }

    fn __getitem__<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.look_up(py, key)?.ok_or_else(|| missing(key))
    }

    fn __setitem__(&self, py: Python<'_>, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        with_key(key, |key| {
            with_value(py, self.inner.home(), value, |value| patiently(py, &self.inner, || self.inner.set(key, value)))
        })
    }

    fn __delitem__(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<()> {
        let deleted = with_key(key, |key| patiently(py, &self.inner, || self.inner.delete(key)))?;
        if deleted { Ok(()) } else { Err(missing(key)) }
    }

    fn __contains__(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        with_key(key, |key| self.inner.contains_key(key).or_raise(py))
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.inner.len().or_raise(py)
    }

    fn __iter__(slf: &Bound<'_, Self>) -> PyResult<DictIterator> {
        DictIterator::new(slf, Part::Key)
    }

    /// Return the value of a key.
    ///
    /// Parameters
    /// ----------
    /// key : object
    ///     The key.
    /// default : object, optional
    ///     What to return where there is no such key.
    ///
    /// Returns
    /// -------
    /// object
    #[pyo3(signature = (key, default=None, /))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.look_up(py, key)?.or(default).unwrap_or_else(|| py.None().into_bound(py)))
    }

    /// Return the value of a key; give it one, in the same step, if it has none.
    ///
    /// Parameters
    /// ----------
    /// key : object
    ///     The key.
    /// default : object, optional
    ///     Its value if it has none so far.
    ///
    /// Returns
    /// -------
    /// object
    ///     The value that the key has now.
    #[pyo3(signature = (key, default=None, /))]
    fn setdefault<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some(value) = self.look_up(py, key)? {
            return Ok(value);
        }
        let default = default.unwrap_or_else(|| py.None().into_bound(py));
        let show = |record: Record<'_>, blocks: &[onecopy::Block]| decode(py, record, blocks);
        let there = with_key(key, |key| {
            with_value(py, self.inner.home(), &default, |value| {
                patiently(py, &self.inner, || self.inner.set_default(key, value, show))
            })
        })?;
        there.unwrap_or(Ok(default))
    }

    /// Take a key away and return its value.
    ///
    /// Parameters
    /// ----------
    /// key : object
    ///     The key.
    /// default : object, optional
    ///     What to return where there is no such key.
    ///
    /// Returns
    /// -------
    /// object
    ///
    /// Raises
    /// ------
    /// KeyError
    ///     There is no such key, and no default.
    #[pyo3(signature = (key, *default))]
    fn pop<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        default: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if default.len() > 1 {
            let message = format!("pop expected at most 2 arguments, got {}", 1 + default.len());
            return Err(pyo3::exceptions::PyTypeError::new_err(message));
        }
        let picked = with_key(key, |key| patiently(py, &self.inner, || self.inner.pop(key)))?;
        match picked {
            Some(picked) => decode_picked(py, &picked),
            None => default.get_item(0).map_err(|_| missing(key)),
        }
    }

    /// Take the key away that was put in last.
    ///
    /// Returns
    /// -------
    /// tuple
    ///     The key and its value.
    ///
    /// Raises
    /// ------
    /// KeyError
    ///     There is no key.
    fn popitem<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let picked = patiently(py, &self.inner, || self.inner.try_pop_last())?;
        let picked = picked.ok_or_else(|| PyKeyError::new_err("popitem(): dictionary is empty"))?;
        pair(py, picked.record().or_raise(py)?, picked.blocks())
    }

    /// Take all keys away.
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        patiently(py, &self.inner, || self.inner.try_clear())
    }

    fn _snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let all = PyDict::new(py);
        for picked in self.inner.snapshot().or_raise(py)? {
            let record = picked.record().or_raise(py)?;
            all.set_item(decode_key(py, record)?, decode(py, record, picked.blocks())?)?;
        }
        Ok(all)
    }

    fn _values(slf: &Bound<'_, Self>) -> PyResult<DictIterator> {
        DictIterator::new(slf, Part::Value)
    }

    fn _items(slf: &Bound<'_, Self>) -> PyResult<DictIterator> {
        DictIterator::new(slf, Part::Item)
    }

    #[pyo3(signature = (timeout, policy))]
    fn _acquire(&self, py: Python<'_>, timeout: Option<f64>, policy: &str) -> PyResult<Option<bool>> {
        acquire(py, &self.inner, timeout, policy)
    }

    fn _release(&self, py: Python<'_>) -> PyResult<()> {
        release(py, &self.inner)
    }

    fn _give_up(&self) {
        self.inner.give_up();
    }

    fn _is_locked(&self) -> bool {
        self.inner.is_locked()
    }

    /// A number that no other container of the arena has as long as this one lives.
    fn _name(&self) -> u64 {
        name_of(&self.inner)
    }

    fn _send<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        handle_of(py, &self.inner)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        reduce(slf)
    }
}

impl Dict {
    #[inline]
    fn look_up<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        with_key(key, |key| self.inner.read(key, |record, blocks| decode(py, record, blocks)).or_raise(py)?.transpose())
    }
}

fn missing(key: &Bound<'_, PyAny>) -> PyErr {
    PyKeyError::new_err((key.clone().unbind(),))
}

fn decode_key<'py>(py: Python<'py>, record: Record<'_>) -> PyResult<Bound<'py, PyAny>> {
    let (kind, bytes) = onecopy::Dict::key_of(record).or_raise(py)?;
    decode_bytes(py, kind, &bytes)
}

fn pair<'py>(py: Python<'py>, record: Record<'_>, blocks: &[onecopy::Block]) -> PyResult<Bound<'py, PyTuple>> {
    PyTuple::new(py, [decode_key(py, record)?, decode(py, record, blocks)?])
}

#[derive(Clone, Copy)]
enum Part {
    Key,
    Value,
    Item,
}

/// A walk through a dictionary.
#[pyclass(module = "onecopy._native")]
struct DictIterator {
    dict: Py<Dict>,
    iter: DictIter,
    part: Part,
}

impl DictIterator {
    fn new(dict: &Bound<'_, Dict>, part: Part) -> PyResult<Self> {
        let iter = dict.get().inner.walk().or_raise(dict.py())?;
        Ok(Self { dict: dict.clone().unbind(), iter, part })
    }
}

#[pymethods]
impl DictIterator {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let dict = &self.dict.get().inner;
        let next = match self.part {
            Part::Key => self.iter.next_key(|record| decode_key(py, record)),
            Part::Value => self.iter.next(dict, |record, blocks| decode(py, record, blocks)),
            Part::Item => self.iter.next(dict, |record, blocks| pair(py, record, blocks).map(Bound::into_any)),
        };
        next.or_raise(py)?.transpose()
    }
}
