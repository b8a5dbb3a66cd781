"""Which filters a dataset has, in which chunks, and who runs them: the native code on all cores, or libhdf5."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any, Literal

import h5py
import numpy as np

Chunks = bool | int | tuple[int, ...] | None

# The chunk cache that libhdf5 gives a dataset by default: a larger chunk would be decoded anew for each access.
_CHUNK_BYTES = 1 << 20
_GZIP_LEVEL = 4
_NATIVE_CODECS: dict[int, Literal["gzip", "lzf"]] = {h5py.h5z.FILTER_DEFLATE: "gzip", h5py.h5z.FILTER_LZF: "lzf"}


@dataclass(frozen=True)
class Codec:
    """Filters that the native code applies."""

    name: Literal["gzip", "lzf"]
    level: int
    shuffle: bool


@dataclass(frozen=True)
class Filters:
    """The filter options of a dataset, named as in h5py.

    Raises
    ------
    ValueError
        An option that does not exist or does not fit the others.
    """

    chunks: Chunks = None
    compression: str | int | None = None
    compression_opts: Any = None
    shuffle: bool | None = None
    fletcher32: bool = False

    def __post_init__(self) -> None:
        if type(self.compression) is int and 0 <= self.compression <= 9:
            if self.compression_opts is not None:
                raise ValueError(f"compression={self.compression} is a gzip level already: leave compression_opts out")
            object.__setattr__(self, "compression_opts", self.compression)
            object.__setattr__(self, "compression", "gzip")
        if self.compression == "gzip" and self.compression_opts is None:
            object.__setattr__(self, "compression_opts", _GZIP_LEVEL)
        self._check()

    def _check(self) -> None:
        if isinstance(self.compression, str) and self.compression not in ("gzip", "lzf", "szip"):
            known = "'gzip', 'lzf', 'szip' or the number of an HDF5 filter"
            raise ValueError(f"compression {self.compression!r}: give {known}")
        if self.compression == "gzip" and self.compression_opts not in range(10):
            raise ValueError(f"gzip level {self.compression_opts!r}: give 0 (none) to 9 (smallest)")
        if self.compression == "lzf" and self.compression_opts is not None:
            raise ValueError("lzf has no levels: leave compression_opts out")
        if self.chunks is False and self._filtered:
            raise ValueError("chunks=False, but filters work on chunks: leave it out or switch the filters off")

    @property
    def _filtered(self) -> bool:
        return self.compression is not None or bool(self.shuffle) or self.fletcher32

    def for_dataset(self, shape: tuple[int, ...], dtype: np.dtype[Any], *, growing: bool = False) -> dict[str, Any]:
        """Return the keywords for ``h5py.Group.create_dataset``.

        A dataset without elements or axes has neither chunks nor filters, unless it is `growing` along its first axis.
        """
        if not shape or (0 in shape and not growing):
            return {}
        if not growing and not self._filtered and (self.chunks is None or self.chunks is False):
            return {}
        native = self.compression in ("gzip", "lzf")
        shuffle = native and dtype.itemsize > 1 if self.shuffle is None else self.shuffle
        options = {"compression": self.compression, "compression_opts": self.compression_opts, "shuffle": shuffle}
        return {**options, "chunks": chunk_shape(shape, dtype, self.chunks, growing), "fletcher32": self.fletcher32}


def chunk_shape(shape: tuple[int, ...], dtype: np.dtype[Any], chunks: Chunks, growing: bool = False) -> tuple[int, ...]:
    """Return the shape of a chunk: as given, or about 1 MiB of elements that are consecutive in memory.

    An integer is a number of rows (indices of the first axis). No axis of a chunk is longer than that of the array,
    except the first one of an array that grows.
    """
    if isinstance(chunks, tuple):
        if len(chunks) != len(shape) or any(n < 1 for n in chunks):
            raise ValueError(f"chunks {chunks} do not fit shape {shape}: give one size of at least 1 for each axis")
        wanted = chunks
    elif chunks is None or isinstance(chunks, bool):
        wanted = _automatic(shape, dtype.itemsize)
    elif chunks < 1:
        raise ValueError(f"chunks={chunks}: give at least 1 row")
    else:
        wanted = (chunks, *shape[1:])
    limits = (wanted[0] if growing else shape[0], *shape[1:])
    return tuple(max(1, min(size, limit)) for size, limit in zip(wanted, limits, strict=True))


def _automatic(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Cut as few axes as possible, the first ones: an inner axis stays whole as long as it fits."""
    room = max(1, _CHUNK_BYTES // max(1, itemsize))
    inner = [max(1, math.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    return tuple(max(1, room // size) for size in inner)


def native_codec(dataset: h5py.Dataset) -> Codec | None:
    """Return the filters of a dataset when the native code can run all of them on its bytes as they are."""
    if not dataset.chunks or not has_numpy_bytes(dataset):
        return None
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(i) for i in range(properties.get_nfilters())]
    shuffle = bool(filters) and filters[0][0] == h5py.h5z.FILTER_SHUFFLE
    if len(filters) != 1 + shuffle or filters[-1][0] not in _NATIVE_CODECS:
        return None
    number, _, values, _ = filters[-1]
    name = _NATIVE_CODECS[number]
    return Codec(name, values[0] if name == "gzip" else 0, shuffle)


def has_numpy_bytes(dataset: h5py.Dataset) -> bool:
    """Tell whether the type in the file has the very bytes that numpy has: a conversion is libhdf5's."""
    dtype = dataset.dtype
    if dtype.hasobject or dtype.kind == "T":
        return False
    return bool(h5py.h5t.py_create(dtype, logical=True) == dataset.id.get_type())


def thread_count(threads: int | None) -> int:
    """Return the number of threads asked for, or else of processors that this process may use."""
    if threads is None:
        return len(os.sched_getaffinity(0))
    if threads < 1:
        raise ValueError(f"threads={threads}: give at least 1, or None for all processors")
    return threads
