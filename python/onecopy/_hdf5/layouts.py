"""Rows of a dataset into an array, whatever way the file has them.

Bytes that are numpy's own come by native code on all cores: those of contiguous datasets straight to their place,
those of chunks through their filters. Virtual datasets are read from their sources in the same way. All else (types
that need a conversion, filters that the native code lacks, external files) is read by libhdf5.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterator
from typing import NamedTuple

import h5py
import numpy as np

from onecopy import _native
from onecopy._hdf5.edges import NO_FILTERS, has_plain_edges, reaches_beyond
from onecopy._hdf5.filters import has_numpy_bytes, native_codec
from onecopy._hdf5.opening import open_file
from onecopy._hdf5.storage import Array

# A virtual dataset of virtual datasets; one that leads back to itself has no end.
_DEEPEST = 16


def read_rows(dataset: h5py.Dataset, array: Array, first: int, threads: int, *, depth: int = 0) -> None:
    """Fill a C-contiguous array, which nobody else uses, with as many rows of a dataset as it has, from `first` on."""
    if not array.size:
        return
    if dataset.dtype.subdtype is not None:
        # Elements that are arrays have axes of their own in numpy, but not in the file.
        array = array.reshape(-1).view(_element(dataset)).reshape(len(array), *dataset.shape[1:])
    if dataset.is_virtual:
        _read_virtual(dataset, array, first, threads, depth)
    elif not _is_native(dataset):
        _read_by_libhdf5(dataset, array, first)
    elif dataset.chunks:
        _read_chunked(dataset, array, first, threads)
    else:
        _read_contiguous(dataset, array, first, threads)


def _is_native(dataset: h5py.Dataset) -> bool:
    """Tell whether the bytes are where the file says, as numpy has them or behind filters that are known."""
    if dataset.chunks:
        return native_codec(dataset) is not None
    external = dataset.id.get_create_plist().get_external_count()
    return _has_places(dataset) and not external and has_numpy_bytes(dataset) and dataset.id.get_offset() is not None


def _has_places(dataset: h5py.Dataset) -> bool:
    """Tell whether what libhdf5 says of places is true of a descriptor."""
    # Earlier releases of libhdf5 count places from behind a user block.
    return bool(dataset.file.driver == "sec2" and not dataset.file.userblock_size)


def _descriptor(dataset: h5py.Dataset) -> int:
    return int(dataset.file.id.get_vfd_handle())


def _read_by_libhdf5(dataset: h5py.Dataset, array: Array, first: int) -> None:
    rows = np.s_[first : first + len(array)] if array.ndim else ()
    if dataset.dtype.subdtype is None:
        dataset.read_direct(array, rows)
    else:
        array[...] = np.ascontiguousarray(dataset[rows]).reshape(-1).view(array.dtype).reshape(array.shape)


def _element(dataset: h5py.Dataset) -> np.dtype[np.void]:
    return np.dtype((np.void, dataset.dtype.itemsize))


def _fill(dataset: h5py.Dataset, array: Array) -> None:
    """Set what nobody has written."""
    value = dataset.fillvalue
    if dataset.dtype.subdtype is not None:
        base, shape = dataset.dtype.subdtype
        value = np.frombuffer(np.full(shape, value, base).tobytes(), array.dtype)[0]
    array[...] = value


# ---------------------------------------------------------------- contiguous


def _read_contiguous(dataset: h5py.Dataset, array: Array, first: int, threads: int) -> None:
    position = dataset.id.get_offset()
    if array.ndim:
        position += first * (array.nbytes // len(array))
    _native.read_array(_descriptor(dataset), array, position, threads=threads)


# ---------------------------------------------------------------- chunks


def _read_chunked(dataset: h5py.Dataset, array: Array, first: int, threads: int) -> None:
    """Read rows that begin anywhere: those before the first whole chunk by way of a copy."""
    rows = dataset.chunks[0]
    inside = first % rows
    if inside:
        begin = first - inside
        around = np.empty((min(rows, len(dataset) - begin), *array.shape[1:]), array.dtype)
        _read_whole_chunks(dataset, around, begin, threads)
        part = around[inside : inside + len(array)]
        array[: len(part)] = part
        array, first = array[len(part) :], first + len(part)
    if array.size:
        _read_whole_chunks(dataset, array, first, threads)


def _read_whole_chunks(dataset: h5py.Dataset, array: Array, first: int, threads: int) -> None:
    codec = native_codec(dataset)
    assert codec is not None
    stored = list(_chunks_between(dataset, first, first + len(array)))
    if codec.filters:
        stored = _with_plain_edges(dataset, stored, first)
    counts = (-(-size // side) for size, side in zip(array.shape, dataset.chunks, strict=True))
    if len(stored) < math.prod(counts):
        # A chunk that was never written has no place in the file.
        _fill(dataset, array)
    _native.read_chunks(
        _descriptor(dataset) if _has_places(dataset) else None,
        array,
        dataset.chunks,
        codec=codec.name,
        shuffle=codec.shuffle,
        fletcher32=codec.fletcher32,
        threads=threads,
        stored=stored if _has_places(dataset) else _fetched(dataset, stored, first),
    )


Chunk = tuple[tuple[int, ...], tuple[int, int], int]


def _chunks_between(dataset: h5py.Dataset, first: int, end: int) -> Iterator[Chunk]:
    """Return origin (its rows counted from `first`), place and filter mask of the chunks of rows."""
    for chunk in _all_chunks(dataset):
        row, *others = chunk.chunk_offset
        if first <= row < end and chunk.byte_offset is not None:
            yield (row - first, *others), (chunk.byte_offset, chunk.size), chunk.filter_mask


def _with_plain_edges(dataset: h5py.Dataset, chunks: list[Chunk], first: int) -> list[Chunk]:
    """Let chunks at the edge say so when no filter has seen them; they are as long as they were then."""
    whole = math.prod(dataset.chunks) * dataset.dtype.itemsize

    def may_be_plain(chunk: Chunk) -> bool:
        (row, *others), (_, size), _ = chunk
        return size == whole and reaches_beyond((row + first, *others), dataset.chunks, dataset.shape)

    if not any(map(may_be_plain, chunks)) or not has_plain_edges(dataset):
        return chunks
    return [(chunk[0], chunk[1], NO_FILTERS) if may_be_plain(chunk) else chunk for chunk in chunks]


def _all_chunks(dataset: h5py.Dataset) -> list[h5py.h5d.StoreInfo]:
    if not hasattr(dataset.id, "chunk_iter"):
        # Before HDF5 1.14, each look takes longer the more chunks there are.
        return [dataset.id.get_chunk_info(number) for number in range(dataset.id.get_num_chunks())]
    found: list[h5py.h5d.StoreInfo] = []
    dataset.id.chunk_iter(found.append)
    return found


def _fetched(dataset: h5py.Dataset, chunks: list[Chunk], first: int) -> Iterator[tuple[tuple[int, ...], bytes, int]]:
    """Have libhdf5 fetch what lies in a file that only it can read."""
    for origin, _, _ in chunks:
        mask, stored = dataset.id.read_direct_chunk((origin[0] + first, *origin[1:]))
        yield origin, stored, mask


# ---------------------------------------------------------------- virtual datasets


class _Piece(NamedTuple):
    """Rows of a virtual dataset that are consecutive elements of a source, from its row `source_first` on."""

    first: int
    rows: int
    source: h5py.Dataset
    source_first: int


def _read_virtual(dataset: h5py.Dataset, array: Array, first: int, threads: int, depth: int) -> None:
    if depth == _DEEPEST:
        raise OSError(errno.ELOOP, f"virtual datasets lead from one to another more than {_DEEPEST} times")
    with _Sources(dataset) as sources:
        pieces = [_piece(dataset, mapping, sources) for mapping in dataset.virtual_sources()]
        whole = [piece for piece in pieces if piece is not None]
        if len(whole) < len(pieces) or not array.ndim:
            _read_by_libhdf5(dataset, array, first)
            return
        end = first + len(array)
        wanted = [piece for piece in whole if piece.first < end and first < piece.first + piece.rows]
        if sum(piece.rows for piece in whole) < len(dataset):
            _fill(dataset, array)
        for piece in wanted:
            _read_piece(piece, array, first, threads, depth)


def _read_piece(piece: _Piece, array: Array, first: int, threads: int, depth: int) -> None:
    begin, end = max(piece.first, first), min(piece.first + piece.rows, first + len(array))
    part = array[begin - first : end - first]
    if piece.source.shape[1:] == array.shape[1:]:
        read_rows(piece.source, part, piece.source_first + begin - piece.first, threads, depth=depth + 1)
    else:
        # One row is a whole source, which has an axis less.
        read_rows(piece.source, part.reshape(piece.source.shape), 0, threads, depth=depth + 1)


def _piece(dataset: h5py.Dataset, mapping: h5py.VDSmap, sources: _Sources) -> _Piece | None:
    """Return what a mapping of whole rows to whole rows of a source of the same type says, else None."""
    if _is_pattern(mapping.file_name) or _is_pattern(mapping.dset_name):
        return None
    source = sources.find(mapping)
    _check_unchanged(dataset, mapping, source)
    here = _row_range(mapping.vspace, dataset.shape)
    if here is None or source.dtype != dataset.dtype or not source.shape:
        return None
    there = _row_range(mapping.src_space, source.shape)
    if there is None:
        return None
    if source.shape[1:] == dataset.shape[1:]:
        return _Piece(here.start, len(here), source, there.start) if len(there) == len(here) else None
    whole = there == range(len(source)) and len(here) == 1 and source.shape == dataset.shape[1:]
    return _Piece(here.start, 1, source, 0) if whole else None


def _is_pattern(name: str) -> bool:
    """Tell whether libhdf5 makes several names of this one; a doubled "%" stands for itself."""
    return "%" in name.replace("%%", "")


def _check_unchanged(dataset: h5py.Dataset, mapping: h5py.VDSmap, source: h5py.Dataset) -> None:
    """Raise `OSError` when a source no longer has what the virtual dataset takes of it."""
    taken = _taken(mapping.src_space, mapping.vspace, source.shape)
    if len(taken) != len(source.shape) or any(end > size for end, size in zip(taken, source.shape, strict=True)):
        what = f"dataset {mapping.dset_name!r} has the shape {source.shape}, and the virtual dataset {dataset.name!r}"
        whose = f"in {dataset.file.filename} takes {taken} of it: one of them was changed, join them again"
        raise OSError(errno.ESTALE, f"{what} {whose}", source.file.filename)


def _taken(space: h5py.h5s.SpaceID, target: h5py.h5s.SpaceID, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return where what is taken of a source ends on each axis; its own shape where that is all that is known."""
    if space.get_select_type() == h5py.h5s.SEL_HYPERSLABS and not _is_endless(space):
        return tuple(last + 1 for last in space.get_select_bounds()[1])
    # All of it, whatever its shape was.
    fits = _is_endless(target) or target.get_select_npoints() == math.prod(shape)
    return shape if fits else tuple(target.shape)


