"""`to_zarr`: arrays by name as a Zarr store, which xarray and dask open."""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from onecopy._arrays import Array, is_masked
from onecopy._export.directory import atomic_directory
from onecopy._export.missing import needed
from onecopy._export.text import native_text
from onecopy._names import check_name

Chunks = int | tuple[int, ...]

# How much of an array is converted and handed over at a time.
_BLOCK_BYTES = 64 << 20
# Parts of names that mean something in a store.
_FORBIDDEN = {"..", "zarr.json"}


def to_zarr(
    path: str | os.PathLike[str],
    data: Mapping[str, npt.ArrayLike] | npt.ArrayLike,
    *,
    chunks: Chunks | Mapping[str, Chunks] | None = None,
    mode: Literal["x", "w"] = "x",
    attrs: Mapping[str, Mapping[str, Any]] | None = None,
    dims: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    coords: Mapping[str, npt.ArrayLike] | None = None,
) -> None:
    """Write arrays into a Zarr store (version 3 of the format), a directory.

    The directory appears under its name only when it is complete and on the disk. After an error, Ctrl-C or a kill,
    what was there before is unchanged. Needs zarr 3.1 or later.

    Parameters
    ----------
    path : str or path-like
        The directory.
    data : mapping of str to array, or array
        The arrays by name; a name may contain groups: ``"run1/reads"``. Records become a group with an array for each
        field. A single array gets the name ``data``.
    chunks : int, tuple of int, or mapping of str to these, optional
        Shape of the chunks, of all arrays in `data` or by name; an integer is a number of rows. By default as zarr
        chooses it. Those of records are cut along the axes of the records.
    mode : {"x", "w"}, default "x"
        "x" refuses what exists, "w" replaces a Zarr store, and nothing else.
    attrs : mapping of str to mapping, optional
        Attributes by name: what JSON has, numbers and arrays of numpy, and dates, which become text.
    dims : sequence of str, or mapping of str to sequence of str, optional
        Names of the axes: of all arrays that have as many, or by name.
    coords : mapping of str to array, optional
        The coordinates along a dimension: one value (a number, a date, a string) for each index. They become arrays of
        these names.

    Raises
    ------
    ImportError
        zarr is not installed.
    FileExistsError
        Mode "x" and the path exists, or mode "w" and it is no Zarr store.
    TypeError
        A type that Zarr lacks (raw bytes, ``longdouble``, Python objects), or a masked array. An attribute that JSON
        lacks.
    ValueError
        Dimensions or coordinates of other lengths than the axes, chunks of other axes, names that are taken or cannot
        be, or bytes (type ``S``) that are no UTF-8.

    See Also
    --------
    to_hdf5 : One file, compressed on all cores.

    Examples
    --------
    >>> import numpy as np, onecopy as oc, os, tempfile, xarray
    >>> path = os.path.join(tempfile.mkdtemp(), "t2m.zarr")
    >>> oc.to_zarr(path, {"t2m": np.zeros((2, 3), "f4")}, dims=["time", "site"], coords={"site": ["A", "B", "C"]})
    >>> dict(xarray.open_zarr(path, consolidated=False).sizes)
    {'time': 2, 'site': 3}
    """
    # They come with h5py, which is not needed before.
    from onecopy._hdf5.dimensions import Labels

    labels = Labels(dims, coords)
    arrays = _arrays(data)
    for name, array in arrays.items():
        labels.add(name, array.shape)
    labels.check()
    for name, values in labels.coords.items():
        if name in arrays:
            raise ValueError(f"coords for {name!r}, but that is the name of an array: leave it out of one of them")
        arrays[name], labels.axes[name] = _text_again(values), [name]
    _check_free(arrays)
    for what, given in ("attrs", attrs or {}), ("chunks", chunks if isinstance(chunks, Mapping) else {}):
        if unknown := set(given) - set(arrays):
            raise ValueError(f"{what} for {', '.join(map(repr, sorted(unknown)))}, but there is no such array")
    with new_store(path, mode) as writer:
        for name, array in arrays.items():
            # Chunks of the grid would not fit coordinates.
            for_all = None if isinstance(chunks, Mapping) or name in labels.coords else chunks
            cut = _cut(name, array.shape, chunks.get(name) if isinstance(chunks, Mapping) else for_all)
            writer.write(name, array, (attrs or {}).get(name, {}), chunks=cut, axes=labels.axes.get(name))


@contextmanager
def new_store(path: str | os.PathLike[str], mode: Literal["x", "w"]) -> Iterator[ZarrWriter]:
    """Give a writer for a store, which gets its name when the context ends without an error."""
    needed("zarr", "to_zarr", having="dtype")
    if mode not in ("x", "w"):
        raise ValueError(f"mode {mode!r}: give 'x' (refuse what exists) or 'w' (replace a Zarr store)")
    with atomic_directory(path, replace=mode == "w") as folder:
        yield ZarrWriter(folder)


