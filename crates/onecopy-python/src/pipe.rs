//! `Connection`: an end of a pipe.

#![expect(clippy::doc_markdown, reason = "the docstrings are Python's")]

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use onecopy::{Batch, Error, Message, Patience, Payload, PipeError, QueueError, ValueKind};
use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::array::RELEASE_GIL_ABOVE;
use crate::errors::OrRaise;
use crate::locks::{limit, wait};
use crate::ndarray::{NdArray, fill};
use crate::queue::{decode, push, stopped};
use crate::value::{bytes_of, changed, copy_out, loads};
use crate::waiting::{Mailbox, Readiness, Watch, in_task};

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Connection>()?;
    m.add_function(wrap_pyfunction!(pipe, m)?)
}

/// The two ends of a new pipe.
#[pyfunction]
fn pipe(py: Python<'_>, duplex: bool) -> PyResult<(Connection, Connection)> {
    let (first, second) = onecopy::session().and_then(|arena| onecopy::pipe(arena, duplex)).or_raise(py)?;
    Ok((Connection::over(first), Connection::over(second)))
}

/// One of the two ends of a pipe in shared memory; see `onecopy.Pipe`.
///
/// The methods are those of `multiprocessing.connection.Connection`. When every process that had the other end has closed
/// it, or has ended, however it ended, `recv` raises `EOFError` after the last message, and `send` raises
/// `BrokenPipeError`. A connection is closed when nothing refers to it any more.
///
/// Examples
/// --------
/// >>> import onecopy as oc
/// >>> a, b = oc.Pipe()
/// >>> a.send({"x": 1})
/// >>> b.recv()
/// {'x': 1}
/// >>> a.close()
/// >>> b.recv()
/// Traceback (most recent call last):
/// EOFError: nothing more comes: every process that had the other end of the pipe has closed it, or has ended
#[pyclass(frozen, weakref, module = "onecopy")]
pub(crate) struct Connection {
    inner: Mutex<Option<Arc<onecopy::Connection>>>,
    /// Set after a message that was longer than it may have been.
    no_longer_readable: AtomicBool,
    readiness: Readiness,
}

#[pymethods]
impl Connection {
    #[new]
    #[pyo3(signature = (*, handle))]
    fn new(py: Python<'_>, handle: &[u8]) -> PyResult<Self> {
        onecopy::Connection::from_handle(handle).or_raise(py).map(Self::over)
    }

    /// Send an object to the other end.
    ///
    /// Arrays travel as handles. It waits while 1,024 messages are on their way.
    ///
    /// Parameters
    /// ----------
    /// obj : object
    ///     Anything that can be pickled.
    ///
    /// Raises
    /// ------
    /// BrokenPipeError
    ///     Nobody has the other end any more.
    /// OSError
    ///     This end is closed, or receives only.
    fn send(&self, py: Python<'_>, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        let inner = self.open()?;
        let mut batch = Batch::new();
        push(py, inner.writer().or_raise(py)?, &mut batch, obj)?;
        put(py, &inner, &batch, true).map(drop)
    }

