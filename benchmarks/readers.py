"""Every way to read the two kinds of file: ``read`` gives the library's own result, ``convert`` a numpy array.

The array is the structured array of ``CALL`` for methylation files and a float32 matrix for grids. A library is
imported when its reader is made, so that each runs alone in its process.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.data import GRID_COLUMNS
from examples.methylation_files import CALL

NAMES = list(CALL.names or ())
NUMBERS = NAMES[1:]
GRID_NAMES = [f"column_{number}" for number in range(GRID_COLUMNS)]


class Reader(NamedTuple):
    """How to read a path, and how to get from the result to an array."""

    read: Callable[[str], Any]
    convert: Callable[[Any], np.ndarray]


def numpy_calls() -> Reader:
    return Reader(lambda path: np.loadtxt(path, dtype=CALL, delimiter="\t"), _same)


def numpy_grid() -> Reader:
    return Reader(lambda path: np.loadtxt(path, dtype="f4"), _same)


def onecopy_calls() -> Reader:
    import onecopy

    return Reader(lambda path: onecopy.loadtxt(path, dtype=CALL, delimiter="\t"), _same)


def onecopy_grid() -> Reader:
    import onecopy

    return Reader(lambda path: onecopy.loadtxt(path, dtype="f4", delimiter=" "), _same)


def pandas_calls() -> Reader:
    return _pandas_calls("str", lambda column: column.to_numpy(dtype=object).astype("S10"))


def pandas_calls_category() -> Reader:
    def decode(column: Any) -> np.ndarray:
        return column.cat.categories.to_numpy(dtype=object).astype("S10")[column.cat.codes.to_numpy()]

    return _pandas_calls("category", decode)


def pandas_grid() -> Reader:
    import pandas

    def read(path: str) -> Any:
        return pandas.read_csv(path, sep=" ", header=None, dtype="f4")

    return Reader(read, lambda frame: np.ascontiguousarray(frame.to_numpy(np.float32)))


def polars_calls() -> Reader:
    import polars

    return _polars_calls(polars.String, lambda column: column.to_numpy().astype("S10"))


def polars_calls_categorical() -> Reader:
    import polars

    def decode(column: Any) -> np.ndarray:
        names = column.unique()
        codes = names.to_physical().to_numpy()
        text = np.zeros(codes.max() + 1, "S10")
        text[codes] = names.cast(polars.String).to_numpy().astype("S10")
        return text[column.to_physical().to_numpy()]

    return _polars_calls(polars.Categorical, decode)


def polars_grid() -> Reader:
    import polars

    schema = dict.fromkeys(GRID_NAMES, polars.Float32)

    def read(path: str) -> Any:
        return polars.read_csv(path, separator=" ", has_header=False, schema=schema)

    return Reader(read, lambda frame: frame.to_numpy(order="c"))


def pyarrow_calls() -> Reader:
    import pyarrow

    return _pyarrow_calls(pyarrow.string(), lambda column: column.to_numpy().astype("S10"))


def pyarrow_calls_dictionary() -> Reader:
    import pyarrow

    def decode(column: Any) -> np.ndarray:
        column = column.unify_dictionaries().combine_chunks()
        if isinstance(column, pyarrow.ChunkedArray):
            column = column.chunk(0)
        return column.dictionary.to_numpy(zero_copy_only=False).astype("S10")[column.indices.to_numpy()]

    return _pyarrow_calls(pyarrow.dictionary(pyarrow.int32(), pyarrow.string()), decode)


def pyarrow_grid() -> Reader:
    import pyarrow
    from pyarrow import csv

    types = dict.fromkeys(GRID_NAMES, pyarrow.float32())

    def read(path: str) -> Any:
        return csv.read_csv(
            path,
            csv.ReadOptions(column_names=GRID_NAMES, block_size=8 << 20),
            csv.ParseOptions(delimiter=" "),
            csv.ConvertOptions(column_types=types),
        )

    def convert(table: Any) -> np.ndarray:
        matrix = np.empty((table.num_rows, table.num_columns), np.float32)
        for number, column in enumerate(table.columns):
            matrix[:, number] = column.to_numpy()
        return matrix

    return Reader(read, convert)


CALLS = {
    "onecopy": onecopy_calls,
    "np.loadtxt": numpy_calls,
    "pandas": pandas_calls,
    "pandas, categories": pandas_calls_category,
    "polars": polars_calls,
    "polars, categoricals": polars_calls_categorical,
    "pyarrow": pyarrow_calls,
    "pyarrow, dictionary": pyarrow_calls_dictionary,
}
GRID = {
    "onecopy": onecopy_grid,
    "np.loadtxt": numpy_grid,
    "pandas": pandas_grid,
    "polars": polars_grid,
    "pyarrow": pyarrow_grid,
}


def _same(array: np.ndarray) -> np.ndarray:
    return array


def _structured(names: np.ndarray, numbers: Callable[[str], np.ndarray]) -> np.ndarray:
    calls = np.empty(len(names), CALL)
    calls["chr"] = names
    for name in NUMBERS:
        calls[name] = numbers(name)
    return calls


def _pandas_calls(chromosome: str, decode: Callable[[Any], np.ndarray]) -> Reader:
    import pandas

    types = {name: CALL[name] for name in NUMBERS} | {"chr": chromosome}

    def read(path: str) -> Any:
        return pandas.read_csv(path, sep="\t", header=None, names=NAMES, dtype=types)

    return Reader(read, lambda frame: _structured(decode(frame["chr"]), lambda name: frame[name].to_numpy()))


def _polars_calls(chromosome: Any, decode: Callable[[Any], np.ndarray]) -> Reader:
    import polars

    kinds = {"i": polars.Int32, "f": polars.Float32}
    schema = {"chr": chromosome} | {name: kinds[CALL[name].kind] for name in NUMBERS}

    def read(path: str) -> Any:
        return polars.read_csv(path, separator="\t", has_header=False, schema=schema)

    return Reader(read, lambda frame: _structured(decode(frame["chr"]), lambda name: frame[name].to_numpy()))


def _pyarrow_calls(chromosome: Any, decode: Callable[[Any], np.ndarray]) -> Reader:
    import pyarrow
    from pyarrow import csv

    types = {name: pyarrow.from_numpy_dtype(CALL[name]) for name in NUMBERS} | {"chr": chromosome}

    def read(path: str) -> Any:
        return csv.read_csv(
            path,
            csv.ReadOptions(column_names=NAMES),
            csv.ParseOptions(delimiter="\t"),
            csv.ConvertOptions(column_types=types),
        )

    return Reader(read, lambda table: _structured(decode(table["chr"]), lambda name: table[name].to_numpy()))
