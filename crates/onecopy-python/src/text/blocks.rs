//! Texts that are larger than memory: an iterator over arrays.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use numpy::PyArrayDescr;
use onecopy::text::{Raw, Schema, Source};
use onecopy::{
    BlockSize, DType, InOrder, LoadError, Meanwhile, Part, TextBlocks as Blocks, Unfinished, check_work_memory,
    schema_of,
};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::converters::{Converters, Filler};
use super::job::Ticker;
use super::{Dialect, LongInput, THREAD_BUFFERS, threads_or_all, to_python};
use crate::array::array_over;
use crate::dtype;
use crate::errors::OrRaise;

/// Adds this file's names to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<TextBlocks>()
}

/// The records, and if asked for them the lines before each.
type Parts<'py> = (Bound<'py, PyAny>, Option<Bound<'py, PyAny>>);

/// Bytes of a block of which nobody has said how many rows it is to have: few enough for several of them to stay in the
/// cache, and for a page of the arena to be used again soon.
const BLOCK_BYTES: u64 = 1 << 20;

/// The records of a text as shared arrays of `rows` rows, the last of which may have fewer.
#[pyclass(module = "onecopy._native", frozen)]
pub(crate) struct TextBlocks {
    blocks: Blocks,
    /// The next block, if it was taken too early.
    put_back: Mutex<Option<Part>>,
    dtype: Py<PyArrayDescr>,
    is_rows: bool,
    item_size: u64,
    calls: Calls,
    /// What one of them raised, to be told behind the whole blocks before it.
    failure: Mutex<Option<PyErr>>,
    /// How many bytes of the source `tick` knows of.
    reported: AtomicU64,
}

/// What is called of Python while blocks are read, always by the thread that wants the next one.
struct Calls {
    file: String,
    converters: Option<Converters>,
    supply: Option<Py<PyAny>>,
    tick: Option<Py<PyAny>>,
}

#[pymethods]
impl TextBlocks {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "named in the one place that calls it")]
    fn new(
        py: Python<'_>,
        input: LongInput,
        dtype: Bound<'_, PyArrayDescr>,
        dialect: Dialect,
        threads: usize,
        rows: Option<u64>,
        converters: Option<Converters>,
        tick: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let encoded = dtype::encode(&dtype)?;
        let schema = schema_of(&DType::decode(&encoded).or_raise(py)?).or_raise(py)?;
        let (is_rows, item_size) = match &schema {
            Schema::Rows { scalar, .. } => (true, scalar.size() as u64),
            Schema::Records(_) => (false, 0),
        };
        let mut options = dialect.options(threads)?;
        options.raw = converters.as_ref().map_or(Raw::Nothing, Converters::raw);
        check_work_memory(threads_or_all(threads) + 2, THREAD_BUFFERS).or_raise(py)?;
        let arena = onecopy::session().or_raise(py)?;
        let size = rows.map_or(BlockSize::Bytes(BLOCK_BYTES), BlockSize::Records);
        let (file, supply, blocks) = match input {
            LongInput::Path(path) => {
                let source = Source::path(path);
                (source.name().to_owned(), None, Blocks::start(arena, source, schema, options, size))
            }
            LongInput::Supplied(name, supply) => {
                let blocks = Blocks::start_supplied(arena, &name, schema, options, size);
                (name, Some(supply), blocks)
            }
        };
        let calls = Calls { file, converters, supply, tick };
        let (blocks, dtype) = (blocks.or_raise(py)?, dtype.unbind());
        let (failure, put_back, reported) = (Mutex::default(), Mutex::default(), AtomicU64::new(0));
        Ok(Self { blocks, put_back, dtype, is_rows, item_size, calls, failure, reported })
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Parts<'py>>> {
        let Some(part) = self.take(py)? else { return Ok(None) };
        let mut shape = vec![part.records];
        if self.is_rows {
            shape.push(part.record_size as u64 / self.item_size.max(1));
        }
        let lines =
            part.lines.map(|lines| array_over(py, lines, numpy::dtype::<i64>(py), &shape[..1], false)).transpose()?;
        let array = array_over(py, part.block, self.dtype.bind(py).clone(), &shape, false)?;
        Ok(Some((array, lines)))
    }

    /// The names that the header gives to the columns; known with the first block.
    #[getter]
    fn names(&self) -> Option<Vec<String>> {
        self.blocks.names()
    }

    /// Whether all of the text has been read, so that only blocks are left to take, if any.
    #[getter]
    pub(crate) fn is_read(&self) -> bool {
        self.blocks.is_read()
    }

    /// Bytes of the text, decompressed; known when the last block has been taken.
    #[getter]
    fn text_bytes(&self) -> Option<u64> {
        self.blocks.text_bytes()
    }
}