    /// Receive an object from the other end, and wait for one.
    ///
    /// Returns
    /// -------
    /// object
    ///
    /// Raises
    /// ------
    /// EOFError
    ///     All has been received, and nobody has the other end any more.
    /// OSError
    ///     This end is closed, or sends only.
    fn recv<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        object_of(py, &self.take(py)?)
    }

    /// Send bytes to the other end, as one message.
    ///
    /// Parameters
    /// ----------
    /// buf : bytes-like
    ///     The bytes.
    /// offset : int, optional
    ///     The first byte of `buf` to send.
    /// size : int, optional
    ///     How many; by default all that are left.
    ///
    /// Raises
    /// ------
    /// ValueError
    ///     `buf` has no such bytes.
    /// BrokenPipeError
    ///     Nobody has the other end any more.
    /// OSError
    ///     This end is closed, or receives only.
    #[pyo3(signature = (buf, offset=0, size=None))]
    fn send_bytes(&self, py: Python<'_>, buf: &Bound<'_, PyAny>, offset: i64, size: Option<i64>) -> PyResult<()> {
        let inner = self.open()?;
        inner.writer().or_raise(py)?;
        if let (Ok(bytes), 0, None) = (buf.cast_exact::<PyBytes>(), offset, size) {
            return send_raw(py, &inner, bytes.as_bytes());
        }
        let array = py.import("onecopy._pipes")?.getattr("_bytes_of")?.call1((buf, offset, size))?;
        send_raw(py, &inner, NdArray::of(&array)?.bytes().ok_or_else(changed)?)
    }

    /// Send an object as `send` does, in a task of an event loop, without a thread.
    ///
    /// Nothing has been sent when the task is cancelled.
    ///
    /// Parameters
    /// ----------
    /// obj : object
    ///     Anything that can be pickled.
    fn asend<'py>(slf: &Bound<'py, Self>, obj: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        in_task(slf.py(), "send", (slf, obj))
    }

    /// Receive an object as `recv` does, in a task of an event loop, without a thread.
    ///
    /// Nothing is lost when the task is cancelled.
    ///
    /// Returns
    /// -------
    /// object
    fn arecv<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        in_task(slf.py(), "recv", (slf,))
    }

    /// Receive the bytes of a message as `recv_bytes` does, in a task of an event loop, without a thread.
    ///
    /// Returns
    /// -------
    /// bytes
    fn arecv_bytes<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        in_task(slf.py(), "recv_bytes", (slf,))
    }

    /// A descriptor for selectors and event loops: readable while `recv` would not wait.
    ///
    /// Only wait for it, and read nothing from it. Each process has its own; where several processes receive from the same
    /// end, another may be faster.
    ///
    /// Returns
    /// -------
    /// int
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        let inner = self.readable_now(py)?;
        self.readiness.number(py, || inner.wait(&Patience::none()).is_ok(), || inner.messages())
    }

    /// Sends an object if there is room now.
    fn _try_send(&self, py: Python<'_>, obj: &Bound<'_, PyAny>) -> PyResult<bool> {
        let inner = self.open()?;
        let mut batch = Batch::new();
        push(py, inner.writer().or_raise(py)?, &mut batch, obj)?;
        put(py, &inner, &batch, false)
    }

    /// The next object, in a tuple, if it is there now.
    fn _try_recv<'py>(&self, py: Python<'py>) -> PyResult<Option<(Bound<'py, PyAny>,)>> {
        self.take_at_once(py)?.map(|batch| Ok((object_of(py, &batch)?,))).transpose()
    }

    /// The next message, if it is there now.
    fn _try_recv_bytes<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let batch = self.take_at_once(py)?;
        batch.map(|batch| with_bytes(py, &batch, |payload| bytes_of(py, payload))).transpose()
    }

    /// Has a token delivered when there may be something to receive, or room to send.
    fn _watch(&self, py: Python<'_>, mailbox: &Bound<'_, Mailbox>, token: u64, what: &str) -> PyResult<Watch> {
        let inner = self.open()?;
        match what {
            "recv" => mailbox.get().watch(py, inner.messages().or_raise(py)?, token),
            _ => mailbox.get().watch(py, inner.room().or_raise(py)?, token),
        }
    }

    fn _ready(&self, py: Python<'_>) -> PyResult<bool> {
        self.poll(py, Some(0.0))
    }

    /// Receive the bytes of a message.
    ///
    /// Parameters
    /// ----------
    /// maxlength : int, optional
    ///     How many there may be at most. After a longer message this end receives no more.
    ///
    /// Returns
    /// -------
    /// bytes
    ///     What was sent by `send_bytes`; the pickle of an object that was sent by `send`.
    ///
    /// Raises
    /// ------
    /// EOFError
    ///     All has been received, and nobody has the other end any more.
    /// OSError
    ///     The message is longer; or this end is closed, or sends only.
    #[pyo3(signature = (maxlength=None))]
    fn recv_bytes<'py>(&self, py: Python<'py>, maxlength: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        self.readable_now(py)?;
        if let Some(negative) = maxlength.filter(|&length| length < 0) {
            return Err(PyValueError::new_err(format!("negative maxlength: {negative}")));
        }
        let batch = self.take(py)?;
        with_bytes(py, &batch, |payload| match maxlength {
            Some(most) if payload.len() as u64 > most as u64 => Err(self.refuse_message(py, payload.len(), most)),
            _ => bytes_of(py, payload),
        })
    }

    /// Receive the bytes of a message into a buffer.
    ///
    /// Parameters
    /// ----------
    /// buf : writable bytes-like
    ///     Where they go.
    /// offset : int, optional
    ///     Byte of the buffer from which on.
    ///
    /// Returns
    /// -------
    /// int
    ///     How many bytes there were.
    ///
    /// Raises
    /// ------
    /// multiprocessing.BufferTooShort
    ///     They do not fit. The message is in ``args[0]``.
    /// EOFError
    ///     All has been received, and nobody has the other end any more.
    /// OSError
    ///     This end is closed, or sends only.
    #[pyo3(signature = (buf, offset=0))]
    fn recv_bytes_into(&self, py: Python<'_>, buf: &Bound<'_, PyAny>, offset: i64) -> PyResult<usize> {
        self.readable_now(py)?;
        let room = py.import("onecopy._pipes")?.getattr("_room_of")?.call1((buf, offset))?;
        let room = NdArray::of(&room)?;
        if !room.is_writable() {
            return Err(PyTypeError::new_err("recv_bytes_into() needs a buffer that can be written to"));
        }
        let batch = self.take(py)?;
        with_bytes(py, &batch, |payload| {
            let filled = fill(&room, 0, payload.len(), |to| copy_out(py, payload, to));
            match filled {
                Some(()) => Ok(payload.len()),
                None => Err(too_short(py, &bytes_of(py, payload)?)),
            }
        })
    }

    /// Tell whether `recv` would return at once, or raise `EOFError`.
    ///
    /// Parameters
    /// ----------
    /// timeout : float, optional
    ///     Seconds to wait for that at most; None is for ever.
    ///
    /// Returns
    /// -------
    /// bool
    #[pyo3(signature = (timeout=Some(0.0)), text_signature = "($self, timeout=0.0)")]
    fn poll(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let (inner, limit) = (self.readable_now(py)?, limit(timeout)?);
        match inner.wait(&Patience::none()) {
            Err(Error::Queue(QueueError::TimedOut)) if limit == Some(Duration::ZERO) => {
                self.update(&inner);
                Ok(false)
            }
            Err(Error::Queue(QueueError::TimedOut)) => {
                wait(py, limit, |patience| inner.wait(patience).map_err(stopped)).map(|ready| ready.is_some())
            }
            other => other.or_raise(py).map(|()| true),
        }
    }

    /// Close this end, as far as this object is concerned.
    fn close(&self) {
        let inner = self.inner().take();
        if let Some(inner) = inner {
            inner.give_up();
            self.readiness.close();
        }
    }

    /// Whether this object has been closed.
    #[getter]
    fn closed(&self) -> bool {
        self.inner().is_none()
    }

    /// Whether it receives.
    #[getter]
    fn readable(&self) -> bool {
        self.inner().as_ref().is_some_and(|inner| inner.is_readable()) && !self.no_longer_readable.load(Relaxed)
    }

    /// Whether it sends.
    #[getter]
    fn writable(&self) -> bool {
        self.inner().as_ref().is_some_and(|inner| inner.is_writable())
    }

    fn _send<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.open()?.to_handle().or_raise(py)?))
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __exit__(&self, _class: &Bound<'_, PyAny>, _value: &Bound<'_, PyAny>, _traceback: &Bound<'_, PyAny>) {
        self.close();
    }

    fn __repr__(&self) -> &'static str {
        match (self.readable(), self.writable()) {
            _ if self.closed() => "<onecopy.Connection, closed>",
            (true, true) => "<onecopy.Connection, duplex>",
            (true, false) => "<onecopy.Connection, read-only>",
            _ => "<onecopy.Connection, write-only>",
        }
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("onecopy._locks")?.getattr("_reduce")?.call1((slf,))
    }
}

