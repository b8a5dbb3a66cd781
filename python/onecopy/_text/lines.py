"""Where text comes from: paths, files, and lines from anything that can be iterated."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from onecopy._text.arguments import is_utf8
from onecopy._text.loading import Path


class Text(NamedTuple):
    """A text for the compiled half, or lines that only numpy's reader knows how to join.

    Attributes
    ----------
    content : path or bytes or None
        What to read.
    encoding : {"utf-8", "latin-1"}
        How it is encoded.
    lines : list
        What to read if there is no content.
    """

    content: Path | bytes | None
    encoding: Literal["utf-8", "latin-1"]
    lines: Sequence[Any] = ()


def as_files(fname: Any) -> list[Path] | None:
    """Return the paths if `fname` is a sequence of files, or a pattern."""
    if isinstance(fname, (str, os.PathLike)):
        return _matching(os.fspath(fname))
    if not isinstance(fname, (list, tuple)) or not fname:
        return None
    if all(isinstance(item, os.PathLike) for item in fname):
        return list(fname)
    if all(isinstance(item, str) for item in fname) and any(os.path.exists(item) for item in fname):
        return list(fname)
    return None


def _matching(pattern: str) -> list[Path] | None:
    if not any(character in pattern for character in "*?[") or os.path.exists(pattern):
        return None
    from glob import glob

    found: list[Path] = [*sorted(glob(pattern))]
    return found or None


def text_of(fname: Any, encoding: str | None, quotechar: str | None) -> Text:
    """Return the text that `fname` names, or all of it if it is no path."""
    of_bytes: Literal["utf-8", "latin-1"] = "utf-8" if is_utf8(encoding) else "latin-1"
    if isinstance(fname, (str, os.PathLike)):
        return Text(os.fspath(fname), of_bytes if encoding not in (None, "bytes") else "utf-8")
    if hasattr(fname, "read"):
        content = fname.read()
        if isinstance(content, bytes) and b"\r" not in content:
            return Text(content, of_bytes)
        if isinstance(content, str) and "\r" not in content:
            return Text(content.encode(), "utf-8")
        # A file that gives carriage returns ends its lines with line feeds alone.
        fname = _split_at_line_feeds(content)
    try:
        lines = list(fname)
    except TypeError as error:
        if not isinstance(fname, Iterable):
            message = f"fname must be a path, a file, or lines of text, not {type(fname).__name__}"
            raise ValueError(message) from error
        raise
    return _joined(lines, of_bytes, quotechar)


def _split_at_line_feeds(content: Any) -> list[Any]:
    feed: Any = b"\n" if isinstance(content, bytes) else "\n"
    lines = content.split(feed)
    return [line + feed for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def _joined(lines: list[Any], of_bytes: Literal["utf-8", "latin-1"], quotechar: str | None) -> Text:
    decoded = [_decoded(line, of_bytes) for line in lines]
    whole = [_without_end(line) for line in decoded]
    # An error, unless it is quoted or in a line that is skipped.
    has_inner_end = any("\n" in line or "\r" in line for line in whole)
    # A quote that is open at the end of a line encloses that end as it stands.
    has_open_end = quotechar is not None and any(
        quotechar in line and line != inner + "\n" for line, inner in zip(decoded, whole, strict=True)
    )
    if has_inner_end or has_open_end:
        return Text(None, "utf-8", lines)
    return Text("".join([line + "\n" for line in whole]).encode(), "utf-8")


def _decoded(line: Any, of_bytes: str) -> str:
    if isinstance(line, str):
        return line
    if isinstance(line, bytes):
        return line.decode(of_bytes)
    raise TypeError(f"non-string returned while reading data: {line!r} of type {type(line).__name__}")


def _without_end(line: str) -> str:
    for end in ("\r\n", "\n", "\r"):
        if line.endswith(end):
            return line[: -len(end)]
    return line
