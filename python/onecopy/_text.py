"""Text files into shared arrays: `loadtxt`, and what the command line reads files by."""

from __future__ import annotations

import operator
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, SupportsIndex

import numpy as np

from onecopy import _native
from onecopy._arrays import Array, asarray

if TYPE_CHECKING:
    import numpy.typing as npt

Path = str | os.PathLike[str]
Columns = SupportsIndex | str | Sequence[SupportsIndex | str]
#: Text to the value that it stands for; or the name of a field to such texts of its own.
Missing = Mapping[str, Any]

#: Compressions that numpy's reader knows by name and this one does not know by content.
_ONLY_NUMPY_READS = (".bz2", ".xz", ".lzma")


class LoadedFile(NamedTuple):
    """What a text file became.

    Attributes
    ----------
    array : numpy.ndarray
        Shared; records, or rows times columns.
    names : list of str or None
        Names in the header line.
    dtype : numpy.dtype
        Of the array.
    rows : int
        Records, or rows.
    bytes : int
        Bytes of text, decompressed.
    """

    array: Array
    names: list[str] | None
    dtype: np.dtype[Any]
    rows: int
    bytes: int


class Inferred(NamedTuple):
    """What the first lines of a text look like.

    Attributes
    ----------
    dtype : numpy.dtype
        Structured, with a field per column (of those in ``usecols``); integers and floats as the sample needs, strings
        with head-room.
    names : list of str or None
        Names of all columns, when there is a header.
    delimiter, quotechar : str or None
        Of the dialect.
    header : bool
        Whether the first line holds names.
    """

    dtype: np.dtype[Any]
    names: list[str] | None
    delimiter: str | None
    quotechar: str | None
    header: bool


def _dialect(
    *,
    delimiter: str | None = None,
    comments: Sequence[str] = ("#",),
    quotechar: str | None = None,
    skiprows: int = 0,
    max_rows: int | None = None,
    usecols: Sequence[int | str] | None = None,
    header: bool = False,
    missing: Sequence[tuple[str, str, str | None]] = (),
    truncate: bool = False,
    encoding: Literal["utf-8", "latin-1"] = "utf-8",
) -> dict[str, Any]:
    """Spell a dialect out for the compiled half."""
    return {
        "delimiter": delimiter,
        "comments": list(comments),
        "quotechar": quotechar,
        "skiprows": skiprows,
        "max_rows": max_rows,
        "usecols": None if usecols is None else list(usecols),
        "header": header,
        "missing": list(missing),
        "truncate": truncate,
        "latin1": encoding == "latin-1",
    }


def infer(path: Path | bytes, **dialect: Any) -> Inferred:
    """Guess the delimiter (and with it the quote), the header and the types where `dialect` leaves them open."""
    fields, names, delimiter, quotechar, header = _native.infer(
        path, _dialect(**dialect), "delimiter" not in dialect, "header" not in dialect
    )
    return Inferred(np.dtype(fields), names, delimiter, quotechar, header)


def load(
    path: Path | bytes,
    dtype: npt.DTypeLike,
    *,
    threads: int = 0,
    progress: Callable[[int], None] | None = None,
    **dialect: Any,
) -> LoadedFile:
    """Load one text: a file, or the bytes of the text themselves.

    `progress` is called now and then with the bytes of the file read since its last call; what it raises ends the
    loading. The dialect is that of `_dialect`.
    """
    array, names, size = _native.load(path, np.dtype(dtype), _dialect(**dialect), threads, progress)
    return LoadedFile(array, names, array.dtype, len(array), size)