class ZarrWriter:
    """A Zarr store that is being written, in a directory that is empty at first."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        import zarr

        self._root = zarr.create_group(store=os.fspath(folder), zarr_format=3, overwrite=True)
        self._root.attrs["creator"] = "onecopy"

    def write(
        self,
        name: str,
        array: Array,
        attrs: Mapping[str, Any],
        *,
        chunks: tuple[int, ...] | None = None,
        axes: Sequence[str] | None = None,
    ) -> None:
        """Write an array; records as a group of their fields."""
        if array.dtype.names is not None:
            group = self._root.require_group(name)
            group.attrs.update(_as_json(name, attrs))
            rows = axes or [f"row{axis or ''}" for axis in range(array.ndim)]
            for field in array.dtype.names:
                inner = [f"{field}{axis}" for axis in range(array[field].ndim - array.ndim)]
                cut = chunks and (*chunks, *array[field].shape[array.ndim :])
                self.write(f"{name}/{field}", array[field], {}, chunks=cut, axes=[*rows, *inner])
            return
        leaf = name.rsplit("/", 1)[-1]
        target = self._root.create_array(
            name,
            shape=array.shape,
            dtype=_zarr_type(name, array.dtype),
            chunks=chunks or "auto",
            dimension_names=list(axes or (f"{leaf}{axis}" for axis in range(array.ndim))),
            attributes=_as_json(name, attrs),
        )
        if array.ndim == 0:
            target[...] = _text(name, array)
        elif array.size:
            whole = target.chunks[0]
            step = max(1, _BLOCK_BYTES // max(1, array.nbytes // len(array)) // whole) * whole
            for first in range(0, len(array), step):
                target[first : first + step] = _text(name, array[first : first + step])


def _zarr_type(name: str, dtype: np.dtype[Any]) -> Any:
    from zarr.dtype import VariableLengthUTF8

    if dtype.kind in "SU":
        return VariableLengthUTF8()
    if dtype.kind in "mM" and np.datetime_data(dtype)[0] == "generic":
        raise TypeError(f"array {name!r}: Zarr has no type for dtype {dtype}: give it a unit, with astype('M8[s]')")
    if dtype.kind in "biufcmM" and dtype.itemsize <= (16 if dtype.kind == "c" else 8):
        return dtype
    way_out = "convert it first, for example with astype('f8') or view('u1')"
    raise TypeError(f"array {name!r}: Zarr has no type for dtype {dtype}: {way_out}")


def _text(name: str, array: Array) -> Array:
    if array.dtype.kind == "U":
        return native_text(array, f"array {name!r}")
    if array.dtype.kind != "S":
        return array
    try:
        return np.char.decode(array, "utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"array {name!r} has bytes that are no UTF-8 text: decode it to U first") from None


def _text_again(values: Array) -> Array:
    return values.astype("U") if values.dtype.kind == "O" else values


def _arrays(data: Any) -> dict[str, Array]:
    named = data if isinstance(data, Mapping) else {"data": data}
    for name, array in named.items():
        check_name(name)
        if not _FORBIDDEN.isdisjoint(name.split("/")) or "\\" in name:
            raise ValueError(
                f"{name!r} is no name for an array: give one without '\\', and '..' or 'zarr.json' as a part"
            )
        if is_masked(array):
            raise TypeError(f"array {name!r} is a masked array, and Zarr has no mask: give array.filled(value)")
    return {name: np.asarray(array) for name, array in named.items()}


def _check_free(arrays: Mapping[str, Array]) -> None:
    """Raise `ValueError` when two arrays would be one directory, or one inside of another."""
    found = {leaf: name for name, array in arrays.items() for leaf in _leaves(name, array.dtype)}
    taken: dict[str, str] = {}
    for name, array in arrays.items():
        for leaf in _leaves(name, array.dtype):
            if (other := taken.setdefault(leaf, name)) != name:
                raise ValueError(f"{name!r} and {other!r} are one name: give one of them another")
            groups = ("/".join(leaf.split("/")[:depth]) for depth in range(1, leaf.count("/") + 1))
            for group in groups:
                if group in found:
                    raise ValueError(f"{name!r}: {group!r} is an array and no group, give another name")


def _leaves(name: str, dtype: np.dtype[Any]) -> Iterator[str]:
    """Return the names of the arrays that one becomes, without empty parts."""
    if dtype.names is None:
        yield "/".join(part for part in name.split("/") if part)
    for field in dtype.names or ():
        yield from _leaves(f"{name}/{field}", dtype[field].base)


def _cut(name: str, shape: tuple[int, ...], chunks: Chunks | None) -> tuple[int, ...] | None:
    if chunks is None:
        return None
    try:
        cut = (
            (operator.index(chunks), *shape[1:])
            if not isinstance(chunks, tuple)
            else tuple(map(operator.index, chunks))
        )
    except TypeError:
        raise TypeError(f"array {name!r}: chunks {chunks!r}: give a tuple of sizes, or a number of rows") from None
    if len(cut) != len(shape) or any(size < 1 for size in cut):
        raise ValueError(
            f"array {name!r}: chunks {chunks} do not fit shape {shape}: give one size of at least 1 for each axis"
        )
    return cut


def _as_json(name: str, attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes as JSON has them."""

    def plain(value: Any) -> Any:
        if isinstance(value, (np.generic, np.ndarray)) and value.dtype.kind in "mM":
            return value.astype("U").tolist()
        if isinstance(value, (np.generic, np.ndarray)) and value.dtype.kind in "biufU":
            return value.tolist()
        raise TypeError

    found = {}
    for key, value in attrs.items():
        try:
            found[key] = json.loads(json.dumps(value, default=plain))
        except (TypeError, ValueError):
            way_out = "give numbers, text, lists of these, or str(value)"
            raise TypeError(
                f"array {name!r}: attribute {key!r} is {value!r:.60}, which JSON lacks: {way_out}"
            ) from None
    return found
