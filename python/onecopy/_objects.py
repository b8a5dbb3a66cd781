"""Any object in shared memory: once there, for every process to read."""

from __future__ import annotations

import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from onecopy import _auditor, _buffers, _native
from onecopy._arrays import Array, Mode, check_mode, share_array
from onecopy._errors import StaleHandleError

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")


class _Entry:
    """A record that this process has Refs to, and what it was read as."""

    __slots__ = ("__weakref__", "_read", "stored")

    def __init__(self, stored: _native.StoredObject) -> None:
        self.stored = stored
        self._read: weakref.ref[Any] | tuple[Any] | None = None

    def value(self) -> Any:
        read = self._read
        if isinstance(read, tuple):
            return read[0]
        # Nothing that a weak reference leads to is None.
        value = None if read is None else read()
        if value is None:
            value = _buffers.load(_buffers.Pickled(*self.stored.parts()))
            try:
                self._read = weakref.ref(value)
            except TypeError:
                # Such as a list. It lives no longer than the Refs that share this entry.
                self._read = (value,)
        return value


#: By record: all Refs of this process to one share an entry.
_entries: weakref.WeakValueDictionary[tuple[int, int, int], _Entry] = weakref.WeakValueDictionary()


def _entry_of(stored: _native.StoredObject) -> _Entry:
    return _entries.setdefault(stored.key(), _Entry(stored))


