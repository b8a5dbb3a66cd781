//! Text files into shared arrays: options in, an array out, with the GIL released and Ctrl-C answered.

mod blocks;
mod converters;
mod job;
mod many;

use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use numpy::PyArrayDescr;
use onecopy::text::{Column, Encoding, FieldId, Missing, Options, Progress, Raw, ReadError, Sample, Schema, Source};
use onecopy::{DType, LoadError, LoadedText, check_work_memory, schema_of};
use pyo3::exceptions::{
    PyFileNotFoundError, PyIsADirectoryError, PyKeyboardInterrupt, PyOSError, PyPermissionError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::array::array_over;
use crate::dtype;
use crate::errors::{OrRaise, arena_error, raise, raise_with};
pub(crate) use blocks::TextBlocks;
use converters::Converters;
use job::{Job, watch};

/// Below this a load is over before anybody could interrupt it, and a thread would cost more than it.
const LEAST_FOR_THREAD: u64 = 1 << 20;

/// Text, positions and records that a thread has before it.
pub(crate) const THREAD_BUFFERS: u64 = 4 << 20;

/// Adds this file's names to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    blocks::register(m)?;
    m.add_function(wrap_pyfunction!(load, m)?)?;
    m.add_function(wrap_pyfunction!(many::load_many, m)?)?;
    m.add_function(wrap_pyfunction!(is_compressed, m)?)?;
    m.add_function(wrap_pyfunction!(infer, m)?)
}

/// A path, or the bytes of the text themselves and what they are called in messages.
#[derive(FromPyObject)]
pub(crate) enum Input<'py> {
    #[pyo3(transparent)]
    Path(PathBuf),
    Bytes(String, Bound<'py, PyBytes>),
}

/// The same for a text that is read block by block: where there are no bytes, there is a function that gives the next
/// ones.
#[derive(FromPyObject)]
pub(crate) enum LongInput {
    #[pyo3(transparent)]
    Path(PathBuf),
    Supplied(String, Py<PyAny>),
}

/// The same without Python in it, for threads.
#[derive(Clone, Copy)]
enum Text<'a> {
    Bytes(&'a str, &'a [u8]),
    Path(&'a Path),
}

impl Input<'_> {
    fn text(&self) -> Text<'_> {
        match self {
            Self::Bytes(name, bytes) => Text::Bytes(name, bytes.as_bytes()),
            Self::Path(path) => Text::Path(path),
        }
    }
}

impl<'a> Text<'a> {
    /// Bytes as stored, where that can be known before reading.
    fn stored(self) -> Option<u64> {
        match self {
            Self::Bytes(_, bytes) => Some(bytes.len() as u64),
            Self::Path(path) => path.metadata().ok().filter(std::fs::Metadata::is_file).map(|found| found.len()),
        }
    }

    fn source(self) -> Source<'a> {
        match self {
            Self::Bytes(name, bytes) => Source::memory(name, bytes),
            Self::Path(path) => Source::path(path),
        }
    }
}

/// The dialect, by the names of `numpy.loadtxt` where it has them.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent switches of the caller")]
pub(crate) struct Dialect {
    delimiter: Option<String>,
    comments: Vec<String>,
    quotechar: Option<String>,
    skiprows: u64,
    max_rows: Option<u64>,
    usecols: Option<Vec<ColumnName>>,
    header: bool,
    missing: Vec<(String, String, Option<String>)>,
    truncate: bool,
    lines: bool,
    latin1: bool,
}

#[derive(FromPyObject, Clone)]
pub(crate) enum ColumnName {
    Index(i64),
    Name(String),
}

impl From<ColumnName> for Column {
    fn from(name: ColumnName) -> Self {
        match name {
            ColumnName::Index(index) => Self::Index(index),
            ColumnName::Name(name) => Self::Name(name),
        }
    }
}

impl Dialect {
    pub(crate) fn options(self, threads: usize) -> PyResult<Options> {
        let quote = self.quotechar.map(|text| match text.as_bytes() {
            [byte] => Ok(*byte),
            _ => Err(PyValueError::new_err(format!("quotechar={text:?}: expected one ASCII character"))),
        });
        Ok(Options {
            delimiter: self.delimiter.map(String::into_bytes),
            comments: self.comments.into_iter().map(String::into_bytes).collect(),
            quote: quote.transpose()?,
            skip_rows: self.skiprows,
            max_rows: self.max_rows,
            use_columns: self.usecols.map(|columns| columns.into_iter().map(Column::from).collect()),
            header: self.header,
            missing: self.missing.into_iter().map(|(text, fill, field)| Missing { text, fill, field }).collect(),
            truncate: self.truncate,
            lines: self.lines,
            encoding: if self.latin1 { Encoding::Latin1 } else { Encoding::Utf8 },
            threads,
            ..Options::default()
        })
    }
}

/// Loads one text. Answers the array (records, or rows times columns), if asked for them the lines before each record,
/// the names in the header, the bytes of text, and with `max_rows` the first line that was passed over because it holds
/// nothing.
///
/// `tick`, if given, is called now and then with the bytes of the source read since its last call.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "arguments from Python arrive by value")]
fn load<'py>(
    py: Python<'py>,
    input: Input<'py>,
    dtype: Bound<'py, PyArrayDescr>,
    dialect: Dialect,
    threads: usize,
    tick: Option<Bound<'py, PyAny>>,
    converters: Option<Converters>,
) -> PyResult<LoadedArrays<'py>> {
    let schema = schema_from(&dtype)?;
    let mut options = dialect.options(threads)?;
    options.raw = converters.as_ref().map_or(Raw::Nothing, Converters::raw);
    check_work_memory(threads_or_all(threads) + 1, THREAD_BUFFERS).or_raise(py)?;
    let text = input.text();
    let progress = Progress::new();
    let job = Job { text, stored: text.stored(), schema: &schema, options: &options, progress: &progress };
    let tick = tick.map(Bound::unbind);
    let loaded = if let Some(converters) = converters {
        job.run_with_converters(py, &converters, tick.as_ref())?
    } else if tick.is_none() && job.stored.is_some_and(|size| size < LEAST_FOR_THREAD) {
        py.detach(|| job.run(None))
    } else {
        watch(py, &progress, tick.as_ref(), || job.run(None))?
    };
    let loaded = loaded.map_err(|error| to_python(py, &error))?;
    arrays(py, &schema, dtype, loaded)
}

