"""The seam between the command line and the reader of text files.

The reader is the module ``onecopy._text`` with the two functions of `TextReader`. Options of
the dialect carry the names of ``numpy.loadtxt`` where it has them:

=============  ======================================================================================================
``delimiter``  one character, ``None`` for runs of white space; not passed to `infer` when it shall be guessed
``header``     whether the first line that is neither skipped nor a comment holds names; not passed when to be guessed
``comments``   list of texts that begin a comment
``skiprows``   lines to skip, comments included
``usecols``    ``None`` or a list of column numbers, negative ones from the end
``max_rows``   ``None`` or a number of rows
``quotechar``  ``None`` or a character
``missing``    list of (text, value as text, column name or ``None``)
``truncate``   whether strings that are too long are cut instead of refused
=============  ======================================================================================================
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import numpy as np

DType = np.dtype[Any]


class LoadedFile(Protocol):
    """What a text file became."""

    array: np.ndarray[Any, DType]
    names: Sequence[str] | None
    dtype: DType
    rows: int
    bytes: int  # of text, decompressed


class Inferred(Protocol):
    """What the first lines of a text file look like."""

    dtype: DType  # structured, with a field per column (of those in `usecols`)
    names: Sequence[str] | None  # of all columns, when there is a header
    delimiter: str | None
    header: bool


class TextReader(Protocol):
    """The seam to the reader of text files."""

    def infer(self, path: str, **dialect: Any) -> Inferred:
        """Guess what `dialect` leaves open from the first lines."""

    def load(
        self, path: str, dtype: DType | None, *, threads: int, progress: Callable[[int], None], **dialect: Any
    ) -> LoadedFile:
        """Load a file with the GIL released.

        `progress` is called now and then, from any thread, with the bytes of the file read since. When it raises,
        loading stops and the exception comes out.
        """


def text_reader() -> TextReader:
    """Return the reader; imported late, so that ``onecopy --help`` is quick."""
    return cast(TextReader, importlib.import_module("onecopy._text"))
