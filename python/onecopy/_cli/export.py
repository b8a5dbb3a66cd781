"""Text files to files of other formats than HDF5, which the ending of the output's name tells."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from onecopy._arrays import Array
from onecopy._cli import interrupt
from onecopy._cli.datasets import Dataset, dataset_names
from onecopy._cli.loading import Loading, loading
from onecopy._cli.options import dtype_text
from onecopy._cli.plans import Plan, make_plans
from onecopy._cli.sources import Source
from onecopy._hdf5.filters import thread_count
from onecopy._text import LoadedFile

Format = Literal["parquet", "ipc", "zarr"]

_ENDINGS: dict[str, Format] = {
    ".parquet": "parquet",
    ".arrow": "ipc",
    ".feather": "ipc",
    ".ipc": "ipc",
    ".zarr": "zarr",
}


def format_of(output: str) -> Format | None:
    """Return the format that an ending stands for; None is HDF5, whatever the ending.

    >>> format_of("a.PARQUET"), format_of("a.h5")
    ('parquet', None)
    """
    return next((kind for ending, kind in _ENDINGS.items() if output.lower().rstrip("/").endswith(ending)), None)


def check_options(args: argparse.Namespace, kind: Format) -> None:
    """Raise `ValueError` for options of HDF5, and settle the layout."""
    given = {
        "--append": args.append,
        "--resume": args.resume,
        "--compression": bool(args.compression),
        "--chunks": args.chunks is not None,
        "--fletcher32": args.fletcher32,
        "--shuffle": args.shuffle is not None,
        "--layout stack": args.layout == "stack",
    }
    if kind == "zarr":
        given["--layout concat"] = args.layout == "concat"
    for option, used in given.items():
        if used:
            raise ValueError(f"{option} is for HDF5 only: leave it out, or give an output that ends in .h5")
    if kind != "zarr":
        # One table is all that they hold.
        args.layout = "concat"


def export(args: argparse.Namespace, sources: Sequence[Source], kind: Format) -> tuple[list[Dataset], int]:
    """Load the files and write them; the datasets, and the bytes of text."""
    plans = make_plans(args, sources)
    with loading(plans, thread_count(args.jobs), args) as loaded:
        write = _write_store if kind == "zarr" else _write_table
        return write(args, plans, loaded), loaded.text_bytes


def _write_table(args: argparse.Namespace, plans: Sequence[Plan], loaded: Loading[LoadedFile]) -> list[Dataset]:
    from onecopy._export.tables import TableWriter

    rows = 0
    kind: Any = format_of(args.output)
    with TableWriter(args.output, "w" if args.force else "x", kind, "zstd" if kind == "parquet" else None) as writer:
        for plan, file in zip(plans, loaded, strict=True):
            try:
                writer.write(_columns(file.array), _check)
            except ValueError as error:
                raise ValueError(f"{plan.path}: {error}") from error
            rows += len(file.array)
    paths = [plan.path for plan in plans]
    return [Dataset(name=args.name, sources=paths, rows=rows, dtype=dtype_text(plans[0].dtype))]


def _columns(array: Array) -> Array | dict[str, Array]:
    """Return records as they are, and of a table its columns, which are called as those of records without names."""
    if array.dtype.names is not None:
        return array
    count = array.shape[1] if array.ndim > 1 else 1
    return {f"f{number}": column for number, column in enumerate(array.reshape(len(array), count).T)}


def _check(size: int) -> None:
    interrupt.check()


def _write_store(args: argparse.Namespace, plans: Sequence[Plan], loaded: Loading[LoadedFile]) -> list[Dataset]:
    from onecopy._export.zarr_store import new_store

    def written() -> Iterator[Dataset]:
        for name, plan, file in zip(dataset_names(args.files), plans, loaded, strict=True):
            writer.write(name, file.array, {"source": plan.path})
            interrupt.check()
            dtype = dtype_text(file.array.dtype)
            yield Dataset(name=name, sources=[plan.path], rows=len(file.array), dtype=dtype)

    with new_store(args.output, "w" if args.force else "x") as writer:
        return list(written())
