"""How arrays travel through `multiprocessing`: as handles.

The reducers are registered with the pickler that `multiprocessing` uses for queues, pipes, process arguments and pools,
and nowhere else: `pickle.dump` to a file still stores the data.
"""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from onecopy import _auditor, _native
from onecopy._arrays import Array, _move_in
from onecopy._imports import when_imported

if TYPE_CHECKING:
    import numpy.typing as npt

#: Arrays outside the arena from this size on, in bytes, are copied into it once and travel as handles.
LEAST_BYTES_TO_MOVE = _native.LEAST_BYTES_TO_MOVE


def _handle_of(array: Array) -> bytes | None:
    """Return a handle of the array if it is shared or worth being moved in."""
    handle, how, why = _native.encode(array), "handle", "it is shared"
    if handle is None and array.nbytes >= LEAST_BYTES_TO_MOVE and _native.is_plain(array.dtype):
        # The message alone keeps the copy, so the receiver is its only holder, as it would be of an unpickled array.
        handle, how = _native.encode(_move_in(array)), "moved in"
        why = "it was not shared: make it by onecopy.array, or share it once"
    if _auditor.note is not None and handle is not None:
        _auditor.note(how, _describe(array), why, array.nbytes)
    return handle


def _in_message(array: Array) -> Any:
    """Reduce an array whose items, or whose objects, travel in the message."""
    _native.count_copied(array.nbytes)
    if _auditor.note is not None:
        plain = _native.is_plain(array.dtype)
        below = f"below {LEAST_BYTES_TO_MOVE >> 10} KiB, and not shared"
        why = below if plain else f"dtype {array.dtype} has no items of a fixed size: they are pickled"
        _auditor.note("copied", _describe(array), why, array.nbytes)
    return array.__reduce__()


def _describe(array: Array) -> str:
    return f"{type(array).__name__} of {array.dtype if array.dtype.names is None else 'records'}"


def _reduce_array(array: Array) -> Any:
    handle = _handle_of(array)
    if handle is None:
        return _in_message(array)
    if array.dtype.metadata is not None:
        return _as_class, (handle, array.dtype, np.ndarray)
    return _native.decode, (handle,)


def _reduce_derived(array: Array) -> Any:
    """Reduce an array of a derived class whose only state is its dtype; the items travel as a plain array does."""
    if not _native.is_plain(array.dtype):
        return _in_message(array)
    return _view_as, (array.view(np.ndarray), array.dtype, type(array))


def _view_as(plain: Array, dtype: np.dtype[Any], class_: type[Array]) -> Array:
    return plain.view(dtype, class_)


def _as_class(handle: bytes, dtype: np.dtype[Any], class_: type[Array]) -> Array:
    return _view_as(_native.decode(handle), dtype, class_)


def _reduce_memmap(array: Array) -> Any:
    # The receiver has no use for the file: it gets the items, as a plain array.
    return np.asarray, (array.view(np.ndarray),)


def _reduce_masked(array: np.ma.MaskedArray[Any, Any]) -> Any:
    plain = np.asarray(array.data)
    if not _native.is_plain(plain.dtype):
        return _in_message(array)
    mask = array.mask if array.mask is np.ma.nomask else np.asarray(array.mask)
    return _as_masked, (plain, mask, array.fill_value, array.hardmask)


def _as_masked(
    data: Array, mask: npt.NDArray[np.bool_] | np.bool_, fill_value: Any, hard: bool
) -> np.ma.MaskedArray[Any, Any]:
    return np.ma.MaskedArray(data, mask, fill_value=fill_value, hard_mask=hard, shrink=False)


#: Reducers of classes derived from `numpy.ndarray`: to a plain array and what else belongs to it.
DERIVED: dict[type, Callable[[Any], Any]] = {
    np.recarray: _reduce_derived,
    np.matrix: _reduce_derived,
    np.memmap: _reduce_memmap,
}


def _register_masked(ma: ModuleType) -> None:
    DERIVED[ma.MaskedArray] = _reduce_masked
    ForkingPickler.register(ma.MaskedArray, _reduce_masked)


def _register() -> None:
    ForkingPickler.register(np.ndarray, _reduce_array)
    for derived, reduce in DERIVED.items():
        ForkingPickler.register(derived, reduce)
    # Most programs have no masked arrays, and their module takes longer to import than all of this package.
    when_imported("numpy.ma", _register_masked)


_register()
