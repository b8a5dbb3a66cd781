"""Arrays of every dtype and every kind of view, for the tests that send and store them."""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

DTYPES: list[Any] = [
    "?", "i1", "u1", "<i2", ">i2", "<u4", ">u4", "<i8", ">u8", "f2", ">f2", "f4", ">f4", "f8", ">f8",
    "g", "c8", ">c16", "G", "S1", "S7", "<U3", ">U5", "V5",
    "M8[ns]", "M8[D]", ">M8[s]", "m8[us]", "m8[25m]", "M8",
    [("chr", "S10"), ("pos", "<i4"), ("pct", "<f4"), ("c", "<i4"), ("t", "<i4")],
    [("a", "i1"), ("b", ">f8", (2, 3)), ("c", [("x", "U2"), ("y", "M8[ms]")])],
    np.dtype([("a", "i1"), ("b", "f8")], align=True),
    np.dtype({"names": ["b", "a"], "formats": ["f4", "u2"], "offsets": [8, 1], "itemsize": 20}),
    np.dtype({"names": ["all", "part"], "formats": ["u4", "u1"], "offsets": [0, 2]}),
    [(("a title", "name"), "i4"), ("other", "S3")],
    [],
]  # fmt: skip


def filled(dtype: Any, shape: tuple[int, ...]) -> Array:
    """Return an array whose items differ, deterministically."""
    item = np.dtype(dtype)
    size = int(np.prod(shape)) * item.itemsize
    raw = np.random.default_rng(size + item.itemsize).integers(0, 128, size, dtype="u1")
    if item.kind == "b":
        raw &= 1
    if item.itemsize == 0:
        return np.zeros(shape, item)
    if item.kind == "U" or (item.kind == "V" and item.names):
        return _filled_by_value(item, shape)
    return raw.view(item).reshape(shape)


def _filled_by_value(item: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    array = np.zeros(shape, item)
    if item.names is None:
        array[...] = np.arange(array.size).reshape(shape).astype(item)
    for name in item.names or ():
        array[name] = filled(item[name].base, array[name].shape)
    return array


VIEWS: dict[str, Callable[[Array], Array]] = {
    "whole": lambda a: a,
    "slice": lambda a: a[1:],
    "step": lambda a: a[::2, 1::2],
    "reversed": lambda a: a[::-1],
    "reversed both": lambda a: a[::-2, ::-1],
    "transposed": lambda a: a.T,
    "column": lambda a: a[:, 2],
    "row": lambda a: a[1],
    "one item": lambda a: a[1, 1, ...],
    "no items": lambda a: a[:0],
    "new axis": lambda a: a[:, None, :],
    "broadcast": lambda a: np.broadcast_to(a[0], (4, *a[0].shape)),
    "diagonal": lambda a: a.diagonal(),
}


def identical(a: Array, b: Array) -> bool:
    """Tell whether two arrays have the same class, dtype, shape and bytes of items; padding is not compared."""
    if type(a) is not type(b) or a.shape != b.shape:
        return False
    if a.dtype != b.dtype or a.dtype.isalignedstruct != b.dtype.isalignedstruct:
        return False
    if a.dtype.names is not None:
        return all(identical(np.asarray(a[name]), np.asarray(b[name])) for name in a.dtype.names)
    return a.tobytes() == b.tobytes()
