"""`to_ipc` and `to_parquet`: records as files that polars, DuckDB, pandas and Arrow open."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from onecopy._arrays import Array, is_masked
from onecopy._atomic import AtomicFile, cannot_write
from onecopy._export.missing import needed
from onecopy._names import is_text

if TYPE_CHECKING:
    import pyarrow as pa

Path = str | os.PathLike[str]
Columns = Mapping[str, npt.ArrayLike]
Table = npt.ArrayLike | Columns | Iterable[npt.ArrayLike | Columns]
Mode = Literal["x", "w"]
Format = Literal["ipc", "parquet"]

_COMPRESSIONS = {"parquet": ("zstd", "snappy", "gzip", "brotli", "lz4"), "ipc": ("zstd", "lz4")}
# Columns of records lie apart in memory and are copied; so many at a time, which are a batch or a group of rows then.
_BLOCK_BYTES = 64 << 20


def to_parquet(
    path: Path, data: Table, *, compression: str | None = "zstd", compression_level: int | None = None, mode: Mode = "x"
) -> None:
    """Write records, or columns by name, into a Parquet file.

    The file appears under its name only when it is complete and on the disk. After an error, Ctrl-C or a kill, what was
    there before is unchanged. Needs pyarrow.

    Parameters
    ----------
    path : str or path-like
        The file.
    data : structured array, mapping of str to array, or iterable of these
        The table. A field of the records, or an array of the mapping, is a column; all have one length. An iterable of
        blocks of rows, such as `iter_text`, is consumed step by step, so that the table may be larger than memory.
    compression : {"zstd", "snappy", "gzip", "brotli", "lz4"}, optional
        How columns are compressed; None for not at all.
    compression_level : int, optional
        What the compression takes as its level.
    mode : {"x", "w"}, default "x"
        "x" refuses an existing file, "w" replaces it.

    Raises
    ------
    ImportError
        pyarrow is not installed.
    FileExistsError
        Mode "x" and the file exists.
    TypeError
        A type that Arrow lacks (complex numbers, Python objects), or an array without names for its columns.
    ValueError
        Columns of different lengths, blocks of different types, or bytes (type ``S``) that are no UTF-8.

    See Also
    --------
    to_ipc : Arrow's own format, which can be mapped into memory.

    Notes
    -----
    Strings of both kinds (``S``, ``U``) become strings, ``datetime64`` dates or timestamps, arrays inside of records
    lists of a fixed size. NaT and masked items are null; NaN stays NaN.

    Examples
    --------
    >>> import numpy as np, onecopy as oc, os, tempfile
    >>> import pyarrow.parquet
    >>> path = os.path.join(tempfile.mkdtemp(), "calls.parquet")
    >>> calls = np.array([(b"chr1", 100, 87.5)], dtype=[("chr", "S10"), ("pos", "<i4"), ("pct", "<f4")])
    >>> oc.to_parquet(path, calls)
    >>> pyarrow.parquet.read_table(path).to_pylist()
    [{'chr': 'chr1', 'pos': 100, 'pct': 87.5}]
    """
    _write(path, data, mode, "parquet", compression, compression_level)


def to_ipc(path: Path, data: Table, *, compression: Literal["lz4", "zstd"] | None = None, mode: Mode = "x") -> None:
    """Write records, or columns by name, into an Arrow IPC file (also known as Feather).

    The file appears under its name only when it is complete and on the disk. After an error, Ctrl-C or a kill, what was
    there before is unchanged. Needs pyarrow.

    Parameters
    ----------
    path : str or path-like
        The file.
    data : structured array, mapping of str to array, or iterable of these
        The table, as for `to_parquet`.
    compression : {"lz4", "zstd"}, optional
        By default none: then readers can map the file into memory and need not copy it.
    mode : {"x", "w"}, default "x"
        "x" refuses an existing file, "w" replaces it.

    Raises
    ------
    ImportError, FileExistsError, TypeError, ValueError
        As for `to_parquet`.

    Examples
    --------
    >>> import numpy as np, onecopy as oc, os, tempfile
    >>> import pyarrow.feather
    >>> path = os.path.join(tempfile.mkdtemp(), "a.arrow")
    >>> oc.to_ipc(path, {"day": np.array(["2020-01-31", "NaT"], "M8[D]"), "site": ["A", "B"]})
    >>> pyarrow.feather.read_table(path).to_pylist()
    [{'day': datetime.date(2020, 1, 31), 'site': 'A'}, {'day': None, 'site': 'B'}]
    """
    _write(path, data, mode, "ipc", compression, None)


def _write(
    path: Path, data: Table, mode: Mode, kind: Format, compression: str | None, compression_level: int | None
) -> None:
    with TableWriter(path, mode, kind, compression, compression_level) as writer:
        for block in _blocks(data):
            writer.write(block)


class TableWriter:
    """A table under construction: committed when the context ends without an error, and discarded otherwise.

    Parameters
    ----------
    path, mode
        As for `AtomicFile`.
    kind : {"ipc", "parquet"}
        The format.
    compression, compression_level
        As pyarrow has them.
    """

    def __init__(
        self, path: Path, mode: Mode, kind: Format, compression: str | None = None, level: int | None = None
    ) -> None:
        needed("pyarrow", f"to_{kind}")
        if mode not in ("x", "w"):
            raise ValueError(f"mode {mode!r}: give 'x' (refuse an existing file) or 'w' (replace it)")
        if compression is not None and compression not in _COMPRESSIONS[kind]:
            known = ", ".join(map(repr, _COMPRESSIONS[kind]))
            raise ValueError(f"compression {compression!r}: give {known} or None")
        self._file = AtomicFile(path, mode)
        self._kind = kind
        self._compression = compression
        self._level = level
        self._writer: Any = None
        self._schema: pa.Schema | None = None

    def __enter__(self) -> TableWriter:
        with ExitStack() as stack:
            stack.enter_context(self._file)
            stack.callback(self._close_after_error)
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with self._cleanup:
            if kind is None:
                if self._writer is None:
                    raise ValueError(
                        f"{self._file.given}: there is no data, and so nothing says which columns there are"
                    )
                with self._named_errors():
                    self._finish()
                self._file.commit()

    def write(self, block: npt.ArrayLike | Columns, report: Callable[[int], object] = lambda size: None) -> None:
        """Add rows; `report` is called with the number of bytes of arrays just written."""
        import pyarrow as pa

        from onecopy._export.columns import arrow_type, column

        columns = _columns(block)
        types = {name: _type(array) for name, array in columns.items()}
        schema = pa.schema([(name, arrow_type(dtype, name)) for name, dtype in types.items()])
        if self._schema is None:
            self._begin(schema)
        elif schema != self._schema:
            raise ValueError(f"a block has the columns {_listed(schema)}, but the first one {_listed(self._schema)}")
        rows = len(next(iter(columns.values())))
        step = max(1, _BLOCK_BYTES // max(1, sum(dtype.itemsize for dtype in types.values())))
        for first in range(0, rows, step):
            parts = {name: array[first : first + step] for name, array in columns.items()}
            arrays = [column(part, name) for name, part in parts.items()]
            with self._named_errors():
                self._writer.write_batch(pa.record_batch(arrays, schema=schema))
            report(sum(part.nbytes for part in parts.values()))

    def _begin(self, schema: pa.Schema) -> None:
        import pyarrow as pa

        self._schema = schema
        self._sink = pa.OSFile(os.fspath(self._file.temporary), "wb")
        if self._kind == "parquet":
            import pyarrow.parquet

            self._writer = pyarrow.parquet.ParquetWriter(
                self._sink, schema, compression=self._compression or "none", compression_level=self._level
            )
        else:
            options = pa.ipc.IpcWriteOptions(compression=self._compression)
            self._writer = pa.ipc.new_file(self._sink, schema, options=options)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Let errors of the disk say which file it was."""
        try:
            yield
        except OSError as error:
            raise cannot_write(self._file.given, error) from error

    def _finish(self) -> None:
        self._writer.close()
        self._writer = None
        self._sink.close()

    def _close_after_error(self) -> None:
        if self._writer is None:
            return
        with suppress(Exception):
            self._writer.close()
        if self._kind == "parquet":
            # Or it would try again when it is collected.
            self._writer.is_open = False
        with suppress(Exception):
            self._sink.close()