impl Connection {
    fn over(inner: onecopy::Connection) -> Self {
        Self {
            inner: Mutex::new(Some(Arc::new(inner))),
            no_longer_readable: AtomicBool::new(false),
            readiness: Readiness::default(),
        }
    }

    /// The connection, if it has not been closed. Nothing is done while it is locked, so a forked child finds it free.
    fn inner(&self) -> MutexGuard<'_, Option<Arc<onecopy::Connection>>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn open(&self) -> PyResult<Arc<onecopy::Connection>> {
        self.inner().clone().ok_or_else(|| PyOSError::new_err(PipeError::Closed.to_string()))
    }

    fn readable_now(&self, py: Python<'_>) -> PyResult<Arc<onecopy::Connection>> {
        let inner = self.open()?;
        inner.reader().or_raise(py)?;
        if self.no_longer_readable.load(Relaxed) {
            let reason = "connection is write-only: it received a message that was longer than maxlength";
            return Err(PyOSError::new_err(reason));
        }
        Ok(inner)
    }

    /// Receives one message, and waits for it.
    fn take(&self, py: Python<'_>) -> PyResult<Batch> {
        if let Some(batch) = self.take_at_once(py)? {
            return Ok(batch);
        }
        let inner = self.readable_now(py)?;
        let mut batch = Batch::new();
        let taken = wait(py, None, |patience| inner.take(&mut batch, patience).map_err(stopped));
        self.update(&inner);
        taken.map(|_| batch)
    }

    /// Receives one message if it is there.
    fn take_at_once(&self, py: Python<'_>) -> PyResult<Option<Batch>> {
        let inner = self.readable_now(py)?;
        let mut batch = Batch::new();
        let taken = inner.take(&mut batch, &Patience::none());
        self.update(&inner);
        match taken {
            Err(Error::Queue(QueueError::TimedOut)) => Ok(None),
            other => other.or_raise(py).map(|()| Some(batch)),
        }
    }

    #[inline]
    fn update(&self, inner: &onecopy::Connection) {
        self.readiness.update(|| inner.wait(&Patience::none()).is_ok(), || inner.messages());
    }

    /// What `multiprocessing` does about a message that is too long.
    fn refuse_message(&self, py: Python<'_>, len: usize, most: i64) -> PyErr {
        self.no_longer_readable.store(true, Relaxed);
        if !self.writable() {
            py.detach(|| self.close());
        }
        PyOSError::new_err(format!("bad message length: a message of {len} bytes, where maxlength={most}"))
    }
}