def _is_endless(space: h5py.h5s.SpaceID) -> bool:
    """Tell whether a selection grows with what it is of."""
    if space.get_select_type() != h5py.h5s.SEL_HYPERSLABS or not space.is_regular_hyperslab():
        return False
    _, _, count, block = space.get_regular_hyperslab()
    return h5py.h5s.UNLIMITED in (*count, *block)


def _row_range(space: h5py.h5s.SpaceID, shape: tuple[int, ...]) -> range | None:
    """Return the rows that a selection takes whole, when they are consecutive and it takes nothing else."""
    if space.get_select_type() == h5py.h5s.SEL_ALL:
        return range(shape[0])
    if space.get_select_type() != h5py.h5s.SEL_HYPERSLABS or len(space.shape) != len(shape) or _is_endless(space):
        return None
    (begin, *_), (end, *_) = space.get_select_bounds()
    # So many elements are in these rows that none of them is left out.
    whole = space.get_select_npoints() == (end - begin + 1) * math.prod(shape[1:])
    return range(begin, end + 1) if whole else None


class _Sources:
    """The sources of a virtual dataset, each file opened once, and closed when the context ends."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._dataset = dataset
        self._files: dict[str, h5py.File] = {}

    def __enter__(self) -> _Sources:
        return self

    def __exit__(self, *exception: object) -> None:
        for file in self._files.values():
            file.close()

    def find(self, mapping: h5py.VDSmap) -> h5py.Dataset:
        """Return the source. libhdf5 takes one that is missing for fill values; here it is an error."""
        file = self._dataset.file
        if mapping.file_name != ".":
            path = self._path(mapping.file_name.replace("%%", "%"))
            if path not in self._files:
                self._files[path] = open_file(path)
            file = self._files[path]
        name = mapping.dset_name.replace("%%", "%")
        source = file.get(name)
        if isinstance(source, h5py.Dataset) and source.shape is not None:
            return source
        raise OSError(errno.ENOENT, f"has no dataset {name!r}, {self._needed()}", file.filename)

    def _path(self, name: str) -> str:
        # Where libhdf5 looks: beside the file, and for a file that has moved with its sources by their mere names.
        folder = os.path.dirname(os.path.realpath(self._dataset.file.filename))
        for path in (os.path.join(folder, name), os.path.join(folder, os.path.basename(name))):
            if os.path.exists(path):
                return path
        raise FileNotFoundError(errno.ENOENT, f"no such file, {self._needed()}", os.path.join(folder, name))

    def _needed(self) -> str:
        return f"which the virtual dataset {self._dataset.name!r} in {self._dataset.file.filename} is made of"
