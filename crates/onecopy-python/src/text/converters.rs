//! Converters of `loadtxt` and `iter_text`: functions of Python that make the elements of some columns, while the others are parsed on
//! all cores.

use onecopy::text::{Column, FieldError, FieldProblem, Raw, RawTarget, ReadError};
use onecopy::{InOrder, LoadError, Unfinished};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict, PyString};

use super::{ColumnName, to_python};

/// Which columns have converters, and all that they need.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Converters {
    /// Columns, one for each function; `None` if there is one function for all columns.
    pub(crate) columns: Option<Vec<ColumnName>>,
    functions: Vec<Py<PyAny>>,
    /// The dtype of each element of a record, or the only one of all of them.
    elements: Vec<Py<PyAny>>,
    latin1: bool,
    /// Whether functions get bytes, as they did before numpy 1.14.
    as_bytes: bool,
}

impl Converters {
    /// Which fields the reader is to leave to them.
    pub(crate) fn raw(&self) -> Raw {
        match self.columns.clone() {
            None => Raw::All,
            Some(columns) => Raw::Columns(columns.into_iter().map(Column::from).collect()),
        }
    }
}

/// Why a batch could not be finished.
pub(crate) struct Failed {
    /// Records of it that were finished.
    pub(crate) records: usize,
    pub(crate) error: PyErr,
}

/// The converters of one load, bound to its records.
pub(crate) struct Filler<'a, 'py> {
    py: Python<'py>,
    converters: &'a Converters,
    file: &'a str,
    targets: Vec<RawTarget>,
    record_size: usize,
}

impl<'a, 'py> Filler<'a, 'py> {
    pub(crate) fn new(py: Python<'py>, converters: &'a Converters, file: &'a str, batches: &InOrder) -> Self {
        let (targets, record_size) = batches.targets();
        Self { py, converters, file, targets, record_size }
    }

    /// Makes the raw elements of a batch.
    pub(crate) fn fill(&self, batch: &mut Unfinished) -> Result<(), Failed> {
        let memory = PyByteArray::new(self.py, &batch.records);
        let filled = self.fill_memory(batch, &memory);
        batch.records = memory.to_vec();
        filled
    }

    fn fill_memory(&self, batch: &Unfinished, memory: &Bound<'py, PyByteArray>) -> Result<(), Failed> {
        let places = self.targets.iter().map(|target| self.place(target, memory)).collect::<PyResult<Vec<_>>>();
        let places = places.map_err(|error| Failed { records: 0, error })?;
        let mut start = 0;
        for (i, field) in batch.raw.iter().enumerate() {
            let (row, which) = (i / self.targets.len(), i % self.targets.len());
            let text = &batch.raw_text[start..field.end];
            start = field.end;
            let target = &self.targets[which];
            let made = match self.decode(text) {
                Some(text) => {
                    self.convert(target, text).and_then(|value| places[which].set_item(row, value)).map_err(Some)
                }
                None => Err(None),
            };
            if let Err(cause) = made {
                let record = batch.first_record + row as u64;
                let problem = cause.as_ref().map_or(FieldProblem::InvalidUtf8, |cause| self.problem(cause));
                let error = FieldError::of_raw(self.file, record, target, field, text, problem);
                let error = to_python(self.py, &LoadError::Read(ReadError::Field(Box::new(error))));
                if cause.is_some() {
                    error.set_cause(self.py, cause);
                }
                return Err(Failed { records: row, error });
            }
        }
        Ok(())
    }

    /// The elements of one target as an array over the records.
    fn place(&self, target: &RawTarget, records: &Bound<'py, PyByteArray>) -> PyResult<Bound<'py, PyAny>> {
        let elements = &self.converters.elements;
        let dtype = &elements[if elements.len() == 1 { 0 } else { target.element }];
        let options = PyDict::new(self.py);
        options.set_item("dtype", dtype)?;
        options.set_item("buffer", records)?;
        options.set_item("offset", target.offset)?;
        options.set_item("strides", (self.record_size,))?;
        let count = records.len() / self.record_size.max(1);
        self.py.import(intern!(self.py, "numpy"))?.getattr("ndarray")?.call(((count,),), Some(&options))
    }

    /// The text of a field; none if it is not encoded as it should be.
    fn decode(&self, text: &[u8]) -> Option<Bound<'py, PyString>> {
        if self.converters.latin1 {
            let characters: String = text.iter().map(|&byte| char::from(byte)).collect();
            return Some(PyString::new(self.py, &characters));
        }
        str::from_utf8(text).ok().map(|text| PyString::new(self.py, text))
    }

    fn convert(&self, target: &RawTarget, text: Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        let text = if self.converters.as_bytes { text.call_method1("encode", ("latin-1",))? } else { text.into_any() };
        self.converters.functions[target.entry].bind(self.py).call1((text,))
    }

    /// The exception in one line.
    fn problem(&self, error: &PyErr) -> FieldProblem {
        let kind = error.get_type(self.py).name().map_or_else(|_| "an exception".into(), |name| name.to_string());
        let message = error.value(self.py).to_string();
        let reason = match message.lines().next() {
            Some(line) if !line.is_empty() => format!("{kind}: {line}"),
            _ => kind,
        };
        FieldProblem::Converter { reason }
    }
}
