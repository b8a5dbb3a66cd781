"""Texts of any length, which are read piece by piece by whoever wants their records."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Literal, NamedTuple

from onecopy._text.lines import Joiner, encoding_of_bytes, encoding_of_path, is_read_once, name_of
from onecopy._text.loading import Path

#: Characters or bytes of a file, and lines of an iterable, that make a piece.
_SIZE, _LINES = 1 << 17, 1024

#: Bytes at which the types of columns are guessed.
_HEAD = 1 << 20


class Long(NamedTuple):
    """A text that may have no end.

    Attributes
    ----------
    content : path, or (str, callable)
        What to read: a file, or what it is called and what gives the next bytes, none at its end.
    encoding : {"utf-8", "latin-1"}
        How it is encoded.
    """

    content: Path | tuple[str, Pieces]
    encoding: Literal["utf-8", "latin-1"]

    def sample(self) -> Path | tuple[str, bytes]:
        """Return the file, or the first bytes, which are read all the same."""
        if isinstance(self.content, tuple):
            name, pieces = self.content
            return name, pieces.head()
        return self.content


class Pieces:
    """The bytes of a text, of which the first can be looked at before."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def __call__(self) -> bytes:
        """Return the next ones, or none at the end."""
        return next(self._pieces, b"")

    def head(self) -> bytes:
        """Return the first ones, enough to guess by."""
        seen: list[bytes] = []
        while sum(map(len, seen)) < _HEAD and (piece := self()):
            seen.append(piece)
        self._pieces = chain(seen, self._pieces)
        return b"".join(seen)


def check_source(source: Any) -> None:
    """Refuse what holds no text."""
    if not (isinstance(source, (str, os.PathLike, Iterable)) or hasattr(source, "read")):
        raise ValueError(f"fname must be a path, a file, or lines of text, not {type(source).__name__}")


def long_text(source: Any, encoding: str | None, joiner: Joiner, *, to_guess: bool) -> Long:
    """Return the text that `source` names or is; `to_guess` says that a sample of it will be wanted."""
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        # What can be read only once is read here if it has to be looked at before.
        pieces = _once(path) if to_guess and is_read_once(path) else None
        return Long(path if pieces is None else (path, Pieces(pieces)), encoding_of_path(encoding))
    if not hasattr(source, "read"):
        return Long((name_of(source), Pieces(_joined(source, joiner))), "utf-8")
    first = source.read(_SIZE)
    rest: Iterator[Any] = iter(lambda: source.read(_SIZE), first[:0])
    if isinstance(first, str):
        encoded = (piece.encode() for piece in chain([first], rest))
        return Long((name_of(source), Pieces(encoded)), "utf-8")
    return Long((name_of(source), Pieces(chain([first], rest))), encoding_of_bytes(encoding))


def _once(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        yield from iter(lambda: file.read(_SIZE), b"")


def _joined(lines: Iterable[Any], joiner: Joiner) -> Iterator[bytes]:
    several: list[str] = []
    try:
        for line in lines:
            several.append(joiner.line(line))
            if len(several) == _LINES:
                yield "".join(several).encode()
                several.clear()
    except Exception:
        # What came before counts.
        if several:
            yield "".join(several).encode()
        raise
    if several:
        yield "".join(several).encode()
