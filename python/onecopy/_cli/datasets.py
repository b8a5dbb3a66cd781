"""Loaded text files to datasets: one each, or one for all with an index of where each file begins."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import TypedDict

import numpy as np

from onecopy._cli.loading import StreamedFile, TextFile
from onecopy._cli.options import dtype_text
from onecopy._cli.plans import Plan
from onecopy._cli.sources import Source
from onecopy._hdf5.storage import Array
from onecopy._hdf5.writer import Hdf5Writer

# What a text file may be called besides its own name.
_COMPRESSED = (".gz", ".bgz", ".bgzf", ".zst", ".zstd", ".bz2", ".xz", ".lzma")


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
    names: dict[str, None] = {}
    # Of each stem, the next number to try: those before it are taken.
    numbers: dict[str, int] = {}
    for path in paths:
        stem = os.path.basename(path)
        if stem.lower().endswith(_COMPRESSED):
            stem = os.path.splitext(stem)[0]
        stem = os.path.splitext(stem)[0]
        candidates = ((n, stem if n == 1 else f"{stem}_{n}") for n in count(numbers.get(stem, 1)))
        number, name = next((n, name) for n, name in candidates if name not in names)
        names[name], numbers[stem] = None, number + 1
    return list(names)


def write_per_file(writer: Hdf5Writer, sources: Sequence[Source], loaded: Iterable[TextFile]) -> Iterator[Dataset]:
    """Write each file that the writer has not saved yet as a dataset, with attributes that tell of the source."""
    names = dataset_names([source.source for source in sources])
    for note in writer.saved:
        yield note["dataset"]
    rest = slice(len(writer.saved), None)
    for name, source, file in zip(names[rest], sources[rest], loaded, strict=True):
        if isinstance(file, StreamedFile):
            rows = writer.write_blocks(name, file)[0]
            # Some of them are known only now.
            writer.annotate(name, source.attributes())
        else:
            rows = len(file.array)
            writer.write(name, file.array, source.attributes())
        dataset = Dataset(name=name, sources=[source.source], rows=rows, dtype=dtype_text(file.dtype))
        writer.save({**source.attributes(), "dataset": dataset})
        yield dataset


def write_concatenated(
    writer: Hdf5Writer, plans: Sequence[Plan], loaded: Iterable[TextFile], name: str
) -> Iterator[Dataset]:
    """Write all files as one dataset, and ``<name>_sources`` with the source, first row and number of rows of each.

    What is there already stays before them.
    """
    counts = [note["rows"] for note in writer.saved]
    before = writer.rows_of(name) - sum(counts)
    for plan, file in zip(plans[len(counts) :], loaded, strict=True):
        rows = 0
        for array in file if isinstance(file, StreamedFile) else [file.array]:
            try:
                # Nobody else has it.
                writer.append(name, array, in_parts=True, later=True)
            except ValueError as error:
                raise ValueError(f"{plan.path}: {error}") from error
            rows += len(array)
        counts.append(rows)
        writer.save({**plan.source.attributes(), "rows": rows})
    sources = [plan.source for plan in plans]
    # A file that is gone on with may have an index of its own sources, one that is added to has one of others.
    _write_index(writer, f"{name}_sources", _index(sources, counts, before), added=not writer.resumable)
    dtype = dtype_text(plans[0].dtype)
    yield Dataset(name=name, sources=[source.source for source in sources], rows=sum(counts), dtype=dtype)


def _index(sources: Sequence[Source], counts: Sequence[int], before: int) -> Array:
    first = [before + sum(counts[:n]) for n in range(len(counts))]
    described = [source.attributes() for source in sources]
    columns: dict[str, Sequence[str] | Sequence[int]] = {
        "source": [source["source"] for source in described],
        "first_row": first,
        "rows": counts,
        "source_bytes": [source["source_bytes"] for source in described],
        "source_mtime": [source["source_mtime"] for source in described],
    }
    if any("source_sha256" in source for source in described):
        columns["source_sha256"] = [source.get("source_sha256", "") for source in described]
    arrays = {name: np.asarray(column) for name, column in columns.items()}
    index = np.empty(len(sources), [(name, array.dtype) for name, array in arrays.items()])
    for name, array in arrays.items():
        index[name] = array
    return index


def _write_index(writer: Hdf5Writer, name: str, index: Array, *, added: bool) -> None:
    """Write the index; with `added`, behind the one that is there."""
    if name in writer:
        if added:
            earlier = writer.read(name)
            index = np.concatenate([_with_fields(earlier, index), _with_fields(index, earlier)])
        # Otherwise an earlier writer was killed between completing the file and giving it its name.
        writer.remove(name)
    writer.write(name, index)


def _with_fields(index: Array, other: Array) -> Array:
    """Return an index with the fields of another, too; there may or may not be check sums. What it lacks is empty."""
    more = [name for name in other.dtype.names or () if name not in (index.dtype.names or ())]
    if not more:
        return index
    names = index.dtype.names or ()
    extended = np.zeros(len(index), [(name, index.dtype[name]) for name in names] + [(name, "U1") for name in more])
    for name in names:
        extended[name] = index[name]
    return extended
