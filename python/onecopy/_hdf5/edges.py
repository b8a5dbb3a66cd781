"""Chunks that reach beyond their dataset, which some writers leave as they are, whatever filters the others go through.

HDF5 has an option for that, of which h5py does not tell, and the index has nothing that would say so of a chunk.
"""

from __future__ import annotations

import io
import math

import h5py
import numpy as np

# The filter mask of a chunk that has gone through none of its filters.
NO_FILTERS = 0xFFFFFFFF
_ALL_FILTERS = 0


def reaches_beyond(origin: tuple[int, ...], chunks: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Tell whether a part of a chunk is outside of its dataset."""
    return any(first + side > size for first, side, size in zip(origin, chunks, shape, strict=True))


def has_plain_edges(dataset: h5py.Dataset) -> bool:
    """Tell whether chunks that reach beyond a dataset go through no filters.

    libhdf5 is watched at it: a dataset with the same properties, whose one filter adds four bytes to each chunk, is
    written in memory.
    """
    if math.prod(dataset.chunks) == 1:
        return False
    properties = dataset.id.get_create_plist()
    properties.remove_filter(_ALL_FILTERS)
    properties.set_fletcher32()
    one = (1,) * len(dataset.chunks)
    with h5py.File(io.BytesIO(), "w") as scratch:
        space = h5py.h5s.create_simple(one, (h5py.h5s.UNLIMITED,) * len(one))
        copy = h5py.h5d.create(scratch.id, b"x", dataset.id.get_type(), space, properties)
        copy.write(h5py.h5s.ALL, h5py.h5s.ALL, np.zeros(one, dataset.dtype))
        scratch.flush()
        return bool(copy.get_chunk_info(0).size == math.prod(dataset.chunks) * dataset.dtype.itemsize)
