"""`loadtxt`: numpy's, on all cores and into shared memory."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from onecopy._arrays import Array, asarray
from onecopy._text import arguments
from onecopy._text.converters import are_plain, converters_for_native
from onecopy._text.lines import Joiner, as_files, encoding_of_path, is_read_once, name_of, text_of, whole
from onecopy._text.loading import LoadedFile, Path, infer, load, load_many, with_names
from onecopy._text.progress import showing

if TYPE_CHECKING:
    import numpy.typing as npt


def loadtxt(
    fname: Any,
    dtype: npt.DTypeLike | None = float,
    comments: str | bytes | Sequence[str | bytes] | None = "#",
    delimiter: str | bytes | None = None,
    converters: Any = None,
    skiprows: int = 0,
    usecols: arguments.Columns | None = None,
    unpack: bool = False,
    ndmin: Literal[0, 1, 2] = 0,
    encoding: str | None = None,
    max_rows: int | None = None,
    *,
    quotechar: str | None = None,
    like: Any = None,
    names: bool = False,
    missing: arguments.Missing | None = None,
    truncate: bool = False,
    return_index: bool = False,
    threads: int | None = None,
    progress: bool | Callable[[int], None] = False,
) -> Any:
    """Load delimited text into a shared array, on all cores.

    `numpy.loadtxt` with its parameters and results, and more: compressed files are recognised by their content, several
    files are loaded at once, and the array travels to other processes as a handle.

    Parameters
    ----------
    fname : path, file, iterable of lines, or sequence of paths
        What to load. Plain text, gzip, BGZF, zstd, bzip2 and xz are told apart by content. A sequence that has a
        `pathlib.Path`, or a string that names an existing file, is several files; any other sequence of strings holds
        lines, as for numpy. A pattern with ``*``, ``?`` or ``[`` that is no file, also in a sequence of files, is all
        files that match it, sorted.
    dtype : dtype-like or None, optional
        Type of the items; a structured dtype makes records with a field per column. None guesses the type of each
        column from the first lines: integers, floats, or strings with head-room. What does not fit later is an error.
    comments : str, bytes or sequence of them, or None, optional
        What starts a comment, anywhere in a line.
    delimiter : str or bytes, optional
        What separates columns; white space by default.
    converters : callable or dict, optional
        Function that makes the elements of all columns from their texts, or a dictionary with such functions of some
        columns by number (with `names` also by name). Called row by row in the order of the file; other columns are
        parsed on all cores meanwhile.
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
    return_index : bool, optional
        Return also where the rows are in the text.
    threads : int, optional
        Threads to use; all cores by default.
    progress : bool or callable, optional
        Show a progress bar; or call this now and then, with the bytes of the files read since its last call.

    Returns
    -------
    numpy.ndarray or list of numpy.ndarray
        A list with one array per file for several files. With `unpack` a structured array becomes a list of its fields.
    index : numpy.ndarray of int64, shape (rows,)
        For each row the index of its line among all lines of the text: ``skiprows=index[i]`` begins with row ``i``, and
        messages call its line ``index[i] + 1``. Only with `return_index`; for each file of several, whose list then
        holds pairs.

    Raises
    ------
    ParseError
        The text does not hold what `dtype` says. The message starts with ``file:line:column`` and the exception has
        `filename`, `line`, `column`, `field` and `text`. Integers never wrap. Also raised for what a converter raises,
        which is then its ``__cause__``, and for compressed data that is truncated or corrupt.
    OutOfMemoryError
        The result does not fit.
    OSError
        The file is missing, a directory, or not readable, or it changed while it was read.
    ValueError, TypeError
        Parameters that contradict each other or are of no use; the same of the two as from numpy.

    Warns
    -----
    UserWarning
        The input has no data; the result is empty. Or `max_rows` was given and there are lines without data, which do
        not count.

    See Also
    --------
    numpy.loadtxt, onecopy.iter_text, onecopy.to_hdf5

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
    >>> oc.loadtxt(["12.5% 3", "# no data", "7% 4"], converters={0: lambda text: float(text.rstrip("%")) / 100},
    ...            return_index=True)
    (array([[0.125, 3.   ],
           [0.07 , 4.   ]]), array([0, 2]))
    >>> oc.loadtxt(["name,age", "Ada,36"], dtype=None, delimiter=",", names=True)["age"].item()
    36
    """
    arguments.check_ndmin(ndmin)
    arguments.check_encoding(encoding)
    count = arguments.thread_count(threads)
    item = None if dtype is None else np.dtype(dtype)
    dialect = arguments.dialect(
        item, comments, delimiter, skiprows, usecols, max_rows, quotechar, names, missing, truncate, return_index
    )
    takes_converters = converters is None or (item is not None and are_plain(converters, names))
    only_numpy = not takes_converters or _only_numpy_can(item, encoding, quotechar, like)
    form = _Form(unpack, ndmin, max_rows, return_index)
    files = as_files(fname)
    side_by_side = files is not None and converters is None and not (item is None and any(map(is_read_once, files)))
    if files is not None and side_by_side and not only_numpy:
        results = []
        for file, loaded in zip(files, _load_files(files, item, encoding, count, progress, dialect), strict=True):
            results.append(_finished(loaded, item, file, dialect, form))
        return results
    options: dict[str, Any] = {
        "dtype": dtype, "comments": comments, "delimiter": delimiter, "converters": converters, "skiprows": skiprows,
        "usecols": dialect["usecols"], "unpack": unpack, "ndmin": ndmin, "encoding": encoding, "max_rows": max_rows,
        "quotechar": quotechar, "like": like,
    }  # fmt: skip
    if files is not None:
        more: dict[str, Any] = {"names": names, "missing": missing, "truncate": truncate, "return_index": return_index}
        with showing(progress, files) as report:
            return [loadtxt(file, threads=threads, progress=report or False, **options, **more) for file in files]
    text = None
    if not only_numpy and not _is_for_numpy(fname, max_rows):
        text = text_of(fname, encoding, Joiner(encoding, quotechar, dialect["delimiter"]))
        fname = text.lines if text.content is None else fname
    if text is None or text.content is None:
        if names or missing or item is None or return_index:
            raise ValueError(
                "names, missing, return_index and dtype=None do not go together with like, with types, encodings and "
                "converters that only numpy's reader takes, nor, with max_rows, with what is no path"
            )
        read = np.loadtxt(fname, **options)
        return read if isinstance(read, list) or read.dtype.hasobject else asarray(read)
    content = text.content
    if item is None and not isinstance(content, tuple) and is_read_once(content):
        # Its first lines are looked at before.
        content = whole(content)
    if item is None:
        item = infer(content, encoding=text.encoding, **dialect).dtype
    native = converters_for_native(converters, item, latin1=text.encoding == "latin-1", as_bytes=encoding == "bytes")
    with showing(progress, [content]) as report:
        loaded = load(
            content,
            item,
            threads=count,
            progress=report,
            converters=native,
            encoding=text.encoding,
            **dialect,
        )
    return _finished(loaded, item, fname, dialect, form)


class _Form(NamedTuple):
    """What the result is to look like."""

    unpack: bool
    ndmin: int
    max_rows: int | None
    return_index: bool


def _load_files(
    files: list[Path],
    item: np.dtype[Any] | None,
    encoding: str | None,
    threads: int,
    progress: bool | Callable[[int], None],
    dialect: dict[str, Any],
) -> list[LoadedFile]:
    encoding = encoding_of_path(encoding)
    items = [infer(file, encoding=encoding, **dialect).dtype if item is None else item for file in files]
    with showing(progress, files) as report:
        return load_many(
            list(zip(files, items, strict=True)),
            threads=threads,
            progress=report,
            encoding=encoding,
            **dialect,
        )


def _finished(loaded: LoadedFile, item: np.dtype[Any] | None, fname: Any, dialect: dict[str, Any], form: _Form) -> Any:
    """Give what was loaded the form that was asked for."""
    array = _shaped(_of_columns(loaded, item, fname, dialect), form.ndmin)
    _warn(array, loaded.blank_line, fname, form.max_rows)
    result = array if not form.unpack else unpacked(array)
    return (result, loaded.lines) if form.return_index else result


def unpacked(array: Array) -> Array | list[Array]:
    """Return the columns, or one array per field."""
    return array.T if array.dtype.names is None else [array[name] for name in array.dtype.names]


def _of_columns(loaded: LoadedFile, item: np.dtype[Any] | None, fname: Any, dialect: dict[str, Any]) -> Array:
    array = loaded.array
    if item is None or item.names is not None:
        return array
    if loaded.names is not None and array.ndim == 2:
        return with_names(array, loaded.names, name_of(fname))
    if loaded.rows == 0 and dialect["usecols"] is None:
        # Nothing says how many columns there would have been: numpy takes one.
        return array.reshape(-1)[:0].reshape(0, 1)
    return array


def _warn(array: Array, blank_line: int | None, fname: Any, max_rows: int | None) -> None:
    if array.shape[:1] == (0,):
        warnings.warn(f'loadtxt: input contained no data: "{fname}"', UserWarning, stacklevel=4)
    if blank_line is not None:
        warnings.warn(
            f"Input line {blank_line} contained no data and will not be counted towards `max_rows={max_rows}`; "
            "to count lines, take as many with itertools.islice",
            UserWarning,
            stacklevel=4,
        )


def _only_numpy_can(dtype: np.dtype[Any] | None, encoding: str | None, quotechar: str | None, like: Any) -> bool:
    """Tell what is left to numpy's reader: types and encodings that large files do not have."""
    return bool(
        like is not None
        or (dtype is not None and not readable(dtype))
        or not (encoding in (None, "bytes") or arguments.is_utf8(encoding) or arguments.is_latin1(encoding))
        or (quotechar is not None and not quotechar.isascii())
    )


def _is_for_numpy(fname: Any, max_rows: int | None) -> bool:
    """Tell what is left to numpy's reader whatever it holds."""
    # numpy leaves a file behind the last row that it returns, and a generator may have no end.
    return max_rows is not None and not isinstance(fname, (str, os.PathLike, list, tuple))


def readable(dtype: np.dtype[Any]) -> bool:
    """Tell whether the compiled half reads items of this type."""
    if dtype.names is not None:
        return all(readable(dtype[name].base) for name in dtype.names)
    unsized = (dtype.kind in "SU" and dtype.itemsize == 0) or dtype.str in ("<M8", ">M8")
    return dtype.kind in "biufcSUmM" and dtype.char not in "gG" and not unsized and dtype.subdtype is None


def _shaped(array: Array, ndmin: int) -> Array:
    """Drop and add axes, as numpy does."""
    if array.ndim > ndmin:
        array = np.squeeze(array)
    if array.ndim < ndmin:
        array = np.atleast_1d(array) if ndmin == 1 else np.atleast_2d(array).T
    return array
