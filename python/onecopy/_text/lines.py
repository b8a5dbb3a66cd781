"""Where text comes from: paths, files, and lines from anything that can be iterated."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from stat import S_ISDIR, S_ISREG
from typing import Any, Literal, NamedTuple

from onecopy import _native
from onecopy._text.arguments import is_utf8
from onecopy._text.loading import Path


class Text(NamedTuple):
    """A text for the compiled half, or lines that only numpy's reader knows how to join.

    Attributes
    ----------
    content : path or (str, bytes) or None
        What to read: a file, or what it is called and its bytes.
    encoding : {"utf-8", "latin-1"}
        How it is encoded.
    lines : list
        What to read if there is no content.
    """

    content: Path | tuple[str, bytes] | None
    encoding: Literal["utf-8", "latin-1"]
    lines: Sequence[Any] = ()


def as_files(fname: Any) -> list[Path] | None:
    """Return the paths if `fname` is a sequence of files, or a pattern."""
    if isinstance(fname, (str, os.PathLike)):
        return _matching(os.fspath(fname))
    if not isinstance(fname, (list, tuple)) or not all(isinstance(item, (str, os.PathLike)) for item in fname):
        return None
    # Strings alone may as well be lines.
    if any(isinstance(item, os.PathLike) for item in fname) or any(map(os.path.exists, fname)):
        return [file for item in fname for file in _matching(os.fspath(item)) or [item]]
    return None


def _matching(pattern: str) -> list[Path] | None:
    if not any(character in pattern for character in "*?[") or os.path.exists(pattern):
        return None
    from glob import glob

    found: list[Path] = [*sorted(glob(pattern))]
    return found or None


def text_of(fname: Any, encoding: str | None, joiner: Joiner) -> Text:
    """Return the text that `fname` names, or all of it if it is no path."""
    if isinstance(fname, (str, os.PathLike)):
        return Text(os.fspath(fname), encoding_of_path(encoding))
    name = name_of(fname)
    if hasattr(fname, "read"):
        content = fname.read()
        if isinstance(content, bytes) and (b"\r" not in content or _native.is_compressed(content[:512])):
            return Text((name, content), encoding_of_bytes(encoding))
        if isinstance(content, str) and "\r" not in content:
            return Text((name, content.encode()), "utf-8")
        # A file that gives carriage returns ends its lines with line feeds alone.
        fname = _split_at_line_feeds(content)
    try:
        lines = list(fname)
    except TypeError as error:
        if not isinstance(fname, Iterable):
            message = f"fname must be a path, a file, or lines of text, not {type(fname).__name__}"
            raise ValueError(message) from error
        raise
    try:
        return Text((name, "".join([joiner.line(line) for line in lines]).encode()), "utf-8")
    except Joiner.Odd:
        return Text(None, "utf-8", lines)


def is_read_once(path: Path) -> bool:
    """Tell whether what is read of a file is gone after that: pipes, sockets, terminals."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False  # the reader says what is wrong
    return not (S_ISREG(mode) or S_ISDIR(mode))


def whole(path: Path) -> tuple[str, bytes]:
    """Read all of a file."""
    with open(path, "rb") as file:
        return str(path), file.read()


def name_of(fname: Any) -> str:
    """Return what messages call a text."""
    if isinstance(fname, (str, os.PathLike)):
        return os.fspath(fname)
    name = getattr(fname, "name", None)
    return name if isinstance(name, str) else "<text>"


def encoding_of_path(encoding: str | None) -> Literal["utf-8", "latin-1"]:
    """Return how a file is encoded."""
    return "utf-8" if encoding in (None, "bytes") else encoding_of_bytes(encoding)


def encoding_of_bytes(encoding: str | None) -> Literal["utf-8", "latin-1"]:
    """Return how bytes that a file or an iterable gives are encoded: as for numpy, as Latin-1 if nothing is said."""
    return "utf-8" if is_utf8(encoding) else "latin-1"


class Joiner:
    """Makes the lines that are given one by one those of a text."""

    class Odd(ValueError):
        """A line that has to be joined as only numpy's reader does it."""

    def __init__(self, encoding: str | None, quote: str | None, delimiter: str | None) -> None:
        self._of_bytes = encoding_of_bytes(encoding)
        self._quote, self._delimiter = quote, delimiter
        self._may_be_open = False

    def line(self, line: str | bytes) -> str:
        """Return a line with its end."""
        line = _decoded(line, self._of_bytes)
        inner = _without_end(line)
        # An error, unless it is quoted or in a line that is skipped.
        is_odd = "\n" in inner or "\r" in inner
        # A quote that is open at the end of a line encloses that end as it stands, and those of the next lines.
        if self._quote is not None and self._quote in line and not self._may_be_open:
            self._may_be_open = not _is_closed(line, self._quote, self._delimiter)
        is_odd |= self._may_be_open and line != inner + "\n"
        if is_odd:
            raise self.Odd(f"{line!r} has a line end inside, or a quote that stays open: see loadtxt, or give a file")
        return inner + "\n"


def _split_at_line_feeds(content: Any) -> list[Any]:
    feed: Any = b"\n" if isinstance(content, bytes) else "\n"
    lines = content.split(feed)
    return [line + feed for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def _is_closed(line: str, quote: str, delimiter: str | None) -> bool:
    """Tell whether no quote is open at the end of a line; False also where only the rules of fields could tell."""
    is_open, at = False, line.find(quote)
    while at >= 0:
        before = line[:at]
        begins_field = before.endswith(delimiter) if delimiter else before[-1:].isspace()
        # Behind a closing quote it is doubled, and the field goes on.
        if not is_open and before and not begins_field and not before.endswith(quote):
            return False
        is_open = not is_open
        at = line.find(quote, at + 1)
    return not is_open


def _decoded(line: Any, of_bytes: str) -> str:
    if isinstance(line, str):
        return line
    if isinstance(line, bytes):
        return line.decode(of_bytes)
    way_out = "; paths go in a list" if isinstance(line, os.PathLike) else ""
    raise TypeError(f"non-string returned while reading data: {line!r} of type {type(line).__name__}{way_out}")


def _without_end(line: str) -> str:
    for end in ("\r\n", "\n", "\r"):
        if line.endswith(end):
            return line[: -len(end)]
    return line