impl TextBlocks {
    /// Has this block be the next one, as it was before it was taken.
    pub(crate) fn put_back(&self, part: Part) {
        *self.put_back.lock().unwrap_or_else(PoisonError::into_inner) = Some(part);
    }

    /// The next block; none after the last.
    pub(crate) fn take(&self, py: Python<'_>) -> PyResult<Option<Part>> {
        if let Some(part) = self.put_back.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Ok(Some(part));
        }
        // Before there is a block that would be lost with what it raises.
        let mut ticker = self.ticker();
        ticker.run(py)?;
        let mut helper = Helper { calls: &self.calls, failure: &self.failure, ticker, interruption: None };
        let taken = py.detach(|| self.blocks.take(&mut helper));
        match (taken, helper.interruption) {
            (Ok(None), _) => self.ticker().run(py).map(|()| None),
            (Ok(part), _) => Ok(part),
            (Err(LoadError::Interrupted), Some(interruption)) => Err(interruption),
            (Err(error), _) => {
                let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
                Err(failure.unwrap_or_else(|| to_python(py, &error)))
            }
        }
    }

    fn ticker(&self) -> Ticker<'_> {
        Ticker::new(self.blocks.progress(), self.calls.tick.as_ref(), &self.reported)
    }
}

/// Calls into Python while a block is waited for.
struct Helper<'a> {
    calls: &'a Calls,
    failure: &'a Mutex<Option<PyErr>>,
    ticker: Ticker<'a>,
    interruption: Option<PyErr>,
}

impl Helper<'_> {
    /// Notes what was raised; the text ends there.
    fn fail(&self, error: PyErr) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

// Nothing is called when the interpreter has ended meanwhile, under a daemon thread.
impl Meanwhile for Helper<'_> {
    fn stop(&mut self) -> bool {
        if self.interruption.is_none() {
            self.interruption = Python::try_attach(|py| self.ticker.run_if_due(py).err()).flatten();
        }
        self.interruption.is_some()
    }

    fn finish(&mut self, batch: &mut Unfinished, elements: &InOrder) -> Result<(), usize> {
        let Some(converters) = &self.calls.converters else { return Err(0) };
        let filled = Python::try_attach(|py| Filler::new(py, converters, &self.calls.file, elements).fill(batch));
        filled.unwrap_or(Ok(())).map_err(|failed| {
            self.fail(failed.error);
            failed.records
        })
    }

    fn supply(&mut self) -> Option<Vec<u8>> {
        let supply = self.calls.supply.as_ref()?;
        Python::try_attach(|py| match next_piece(supply.bind(py)) {
            Ok(piece) => Some(piece),
            Err(error) if error.is_instance_of::<PyException>(py) => {
                self.fail(error);
                None
            }
            // Ctrl-C does not wait for the blocks before it.
            Err(error) => {
                self.interruption = Some(error);
                None
            }
        })?
    }
}

fn next_piece(supply: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let piece = supply.call0()?;
    Ok(piece.cast::<PyBytes>()?.as_bytes().to_vec())
}
