"""Which filters a dataset has, in which chunks, and who runs them: the native code on all cores, or libhdf5."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import h5py
import numpy as np

Chunks = bool | int | tuple[int, ...] | None
# The same for all datasets, by name (others as by default), or from name, shape and type.
EachChunks = Chunks | Mapping[str, Chunks] | Callable[[str, tuple[int, ...], np.dtype[Any]], Chunks]

# The chunk cache that libhdf5 gives a dataset by default: a larger chunk would be decoded anew for each access.
_CHUNK_BYTES = 1 << 20
# The size of a chunk is a number of 32 bits in files that all releases read.
_MOST_CHUNK_BYTES = (1 << 32) - 1
# The registered numbers, see https://github.com/HDFGroup/hdf5_plugins/blob/master/docs/RegisteredFilterPlugins.md.
_ZSTD = 32015
_NAMES = ("gzip", "lzf", "zstd", "blosc2", "szip")
_LEVELS = {"gzip": (0, 9, 4), "zstd": (1, 22, 3), "blosc2": (0, 9, 5)}
Name = Literal["gzip", "lzf", "zstd"]
_NATIVE_CODECS: dict[int, Name] = {h5py.h5z.FILTER_DEFLATE: "gzip", h5py.h5z.FILTER_LZF: "lzf", _ZSTD: "zstd"}


@dataclass(frozen=True)
class Codec:
    """Filters that the native code applies: perhaps shuffle, then perhaps what `name` says, then perhaps check sums."""

    name: Name | None
    level: int
    shuffle: bool
    fletcher32: bool

    @property
    def filters(self) -> bool:
        """Whether it changes what it is applied to."""
        return self.name is not None or self.shuffle or self.fletcher32


@dataclass(frozen=True)
class Filters:
    """The filter options of a dataset, named as in h5py.

    Raises
    ------
    ValueError
        An option that does not exist or does not fit the others.
    """

    chunks: EachChunks = None
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
        if self.compression in _LEVELS and self.compression_opts is None:
            object.__setattr__(self, "compression_opts", _LEVELS[str(self.compression)][2])
        self._check()

    def _check(self) -> None:
        if self.compression is None and self.compression_opts is not None:
            raise ValueError(f"compression_opts={self.compression_opts!r} without compression: give that too")
        if isinstance(self.compression, str) and self.compression not in _NAMES:
            known = f"{', '.join(map(repr, _NAMES))} or the number of an HDF5 filter"
            raise ValueError(f"compression {self.compression!r}: give {known}")
        if self.compression in _LEVELS:
            fastest, smallest, _ = _LEVELS[str(self.compression)]
            if self.compression_opts not in range(fastest, smallest + 1):
                given = f"{self.compression} level {self.compression_opts!r}"
                raise ValueError(f"{given}: give {fastest} (fastest) to {smallest} (smallest)")
        if self.compression == "lzf" and self.compression_opts is not None:
            raise ValueError("lzf has no levels: leave compression_opts out")
        if self.compression == "blosc2":
            _plugin()

    @property
    def _filtered(self) -> bool:
        return self.compression is not None or bool(self.shuffle) or self.fletcher32

    def for_dataset(
        self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], *, growing: bool = False
    ) -> dict[str, Any]:
        """Return the keywords for ``h5py.Group.create_dataset``.

        A dataset without elements or axes has neither chunks nor filters, unless it is `growing` along its first axis.
        """
        chunks = self._chunks(name, shape, dtype)
        if not shape or (0 in shape and not growing):
            return {}
        if not growing and not self._filtered and (chunks is None or chunks is False):
            return {}
        native = self.compression in _NATIVE_CODECS.values()
        shuffle = native and dtype.itemsize > 1 if self.shuffle is None else self.shuffle
        cut = chunk_shape(shape, dtype, chunks, growing)
        if (size := math.prod(cut) * dtype.itemsize) > _MOST_CHUNK_BYTES:
            raise ValueError(
                f"dataset {name!r}: chunks of {size:,} bytes, and HDF5 has none of 4 GiB: give smaller ones"
            )
        return {**self._compression(), "shuffle": shuffle, "chunks": cut, "fletcher32": self.fletcher32}

    def chunk_rows(self, name: str, empty: np.ndarray[Any, np.dtype[Any]]) -> int:
        """Return how many rows a chunk has at most, of a dataset of rows such as these."""
        chunks = self._chunks(name, empty.shape, empty.dtype)
        return chunk_shape(empty.shape, empty.dtype, chunks, growing=True)[0]

    def _chunks(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Chunks:
        if isinstance(self.chunks, Mapping):
            chunks: Any = self.chunks.get(name)
        else:
            chunks = self.chunks(name, shape, dtype) if callable(self.chunks) else self.chunks
        if chunks is False and self._filtered:
            raise ValueError(f"dataset {name!r}: chunks=False, but filters work on chunks: leave it out")
        if chunks is None or isinstance(chunks, bool):
            return chunks
        try:
            return tuple(map(operator.index, chunks)) if isinstance(chunks, tuple) else operator.index(chunks)
        except TypeError:
            way_out = "give a number of rows, a tuple of sizes, or None"
            raise TypeError(f"dataset {name!r}: chunks {chunks!r}: {way_out}") from None

    def _compression(self) -> dict[str, Any]:
        if self.compression == "zstd":
            # libhdf5 need not have the filter: the chunks come from the native code.
            return {"compression": _ZSTD, "compression_opts": (self.compression_opts,), "allow_unknown_filter": True}
        if self.compression == "blosc2":
            return dict(_plugin().Blosc2(clevel=self.compression_opts))
        return {"compression": self.compression, "compression_opts": self.compression_opts}


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
    filters = {number: values for number, _, values, _ in map(properties.get_filter, range(properties.get_nfilters()))}
    codecs = [number for number in filters if number in _NATIVE_CODECS]
    shuffle, fletcher32 = (number in filters for number in (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32))
    order = [h5py.h5z.FILTER_SHUFFLE] * shuffle + codecs[:1] + [h5py.h5z.FILTER_FLETCHER32] * fletcher32
    if list(filters) != order or len(filters) != properties.get_nfilters():
        return None
    if shuffle and filters[h5py.h5z.FILTER_SHUFFLE] != (dataset.dtype.itemsize,):
        return None
    name = _NATIVE_CODECS[codecs[0]] if codecs else None
    return Codec(name, _level(name, filters[codecs[0]] if codecs else ()), shuffle, fletcher32)


def _level(name: Name | None, values: tuple[int, ...]) -> int:
    """Return the level with which a dataset was written; the usual one where it has none that is known."""
    fastest, smallest, usual = _LEVELS.get(name or "", (0, 0, 0))
    return values[0] if values and fastest <= values[0] <= smallest else usual


def _plugin() -> Any:
    """Import the filters that libhdf5 lacks, and make them known to it."""
    try:
        import hdf5plugin
    except ImportError:
        raise ValueError("compression 'blosc2' needs a plug-in: pip install hdf5plugin, or take 'zstd'") from None
    return hdf5plugin


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