def loadtxt(
    fname: Any,
    dtype: npt.DTypeLike = float,
    comments: str | bytes | Sequence[str | bytes] | None = "#",
    delimiter: str | bytes | None = None,
    converters: Any = None,
    skiprows: int = 0,
    usecols: Columns | None = None,
    unpack: bool = False,
    ndmin: Literal[0, 1, 2] = 0,
    encoding: str | None = None,
    max_rows: int | None = None,
    *,
    quotechar: str | None = None,
    like: Any = None,
    names: bool = False,
    missing: Missing | None = None,
    truncate: bool = False,
    threads: int | None = None,
) -> Any:
    """Load delimited text into a shared array, on all cores.

    `numpy.loadtxt` with its parameters and results, and more: compressed files are recognised by their content, several
    files are loaded at once, and the array travels to other processes as a handle.

    Parameters
    ----------
    fname : path, file, iterable of lines, or sequence of paths
        What to load. Plain text, gzip, BGZF and zstd are told apart by content. A sequence of `pathlib.Path`, or of
        strings that all name existing files, is several files; any other sequence of strings holds lines, as for numpy.
    dtype : dtype-like, optional
        Type of the items; a structured dtype makes records with a field per column.
    comments : str, bytes or sequence of them, or None, optional
        What starts a comment, anywhere in a line.
    delimiter : str or bytes, optional
        What separates columns; white space by default.
    converters : callable or dict, optional
        As in numpy, whose reader is then used.
    skiprows : int, optional
        Lines to skip at the beginning, comments included.
    usecols : int, str or sequence of them, optional
        Columns to load, by number (negative from the end) or by name in the header.
    unpack : bool, optional
        Return the columns: transposed, or one array per field.
    ndmin : {0, 1, 2}, optional
        Least number of dimensions; axes of length 1 are dropped otherwise.
    encoding : str, optional
        UTF-8 by default. ``"latin1"`` is as fast; numpy's reader is used for any other.
    max_rows : int, optional
        Rows to load, comments and empty lines not counted.
    quotechar : str, optional
        Character around fields that hold delimiters, comments or newlines; doubled inside such a field it stands for
        itself.
    like : array-like, optional
        As in numpy, whose reader is then used.
    names : bool, optional
        The first line that is neither skipped nor a comment holds the names of the columns. With a plain dtype the
        result is structured, with a field of that type for each column.
    missing : mapping of str to scalar, optional
        Texts that stand for missing values, and the value to store: ``{"NA": np.nan, "": -1}``. The name of a field
        instead of a text holds a mapping for that field.
    truncate : bool, optional
        Cut strings that are longer than their field. By default they are an error; numpy cuts them silently.
    threads : int, optional
        Threads to use; all cores by default.

    Returns
    -------
    numpy.ndarray or list of numpy.ndarray
        A list with one array per file for several files. With `unpack` a structured array becomes a list of its fields.

    Raises
    ------
    ParseError
        The text does not hold what `dtype` says. The message starts with ``file:line:column`` and the exception has
        `filename`, `line`, `column`, `field` and `text`. Integers never wrap. Also raised for compressed data that is
        truncated or corrupt.
    OutOfMemoryError
        The result does not fit.
    OSError
        The file is missing, a directory, or not readable, or it changed while it was read.
    ValueError
        Parameters that contradict each other.

    Warns
    -----
    UserWarning
        The input has no data; the result is empty.

    See Also
    --------
    numpy.loadtxt, onecopy.to_hdf5

    Examples
    --------
    >>> import onecopy as oc
    >>> oc.loadtxt(["1 2", "3 4"])
    array([[1., 2.],
           [3., 4.]])
    >>> calls = oc.loadtxt(["chr1 10468 0.75", "chr2 10471 NA"],
    ...                    dtype="S4, i4, f4", missing={"NA": "nan"})
    >>> calls["f2"]
    array([0.75,  nan], dtype=float32)
    """
    if ndmin not in (0, 1, 2):
        raise ValueError(f"ndmin={ndmin!r}: expected 0, 1 or 2")
    files = _as_files(fname)
    options: dict[str, Any] = {
        "dtype": dtype, "comments": comments, "delimiter": delimiter, "converters": converters, "skiprows": skiprows,
        "usecols": usecols, "unpack": unpack, "ndmin": ndmin, "encoding": encoding, "max_rows": max_rows,
        "quotechar": quotechar, "like": like,
    }  # fmt: skip
    if files is not None:
        more = {"names": names, "missing": missing, "truncate": truncate}
        return _load_files(files, {**options, **more}, threads)
    if _only_numpy_can(fname, np.dtype(dtype), converters, encoding, max_rows, like):
        if names or missing:
            raise ValueError(
                "names and missing do not go together with converters, like, or what else numpy's reader is for"
            )
        loaded = np.loadtxt(fname, **options)
        return loaded if isinstance(loaded, list) or loaded.dtype.hasobject else asarray(loaded)
    source = _source(fname)
    dialect = {
        "delimiter": _text(delimiter),
        "comments": _comments(comments),
        "quotechar": quotechar,
        "skiprows": _count("skiprows", skiprows),
        "max_rows": None if max_rows is None else _count("max_rows", max_rows),
        "usecols": _columns(usecols),
        "missing": _missing(missing),
        "truncate": truncate,
        "encoding": "latin-1" if _is_latin1(encoding) else "utf-8",
    }
    array = _load_named(source, dtype, threads or 0, names, dialect)
    if array.shape[0] == 0:
        warnings.warn(f'loadtxt: input contained no data: "{fname}"', UserWarning, stacklevel=2)
    return _shaped(array, ndmin, unpack)


def _load_named(
    source: Path | bytes, dtype: npt.DTypeLike, threads: int, names: bool, dialect: dict[str, Any]
) -> Array:
    item = np.dtype(dtype)
    loaded = load(source, item, threads=threads, header=names, **dialect)
    array = loaded.array
    if names and item.names is None and loaded.names is not None and array.ndim == 2:
        # Equal elements side by side are a structure without padding.
        array = array.view([(name, item) for name in loaded.names])[:, 0]
    return array


def _as_files(fname: Any) -> list[Path] | None:
    """Return the paths if `fname` is a sequence of files."""
    if not isinstance(fname, (list, tuple)) or not fname:
        return None
    if all(isinstance(item, os.PathLike) for item in fname):
        return list(fname)
    if all(isinstance(item, str) for item in fname) and any(os.path.exists(item) for item in fname):
        return list(fname)
    return None