def _type(array: Array) -> np.dtype[Any]:
    """Return the type of a column, whose values may be arrays; numpy has no arrays of what takes no room."""
    return np.dtype((array.dtype, array.shape[1:])) if array.dtype.itemsize else array.dtype


def _listed(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema)


def _blocks(data: Any) -> Iterator[Any]:
    if isinstance(data, Mapping) or hasattr(data, "__array__") or not isinstance(data, Iterable):
        yield data
    else:
        yield from data


def _columns(block: Any) -> dict[str, Array]:
    """Return the columns of a table by name, as arrays of one length."""
    if isinstance(block, Mapping):
        columns = {name: _array(values) for name, values in block.items()}
    else:
        records = np.atleast_1d(_array(block))
        if records.dtype.names is None:
            way_out = "give records, or a mapping {name: column, ...}"
            raise TypeError(f"an array of type {records.dtype} has no names for its columns: {way_out}")
        columns = {name: records.reshape(-1)[name] for name in records.dtype.names}
    for name, array in columns.items():
        if isinstance(name, str) and not is_text(name):
            raise ValueError(f"column {name!r}: its name has surrogates, which are no text: rename it")
        if not isinstance(name, str) or not array.ndim:
            raise TypeError(f"column {name!r} must have a string as its name and an array of values: {array!r:.60}")
    if not columns:
        raise ValueError("the table has no columns: give at least one")
    lengths = {name: len(array) for name, array in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the columns have different lengths: {lengths!s:.200}")
    return columns


def _array(data: Any) -> Any:
    return data if is_masked(data) else np.asarray(data)
