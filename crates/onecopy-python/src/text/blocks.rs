//! Texts that are larger than memory: an iterator over arrays.

use std::io::Cursor;

use numpy::PyArrayDescr;
use onecopy::text::{Schema, Source};
use onecopy::{DType, LoadError, TextBlocks as Blocks, check_work_memory, schema_of};
use pyo3::prelude::*;

use super::{Dialect, Input, THREAD_BUFFERS, threads_or_all, to_python};
use crate::array::array_over;
use crate::dtype;
use crate::errors::OrRaise;

/// Adds this file's names to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<TextBlocks>()
}

/// The records, and if asked for them the lines before each.
type Parts<'py> = (Bound<'py, PyAny>, Option<Bound<'py, PyAny>>);

/// The records of a text as shared arrays of `rows` rows, the last of which may have fewer.
#[pyclass(module = "onecopy._native", frozen)]
struct TextBlocks {
    blocks: Blocks,
    dtype: Py<PyArrayDescr>,
    is_rows: bool,
    item_size: u64,
}

#[pymethods]
impl TextBlocks {
    #[new]
    fn new(
        py: Python<'_>,
        input: Input<'_>,
        dtype: Bound<'_, PyArrayDescr>,
        dialect: Dialect,
        threads: usize,
        rows: u64,
    ) -> PyResult<Self> {
        let encoded = dtype::encode(&dtype)?;
        let schema = schema_of(&DType::decode(&encoded).or_raise(py)?).or_raise(py)?;
        let (is_rows, item_size) = match &schema {
            Schema::Rows { scalar, .. } => (true, scalar.size() as u64),
            Schema::Records(_) => (false, 0),
        };
        let options = dialect.options(threads)?;
        check_work_memory(threads_or_all(threads) + 2, THREAD_BUFFERS).or_raise(py)?;
        let source = match input {
            Input::Bytes(name, bytes) => Source::stream(name, Cursor::new(bytes.as_bytes().to_vec())),
            Input::Path(path) => Source::path(path),
        };
        let blocks = Blocks::start(onecopy::session().or_raise(py)?, source, schema, options, rows).or_raise(py)?;
        Ok(Self { blocks, dtype: dtype.unbind(), is_rows, item_size })
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Parts<'py>>> {
        let mut interruption = None;
        let taken = py.detach(|| {
            self.blocks.take(&mut || {
                // Not at all when the interpreter has ended meanwhile, under a daemon thread.
                interruption = Python::try_attach(|py| py.check_signals().err()).flatten();
                interruption.is_some()
            })
        });
        match (taken, interruption) {
            (Err(LoadError::Interrupted), Some(interruption)) => Err(interruption),
            (taken, _) => match taken.map_err(|error| to_python(py, &error))? {
                None => Ok(None),
                Some(part) => {
                    let mut shape = vec![part.records];
                    if self.is_rows {
                        shape.push(part.record_size as u64 / self.item_size.max(1));
                    }
                    let lines = part
                        .lines
                        .map(|lines| array_over(py, lines, numpy::dtype::<i64>(py), &shape[..1], false))
                        .transpose()?;
                    let array = array_over(py, part.block, self.dtype.bind(py).clone(), &shape, false)?;
                    Ok(Some((array, lines)))
                }
            },
        }
    }

    /// Bytes of the source that have been read, before decompression.
    #[getter]
    fn bytes_read(&self) -> u64 {
        self.blocks.progress().bytes_read()
    }
}