def _load_files(files: list[Path], options: dict[str, Any], threads: int | None) -> list[Any]:
    """Load large files one after the other, each on all cores, and small ones side by side."""
    from concurrent.futures import ThreadPoolExecutor

    cores = threads or len(os.sched_getaffinity(0))
    small = [file for file in files if _size(file) < _LEAST_FOR_ALL_CORES]
    with ThreadPoolExecutor(cores) as pool:
        started = {file: pool.submit(loadtxt, file, threads=1, **options) for file in small}
        return [
            started[file].result() if file in started else loadtxt(file, threads=cores, **options) for file in files
        ]


#: A file below this is parsed by one core before others could help.
_LEAST_FOR_ALL_CORES = 4 << 20


def _size(file: Path) -> int:
    try:
        return os.path.getsize(file)
    except OSError:
        return 0  # the loader says what is wrong with it


def _only_numpy_can(
    fname: Any, dtype: np.dtype[Any], converters: Any, encoding: str | None, max_rows: int | None, like: Any
) -> bool:
    """Tell what is left to numpy's reader: Python in the loop, and types and encodings that large files do not have."""
    is_path = isinstance(fname, (str, os.PathLike))
    return bool(
        converters is not None
        or like is not None
        or not _readable(dtype)
        or not (encoding in (None, "bytes") or _is_utf8(encoding) or _is_latin1(encoding))
        or (is_path and os.fspath(fname).endswith(_ONLY_NUMPY_READS))
        # numpy leaves the file behind the last row that it returns.
        or (max_rows is not None and hasattr(fname, "read"))
    )


def _readable(dtype: np.dtype[Any]) -> bool:
    if dtype.names is not None:
        return all(_readable(dtype[name].base) for name in dtype.names)
    unsized = (dtype.kind in "SU" and dtype.itemsize == 0) or dtype.str in ("<M8", ">M8")
    return dtype.kind in "biufcSUmM" and dtype.char not in "gG" and not unsized and dtype.subdtype is None


def _is_utf8(encoding: str | None) -> bool:
    return encoding is not None and encoding.lower().replace("_", "-") in ("utf-8", "utf8", "ascii", "us-ascii")


def _is_latin1(encoding: str | None) -> bool:
    return encoding is not None and encoding.lower().replace("_", "-") in ("latin-1", "latin1", "iso-8859-1")


def _source(fname: Any) -> Path | bytes:
    """Return the path, or all bytes of what is no path."""
    if isinstance(fname, (str, os.PathLike)):
        return os.fspath(fname)
    if hasattr(fname, "read"):
        content = fname.read()
        return content if isinstance(content, bytes) else content.encode()
    if not isinstance(fname, Iterable):
        raise ValueError(f"fname must be a path, a file, or lines of text, not {type(fname).__name__}")
    return b"\n".join(_line(line) for line in fname)


def _line(line: Any) -> bytes:
    if not isinstance(line, (str, bytes)):
        raise TypeError(f"fname holds {type(line).__name__} among its lines; expected str or bytes")
    text = line if isinstance(line, bytes) else line.encode()
    return text.removesuffix(b"\n")


def _text(value: str | bytes | None) -> str | None:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _comments(comments: str | bytes | Sequence[str | bytes] | None) -> list[str]:
    if comments is None:
        return []
    several = [comments] if isinstance(comments, (str, bytes)) else comments
    return [text for comment in several if (text := _text(comment)) is not None]


def _count(name: str, value: Any) -> int:
    number = operator.index(value)
    if number < 0:
        raise ValueError(f"{name}={number}: expected zero or more")
    return number


def _columns(usecols: Columns | None) -> list[int | str] | None:
    if usecols is None:
        return None
    several = [usecols] if isinstance(usecols, (str, SupportsIndex)) else list(usecols)
    return [column if isinstance(column, str) else operator.index(column) for column in several]


def _missing(missing: Missing | None) -> list[tuple[str, str, str | None]]:
    everywhere: list[tuple[str, str, str | None]] = []
    of_fields: list[tuple[str, str, str | None]] = []
    for key, value in (missing or {}).items():
        if isinstance(value, Mapping):
            of_fields.extend((text, str(fill), key) for text, fill in value.items())
        else:
            everywhere.append((key, str(value), None))
    return of_fields + everywhere  # the first that fits is taken


def _shaped(array: Array, ndmin: int, unpack: bool) -> Any:
    """Drop and add axes, and unpack, as numpy does."""
    if array.ndim > ndmin and array.shape[0] > 0:
        array = np.squeeze(array)
    if array.ndim < ndmin:
        array = np.atleast_1d(array) if ndmin == 1 else np.atleast_2d(array).T
    if not unpack:
        return array
    return [array[name] for name in array.dtype.names] if array.dtype.names is not None else array.T