class Ref:
    """A reference to an object in shared memory, made by `onecopy.put`.

    It pickles as a handle, whatever the size of the object; each pickle is for one receiver. The object lives until all
    processes have freed or dropped their Refs to it, and what of its memory is in use longer than that.

    Attributes
    ----------
    nbytes : int
        Bytes of the object: its pickle and its buffers.

    Examples
    --------
    >>> import numpy as np, onecopy as oc
    >>> with oc.put({"weights": np.ones(1000)}) as ref:
    ...     weights = ref.get()["weights"]
    >>> weights.sum(), oc.is_shared(weights), weights.flags.writeable
    (np.float64(1000.0), True, False)
    """

    __slots__ = ("__weakref__", "_entry")

    _entry: _Entry | None

    def __init__(self) -> None:
        """Refuse: a Ref is made by `onecopy.put`."""
        raise TypeError("a Ref refers to what was put: make one with onecopy.put(obj)")

    @classmethod
    def _to(cls, entry: _Entry) -> Self:
        ref = cls.__new__(cls)
        ref._entry = entry
        return ref

    def _open(self) -> _Entry:
        entry = self._entry
        if entry is None:
            raise StaleHandleError("this Ref has been freed; use it before free(), or keep what get() returned")
        return entry

    def get(self) -> Any:
        """Return the object, without copying its buffers.

        The same object is returned as long as somebody in this process uses it; one that Python cannot refer to weakly
        (a list, a dict, a tuple, a string) as long as the process has a Ref to it. So what is done to it, all see that
        got it in this process.

        Raises
        ------
        StaleHandleError
            The Ref has been freed.
        """
        return self._open().value()

    @property
    def nbytes(self) -> int:
        """Bytes of the object: its pickle and its buffers."""
        return self._open().stored.nbytes()

    def free(self) -> None:
        """Let go of the object; what was got stays usable.

        Raises
        ------
        StaleHandleError
            The Ref has been freed already.
        """
        self._open()
        self._entry = None

    def __enter__(self) -> Self:
        """Return the Ref, to be freed at the end of the block."""
        self._open()
        return self

    def __exit__(
        self, _class: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Free the Ref if that has not been done."""
        self._entry = None

    def __copy__(self) -> Self:
        """Return another Ref to the same object."""
        return self._to(self._open())

    def __deepcopy__(self, _memo: Any) -> Self:
        """Return another Ref to the same object, which stays where it is."""
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle a handle, for one receiver."""
        return _receive, (self._open().stored.send(),)

    def __repr__(self) -> str:
        """Describe what it refers to."""
        if self._entry is None:
            return "<onecopy.Ref, freed>"
        return f"<onecopy.Ref to {_native.format_size(self.nbytes)}>"


def _receive(handle: bytes) -> Ref:
    return Ref._to(_entry_of(_native.StoredObject.receive(handle)))


def _reduce_ref(ref: Ref) -> Any:
    """Reduce a Ref inside another object that is stored: that record keeps this one, however often it is read."""
    return _of_record, (_buffers.aside(ref._open().stored.record()),)


def _of_record(record: Any) -> Ref:
    return Ref._to(_entry_of(_native.StoredObject.of_record(np.asarray(record))))


_buffers.REDUCERS[Ref] = _reduce_ref


def _store(obj: Any, mode: Mode) -> _native.StoredObject:
    check_mode(mode)
    pickled = _buffers.dump(obj)
    if _auditor.note is not None:
        _note(obj, pickled)
    return _native.StoredObject(mode, pickled.stream, pickled.buffers)


def _note(obj: Any, pickled: _buffers.Pickled) -> None:
    note, what = _auditor.note, _describe(type(obj))
    if note is None:
        return
    note("copied", what, "Python objects are pickled", pickled.stream.nbytes)
    for buffer in pickled.buffers:
        shared = _native.is_shared(buffer)
        note("handle" if shared else "moved in", what, "it is shared" if shared else "stored once", buffer.nbytes)


def _describe(class_: type) -> str:
    return f"{class_.__module__}.{class_.__qualname__}".removeprefix("builtins.")


def put(obj: Any, mode: Mode = "ro") -> Ref:
    """Store an object in shared memory, once, for any number of processes to read.

    Parameters
    ----------
    obj : object
        Anything that pickles: arrays, frames of pandas and polars, Arrow tables, sparse matrices, tensors on the CPU,
        and any structure of them; functions and classes that pickle refuses too, if cloudpickle is installed. What of
        it lies in shared memory already is not copied.
    mode : {'ro', 'rw', 'cow'}, optional
        What those who get it may do with its arrays: read; read and write, and all see it; read and write, and none
        sees it. Parts that were shared read-only stay so.

    Returns
    -------
    Ref
        `Ref.get` returns an equal object whose arrays are views of the stored bytes. Pickle keeps who is who and cycles
        inside the object, and does not keep that two arrays overlap. What is no array, such as a list of strings, is
        unpickled by each process that gets it.

    Raises
    ------
    pickle.PicklingError, TypeError, AttributeError
        What pickle raises for what it refuses; the message says which part of the object that is.
    OutOfMemoryError
        There is not enough memory; nothing is left behind.
    ValueError
        The mode is not one of the three.

    See Also
    --------
    onecopy.share, onecopy.get

    Examples
    --------
    >>> import numpy as np, onecopy as oc
    >>> ref = oc.put([np.arange(5), "text"])
    >>> ref.get()
    [array([0, 1, 2, 3, 4]), 'text']
    >>> ref.free()
    """
    return Ref._to(_entry_of(_store(obj, mode)))


def get(ref: Ref) -> Any:
    """Return the object that a `Ref` refers to; the same as `Ref.get`.

    Parameters
    ----------
    ref : Ref
        As returned by `onecopy.put`, here or in another process.

    Returns
    -------
    object

    Raises
    ------
    StaleHandleError
        The Ref has been freed.
    TypeError
        It is no Ref.

    Examples
    --------
    >>> import onecopy as oc
    >>> oc.get(oc.put({"a": 1}))
    {'a': 1}
    """
    if not isinstance(ref, Ref):
        raise TypeError(f"get() takes a Ref, as onecopy.put() returns, not {type(ref).__name__}")
    return ref.get()


def share(obj: T, mode: Mode = "ro") -> T:
    """Return an equal object that travels between processes without a copy.

    Parameters
    ----------
    obj : object
        An array without Python objects inside, or anything that `onecopy.put` takes: frames, tables, sparse matrices,
        structures of arrays. What of it lies in the arena already is not copied; the rest is copied there once.
    mode : {'ro', 'rw', 'cow'}, optional
        What this process and those that receive the result may do with its arrays. ``"ro"``: read; numpy refuses to
        write, and a stray native store ends the process that makes it instead of corrupting the others. ``"rw"``: read
        and write, and all see it. ``"cow"``: read and write, but what is written stays in the process that writes; each
        receiver starts with the items as they are in the arena.

    Returns
    -------
    object
        Of the class of `obj`. It, each of its parts, and each view of one, travels as a handle. The arrays of an object
        that is no array itself share one block of memory, which is used again when the last of them has gone.

    Raises
    ------
    TypeError
        `obj` is an array with Python objects inside.
    pickle.PicklingError, TypeError, AttributeError
        What pickle raises for what it refuses; the message says which part of the object that is.
    ValueError
        The mode is not one of the three, or ``"rw"`` is asked for an array that is shared read-only. Inside other
        objects such arrays stay read-only.
    OutOfMemoryError
        There is not enough memory.

    Notes
    -----
    Only buffers are shared. What is no array, such as a list of strings or a column of Python objects, is pickled and
    unpickled, and is pickled again when it is sent: for such things use `onecopy.put`.

    See Also
    --------
    onecopy.put : for objects that many processes are to read, and whose pickle itself is large.

    Examples
    --------
    >>> import numpy as np, onecopy as oc
    >>> a = oc.share(np.arange(5))
    >>> a.flags.writeable
    False
    >>> b = oc.share(np.arange(5), mode="cow")
    >>> b[0] = 9
    >>> tables = oc.share({"weights": np.ones(3), "names": ["a", "b"]})
    >>> oc.is_shared(tables["weights"]), tables["names"]
    (True, ['a', 'b'])
    """
    check_mode(mode)
    if isinstance(obj, np.ndarray):
        if _auditor.note is not None:
            shared = _native.is_shared(obj)
            how, why = ("handle", "it is shared") if shared else ("moved in", "stored once")
            _auditor.note(how, _describe(type(obj)), why, obj.nbytes)
        return cast(T, share_array(cast(Array, obj), mode))
    return cast(T, _buffers.load(_buffers.Pickled(*_store(obj, mode).parts())))
