//! Many texts at once: large ones one after the other, each on all cores, and small ones side by side.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, scope};

use numpy::PyArrayDescr;
use onecopy::text::{Options, Progress, Schema};
use onecopy::{LongTimeSlices, check_work_memory};
use pyo3::prelude::*;

use super::job::{Job, Loaded, watch};
use super::{Dialect, LoadedArrays, THREAD_BUFFERS, Text, arrays, schema_from, threads_or_all, to_python};
use crate::errors::OrRaise;

/// A file below this is parsed by one core before others could help.
const LEAST_FOR_ALL_CORES: u64 = 4 << 20;

/// Loads several files. Answers for each, in their order, what `load` answers; the error is that of the first that has
/// one.
#[pyfunction]
pub(super) fn load_many<'py>(
    py: Python<'py>,
    files: Vec<(PathBuf, Bound<'py, PyArrayDescr>)>,
    dialect: Dialect,
    threads: usize,
    tick: Option<Bound<'py, PyAny>>,
) -> PyResult<Vec<LoadedArrays<'py>>> {
    let threads = threads_or_all(threads);
    check_work_memory(threads + 1, THREAD_BUFFERS).or_raise(py)?;
    let (paths, dtypes): (Vec<_>, Vec<_>) = files.into_iter().unzip();
    let schemas = dtypes.iter().map(schema_from).collect::<PyResult<Vec<_>>>()?;
    let options = dialect.options(threads)?;
    let alone = Options { threads: 1, ..options.clone() };
    let progress = Progress::new();
    let files = paths.iter().zip(&schemas).map(|(path, schema)| File::new(path, schema)).collect();
    let many =
        Many { files, options: &options, alone: &alone, progress: &progress, failed: AtomicUsize::new(usize::MAX) };
    let tick = tick.map(Bound::unbind);
    watch(py, &progress, tick.as_ref(), || many.run(threads))?;
    let outcomes = many.files.into_iter().map(|file| file.outcome.into_inner().unwrap_or_else(PoisonError::into_inner));
    let mut loaded = Vec::with_capacity(paths.len());
    for ((outcome, schema), dtype) in outcomes.zip(&schemas).zip(dtypes) {
        // Those behind the first error are missing, and it comes before them.
        let Some(outcome) = outcome else { break };
        loaded.push(arrays(py, schema, dtype, outcome.map_err(|error| to_python(py, &error))?)?);
    }
    Ok(loaded)
}

struct Many<'a> {
    files: Vec<File<'a>>,
    options: &'a Options,
    /// For a file that one thread loads.
    alone: &'a Options,
    progress: &'a Progress,
    /// The lowest number of a file with an error.
    failed: AtomicUsize,
}

struct File<'a> {
    text: Text<'a>,
    stored: Option<u64>,
    schema: &'a Schema,
    outcome: Mutex<Option<Loaded>>,
}

impl<'a> File<'a> {
    fn new(path: &'a Path, schema: &'a Schema) -> Self {
        let text = Text::Path(path);
        Self { text, stored: text.stored(), schema, outcome: Mutex::new(None) }
    }

    /// What has no size, such as a pipe or a file that is not there, is for one thread.
    fn is_large(&self) -> bool {
        self.stored.is_some_and(|size| size >= LEAST_FOR_ALL_CORES)
    }
}

impl Many<'_> {
    fn run(&self, threads: usize) {
        let (large, small): (Vec<usize>, Vec<usize>) = (0..self.files.len()).partition(|&i| self.files[i].is_large());
        for i in large {
            self.load(i, self.options);
        }
        let next = AtomicUsize::new(0);
        let work = || {
            // For all of its texts, not for each anew.
            let _long = LongTimeSlices::begin();
            while let Some(&i) = small.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.load(i, self.alone);
            }
        };
        scope(|scope| {
            for _ in 1..threads.min(small.len()) {
                // Fewer threads than wanted are slower and nothing worse.
                let _ = Builder::new().name("onecopy-text".into()).spawn_scoped(scope, work);
            }
            work();
        });
    }

    fn load(&self, i: usize, options: &Options) {
        // Relaxed: whoever does not see it yet loads one file too many.
        if self.failed.load(Ordering::Relaxed) < i {
            return;
        }
        let file = &self.files[i];
        let job = Job { text: file.text, stored: file.stored, schema: file.schema, options, progress: self.progress };
        let outcome = job.run(None);
        if outcome.is_err() {
            self.failed.fetch_min(i, Ordering::Relaxed);
        }
        *file.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    }
}
