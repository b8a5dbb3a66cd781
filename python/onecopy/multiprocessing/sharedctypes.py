"""Values and arrays of `ctypes`, as `multiprocessing.sharedctypes` names them: those of `onecopy`."""

from __future__ import annotations

import ctypes
import multiprocessing.sharedctypes
from collections.abc import Sequence
from typing import Any

from onecopy import _sharedctypes
from onecopy._sharedctypes import RawArray, RawValue
from onecopy.multiprocessing.synchronize import RLock

_std: Any = multiprocessing.sharedctypes

Synchronized = _std.Synchronized
SynchronizedArray = _std.SynchronizedArray
SynchronizedBase = _std.SynchronizedBase
SynchronizedString = _std.SynchronizedString

__all__ = ["Array", "RawArray", "RawValue", "Value", "copy", "synchronized"]


def __getattr__(name: str) -> Any:
    return getattr(_std, name)


def Value(typecode_or_type: str | type, *args: Any, lock: Any = True, ctx: Any = None) -> Any:
    """Return a value that is read and written under a lock; see `onecopy.Value`."""
    return _sharedctypes.Value(typecode_or_type, *args, lock=_lock_of(lock))


def Array(
    typecode_or_type: str | type, size_or_initializer: int | Sequence[Any], *, lock: Any = True, ctx: Any = None
) -> Any:
    """Return an array that is read and written under a lock; see `onecopy.Array`."""
    return _sharedctypes.Array(typecode_or_type, size_or_initializer, lock=_lock_of(lock))


def _lock_of(lock: Any) -> Any:
    return RLock() if lock is True or lock is None else lock


def synchronized(obj: Any, lock: Any = None, ctx: Any = None) -> Any:
    """Return a wrapper of a shared object of `ctypes` that reads and writes it under a lock.

    Parameters
    ----------
    obj : ctypes object
        From `RawValue` or `RawArray`.
    lock : lock, optional
        The lock; a new one by default.
    ctx : context, optional
        There is no use for it.
    """
    return _sharedctypes._synchronized(obj, _lock_of(lock))


def copy(obj: Any) -> Any:
    """Return a copy in shared memory of an object of `ctypes`."""
    copied = RawValue(type(obj))
    ctypes.memmove(ctypes.addressof(copied), ctypes.addressof(obj), ctypes.sizeof(copied))
    return copied
