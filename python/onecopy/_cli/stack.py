"""Tables of numbers, one text file each, stacked along an axis of their own, with coordinates for all three axes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onecopy._cli.coordinates import dates_or_numbers, numbers_or_dates
from onecopy._cli.datasets import Dataset
from onecopy._cli.options import dtype_text
from onecopy._cli.plans import Plan
from onecopy._hdf5.dimensions import Labels
from onecopy._hdf5.storage import Array
from onecopy._hdf5.writer import Hdf5Writer
from onecopy._names import check_name
from onecopy._text import LoadedFile

_DIMS = ("file", "row", "column")


@dataclass(frozen=True)
class Grid:
    """What the stacked dataset will be.

    Attributes
    ----------
    name : str
        Of the dataset.
    dims : sequence of str
        Of its three axes.
    coords : mapping of str to numpy.ndarray
        What is known before any file is loaded.
    """

    name: str
    dims: Sequence[str]
    coords: Mapping[str, Array]


def check_options(args: argparse.Namespace) -> None:
    """Raise `ValueError` for options that do not go together, before any file is looked into."""
    given = [
        option
        for option, value in [
            ("--dims", args.dims),
            ("--index-column", args.index_column),
            ("--time-from", args.time_from),
            ("--coord", args.coord or None),
        ]
        if value is not None
    ]
    if args.layout != "stack":
        if given:
            raise ValueError(f"{', '.join(given)}: only --layout stack has named axes")
        return
    if args.append or args.resume:
        raise ValueError("--layout stack writes all files at once: leave out --append and --resume")
    if args.dtype is not None and (args.dtype.names is not None or args.dtype.kind not in "biufc"):
        raise ValueError(f"--dtype {dtype_text(args.dtype)}: a stack has one type of numbers, for example f4")
    dims = args.dims or _DIMS
    check_name(args.name)
    Labels(dims, None).add(args.name, (0, 0, 0))
    for name, _ in args.coord:
        if name not in dims:
            raise ValueError(f"--coord {name}=...: the axes are {', '.join(dims)}, see --dims")


def grid_of(args: argparse.Namespace, plans: Sequence[Plan]) -> Grid:
    """Return the coordinates that the options, the names of the files and their headers give."""
    dims = args.dims or _DIMS
    coords: dict[str, Array] = {}
    if args.time_from is not None:
        coords[dims[0]] = dates_or_numbers([_found(plan.path, args) for plan in plans])
    if plans[0].names is not None:
        coords[dims[2]] = numbers_or_dates(plans[0].names)
    coords.update({name: numbers_or_dates(values) for name, values in args.coord})
    for name, length in ((dims[0], len(plans)), (dims[2], plans[0].columns)):
        if name in coords and len(coords[name]) != length:
            raise ValueError(f"axis {name!r} has {length} indices, but there are {len(coords[name])} coordinates")
    return Grid(args.name, dims, coords)


def _found(path: str, args: argparse.Namespace) -> str:
    match = args.time_from.search(os.path.basename(path))
    if match is None:
        raise ValueError(f"{path}: nothing in its name is --time-from {args.time_from.pattern!r}")
    return "-".join(match.groups()) if match.groups() else match.group()


def write_stacked(
    writer: Hdf5Writer, plans: Sequence[Plan], loaded: Iterable[LoadedFile], grid: Grid
) -> Iterator[Dataset]:
    """Write all files as one dataset with three named axes, and ``<name>_source`` with the path of each."""
    rows: Array | None = None
    growing = None
    for plan, file in zip(plans, loaded, strict=True):
        index, values = _parts(file.array)
        if growing is None:
            first, rows = plan.path, index
            growing = writer.grow(grid.name, values.dtype, values.shape)
        elif values.shape != growing.row_shape:
            raise ValueError(f"{plan.path} has the shape {values.shape}, but {first} {growing.row_shape}")
        elif index is not None and rows is not None and (differ := np.flatnonzero(~_same(index, rows))).size:
            row = differ[0]
            raise ValueError(f"{plan.path} has {index[row]} as coordinate of row {row}, but {first} {rows[row]}")
        growing.append(values[np.newaxis])
    if growing is None:
        return
    _write_coordinates(writer, plans, grid, rows, growing.row_shape)
    dtype = dtype_text(growing.dtype)
    yield Dataset(name=grid.name, sources=[plan.path for plan in plans], rows=len(plans), dtype=dtype)


def _parts(array: Array) -> tuple[Array | None, Array]:
    if array.dtype.names is None:
        return None, array
    return array["index"], np.ascontiguousarray(array["values"])


def _same(one: Array, other: Array) -> Array:
    same: Array = (one == other) | ((one != one) & (other != other))
    return same


def _write_coordinates(
    writer: Hdf5Writer, plans: Sequence[Plan], grid: Grid, rows: Array | None, shape: tuple[int, ...]
) -> None:
    coords = dict(grid.coords)
    if rows is not None and grid.dims[1] not in coords:
        coords[grid.dims[1]] = rows
    source = f"{grid.name}_source"
    axes = {grid.name: grid.dims, source: grid.dims[:1]}
    if grid.dims[1] in coords and (count := len(coords[grid.dims[1]])) != shape[0]:
        raise ValueError(f"axis {grid.dims[1]!r} has {shape[0]} indices, but there are {count} coordinates")
    writer.write(source, np.array([plan.path for plan in plans], object))
    writer.label(axes, Labels(grid.dims, coords).coords)
