"""Values under a name, for unrelated programs of the same user."""

from __future__ import annotations

import io
import pickle
from typing import Any, cast

import numpy as np

from onecopy import _native
from onecopy._arrays import Array, Place, _lies_in, share_array
from onecopy._pickling import DERIVED, LEAST_BYTES_TO_MOVE


def publish(name: str, obj: Any, *, replace: bool = False) -> None:
    """Put a value under a name, by which any program of this user finds it.

    Parameters
    ----------
    name : str
        1 to 100 ASCII letters, digits, ``.``, ``_`` or ``-``, not beginning with ``.``.
    obj : object
        An array, or anything that pickles. A shared array is not copied, and receivers may write to it if this process
        may; of any other, a read-only copy is published. Arrays inside other objects travel in the same way.
    replace : bool, optional
        Take the name over from what has it now.

    Raises
    ------
    NameTakenError
        Something has that name.
    OutOfMemoryError
        There is not enough memory.
    ValueError
        The name is not one, or an array lies in another arena.

    Notes
    -----
    The value lives until it is unpublished or the last process that shares this arena has ended, however it ended. The
    name is found as long as this process, or one that attached it by name, lives.

    Examples
    --------
    >>> import onecopy as oc
    >>> oc.publish("example", oc.array([1, 2, 3]), replace=True)
    >>> oc.attach("example")
    array([1, 2, 3])
    >>> oc.unpublish("example")
    """
    payload, arrays = parts_of(obj)
    _native.publish(name, payload, arrays, replace)


def attach(name: str, *, allow_pickle: bool = False) -> Any:
    """Return the value that has a name.

    Parameters
    ----------
    name : str
        As given to `onecopy.publish`, by any program of this user.
    allow_pickle : bool, optional
        Also load values that are no plain arrays. Loading such a value runs code that its publisher chose.

    Returns
    -------
    object
        An array without a copy, or an object whose large arrays are not copied.

    Raises
    ------
    NameUnknownError
        Nothing has that name; the message lists what there is.
    ValueError
        The value is no plain array, and `allow_pickle` is False; or the name is not one.

    Examples
    --------
    >>> import onecopy as oc
    >>> oc.publish("settings", {"rate": 2}, replace=True)
    >>> oc.attach("settings", allow_pickle=True)
    {'rate': 2}
    >>> oc.unpublish("settings")
    """
    return whole(name, *_native.attach(name), allow_pickle=allow_pickle)


def unpublish(name: str) -> None:
    """Take a name away; processes that have attached its value keep it.

    Parameters
    ----------
    name : str
        As given to `onecopy.publish`.

    Raises
    ------
    NameUnknownError
        Nothing has that name.

    Examples
    --------
    >>> import onecopy as oc
    >>> oc.publish("short-lived", oc.zeros(2), replace=True)
    >>> oc.unpublish("short-lived")
    """
    _native.unpublish(name)


def parts_of(obj: Any, place: Place = None) -> tuple[bytes | None, list[Array]]:
    """Return what is pickled of a value, None for a plain array, and its arrays, which lie in an arena then."""
    pickler = _Pickler(buffer := io.BytesIO(), place)
    if type(obj) is np.ndarray and _native.is_plain(obj.dtype):
        return None, [pickler.shared(obj)]
    pickler.dump(obj)
    return buffer.getvalue(), pickler.arrays


def whole(name: str, payload: bytes | None, arrays: list[Array], *, allow_pickle: bool) -> Any:
    """Return the value that was published as these parts."""
    if payload is None:
        return arrays[0]
    if not allow_pickle:
        raise ValueError(f"{name!r} is no plain array: if you trust its publisher, say attach(..., allow_pickle=True)")
    return _Unpickler(io.BytesIO(payload), arrays).load()


class _Pickler(pickle.Pickler):
    """Sets arrays aside that are shared, or large enough to be worth it."""

    def __init__(self, file: io.BytesIO, place: Place) -> None:
        super().__init__(file, protocol=5)
        self.arrays: list[Array] = []
        self._place = place

    def shared(self, array: Array) -> Array:
        """Return the array, or a copy that can be read, in the arena in which the value is published."""
        return array if _lies_in(array, self._place) else share_array(array, "ro", self._place)

    def persistent_id(self, obj: Any) -> int | None:
        if type(obj) is not np.ndarray or not _native.is_plain(obj.dtype):
            return None
        if obj.nbytes < LEAST_BYTES_TO_MOVE and not _native.is_shared(obj):
            return None
        self.arrays.append(self.shared(obj))
        return len(self.arrays) - 1

    def reducer_override(self, obj: Any) -> Any:
        reduce = DERIVED.get(type(obj))
        return NotImplemented if reduce is None else reduce(obj)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, arrays: list[Array]) -> None:
        super().__init__(file)
        self._arrays = arrays

    def persistent_load(self, pid: Any) -> Array:
        return cast(Array, self._arrays[pid])
