"""Loaded text files to datasets: one each, or one for all with an index of where each file begins."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TypedDict

import numpy as np

from onecopy._cli.options import dtype_text
from onecopy._hdf5.writer import Hdf5Writer
from onecopy._text import LoadedFile

# What a text file may be called besides its own name.
_COMPRESSED = (".gz", ".bgz", ".bgzf", ".zst", ".zstd")


class Dataset(TypedDict):
    """What is reported of a dataset."""

    name: str
    sources: list[str]
    rows: int
    dtype: str


def dataset_names(paths: Sequence[str]) -> list[str]:
    """Name datasets after their files, without directory and ending, and different from one another.

    >>> dataset_names(["a/x.txt.gz", "b/x.txt", "y.cpg.tsv", "x_2.txt"])
    ['x', 'x_2', 'y.cpg', 'x_2_2']
    """
    names: list[str] = []
    for path in paths:
        stem = os.path.basename(path)
        if stem.lower().endswith(_COMPRESSED):
            stem = os.path.splitext(stem)[0]
        stem = os.path.splitext(stem)[0]
        candidates = (stem if n == 1 else f"{stem}_{n}" for n in range(1, len(paths) + 1))
        names.append(next(name for name in candidates if name not in names))
    return names


def write_per_file(writer: Hdf5Writer, paths: Sequence[str], loaded: Iterable[LoadedFile]) -> Iterator[Dataset]:
    """Write each file as a dataset with the attribute ``source``."""
    for name, path, file in zip(dataset_names(paths), paths, loaded, strict=True):
        writer.write(name, file.array, {"source": path})
        yield Dataset(name=name, sources=[path], rows=len(file.array), dtype=dtype_text(file.array.dtype))


def write_concatenated(
    writer: Hdf5Writer, paths: Sequence[str], loaded: Iterable[LoadedFile], name: str
) -> Iterator[Dataset]:
    """Write all files as one dataset, and ``<name>_sources`` with the source, first row and number of rows of each."""
    index: list[tuple[str, int, int]] = []
    total = 0
    growing = None
    for path, file in zip(paths, loaded, strict=True):
        array = file.array
        if growing is None:
            growing = writer.grow(name, array.dtype, array.shape[1:])
        elif array.shape[1:] != growing.row_shape:
            raise ValueError(f"{path} has {array.shape[1:]} columns, but {paths[0]} has {growing.row_shape}")
        growing.append(array)
        index.append((path, total, len(array)))
        total += len(array)
    if growing is None:
        return
    growing.save()
    width = max(map(len, paths))
    sources = np.array(index, [("source", f"U{width}"), ("first_row", "i8"), ("rows", "i8")])
    writer.write(f"{name}_sources", sources)
    yield Dataset(name=name, sources=list(paths), rows=total, dtype=dtype_text(growing.dtype))