/// The object that the one message of a batch is.
fn object_of<'py>(py: Python<'py>, batch: &Batch) -> PyResult<Bound<'py, PyAny>> {
    let message = batch.messages().next().ok_or_else(changed)?;
    let object = decode(py, batch, &message)?;
    match ValueKind::of(&message).or_raise(py)? {
        ValueKind::Raw => loads(py, object.cast::<PyBytes>()?),
        _ => Ok(object),
    }
}

/// Sends the one message of a batch, if there is room now or `patiently`; whether that was so.
fn put(py: Python<'_>, inner: &onecopy::Connection, batch: &Batch, patiently: bool) -> PyResult<bool> {
    let put = match inner.put(batch, &Patience::none()) {
        Err(Error::Queue(QueueError::TimedOut)) if patiently => {
            wait(py, None, |patience| inner.put(batch, patience).map_err(stopped)).map(|sent| sent.is_some())
        }
        Err(Error::Queue(QueueError::TimedOut)) => Ok(false),
        other => other.or_raise(py).map(|()| true),
    };
    if !matches!(put, Ok(true)) {
        // Where even that fails, what was not sent goes with the pipe.
        let _ = inner.writer().map(|queue| queue.drop_rest(batch, 0));
    }
    put
}

fn send_raw(py: Python<'_>, inner: &onecopy::Connection, bytes: &[u8]) -> PyResult<()> {
    let mut batch = Batch::new();
    let mut push = || inner.writer()?.push(&mut batch, ValueKind::Raw, bytes);
    if bytes.len() > RELEASE_GIL_ABOVE { py.detach(push) } else { push() }.or_raise(py)?;
    put(py, inner, &batch, true).map(drop)
}

/// Does something with the bytes of the one message of a batch; an object is pickled for that.
fn with_bytes<T>(py: Python<'_>, batch: &Batch, work: impl FnOnce(&Payload<'_>) -> PyResult<T>) -> PyResult<T> {
    let message: Message<'_> = batch.messages().next().ok_or_else(changed)?;
    match ValueKind::of(&message).or_raise(py)? {
        ValueKind::Raw | ValueKind::Pickle if message.enclosed().len() <= usize::from(message.bytes.is_empty()) => {
            work(&onecopy::Queue::contents(batch, &message).or_raise(py)?)
        }
        _ => {
            let pickled = py.import("onecopy._pipes")?.getattr("_pickle")?.call1((decode(py, batch, &message)?,))?;
            work(&Payload::Inline(pickled.cast::<PyBytes>()?.as_bytes()))
        }
    }
}

/// `multiprocessing.BufferTooShort`, with the message.
fn too_short(py: Python<'_>, message: &Bound<'_, PyBytes>) -> PyErr {
    let made = py
        .import("multiprocessing.context")
        .and_then(|module| module.getattr("BufferTooShort"))
        .and_then(|class| class.call1((message,)));
    made.map_or_else(|error| error, PyErr::from_value)
}
