"""``onecopy load --resume``: what an earlier run has left, complete or not."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence

import h5py

from onecopy._cli.datasets import Dataset, dataset_names
from onecopy._cli.options import dtype_text
from onecopy._cli.sources import Source, source_of
from onecopy._hdf5.opening import open_file
from onecopy._hdf5.resumable import partial_path
from onecopy._hdf5.storage import parse_dtype


def complete_result(output: str, sources: Sequence[Source], options: Mapping[str, str]) -> list[Dataset] | None:
    """Return what is in the output when it is the very result that is asked for."""
    try:
        with open_file(output) as file:
            if file.attrs.get("options") != json.dumps(options):
                return None
            found = _concatenated(file, options["--name"]) if options["--layout"] == "concat" else _each(file, sources)
    except (OSError, KeyError):
        return None
    return [dataset for _, dataset in found] if [source for made, _ in found for source in made] == sources else None


def _each(file: h5py.File, sources: Sequence[Source]) -> list[tuple[list[Source], Dataset]]:
    names = dataset_names([source.source for source in sources])
    if len(file) != len(names):
        return []
    return [(found, _described(file[name], name, found)) for name in names if (found := [source_of(file[name].attrs)])]


def _concatenated(file: h5py.File, name: str) -> list[tuple[list[Source], Dataset]]:
    index = file[f"{name}_sources"]
    found = [
        source_of({key: value.decode() if isinstance(value, bytes) else value for key, value in row.items()})
        for row in (dict(zip(index.dtype.names, values, strict=True)) for values in index[:].tolist())
    ]
    return [(found, _described(file[name], name, found))]


def _described(dataset: h5py.Dataset, name: str, sources: Sequence[Source]) -> Dataset:
    dtype = dtype_text(parse_dtype(dataset.attrs["dtype"]))
    return Dataset(name=name, sources=[one.source for one in sources], rows=len(dataset), dtype=dtype)


def tell_of_partial(output: str) -> None:
    """Say that there is something that could be resumed."""
    partial = partial_path(output)
    if os.path.exists(partial):
        print(f"onecopy load: --resume would go on with an earlier run ({partial})", file=sys.stderr)


def kept(saved: int, files: int) -> str:
    """Say what an interrupted run leaves."""
    if not saved:
        return "nothing was written"
    return f"{saved} of {files} files are kept, and the same command goes on with the next"
