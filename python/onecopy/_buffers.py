"""What a pickler writes of an object, and the buffers that it sets aside, so that they need not be copied into it."""

from __future__ import annotations

import copyreg
import pickle
from collections import ChainMap
from collections.abc import Callable
from importlib import import_module
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np

from onecopy import _native
from onecopy._arrays import Array
from onecopy._pickling import DERIVED

#: Reducers of classes for stored objects; first of all arrays, of which numpy's own would copy many into the stream.
REDUCERS: dict[type, Callable[[Any], Any]] = {}


Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class Pickled(NamedTuple):
    """An object as pickle sees it."""

    stream: Bytes
    buffers: list[Bytes]


def aside(array: Bytes) -> pickle.PickleBuffer:
    """Mark bytes as what the pickler is to set aside."""
    return pickle.PickleBuffer(array)  # type: ignore[arg-type]  # a buffer only for the type checkers of later Pythons


def _reduce_array(array: Array) -> Any:
    if not _native.is_plain(array.dtype) or array.itemsize == 0:
        return array.__reduce__()
    if array.size == 0:
        # Numpy's own way would lose the byte order.
        return np.ndarray, (array.shape, array.dtype)
    span, offset = _native.span(array)
    if span.nbytes > array.nbytes and not _native.is_shared(array):
        # Gaps are worth less than a copy of the items.
        return _reduce_array(array.copy(order="K"))
    return np.ndarray, (array.shape, array.dtype, aside(span), offset, array.strides)


REDUCERS[np.ndarray] = _reduce_array


class _Pickler(pickle.Pickler):
    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        # One dictionary: a chain of them would cost a microsecond for each object of a class that is in none.
        self.dispatch_table = {**copyreg.dispatch_table, **DERIVED, **REDUCERS}


def _with_cloudpickle() -> type[pickle.Pickler] | None:
    try:
        cloudpickle: Any = import_module("cloudpickle")
    except ImportError:
        return None

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # it is not typed
        dispatch_table = ChainMap(REDUCERS, DERIVED, cloudpickle.Pickler.dispatch_table)  # noqa: RUF012

    return Pickler


def _dump(pickler: type[pickle.Pickler], obj: Any) -> Pickled:
    buffers: list[Bytes] = []

    def set_aside(buffer: pickle.PickleBuffer) -> bool:
        try:
            buffers.append(np.frombuffer(buffer.raw(), np.uint8))
        except BufferError:
            return True  # It has gaps: into the stream, if pickle can do that.
        return False

    stream = BytesIO()
    pickler(stream, 5, buffer_callback=set_aside).dump(obj)
    return Pickled(np.frombuffer(stream.getbuffer(), np.uint8), buffers)


#: What says that something cannot be pickled; locks and queues raise the last outside of the start of a process.
_REFUSALS = (pickle.PicklingError, TypeError, AttributeError, RuntimeError)


def dump(obj: Any) -> Pickled:
    """Pickle an object; functions and classes that pickle refuses by value, if cloudpickle is there.

    Raises
    ------
    pickle.PicklingError, TypeError, AttributeError, RuntimeError
        What pickle raises, with a message that says which part of the object it is.
    """
    try:
        return _dump(_Pickler, obj)
    except _REFUSALS as error:
        refusal: Exception = error
    by_value = _with_cloudpickle()
    if by_value is not None and not isinstance(refusal, RuntimeError):
        try:
            return _dump(by_value, obj)
        except _REFUSALS as error:
            refusal = error
    if isinstance(refusal, RecursionError):
        raise refusal
    from onecopy import _unpicklable

    raise _unpicklable.explained(refusal, obj, by_value or _Pickler) from refusal


def load(pickled: Pickled) -> Any:
    """Make the object again, over the same buffers."""
    return pickle.loads(memoryview(pickled.stream), buffers=pickled.buffers)  # type: ignore[arg-type]  # as above
