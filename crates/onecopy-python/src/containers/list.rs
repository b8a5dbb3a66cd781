//! `List`.

#![expect(clippy::doc_markdown, reason = "the docstrings are Python's")]

use onecopy::{Container, Encoded, Error, Origin};
use pyo3::exceptions::{PyIndexError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PySlice, PyTuple};

use super::slice::Bounds;
use super::{
    acquire, decode, decode_picked, encode_all, handle_of, make, name_of, patiently, reduce, release, with_value,
};
use crate::errors::OrRaise;

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<List>()
}

/// The list; what need not be fast is in Python.
#[pyclass(frozen, subclass, weakref, sequence, module = "onecopy._native")]
struct List {
    inner: onecopy::List,
}

#[pymethods]
impl List {
    #[new]
    #[pyo3(signature = (*args, **_kwargs))]
    fn new(args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        make(args, || onecopy::List::new(onecopy::session()?)).map(|inner| Self { inner })
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.inner.len().or_raise(py)
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if let Ok(slice) = index.cast::<PySlice>() {
            let bounds = Bounds::of(slice)?;
            return Ok(self.listed(py, |len| bounds.positions(len))?.into_any());
        }
        let shown = self.inner.read(index_of(index)?, |record, blocks| decode(py, record, blocks)).or_raise(py)?;
        shown.unwrap_or_else(|| Err(out_of_range("list index")))
    }

