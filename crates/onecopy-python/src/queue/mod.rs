//! `Queue`: the hot paths of putting and getting Python objects.

#![expect(clippy::doc_markdown, reason = "the docstrings are Python's")]

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use onecopy::{Batch, Patience, SharedObject};
use pyo3::exceptions::{PyStopIteration, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::errors::OrRaise;
use crate::locks::{handle_of, limit, wait};
use crate::waiting::{Mailbox, Readiness, Watch, in_task};

mod letter;
mod messages;
mod waits;

use letter::{Letter, Sealed, Stamp};
pub(crate) use messages::{decode, push};
use messages::{decode_alone, not_put};
use waits::how_long;
pub(crate) use waits::stopped;

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Letter>()?;
    m.add_class::<Sealed>()?;
    m.add_class::<Queue>()
}

/// A queue of objects for any number of processes and threads.
///
/// Put an object in one process and get it in another; each is got exactly once. A process that is killed takes with it
/// only what it has already got; it blocks nobody. Arrays travel as handles and are not copied: the queue keeps them
/// until they are got. There is no thread behind it, so an object that cannot be pickled raises in `put`, and what was
/// put is there when `put` returns.
///
/// Parameters
/// ----------
/// maxsize : int, optional
///     Objects that it holds at most; zero, or a negative number, for as many as there is memory for.
///
/// Examples
/// --------
/// >>> import onecopy as oc
/// >>> queue = oc.Queue(maxsize=2)
/// >>> queue.put("hello")
/// >>> queue.put([1, 2, 3])
/// >>> queue.full(), queue.get(), queue.get()
/// (True, 'hello', [1, 2, 3])
#[pyclass(frozen, subclass, weakref, module = "onecopy")]
struct Queue {
    inner: onecopy::Queue,
    closed: AtomicBool,
    readiness: Readiness,
    /// Whether this process has put anything: the standard library's queue is another one after that.
    used: AtomicBool,
}

#[pymethods]
impl Queue {
    #[new]
    #[pyo3(signature = (maxsize=0, *, handle=None))]
    fn new(py: Python<'_>, maxsize: i64, handle: Option<&[u8]>) -> PyResult<Self> {
        let inner = match handle {
            Some(handle) => onecopy::Queue::receive(handle),
            None => onecopy::session().and_then(|arena| onecopy::Queue::new(arena, bound(maxsize))),
        };
        Ok(Self {
            inner: inner.or_raise(py)?,
            closed: AtomicBool::new(false),
            used: AtomicBool::new(false),
            readiness: Readiness::default(),
        })
    }

    /// Put an object into the queue.
    ///
    /// Parameters
    /// ----------
    /// obj : object
    ///     Anything that can be pickled.
    /// block : bool, optional
    ///     Whether to wait for room.
    /// timeout : float, optional
    ///     Seconds to wait at most; for ever by default.
    ///
    /// Raises
    /// ------
    /// queue.Full
    ///     There was no room in time.
    /// ValueError
    ///     This process has closed the queue.
    /// ShutDownError
    ///     The queue has been shut down.
    /// OutOfMemoryError
    ///     There is no memory for the object.
    #[pyo3(signature = (obj, block=true, timeout=None))]
    fn put(slf: &Bound<'_, Self>, obj: &Bound<'_, PyAny>, block: bool, timeout: Option<f64>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        this.check_open()?;
        let limit = how_long(block, timeout)?;
        let mut batch = Batch::new();
        if let Err(error) = push(py, &this.inner, &mut batch, obj) {
            return not_put(slf, obj, error);
        }
        this.put_batch(py, &batch, limit).map(drop)
    }

    /// Put an object into the queue if there is room now.
    fn put_nowait(slf: &Bound<'_, Self>, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::put(slf, obj, false, None)
    }

    /// Put several objects into the queue, which costs much less than one by one.
    ///
    /// Parameters
    /// ----------
    /// objects : iterable
    ///     The objects. One that cannot be pickled raises before any is put.
    /// block : bool, optional
    ///     Whether to wait for room.
    /// timeout : float, optional
    ///     Seconds to wait at most for room for all of them; for ever by default.
    ///
    /// Returns
    /// -------
    /// int
    ///     How many were put: all, unless there was no room for the last ones in time.
    ///
    /// Raises
    /// ------
    /// queue.Full
    ///     There was room for none of them in time.
    #[pyo3(signature = (objects, block=true, timeout=None))]
    fn put_many(&self, py: Python<'_>, objects: &Bound<'_, PyAny>, block: bool, timeout: Option<f64>) -> PyResult<u32> {
        self.check_open()?;
        let limit = how_long(block, timeout)?;
        let mut batch = Batch::new();
        let mut push_all = || objects.try_iter()?.try_for_each(|object| push(py, &self.inner, &mut batch, &object?));
        if let Err(error) = push_all() {
            self.inner.drop_rest(&batch, 0).or_raise(py)?;
            return Err(error);
        }
        self.put_batch(py, &batch, limit)
    }

