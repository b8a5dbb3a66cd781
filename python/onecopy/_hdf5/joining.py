"""`join_hdf5`: datasets of several files as one, without a copy."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import h5py
import numpy as np

from onecopy._atomic import Mode
from onecopy._hdf5.filters import Filters
from onecopy._hdf5.opening import Path, find_dataset, open_file
from onecopy._hdf5.storage import describe, from_storage
from onecopy._hdf5.writer import Hdf5Writer
from onecopy._names import check_name, is_text

# A file, in which the dataset has the name of the joined one, or a file and the dataset in it.
Source = Path | tuple[Path, str]


class Part(NamedTuple):
    """A dataset that becomes a part of a joined one."""

    path: str
    name: str
    shape: tuple[int, ...]
    stored: np.dtype[np.generic]
    dtype: np.dtype[np.generic]


def join_hdf5(path: Path, datasets: Mapping[str, Iterable[Source]], *, stack: bool = False, mode: Mode = "x") -> None:
    """Make an HDF5 file whose datasets are joined from those of several files, without a copy.

    What is written are virtual datasets, which any HDF5 program reads: they hold where their rows are. The paths in
    them are relative to the new file, so that all files together can be moved. `from_hdf5` reads the sources on all
    cores.

    Parameters
    ----------
    path : str or path-like
        The file, which appears under its name only when it is complete.
    datasets : mapping of str to iterable
        For each name its sources in order: a file, whose dataset of the same name is meant, or a pair (file, dataset).
    stack : bool, default False
        Join along a new first axis, of which each source is one index, instead of along their first axis.
    mode : {"x", "w", "a"}, default "x"
        "x" refuses an existing file, "w" replaces it, "a" adds to it.

    Raises
    ------
    FileNotFoundError, KeyError
        A source, or the dataset in it, is missing.
    FileExistsError
        Mode "x" and the file exists.
    ValueError
        The sources have different types or shapes, there are none, or one of them is the new file. A name that HDF5
        cannot hold.

    Notes
    -----
    The joined dataset sees what its sources hold when it is read. Rows that are added to a source later do not become
    part of it. A source that is missing then, or has fewer rows, is an error in `from_hdf5`; libhdf5, and so h5py,
    reads zeros in the place of one that is missing.

    Examples
    --------
    >>> import numpy as np, onecopy as oc, os, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> days = [os.path.join(folder, f"day{n}.h5") for n in (1, 2)]
    >>> oc.to_hdf5(days[0], {"pos": np.array([1, 2])}, compression="gzip")
    >>> oc.to_hdf5(days[1], {"pos": np.array([3])})
    >>> oc.join_hdf5(os.path.join(folder, "all.h5"), {"pos": days})
    >>> oc.from_hdf5(os.path.join(folder, "all.h5"), "pos")
    array([1, 2, 3])
    """
    if not isinstance(datasets, Mapping):
        raise TypeError(f"{datasets!r:.80}: give a mapping of names to their sources, {{'calls': [file, file]}}")
    parts = {
        name: [_part(name, source, path) for source in _listed(name, several)] for name, several in datasets.items()
    }
    for name, several in parts.items():
        _check_alike(name, several, stack)
    with Hdf5Writer(path, mode, Filters()) as writer:
        for name, several in parts.items():
            layout = _layout(several, os.path.dirname(os.path.realpath(path)), stack)
            # An array of that type and shape without memory.
            like = np.broadcast_to(np.empty((), several[0].dtype), layout.shape)
            writer.link(name, layout, like, [part.path + part.name for part in several])


def _listed(name: str, sources: Iterable[Source]) -> Iterable[Source]:
    check_name(name)
    if isinstance(sources, (str, os.PathLike)) or not isinstance(sources, Iterable):
        raise TypeError(f"the sources of {name!r} are {sources!r:.80}: give a list of files, or of (file, dataset)")
    return sources


def _part(name: str, source: Source, destination: Path) -> Part:
    match source:
        case (str() | os.PathLike() as file, str() as inner):
            pass
        case str() | os.PathLike() as file:
            inner = name
        case _:
            raise TypeError(f"{source!r:.80} is no file, and no pair (file, dataset)")
    if not is_text(os.path.realpath(file)):
        raise ValueError(f"{os.fspath(file)!r}: its name is no UTF-8, as HDF5 asks of a source: rename it")
    with open_file(file) as opened:
        if os.path.exists(destination) and os.path.samefile(file, destination):
            raise ValueError(f"{os.fspath(file)} is a source and the destination: give another name")
        dataset = find_dataset(opened, inner)
        if dataset.shape is None or dataset.dtype.hasobject:
            raise ValueError(f"dataset {inner!r} in {os.fspath(file)} holds objects, which cannot be joined")
        dtype = from_storage(np.empty(0, dataset.dtype), str(dataset.attrs.get("dtype", ""))).dtype
        return Part(os.path.realpath(file), inner, dataset.shape, dataset.dtype, dtype)


def _check_alike(name: str, parts: Sequence[Part], stack: bool) -> None:
    if not parts:
        raise ValueError(f"dataset {name!r} has no sources: give at least one")
    first = parts[0]
    for part in parts:
        if not stack and not part.shape:
            raise ValueError(f"{part.path}: dataset {part.name!r} is a scalar, which has no rows: give stack=True")
        if (part.stored, part.dtype) != (first.stored, first.dtype):
            one, other = (_type(each) for each in (part, first))
            raise ValueError(f"{part.path}: dataset {part.name!r} has the type {one}, but that of {first.path} {other}")
        if (part.shape if stack else part.shape[1:]) != (first.shape if stack else first.shape[1:]):
            raise ValueError(
                f"{part.path}: dataset {part.name!r} has the shape {part.shape}, but that of {first.path} {first.shape}"
            )


def _type(part: Part) -> str:
    text = describe(part.dtype)
    return text if part.dtype == part.stored else f"{text} (stored as {part.stored})"


def _layout(parts: Sequence[Part], folder: str, stack: bool) -> h5py.VirtualLayout:
    first = parts[0]
    rows = len(parts) if stack else sum(part.shape[0] for part in parts)
    layout = h5py.VirtualLayout((rows, *(first.shape if stack else first.shape[1:])), first.stored)
    begin = 0
    for part in parts:
        end = begin + (1 if stack else part.shape[0])
        path, name = (text.replace("%", "%%") for text in (os.path.relpath(part.path, folder), part.name))
        source = h5py.VirtualSource(path, name, part.shape, part.stored)
        if end > begin and 0 not in layout.shape:
            # As a selection of so many: libhdf5 takes a source as a whole for whatever it has by then.
            chosen = source[tuple(slice(0, size) for size in part.shape)] if part.shape else source
            layout[begin if stack else slice(begin, end)] = chosen
        begin = end
    return layout