    fn __setitem__(&self, py: Python<'_>, index: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Ok(slice) = index.cast::<PySlice>() {
            return self.replace(py, Bounds::of(slice)?, value);
        }
        let index = index_of(index)?;
        let set = with_value(py, self.inner.home(), value, |value| {
            patiently(py, &self.inner, || self.inner.set(index, value))
        })?;
        if set { Ok(()) } else { Err(out_of_range("list assignment index")) }
    }

    fn __delitem__(&self, py: Python<'_>, index: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Ok(slice) = index.cast::<PySlice>() {
            let bounds = Bounds::of(slice)?;
            let order = |len: usize| {
                let mut kept = vec![true; len];
                bounds.positions(len).into_iter().for_each(|position| kept[position] = false);
                Ok((0..len).filter(|&position| kept[position]).map(Origin::Old).collect())
            };
            return self.arrange(py, &[], order);
        }
        let index = index_of(index)?;
        let popped = patiently(py, &self.inner, || self.inner.pop(index))?;
        popped.map(drop).ok_or_else(|| out_of_range("list assignment index"))
    }

    /// Put an object behind the last.
    ///
    /// Parameters
    /// ----------
    /// value : object
    ///     The object.
    #[pyo3(signature = (value, /))]
    fn append(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        with_value(py, self.inner.home(), value, |value| {
            patiently(py, &self.inner, || self.inner.extend(std::slice::from_ref(value)))
        })
    }

    /// Put objects behind the last, all of them in one step.
    ///
    /// Parameters
    /// ----------
    /// values : iterable
    ///     The objects.
    #[pyo3(signature = (values, /))]
    fn extend(&self, py: Python<'_>, values: &Bound<'_, PyAny>) -> PyResult<()> {
        let values = encode_all(py, self.inner.home(), values)?;
        patiently(py, &self.inner, || self.inner.extend(&values))
    }

    /// Put an object before the one at an index.
    ///
    /// Parameters
    /// ----------
    /// index : int
    ///     The index; beyond either end it is that end.
    /// value : object
    ///     The object.
    #[pyo3(signature = (index, value, /))]
    fn insert(&self, py: Python<'_>, index: i64, value: &Bound<'_, PyAny>) -> PyResult<()> {
        with_value(py, self.inner.home(), value, |value| {
            patiently(py, &self.inner, || self.inner.try_insert(index, value))
        })
    }

    /// Take an object out and return it.
    ///
    /// Parameters
    /// ----------
    /// index : int, optional
    ///     Its index; the last by default.
    ///
    /// Returns
    /// -------
    /// object
    ///
    /// Raises
    /// ------
    /// IndexError
    ///     There is no such index.
    #[pyo3(signature = (index=-1, /), text_signature = "($self, index=-1, /)")]
    fn pop<'py>(&self, py: Python<'py>, index: i64) -> PyResult<Bound<'py, PyAny>> {
        match patiently(py, &self.inner, || self.inner.pop(index))? {
            Some(picked) => decode_picked(py, &picked),
            None if self.inner.is_empty().or_raise(py)? => Err(PyIndexError::new_err("pop from empty list")),
            None => Err(out_of_range("pop index")),
        }
    }

    /// Take all objects out.
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        patiently(py, &self.inner, || self.inner.try_clear())
    }

    /// Reverse the list, in one step.
    fn reverse(&self, py: Python<'_>) -> PyResult<()> {
        self.arrange(py, &[], |len| Ok((0..len).rev().map(Origin::Old).collect()))
    }

    fn _snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.listed(py, |len| (0..len).collect())
    }

    /// Puts the objects into the order of these positions.
    #[expect(clippy::needless_pass_by_value, reason = "arguments from Python arrive by value")]
    fn _permute(&self, py: Python<'_>, order: Vec<usize>) -> PyResult<()> {
        self.arrange(py, &[], |len| {
            let mut named = vec![false; len];
            let fits = order.iter().all(|&old| named.get_mut(old).is_some_and(|named| !std::mem::replace(named, true)));
            if fits && order.len() == len {
                return Ok(order.iter().copied().map(Origin::Old).collect());
            }
            Err(PyValueError::new_err("the list changed while it was put into another order"))
        })
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

impl List {
    fn listed<'py>(
        &self,
        py: Python<'py>,
        positions: impl FnOnce(usize) -> Vec<usize>,
    ) -> PyResult<Bound<'py, PyList>> {
        let picked = self.inner.snapshot(positions).or_raise(py)?;
        let list = PyList::empty(py);
        picked.iter().try_for_each(|picked| list.append(decode_picked(py, picked)?))?;
        Ok(list)
    }

    fn replace(&self, py: Python<'_>, bounds: Bounds, values: &Bound<'_, PyAny>) -> PyResult<()> {
        let values = encode_all(py, self.inner.home(), values)?;
        self.arrange(py, &values, |len| {
            let new = (0..values.len()).map(Origin::New);
            if bounds.is_contiguous() {
                let range = bounds.range(len);
                let old = |range: std::ops::Range<usize>| range.map(Origin::Old);
                return Ok(old(0..range.start).chain(new).chain(old(range.end..len)).collect());
            }
            let positions = bounds.positions(len);
            if positions.len() != values.len() {
                let (n, room) = (values.len(), positions.len());
                let message = format!("attempt to assign sequence of size {n} to extended slice of size {room}");
                return Err(PyValueError::new_err(message));
            }
            let mut order: Vec<_> = (0..len).map(Origin::Old).collect();
            positions.into_iter().zip(new).for_each(|(position, source)| order[position] = source);
            Ok(order)
        })
    }

    fn arrange(
        &self,
        py: Python<'_>,
        values: &[Encoded<'_>],
        order: impl Fn(usize) -> PyResult<Vec<Origin>>,
    ) -> PyResult<()> {
        let mut refused = None;
        let arranged = patiently(py, &self.inner, || {
            self.inner.arrange(|len| order(len).map_err(Refused::Order), values).or_else(|refusal| match refusal {
                Refused::Order(error) => {
                    refused = Some(error);
                    Ok(())
                }
                Refused::Container(error) => Err(error),
            })
        });
        refused.map_or(arranged, Err)
    }
}

/// Why a list was not put into another order.
enum Refused {
    Order(PyErr),
    Container(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Container(error)
    }
}

fn out_of_range(what: &str) -> PyErr {
    PyIndexError::new_err(format!("{what} out of range"))
}

#[inline]
fn index_of(index: &Bound<'_, PyAny>) -> PyResult<i64> {
    index.extract::<i64>().map_err(|error| {
        let py = index.py();
        if error.is_instance_of::<pyo3::exceptions::PyOverflowError>(py) {
            return PyIndexError::new_err("cannot fit 'int' into an index-sized integer");
        }
        match index.get_type().name() {
            Ok(name) => PyTypeError::new_err(format!("list indices must be integers or slices, not {name}")),
            Err(error) => error,
        }
    })
}