    /// Get an object out of the queue.
    ///
    /// Parameters
    /// ----------
    /// block : bool, optional
    ///     Whether to wait for one.
    /// timeout : float, optional
    ///     Seconds to wait at most; for ever by default.
    ///
    /// Returns
    /// -------
    /// object
    ///
    /// Raises
    /// ------
    /// queue.Empty
    ///     There was none in time.
    /// ValueError
    ///     This process has closed the queue.
    /// ShutDownError
    ///     The queue has been shut down, and is empty.
    #[pyo3(signature = (block=true, timeout=None))]
    fn get<'py>(&self, py: Python<'py>, block: bool, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        let mut batch = Batch::new();
        self.take(py, 1, &mut batch, how_long(block, timeout)?)?;
        decode_alone(py, batch)
    }

    /// Get an object out of the queue if there is one now.
    fn get_nowait<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.get(py, false, None)
    }

    /// Get several objects out of the queue, which costs much less than one by one.
    ///
    /// Parameters
    /// ----------
    /// max_items : int, optional
    ///     How many at most; by default all that are there.
    /// block : bool, optional
    ///     Whether to wait for the first.
    /// timeout : float, optional
    ///     Seconds to wait at most for the first; for ever by default.
    ///
    /// Returns
    /// -------
    /// list
    ///     At least one object.
    ///
    /// Raises
    /// ------
    /// queue.Empty
    ///     There was none in time.
    #[pyo3(signature = (max_items=None, block=true, timeout=None))]
    fn get_many<'py>(
        &self,
        py: Python<'py>,
        max_items: Option<i64>,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyList>> {
        let most = max_items.unwrap_or(i64::MAX);
        if most < 1 {
            return Err(PyValueError::new_err(format!("max_items={most}: expected at least 1")));
        }
        let mut batch = Batch::new();
        self.take(py, u32::try_from(most).unwrap_or(u32::MAX), &mut batch, how_long(block, timeout)?)?;
        let list = PyList::empty(py);
        batch.messages().try_for_each(|message| list.append(decode(py, &batch, &message)?))?;
        Ok(list)
    }

    /// Tell how many objects are in the queue at this moment.
    fn qsize(&self) -> u32 {
        self.inner.len()
    }

    /// Tell whether the queue is empty at this moment.
    fn empty(&self) -> bool {
        self.inner.is_empty()
    }

    /// Tell whether the queue is full at this moment.
    fn full(&self) -> bool {
        self.inner.limit().is_some_and(|limit| self.inner.len() >= limit)
    }

    /// Say that this process will not use the queue any more; other processes go on.
    fn close(&self) {
        self.closed.store(true, Relaxed);
        self.readiness.close();
    }

    /// Let nothing more in, for all processes; those who wait are told.
    ///
    /// What is in the queue can still be got. Then `get` raises `ShutDownError`, and loops over the queue end.
    fn shutdown(&self) {
        self.inner.close();
    }

    /// Do nothing, as there is no thread; here for programs that used `multiprocessing`.
    #[expect(clippy::unused_self, reason = "a method, as in the standard library")]
    fn join_thread(&self) {}

    /// Do nothing, as there is no thread; here for programs that used `multiprocessing`.
    #[expect(clippy::unused_self, reason = "a method, as in the standard library")]
    fn cancel_join_thread(&self) {}

    fn _has_put(&self) -> bool {
        self.used.load(Relaxed)
    }

    /// Put an object with a stamp that is read without it. What is neither plain nor an array is made bytes by `dumps`.
    fn _post(
        &self,
        py: Python<'_>,
        topic: u8,
        number: i64,
        extra: i64,
        obj: &Bound<'_, PyAny>,
        dumps: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let mut batch = Batch::new();
        letter::push(&self.inner, &mut batch, Stamp { topic, number, extra }, obj, dumps)?;
        self.put_batch(py, &batch, None).map(drop)
    }

    /// The same in two steps: the object may be let go of before what this returns is posted.
    fn _seal(
        slf: &Bound<'_, Self>,
        topic: u8,
        number: i64,
        extra: i64,
        obj: &Bound<'_, PyAny>,
        dumps: &Bound<'_, PyAny>,
    ) -> PyResult<Sealed> {
        let mut batch = Batch::new();
        letter::push(&slf.get().inner, &mut batch, Stamp { topic, number, extra }, obj, dumps)?;
        Ok(Sealed::new(slf, batch))
    }

    /// Put letters, each a topic, two numbers and an object as for `_post`; answers how many of the first went in.
    ///
    /// Less than all only if there was memory for no more; an error says that none did.
    fn _post_many(&self, py: Python<'_>, letters: &Bound<'_, PyList>, dumps: &Bound<'_, PyAny>) -> PyResult<usize> {
        let (mut batch, mut ends) = (Batch::new(), Vec::with_capacity(letters.len()));
        let mut push_all = || {
            letters.iter().try_for_each(|letter| {
                letter::push_described(&self.inner, &mut batch, &letter, dumps)?;
                ends.push(batch.len());
                Ok(())
            })
        };
        let pushed: PyResult<()> = push_all();
        let mut from = 0;
        let put = pushed.and_then(|()| self.inner.put_rest(&batch, &mut from, &Patience::none()).or_raise(py));
        if from < batch.len() {
            self.inner.drop_rest(&batch, from).or_raise(py)?;
        }
        let count = ends.partition_point(|&end| end <= from);
        if count > 0 { Ok(count) } else { put.map(|_| count) }
    }

    /// Take at most `most` letters, as they are; none when the time was up.
    fn _fetch(&self, py: Python<'_>, most: u32, timeout: Option<f64>) -> PyResult<Vec<Letter>> {
        let mut batch = Batch::new();
        match self.take_within(py, most, &mut batch, limit(timeout)?)? {
            Some(_) => letter::all_of(py, batch),
            None => Ok(Vec::new()),
        }
    }

    /// Call `work`; handles that it makes and that nobody has received go when this queue goes.
    fn _owning<'py>(&self, work: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.inner.owning(|| work.call0())
    }

    fn _task_done(&self, py: Python<'_>) -> PyResult<()> {
        self.inner.task_done().or_raise(py)
    }

    fn _join(&self, py: Python<'_>) -> PyResult<()> {
        wait(py, None, |patience| self.inner.join(patience).map_err(stopped)).map(drop)
    }

    /// A descriptor for selectors and event loops: readable while there is something to get, or the queue has been shut
    /// down.
    ///
    /// Another process may get it first; then `get_nowait` raises `queue.Empty`, and the descriptor is readable no longer.
    /// Only wait for it, and read nothing from it. Each process has its own.
    ///
    /// Returns
    /// -------
    /// int
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        self.check_open()?;
        self.readiness.number(py, || self.is_ready(), || Ok(self.inner.messages()))
    }

    /// Get an object as `get` does, in a task of an event loop, without a thread.
    ///
    /// Nothing is lost when the task is cancelled. The methods whose names begin with ``a`` are all like this.
    ///
    /// Parameters
    /// ----------
    /// timeout : float, optional
    ///     Seconds to wait at most; for ever by default.
    ///
    /// Returns
    /// -------
    /// object
    ///
    /// Raises
    /// ------
    /// queue.Empty
    ///     There was none in time.
    #[pyo3(signature = (timeout=None))]
    fn aget<'py>(slf: &Bound<'py, Self>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        in_task(slf.py(), "get", (slf, timeout))
    }

    /// Put an object as `put` does, in a task of an event loop, without a thread.
    ///
    /// Parameters
    /// ----------
    /// obj : object
    ///     Anything that can be pickled.
    /// timeout : float, optional
    ///     Seconds to wait at most; for ever by default.
    ///
    /// Raises
    /// ------
    /// queue.Full
    ///     There was no room in time.
    #[pyo3(signature = (obj, timeout=None))]
    fn aput<'py>(slf: &Bound<'py, Self>, obj: &Bound<'py, PyAny>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        in_task(slf.py(), "put", (slf, obj, timeout))
    }

    fn __aiter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __anext__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        in_task(slf.py(), "next_of", (slf,))
    }

    /// Has a token delivered when there may be something to get, room to put, or nothing left to do.
    fn _watch(&self, py: Python<'_>, mailbox: &Bound<'_, Mailbox>, token: u64, what: &str) -> PyResult<Watch> {
        match what {
            "get" => mailbox.get().watch(py, self.inner.messages(), token),
            "put" => mailbox.get().watch(py, self.inner.room(), token),
            _ => mailbox.get().watch(py, self.inner.done(), token),
        }
    }

    fn _unfinished(&self) -> u32 {
        self.inner.unfinished()
    }

    fn _ready(&self) -> bool {
        self.is_ready()
    }

    fn _send<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        handle_of(py, &self.inner)
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let over = |error| if self.inner.is_closed() { PyStopIteration::new_err(()) } else { error };
        let mut batch = Batch::new();
        self.take(py, 1, &mut batch, None).map_err(over)?;
        decode_alone(py, batch)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("onecopy._locks")?.getattr("_reduce")?.call1((slf,))
    }
}

impl Queue {
    /// Whether `get` would not wait.
    fn is_ready(&self) -> bool {
        !self.inner.is_empty() || self.inner.is_closed()
    }

    fn check_open(&self) -> PyResult<()> {
        if self.closed.load(Relaxed) {
            return Err(PyValueError::new_err("the queue is closed: this process called close() on it"));
        }
        Ok(())
    }
}

fn bound(maxsize: i64) -> Option<u32> {
    (maxsize > 0).then(|| u32::try_from(maxsize).unwrap_or(onecopy::MOST_MESSAGES))
}
