"""`iter_text`: texts that are larger than memory, a block of rows at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onecopy import _native
from onecopy._text import arguments
from onecopy._text.converters import are_plain, converters_for_native
from onecopy._text.lines import Joiner, as_files, name_of
from onecopy._text.loading import infer, load_blocks, with_names
from onecopy._text.loadtxt import readable, unpacked
from onecopy._text.pieces import check_source, long_text
from onecopy._text.progress import showing

if TYPE_CHECKING:
    import numpy.typing as npt


def iter_text(
    fname: Any,
    dtype: npt.DTypeLike | None = float,
    *,
    rows: int | None = None,
    comments: str | bytes | Sequence[str | bytes] | None = "#",
    delimiter: str | bytes | None = None,
    converters: Any = None,
    skiprows: int = 0,
    usecols: arguments.Columns | None = None,
    unpack: bool = False,
    encoding: str | None = None,
    max_rows: int | None = None,
    quotechar: str | None = None,
    names: bool = False,
    missing: arguments.Missing | None = None,
    truncate: bool = False,
    return_index: bool = False,
    threads: int | None = None,
    progress: bool | Callable[[int], None] = False,
) -> Iterator[Any]:
    """Load delimited text block by block, on all cores, in bounded memory.

    The next blocks are parsed while the caller works on one; a few of them is all that is in memory, however long the
    text is. That holds for a file and for lines that a generator makes, too: they are read as they are needed, in the
    thread that takes the blocks, and nothing says that they have an end.

    Parameters
    ----------
    fname : path, file, iterable of lines, or sequence of paths
        As for `loadtxt`. Several files come one after the other, and no block holds rows of two.
    dtype, comments, delimiter, skiprows, usecols, encoding, max_rows, quotechar : optional
        As for `loadtxt`, for each file.
    names, missing, truncate, return_index, threads : optional
        As for `loadtxt`, for each file.
    converters : callable or dict, optional
        As for `loadtxt`. Called row by row in the order of the text, in the thread that takes the blocks, and not much
        further ahead than the next one needs; functions with a state keep it from file to file.
    rows : int, optional
        Rows of a block; the last one of a file may have fewer. By default as many as 1 MiB holds, but at least one.
    unpack : bool, optional
        Yield the columns of each block: transposed, or a list of its fields.
    progress : bool or callable, optional
        As for `loadtxt`.

    Yields
    ------
    numpy.ndarray or list of numpy.ndarray
        Shared: records of shape ``(rows,)`` for a structured dtype or with `names`, else ``(rows, columns)``; no axis
        is dropped. With `return_index` a pair of this and the indices of its lines in the whole file.

    Raises
    ------
    ParseError
        The text does not hold what `dtype` says, or a converter raised something. Whole blocks before that place come
        first.
    ValueError, TypeError, OSError, OutOfMemoryError
        As for `loadtxt`. A `dtype` or `encoding` that only numpy's reader knows is a `ValueError`. What a generator or
        a file raises comes behind the whole blocks before it.

    Examples
    --------
    >>> import onecopy as oc
    >>> lines = (f"{n} {n * n}" for n in range(5))
    >>> [block[:, 1].sum().item() for block in oc.iter_text(lines, int, rows=2)]
    [1, 13, 16]
    >>> [block.tolist() for block in oc.iter_text(["1 5%", "2 7%"], converters={1: lambda text: text[:-1]}, rows=1)]
    [[[1.0, 5.0]], [[2.0, 7.0]]]
    """
    count = None if rows is None else arguments.block_rows(rows)
    arguments.check_encoding(encoding)
    item = None if dtype is None else np.dtype(dtype)
    dialect = arguments.dialect(
        item, comments, delimiter, skiprows, usecols, max_rows, quotechar, names, missing, truncate, return_index
    )
    if item is not None and not readable(item):
        raise ValueError(f"dtype={item!r} is read by numpy alone, which cannot go on block by block; see loadtxt")
    if not (encoding in (None, "bytes") or arguments.is_utf8(encoding) or arguments.is_latin1(encoding)):
        raise ValueError(f"encoding={encoding!r}: only UTF-8 and Latin-1 are read block by block; see loadtxt")
    if converters is not None and not are_plain(converters, names):
        raise TypeError(f"converters={converters!r}: expected a function, or functions by the number of their column")
    if converters is not None and item is None:
        raise ValueError("dtype=None does not go together with converters; give a dtype")
    files = as_files(fname)
    if files is None:
        check_source(fname)
    request = _Request(item, encoding, count, arguments.thread_count(threads), converters, dialect, unpack)
    return BlockIterator([fname] if files is None else files, request, progress)


class _Request(NamedTuple):
    """What each text is read with."""

    item: np.dtype[Any] | None
    encoding: str | None
    rows: int | None
    threads: int
    converters: Any
    dialect: dict[str, Any]
    unpack: bool


class BlockIterator(Iterator[Any]):
    """The blocks of some texts.

    Parameters
    ----------
    sources : sequence
        The texts.
    request : _Request
        What each is read with.
    progress : bool or callable
        As for `iter_text`.
    """

    def __init__(self, sources: Sequence[Any], request: _Request, progress: bool | Callable[[int], None]) -> None:
        self._reading = _Reading(sources, request)
        self._progress = progress
        # Refers to what both have and not to this, so that it ends when this is dropped.
        self._blocks = _all_blocks(self._reading, progress)

    def __next__(self) -> Any:
        return next(self._blocks)

    def close(self) -> None:
        """Read no more; so does who drops the iterator."""
        self._blocks.close()
        self._reading.end()

    @property
    def text(self) -> _native.TextBlocks | None:
        """What the next blocks come from, if it gives them as this iterator does; it may be asked for them, too."""
        return self._reading.text

    def begin_next(self) -> bool:
        """Begin to read the next text, if it is a file, though nobody asks for its blocks yet; whether there is one."""
        # Whoever wants to see the progress sees that of one text after the other.
        if self._progress is False:
            self._reading.begin_next()
        return self._reading.has_next


class _Reading:
    """Texts that are read one after the other, each with the same request.

    Attributes
    ----------
    text : _native.TextBlocks or None
        The one that is being read, if its blocks are given as they are.
    """

    def __init__(self, sources: Sequence[Any], request: _Request) -> None:
        self.sources = sources
        self.request = request
        self.text: _native.TextBlocks | None = None
        self._taken = 0
        self._begun: tuple[_native.TextBlocks, np.dtype[Any]] | None = None

    @property
    def has_next(self) -> bool:
        """Whether a text is left."""
        return self._taken < len(self.sources)

    def begin_next(self) -> None:
        """Begin with the next text if it is a file; what is wrong with it is told in its turn."""
        if self.has_next and not self._begun and isinstance(source := self.sources[self._taken], (str, os.PathLike)):
            with suppress(Exception):
                self._begun = _start(source, self.request, None)

    def take_next(self, report: Callable[[int], None] | None) -> tuple[Any, _native.TextBlocks, np.dtype[Any]]:
        """Go on with the next text: what it is called by, its blocks, and the type of their items."""
        source = self.sources[self._taken]
        self._taken += 1
        begun, self._begun = self._begun, None
        return source, *(begun or _start(source, self.request, report))

    def end(self) -> None:
        """Read no more."""
        self._taken, self._begun, self.text = len(self.sources), None, None


def _all_blocks(reading: _Reading, progress: bool | Callable[[int], None]) -> Generator[Any, None, None]:
    try:
        with showing(progress, reading.sources) as report:
            while reading.has_next:
                yield from _blocks_of_next(reading, report)
    finally:
        reading.end()


def _blocks_of_next(reading: _Reading, report: Callable[[int], None] | None) -> Iterator[Any]:
    source, blocks, item = reading.take_next(report)
    request = reading.request
    has_names = request.dialect["header"] and item.names is None
    reading.text = None if has_names or request.unpack or request.dialect["lines"] else blocks

    def finished(part: tuple[Any, Any]) -> Any:
        block, lines = part
        named = with_names(block, blocks.names or (), name_of(source)) if has_names else block
        result = unpacked(named) if request.unpack else named
        return result if lines is None else (result, lines)

    # Keeps no block, so that who gets one has it alone.
    yield from map(finished, blocks)
    reading.text = None


def _start(
    source: Any, request: _Request, report: Callable[[int], None] | None
) -> tuple[_native.TextBlocks, np.dtype[Any]]:
    _, encoding, rows, threads, converters, dialect, _ = request
    joiner = Joiner(encoding, dialect["quotechar"], dialect["delimiter"])
    text = long_text(source, encoding, joiner, to_guess=request.item is None)
    dialect = {"encoding": text.encoding, **dialect}
    item = infer(text.sample(), **dialect).dtype if request.item is None else request.item
    native = converters_for_native(converters, item, latin1=text.encoding == "latin-1", as_bytes=encoding == "bytes")
    blocks = load_blocks(text.content, item, rows=rows, threads=threads, progress=report, converters=native, **dialect)
    return blocks, item
