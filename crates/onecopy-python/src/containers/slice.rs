//! Slices, whose parts are Python objects, as numbers: once, before a list is locked.

use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PySlice;

/// Start, stop and step of a slice, as far as they are given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    start: Option<i64>,
    stop: Option<i64>,
    step: i64,
}

impl Bounds {
    pub(super) fn of(slice: &Bound<'_, PySlice>) -> PyResult<Self> {
        let part = |name| number(&slice.getattr(name)?);
        let (start, stop, step) = (part("start")?, part("stop")?, part("step")?.unwrap_or(1));
        if step == 0 {
            return Err(PyValueError::new_err("slice step cannot be zero"));
        }
        Ok(Self { start, stop, step })
    }

    /// Whether it is a range without gaps, which may be replaced by one of another length.
    pub(super) fn is_contiguous(self) -> bool {
        self.step == 1
    }

    fn clamp(self, bound: Option<i64>, default: i64, len: i64) -> i64 {
        let (least, most) = if self.step > 0 { (0, len) } else { (-1, len - 1) };
        let bound = bound.unwrap_or(default);
        if bound < 0 { bound.saturating_add(len).max(least) } else { bound.min(most) }
    }

    /// Start and stop of a range without gaps in a list of `len` items.
    pub(super) fn range(self, len: usize) -> std::ops::Range<usize> {
        let len = len as i64;
        let start = self.clamp(self.start, 0, len);
        start as usize..self.clamp(self.stop, len, len).max(start) as usize
    }

    /// The positions that it names in a list of `len` items.
    pub(super) fn positions(self, len: usize) -> Vec<usize> {
        let len = len as i64;
        let (mut at, stop) = if self.step > 0 {
            (self.clamp(self.start, 0, len), self.clamp(self.stop, len, len))
        } else {
            // A stop that is not given is before the first, which no number says.
            (self.clamp(self.start, len - 1, len), self.stop.map_or(-1, |stop| self.clamp(Some(stop), -1, len)))
        };
        let mut positions = Vec::new();
        while if self.step > 0 { at < stop } else { at > stop } {
            positions.push(at as usize);
            at = at.saturating_add(self.step);
        }
        positions
    }
}

/// An index, or none; one that is too large for any list is as large as can be.
fn number(object: &Bound<'_, PyAny>) -> PyResult<Option<i64>> {
    if object.is_none() {
        return Ok(None);
    }
    match object.extract::<i64>() {
        Err(error) if error.is_instance_of::<PyOverflowError>(object.py()) => {
            Ok(Some(if object.lt(0)? { i64::MIN } else { i64::MAX }))
        }
        Err(_) => Err(pyo3::exceptions::PyTypeError::new_err(
            "slice indices must be integers or None or have an __index__ method",
        )),
        number => number.map(Some),
    }
}
