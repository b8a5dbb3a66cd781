"""`Value` and `Array`: objects of `ctypes` whose memory is a block of the arena.

The objects are those of `multiprocessing.sharedctypes`, and so are the wrappers that lock them, but for what has to be
fast; what is onecopy's own is the memory, the locks, and how they travel. This module is imported at its first use, as
`ctypes` takes long to import.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from multiprocessing import sharedctypes
from multiprocessing.context import assert_spawning
from multiprocessing.reduction import ForkingPickler
from multiprocessing.sharedctypes import SynchronizedBase
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from onecopy import _queues
from onecopy._arrays import Array as NumpyArray
from onecopy._arrays import zeros
from onecopy._native import Guarded, GuardedArray, GuardedField, RLock

if TYPE_CHECKING:
    _Value = sharedctypes.Synchronized[Any]
    _Array = sharedctypes.SynchronizedArray[Any]
else:
    _Value, _Array = sharedctypes.Synchronized, sharedctypes.SynchronizedArray

TYPES: dict[str, type] = sharedctypes.typecode_to_type  # type: ignore[attr-defined]  # not in the stubs


class _Memory:
    """Memory of the arena, as `multiprocessing.sharedctypes` wants to have it."""

    __slots__ = ("_bytes",)

    def __init__(self, bytes_: NumpyArray) -> None:
        self._bytes = bytes_

    def create_memoryview(self) -> memoryview:
        return self._bytes.data

    def __reduce__(self) -> tuple[Any, ...]:
        return _Memory, (self._bytes,)


def _type_of(typecode_or_type: str | type) -> Any:
    if isinstance(typecode_or_type, str):
        type_ = TYPES.get(typecode_or_type)
        if type_ is None:
            raise TypeError(f"type code {typecode_or_type!r}: expected one of {' '.join(TYPES)}, or a type of ctypes")
        return type_
    try:
        ctypes.sizeof(typecode_or_type)
    except TypeError:
        raise TypeError(f"{typecode_or_type!r} is no type of ctypes and no type code such as 'i'") from None
    return typecode_or_type


def _new(type_: Any) -> Any:
    return _over(type_, (), _Memory(zeros(max(ctypes.sizeof(type_), 1), "u1")))


def _over(item: Any, lengths: Sequence[int], memory: Any) -> Any:
    """Return the object that lies in a piece of memory: an item, or an array of the lengths, the inmost first."""
    type_ = item
    for length in lengths:
        type_ = type_ * length
    shared = sharedctypes.rebuild_ctype(type_, memory, None)  # type: ignore[attr-defined]  # not in the stubs
    ForkingPickler.register(type_, _reduce)
    _queues.BY_HANDLE[type_] = _parts
    return shared


def _parts(shared: Any) -> tuple[Any, ...]:
    """Reduce an object of `ctypes`; one that is not shared by its value."""
    memory = getattr(shared, "_wrapper", None)
    if memory is None:
        reduced: tuple[Any, ...] = shared.__reduce__()
        return reduced
    # Types of arrays are made when they are needed and have no name by which they could be pickled.
    item: Any = type(shared)
    lengths: list[int] = []
    while issubclass(item, ctypes.Array):
        lengths.append(item._length_)
        item = item._type_
    return _over, (item, lengths[::-1], memory)


def _reduce(shared: Any) -> tuple[Any, ...]:
    if hasattr(shared, "_wrapper"):
        assert_spawning(shared)
    return _parts(shared)


class Synchronized(Guarded, _Value):
    """A value that is read and written under its lock."""

    value = GuardedField("value")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle it as an argument of a process that is being started."""
        return _reduce_synchronized(self)


class SynchronizedArray(GuardedArray, _Array):
    """An array that is read and written under its lock."""

    __reduce__ = Synchronized.__reduce__


class SynchronizedString(SynchronizedArray, sharedctypes.SynchronizedString):
    """An array of bytes that is read and written under its lock."""

    value = GuardedField("value")
    raw = GuardedField("raw")


#: Wrappers of structures, by the structure.
_STRUCTURES: WeakKeyDictionary[type, type] = WeakKeyDictionary()


def _wrapper_of(shared: Any) -> Any:
    if isinstance(shared, ctypes._SimpleCData):
        return Synchronized
    if isinstance(shared, ctypes.Array):
        return SynchronizedString if shared._type_ is ctypes.c_char else SynchronizedArray
    structure = type(shared)
    if structure not in _STRUCTURES:
        # As the standard library has it, only the fields of the class itself.
        members = {field[0]: GuardedField(field[0]) for field in structure._fields_}
        bases = (Guarded, SynchronizedBase)
        _STRUCTURES[structure] = type(
            f"Synchronized{structure.__name__}", bases, {**members, "__reduce__": Synchronized.__reduce__}
        )
    return _STRUCTURES[structure]


def _synchronized(shared: Any, lock: Any) -> Any:
    class_ = _wrapper_of(shared)
    _queues.BY_HANDLE[class_] = _parts_synchronized
    return class_(shared, lock)


def _parts_synchronized(wrapper: Any) -> tuple[Any, ...]:
    return _synchronized, (wrapper.get_obj(), wrapper.get_lock())


