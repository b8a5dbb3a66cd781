"""`to_hdf5`: arrays by name into one file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import fields
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from onecopy import _native
from onecopy._atomic import Mode
from onecopy._hdf5.dimensions import Dims, Labels
from onecopy._hdf5.filters import EachChunks, Filters
from onecopy._hdf5.rows import Report
from onecopy._hdf5.writer import Hdf5Writer, writable

# An array, or its rows as they come.
Rows = npt.ArrayLike | Iterator[npt.ArrayLike]
# These, or what makes them when their turn has come.
Data = Rows | Callable[[], Rows]


def to_hdf5(
    path: str | os.PathLike[str],
    data: Mapping[str, Data] | Iterable[tuple[str, Data]] | npt.ArrayLike,
    *,
    chunks: EachChunks = None,
    compression: str | int | None = None,
    compression_opts: Any = None,
    shuffle: bool | None = None,
    fletcher32: bool = False,
    mode: Mode | None = None,
    append: bool = False,
    swmr: bool = False,
    resume: bool = False,
    attrs: Mapping[str, Mapping[str, Any]] | None = None,
    dims: Dims | None = None,
    coords: Mapping[str, npt.ArrayLike] | None = None,
    progress: bool | Report = False,
    threads: int | None = None,
) -> None:
    """Write arrays into an HDF5 file, one dataset each.

    The file appears under its name only when it is complete and on the disk. After an error, Ctrl-C or a kill, what was
    there before is unchanged. Chunks are compressed on all cores; uncompressed arrays are contiguous in the file.

    Parameters
    ----------
    path : str or path-like
        The file.
    data : mapping of str to array, iterable of (str, array), or array
        The datasets by name; a name may contain groups: ``"run1/reads"``. An iterable is consumed step by step, so that
        not all arrays need to exist at once. A single array becomes the dataset ``data``. In place of an array, an
        iterator of arrays may stand, such as `iter_text` returns: of one type, whose rows become one dataset, while
        only a few of them are in memory. Or a function without arguments, which is called for either when its turn has
        come.
    chunks : bool, int, tuple of int, mapping or callable, optional
        Shape of the chunks; an integer is a number of rows. By default, arrays without filters are contiguous, and
        others have chunks of about 1 MiB: as many rows as that holds, or where one row exceeds it, parts of rows. An
        axis of a chunk is never longer than that of its array. A mapping gives them by the names of datasets (others
        have the default), a function from name, shape and type.
    compression : {"gzip", "lzf", "zstd", "blosc2", "szip"} or int, optional
        As in h5py: 0 to 9 is a gzip level, a larger number is that of a registered HDF5 filter. gzip, lzf and zstd run
        on all cores, the others in libhdf5 on one. Other programs need ``hdf5plugin`` to read zstd and blosc2.
    compression_opts : int, optional
        The level, for gzip 0 to 9 (default 4), for zstd 1 to 22 (default 3), for blosc2 0 to 9 (default 5), or the
        options of another filter.
    shuffle : bool, optional
        Reorder bytes before compression, which makes numbers smaller. On by default with gzip, lzf and zstd.
    fletcher32 : bool, default False
        Add check sums to the chunks, on all cores: damage is an error when they are read.
    mode : {"x", "w", "a"}, default "x", or "a" with `append`
        "x" refuses an existing file, "w" replaces it, "a" adds to it (on a copy, which then replaces it).
    append : bool, default False
        Add rows to datasets that are there already, of the same type and shape of rows; others are made such that they
        can grow. A name may come several times, as for the blocks of `iter_text`. All rows are added, or none: to a
        copy of the file, which then replaces it. Each call takes as long as copying the file does (no time where the
        file system shares blocks, as XFS and btrfs do), and as much room until it ends: add many rows at a time, or
        use `swmr`.
    swmr : bool, default False
        With `append`: add the rows in place, while others read the file with ``h5py.File(path, swmr=True)``. The first
        call makes the file and its datasets, later ones add rows to these alone. The attribute ``rows`` says how many
        rows are complete; what a call that fails had added stays.
    resume : bool, default False
        Keep each dataset as soon as it is written, whatever happens, in a hidden file beside `path`, and go on with
        what an earlier call with the same options kept there: those datasets are left out, and functions for them are
        not called. When all are written, the file gets its name. Not with mode "a".
    attrs : mapping of str to mapping, optional
        Attributes by dataset name, besides ``dtype`` (numpy's text for the type) and ``rows``.
    dims : sequence of str, or mapping of str to sequence of str, optional
        Names of the axes: of all datasets that have as many, or by dataset name. They are stored as dimension scales,
        which netCDF-4, xarray and h5py's ``dims`` know. Not with `append`.
    coords : mapping of str to array, optional
        The coordinates along a dimension: one value (a number, a date, a string) for each index. They become datasets
        of these names, for which there may be `attrs`.
    progress : bool or callable, default False
        ``True`` shows a progress bar on a terminal; a function is called with the number of bytes just written.
    threads : int, optional
        How many threads compress; by default one per available processor.

    Raises
    ------
    FileExistsError
        Mode "x" and the file exists.
    FileNotFoundError, IsADirectoryError, PermissionError
        The directory does not exist, the path is a directory, or the directory cannot be written to.
    OSError
        The disk is full (``errno.ENOSPC``): with the bytes needed and free.
    TypeError
        A type that HDF5 cannot hold, or a masked array.
    ValueError
        A dataset of that name exists already, or rows of another type or shape shall be added to it. Filter options
        that do not fit. Dimensions or coordinates of other lengths than the axes. With `resume`, what was kept was made
        with other options.

    Notes
    -----
    All types without Python objects are kept exactly. Dates (``datetime64``, ``timedelta64``) are stored as integers
    with the attributes of the CF conventions, and Unicode strings as UTF-8; `from_hdf5` brings both back.

    Examples
    --------
    >>> import numpy as np, onecopy as oc, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "calls.h5")
    >>> calls = np.array([(b"chr1", 100, 87.5)], dtype=[("chr", "S10"), ("pos", "<i4"), ("pct", "<f4")])
    >>> oc.to_hdf5(path, {"sample1": calls}, compression="gzip", attrs={"sample1": {"source": "calls.txt"}})
    >>> oc.from_hdf5(path, "sample1")["pos"]
    array([100], dtype=int32)
    >>> oc.to_hdf5(path, {"sample2": calls}, append=True)
    >>> oc.to_hdf5(path, {"sample2": calls}, append=True)
    >>> len(oc.from_hdf5(path, "sample2"))
    2
    >>> blocks = (np.full(1000, n) for n in range(3))  # in memory one at a time
    >>> oc.to_hdf5(path, {"counts": blocks}, mode="a")
    >>> len(oc.from_hdf5(path, "counts"))
    3000
    >>> levels = np.zeros((2, 3), "f4")  # xarray.open_dataset(path) shows both coordinates
    >>> oc.to_hdf5(path, {"level": levels}, dims=["day", "site"], coords={"site": ["A", "B", "C"]}, mode="w")
    >>> oc.to_hdf5(path, calls)
    Traceback (most recent call last):
    FileExistsError: [Errno 17] exists already: choose another name, or replace it with mode='w' ...
    """
    filters = Filters(chunks, compression, compression_opts, shuffle, fletcher32)
    if dims is not None and append:
        raise ValueError("dims with append: an axis that grows has no fixed length; write all at once, without append")
    labels = Labels(dims, coords)
    datasets, sizes = _datasets(data)
    options = {**_shared_options(filters), **labels.texts()} if resume else None
    with ExitStack() as stack:
        report = _reporter(progress, sizes, stack)
        if swmr and not append:
            raise ValueError("swmr=True is for datasets that grow: give append=True as well")
        how = mode or ("a" if append else "x")
        writer = stack.enter_context(
            Hdf5Writer(path, how, filters, threads=threads, report=report, resume=options, swmr=swmr)
        )
        if sizes is not None and compression is None and not resume:
            writer.ensure_room(sizes)
        unused = dict(attrs or {})
        uncut = set(chunks) if isinstance(chunks, Mapping) else set()
        before = iter(list(writer.saved))
        for name, array, following in datasets:
            described = unused.pop(name, None)
            uncut.discard(name)
            note = {"name": name, "attrs": _texts(described or {})}
            if (kept := next(before, None)) is not None:
                _check_kept(kept, note)
                labels.add(name, writer.shape_of(name))
                continue
            if callable(array):
                array = array()
            # An array that the iterable has kept may be changed by its next step; one that it made for us may not.
            later = sizes is None and not resume and _native.is_exclusive(array)
            if isinstance(array, Iterator):
                labels.add(name, writer.write_blocks(name, array, described, append=append, following=following))
            else:
                labels.add(name, np.shape(array))
                if append:
                    writer.append(name, array, described)
                else:
                    writer.write(name, array, described, later=later)
            writer.save(note)
            # Its memory is free for the next one as soon as it is written.
            del array
        if (kept := next(before, None)) is not None:
            _check_kept(kept, {"name": "no dataset", "attrs": {}})
        labels.check()
        described = {name: unused.pop(name) for name in labels.coords if name in unused}
        if not writer.complete:
            writer.label(labels.axes, labels.coords, described)
        for what, names in ("attrs", unused), ("chunks", uncut):
            if names:
                raise ValueError(
                    f"{what} for {', '.join(map(repr, names))}, but there is no such dataset: check the names"
                )


def _shared_options(filters: Filters) -> dict[str, str]:
    """Return the options that a call must share with the one that it goes on with."""
    options = {field.name: getattr(filters, field.name) for field in fields(filters)}
    if callable(filters.chunks):
        # Where it lies in memory says nothing.
        options["chunks"] = getattr(filters.chunks, "__qualname__", type(filters.chunks).__qualname__)
    return _texts(options)


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {key: repr(value) for key, value in values.items()}


def _check_kept(kept: Mapping[str, Any], note: Mapping[str, Any]) -> None:
    if kept["name"] != note["name"]:
        one, other = kept["name"], note["name"]
        raise ValueError(f"cannot be resumed: {one!r} was written where {other!r} is now; begin anew without resume")
    if kept["attrs"] != note["attrs"]:
        one, other = kept["attrs"], note["attrs"]
        raise ValueError(
            f"cannot be resumed: dataset {kept['name']!r} had the attrs {one}, and they are {other} now; begin anew "
            "without resume"
        )


def _datasets(data: Any) -> tuple[Iterator[tuple[str, Any, Any]], int | None]:
    """Return the datasets, each with what is known of the next one, and when they are all there, their bytes."""
    if isinstance(data, Mapping):
        arrays = {name: value if _comes_later(value) else writable(name, value) for name, value in data.items()}
        if any(map(_comes_later, arrays.values())):
            return zip(arrays, arrays.values(), [*islice(arrays.values(), 1, None), None], strict=True), None
        return ((*item, None) for item in arrays.items()), sum(array.nbytes for array in arrays.values())
    if hasattr(data, "__array__") or not isinstance(data, Iterable):
        array = writable("data", data)
        return iter([("data", array, None)]), array.nbytes
    # Keeps no array, so that one which nobody else has can be written while the next is made.
    return map(_alone, data), None


def _comes_later(value: Any) -> bool:
    return callable(value) or isinstance(value, Iterator)


def _alone(item: Any) -> tuple[str, Any, None]:
    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str):
        return (*item, None)
    way_out = "give a mapping, pairs, or an array (numpy.asarray of a list)"
    raise TypeError(f"{item!r:.80} is no pair (name, array): {way_out}")


def _reporter(progress: bool | Report, total: int | None, stack: ExitStack) -> Report | None:
    if not isinstance(progress, bool):
        return progress
    if not progress:
        return None
    from tqdm import tqdm

    # `disable=None`: on a terminal only.
    bar = stack.enter_context(tqdm(total=total, unit="B", unit_scale=True, disable=None))
    return lambda size: bar.update(size)