/// The schema of records that become an array of this dtype.
fn schema_from(dtype: &Bound<'_, PyArrayDescr>) -> PyResult<Schema> {
    let encoded = dtype::encode(dtype)?;
    schema_of(&DType::decode(&encoded).or_raise(dtype.py())?).or_raise(dtype.py())
}

/// The result of a load as Python gets it.
fn arrays<'py>(
    py: Python<'py>,
    schema: &Schema,
    dtype: Bound<'py, PyArrayDescr>,
    loaded: LoadedText,
) -> PyResult<LoadedArrays<'py>> {
    let LoadedText { records, lines, summary } = loaded;
    let shape = match schema {
        Schema::Records(_) => vec![summary.records],
        Schema::Rows { .. } => vec![summary.records, summary.columns as u64],
    };
    let array = array_over(py, records, dtype, &shape, false)?;
    let lines = lines.map(|lines| array_over(py, lines, numpy::dtype::<i64>(py), &shape[..1], false)).transpose()?;
    Ok((array, lines, summary.names, summary.bytes_text, summary.blank_line))
}

/// Whether data that begins so is decompressed when it is loaded.
#[pyfunction]
fn is_compressed(head: &[u8]) -> bool {
    onecopy::text::is_compressed(head)
}

/// Threads that will parse: all cores for 0.
pub(crate) fn threads_or_all(threads: usize) -> usize {
    if threads == 0 { available_parallelism().map_or(1, usize::from) } else { threads }
}

/// What the first lines of a text look like: (name, type) of each chosen column, the names in the header, delimiter,
/// quote, and whether there is a header.
///
/// `guess_delimiter` and `guess_header` say which parts of the dialect are open; with the delimiter the quote is
/// guessed, too.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "arguments from Python arrive by value")]
fn infer(
    py: Python<'_>,
    input: Input<'_>,
    dialect: Dialect,
    guess_delimiter: bool,
    guess_header: bool,
    guess_types: bool,
) -> PyResult<Inferred> {
    let options = dialect.options(1)?;
    let look = || -> Result<Inferred, ReadError> {
        let sample = Sample::read(input.text().source())?;
        let header = options.header;
        let mut options = if guess_delimiter { sample.guess_dialect(&options) } else { options };
        options.header = if guess_header { sample.guess_header(&options) } else { header };
        let layout = if guess_types { sample.guess_layout(&options)? } else { sample.guess_columns(&options)? };
        let fields = layout.fields().iter().map(|field| (field.name.clone(), field.scalar.to_string())).collect();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let quote = options.quote.map(|byte| char::from(byte).to_string());
        Ok((fields, sample.names(&options)?, options.delimiter.map(text), quote, options.header))
    };
    look().map_err(|error| to_python(py, &error.into()))
}

/// Array, lines, names in the header, bytes of text, first line that was passed over.
type LoadedArrays<'py> = (Bound<'py, PyAny>, Option<Bound<'py, PyAny>>, Option<Vec<String>>, u64, Option<u64>);

type Inferred = (Vec<(String, String)>, Option<Vec<String>>, Option<String>, Option<String>, bool);

pub(crate) fn to_python(py: Python<'_>, error: &LoadError) -> PyErr {
    let error = match error {
        LoadError::Arena(error) => return arena_error(py, error),
        LoadError::Read(error) => error,
        other => return raise(py, "OnecopyError", other),
    };
    match error {
        ReadError::NotFound { file } => PyFileNotFoundError::new_err((2, "no such file; check the name", file.clone())),
        ReadError::IsDirectory { file } => {
            PyIsADirectoryError::new_err((21, "is a directory; name the files in it", file.clone()))
        }
        ReadError::PermissionDenied { file } => {
            PyPermissionError::new_err((13, "permission denied; make it readable for this user", file.clone()))
        }
        ReadError::Options { .. } | ReadError::NoSuchName { .. } => PyValueError::new_err(error.to_string()),
        ReadError::Io { .. } | ReadError::Changed { .. } | ReadError::Sink(_) => PyOSError::new_err(error.to_string()),
        ReadError::Cancelled => PyKeyboardInterrupt::new_err(()),
        _ => parse_error(py, error),
    }
}

/// The error with its place as attributes.
fn parse_error(py: Python<'_>, error: &ReadError) -> PyErr {
    let place = PyDict::new(py);
    let fill = || -> PyResult<()> {
        if let Some(at) = error.location() {
            place.set_item("filename", &at.file)?;
            place.set_item("line", at.line)?;
            place.set_item("column", at.column)?;
        }
        if let ReadError::Field(field) = error {
            place.set_item("field", name_of(&field.field))?;
            place.set_item("text", &field.text)?;
        }
        Ok(())
    };
    fill().map_or_else(|failure| failure, |()| raise_with(py, "ParseError", error, Some(&place)))
}

fn name_of(field: &FieldId) -> String {
    match field {
        FieldId::Name(name) => name.clone(),
        column @ FieldId::Column(_) => column.to_string(),
    }
}