def _reduce_synchronized(wrapper: Any) -> tuple[Any, ...]:
    assert_spawning(wrapper)
    return _parts_synchronized(wrapper)


def _with_lock(make: Callable[[], Any], lock: Any) -> Any:
    if lock is False:
        return make()
    if lock is True or lock is None:
        return _synchronized(make(), RLock())
    if not hasattr(lock, "acquire"):
        raise AttributeError(f"lock={lock!r} has no method 'acquire': expected a lock, True for a new one, or False")
    return _synchronized(make(), lock)


def RawValue(typecode_or_type: str | type, *args: Any) -> Any:
    """Return an object of `ctypes` in shared memory, without a lock.

    Parameters
    ----------
    typecode_or_type : str or type
        A type code as of `array.array`, and ``'c'`` for a byte; or a type of `ctypes`, also a structure.
    *args : object
        What the type is called with; without any, all of its bytes are zero.

    Returns
    -------
    ctypes object
        Of that type. It goes to other processes when they are started and through the channels of onecopy. Reading and
        writing an item are not atomic, and ``value.value += 1`` by two processes loses counts: see `Value` and
        `Counter`.

    Raises
    ------
    TypeError
        There is no such type code, or the type has no size.
    OutOfMemoryError
        There is not enough memory.

    Examples
    --------
    >>> import onecopy as oc
    >>> value = oc.RawValue("d", 2.5)
    >>> value.value *= 2
    >>> value
    c_double(5.0)
    """
    shared = _new(_type_of(typecode_or_type))
    if args:
        shared.__init__(*args)
    return shared


def RawArray(typecode_or_type: str | type, size_or_initializer: int | Sequence[Any]) -> Any:
    """Return an array of `ctypes` in shared memory, without a lock.

    Parameters
    ----------
    typecode_or_type : str or type
        Type of the items, as for `RawValue`.
    size_or_initializer : int or sequence
        The number of items, which are zero then; or the items.

    Returns
    -------
    ctypes array
        As from `RawValue`, which also tells the errors. `numpy.frombuffer` makes an array of it that shares its memory,
        and that is a shared array for onecopy.

    Raises
    ------
    ValueError
        The number is negative.

    Examples
    --------
    >>> import numpy as np, onecopy as oc
    >>> items = oc.RawArray("i", [1, 2, 3])
    >>> items[:] = [4, 5, 6]
    >>> a = np.frombuffer(items, dtype="i4")
    >>> a.tolist(), oc.is_shared(a)
    ([4, 5, 6], True)
    """
    item = _type_of(typecode_or_type)
    if isinstance(size_or_initializer, int):
        if size_or_initializer < 0:
            raise ValueError(f"Array length must be >= 0, not {size_or_initializer}")
        return _new(item * size_or_initializer)
    shared = _new(item * len(size_or_initializer))
    shared.__init__(*size_or_initializer)
    return shared


def Value(typecode_or_type: str | type, *args: Any, lock: Any = True) -> Any:
    """Return an object of `ctypes` in shared memory that is read and written under a lock.

    Parameters
    ----------
    typecode_or_type, *args
        As for `RawValue`, which also tells the errors.
    lock : lock or bool, optional
        The lock: by default a new `RLock`; any other lock; or False for none, which returns a `RawValue`.

    Returns
    -------
    multiprocessing.sharedctypes.Synchronized
        With ``value``, or the fields of a structure, each of which takes the lock for a moment; ``get_obj()``, the
        object without the lock; ``get_lock()``, ``acquire()``, ``release()``; and ``with value:``, which holds the
        lock. Changes that depend on what was there need the lock around all of it. A process that is killed while it
        holds the lock stops nobody: others get `OwnerDiedError`, see `Lock`.

    Raises
    ------
    AttributeError
        The lock has no method ``acquire``.

    Examples
    --------
    >>> import onecopy as oc
    >>> value = oc.Value("i", 5)
    >>> with value.get_lock():
    ...     value.value += 1
    >>> value.value
    6
    """
    return _with_lock(lambda: RawValue(typecode_or_type, *args), lock)


def Array(typecode_or_type: str | type, size_or_initializer: int | Sequence[Any], *, lock: Any = True) -> Any:
    """Return an array of `ctypes` in shared memory that is read and written under a lock.

    Parameters
    ----------
    typecode_or_type, size_or_initializer
        As for `RawArray`, which also tells the errors.
    lock : lock or bool, optional
        As for `Value`.

    Returns
    -------
    multiprocessing.sharedctypes.SynchronizedArray
        With items and slices, the length, and the methods that `Value` tells; an array of ``'c'`` also has ``value``,
        the bytes before the first zero, and ``raw``, all bytes.

    Examples
    --------
    >>> import numpy as np, onecopy as oc
    >>> items = oc.Array("d", 4)
    >>> items[1:3] = [1.5, 2.5]
    >>> len(items), items[:]
    (4, [0.0, 1.5, 2.5, 0.0])
    >>> with items.get_lock():
    ...     np.frombuffer(items.get_obj())[:] += 1
    >>> items[3]
    1.0
    """
    return _with_lock(lambda: RawArray(typecode_or_type, size_or_initializer), lock)
