"""Types of other packages whose own pickling would copy what onecopy can share. None of the packages is imported here.

Each is brought down to arrays, which both kinds of pickler then treat as all arrays: that of `multiprocessing`'s
channels and queues, and that of stored objects.
"""

from __future__ import annotations

import copyreg
import warnings
from importlib import import_module
from multiprocessing.reduction import ForkingPickler
from types import ModuleType
from typing import Any

import numpy as np

from onecopy import _native
from onecopy._arrays import Array
from onecopy._buffers import REDUCERS
from onecopy._imports import when_imported
from onecopy._pickling import LEAST_BYTES_TO_MOVE

#: How pickle makes an object whose class has no way of its own: without calling `__init__`.
_new: Any = vars(copyreg)["__newobj__"]

# --- Arrow: tables, arrays, batches and scalars are made of buffers ---


def _register_arrow(pyarrow: ModuleType) -> None:
    # Stored objects need nothing: with protocol 5, Arrow sets its buffers aside by itself.
    for name in ("Buffer", "ResizableBuffer"):
        ForkingPickler.register(getattr(pyarrow, name), _send_arrow)


def _send_arrow(buffer: Any) -> Any:
    if buffer.size and buffer.is_cpu:
        array: Array = np.frombuffer(buffer, np.uint8)
        if array.nbytes >= LEAST_BYTES_TO_MOVE or _native.is_shared(array):
            return _arrow_of, (array,)
    return buffer.__reduce_ex__(4)


def _arrow_of(array: Array) -> Any:
    pyarrow: Any = import_module("pyarrow")

    return pyarrow.py_buffer(array)


# --- pandas: only columns in Arrow's memory need help; all others are numpy arrays ---


def _register_pandas(pandas: ModuleType) -> None:
    for name in ("ArrowExtensionArray", "ArrowStringArray"):
        class_ = getattr(pandas.arrays, name, None)
        if class_ is not None:
            REDUCERS[class_] = _reduce_arrow_column
            ForkingPickler.register(class_, _reduce_arrow_column)


def _reduce_arrow_column(column: Any) -> Any:
    state = dict(vars(column))
    chunks: list[Any] = getattr(state.get("_pa_array"), "chunks", [])
    if len(chunks) != 1 or not _is_worth_sending_whole(chunks[0]):
        return column.__reduce_ex__(4)
    # As pandas pickles it, but for a copy that it makes even of a single chunk.
    state["_pa_array"] = chunks[0]
    if "_cache" in state:
        state["_cache"] = {}
    return _new, (type(column),), state


def _is_worth_sending_whole(chunk: Any) -> bool:
    """Tell whether the buffers of an array are shared or hardly larger than what of them the array uses."""
    buffers = [np.frombuffer(buffer, np.uint8) for buffer in chunk.buffers() if buffer is not None and buffer.size]
    return sum(buffer.nbytes for buffer in buffers) <= 2 * chunk.nbytes + 1024 or all(map(_native.is_shared, buffers))


# --- polars: frames and series are Arrow tables and arrays inside ---


def _register_polars(polars: ModuleType) -> None:
    for class_ in (polars.DataFrame, polars.Series):
        REDUCERS[class_] = _reduce_polars
        ForkingPickler.register(class_, _reduce_polars)


def _reduce_polars(data: Any) -> Any:
    polars: Any = import_module("polars")

    dtypes = [data.dtype] if isinstance(data, polars.Series) else data.dtypes
    if any(_has_objects(polars, dtype) for dtype in dtypes):
        # Arrow would get the addresses of the objects for items.
        return data.__reduce_ex__(4)
    try:
        arrow = data.to_arrow(compat_level=polars.CompatLevel.newest())
    except Exception:
        # No pyarrow, or a polars without these levels: as polars pickles it.
        return data.__reduce_ex__(4)
    if isinstance(data, polars.Series):
        return _series_of, (arrow, data.name, data.dtype)
    return _frame_of, (arrow, dict(data.schema))


def _has_objects(polars: ModuleType, dtype: Any) -> bool:
    fields = getattr(dtype, "fields", ())  # of a structure; lists and arrays have one inner type
    inner = [field.dtype for field in fields] if fields else [getattr(dtype, "inner", None)]
    return bool(dtype == polars.Object) or any(_has_objects(polars, part) for part in inner if part is not None)


def _frame_of(table: Any, schema: dict[str, Any]) -> Any:
    polars: Any = import_module("polars")

    frame: Any = polars.from_arrow(table, rechunk=False)
    # A type of which Arrow knows less than polars.
    return frame if frame.schema == schema else frame.cast(schema)


def _series_of(array: Any, name: str, dtype: Any) -> Any:
    polars: Any = import_module("polars")

    series = polars.from_arrow(array, rechunk=False)
    return (series if series.dtype == dtype else series.cast(dtype)).alias(name)


# --- torch: a tensor on the CPU is an array ---


def _register_torch(torch: ModuleType) -> None:
    REDUCERS[torch.Tensor] = _store_tensor
    for class_ in (torch.Tensor, torch.nn.Parameter):
        # What torch itself registered: it moves a tensor into shared memory of its own, for both sides to write to.
        theirs = ForkingPickler._extra_reducers.get(class_)  # type: ignore[attr-defined]
        ForkingPickler.register(class_, _TensorSender(theirs))


class _TensorSender:
    """Sends tensors in the arena by handle, and leaves all others to torch."""

    def __init__(self, theirs: Any) -> None:
        self._theirs = theirs

    def __call__(self, tensor: Any) -> Any:
        array = _array_of_tensor(tensor)
        if array is not None and _native.is_shared(array):
            return _tensor_of, (array, tensor.dtype, tensor.requires_grad, type(tensor).__name__ == "Parameter")
        return self._theirs(tensor) if self._theirs else tensor.__reduce_ex__(4)


def _store_tensor(tensor: Any) -> Any:
    array = _array_of_tensor(tensor)
    if array is None:
        return tensor.__reduce_ex__(5)
    return _tensor_of, (array, tensor.dtype, tensor.requires_grad, False)


def _array_of_tensor(tensor: Any) -> Array | None:
    """Return the items as an array of their bits; none for a tensor that is more than its items in the CPU's memory."""
    torch: Any = import_module("torch")

    plain = tensor.device.type == "cpu" and tensor.layout == torch.strided and not tensor.is_quantized
    if not plain or not tensor.is_leaf or tensor.is_conj() or tensor.is_neg() or tensor.__dict__:
        return None
    array: Array = tensor.detach().view(_same_size(tensor.dtype)).numpy()
    return array


def _same_size(dtype: Any) -> Any:
    """Return a type of the same size that numpy has too."""
    torch: Any = import_module("torch")

    sizes = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.complex128}
    return sizes[dtype.itemsize]


def _tensor_of(array: Array, dtype: Any, requires_grad: bool, parameter: bool) -> Any:
    torch: Any = import_module("torch")

    with warnings.catch_warnings():
        # Torch has no read-only tensors, and says so.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ", category=UserWarning)
        tensor = torch.from_numpy(array).view(dtype)
    if parameter:
        return torch.nn.Parameter(tensor, requires_grad)
    return tensor.requires_grad_(requires_grad)


when_imported("pyarrow", _register_arrow)
when_imported("pandas", _register_pandas)
when_imported("polars", _register_polars)
when_imported("torch", _register_torch)
