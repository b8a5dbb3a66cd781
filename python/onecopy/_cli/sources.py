"""Text files as what a result was made from: which they were, and whether they are still the same."""

from __future__ import annotations

import argparse
import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import chain
from typing import Any, BinaryIO

import numpy as np

from onecopy._cli import interrupt
from onecopy._cli.options import dtype_text
from onecopy._text.lines import is_read_once
from onecopy._text.loading import Path

# What the result depends on, besides the sources themselves.
_TEXT = ["dtype", "names", "header", "columns", "delimiter", "comments", "quote", "missing", "truncate"]
_OPTIONS = [
    *_TEXT,
    "skip_rows",
    "max_rows",
    "layout",
    "name",
    "chunks",
    "compression",
    "shuffle",
    "fletcher32",
    "checksum",
]


#: Bytes of a pipe that are read before anything else is done; a shorter one is in memory then.
_HEAD = 4 << 20
_PIECE = 1 << 18


class Pipe:
    """What can be read only once, and is too long to be held.

    Parameters
    ----------
    head : bytes
        Its first bytes, by which guesses are made.
    file : file
        The others, which are read by whoever wants them.
    checksum : bool
        Whether to add up its check sum.

    Attributes
    ----------
    bytes : int
        How many bytes have been read.
    """

    def __init__(self, head: bytes, file: BinaryIO, checksum: bool) -> None:
        self.head = head
        self.bytes = 0
        self._file = file
        self._sum = sha256() if checksum else None
        self._pieces: Iterator[bytes] = chain([head], iter(lambda: file.read(_PIECE), b""))

    def __call__(self) -> bytes:
        """Return the next bytes, none at the end."""
        piece = next(self._pieces, b"")
        self.bytes += len(piece)
        if self._sum is not None:
            self._sum.update(piece)
        if not piece:
            self._file.close()
        return piece

    @property
    def sha256(self) -> str:
        """The check sum of what has been read, if one was asked for."""
        return "" if self._sum is None else self._sum.hexdigest()


@dataclass(frozen=True)
class Source:
    """A text file at one time.

    Attributes
    ----------
    source : str
        Its path as it was given.
    source_bytes : int
        Its size.
    source_mtime : str
        When it was changed, in UTC, to the nanosecond.
    source_sha256 : str
        Check sum of its bytes, if one was asked for.
    held : bytes or None
        Its content, if it can be read only once.
    pipe : Pipe or None
        What gives that content, if it is long; then size and check sum are known at its end.
    """

    source: str
    source_bytes: int
    source_mtime: str
    source_sha256: str = ""
    held: bytes | None = field(default=None, repr=False, compare=False)
    pipe: Pipe | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, path: str, *, checksum: bool = False, stream: bool = False) -> Source:
        """Look at a file; read it, if that can be done only once: with `stream`, its beginning."""
        status = os.stat(path)
        changed = str(np.datetime_as_string(np.datetime64(status.st_mtime_ns, "ns"), timezone="UTC"))
        if is_read_once(path):
            with ExitStack() as opened:
                file = opened.enter_context(open(path, "rb"))
                # Its first lines are looked at before it is loaded.
                held = file.read(_HEAD if stream else -1)
                if stream and len(held) == _HEAD:
                    opened.pop_all()
                    return cls(path, 0, changed, pipe=Pipe(held, file, checksum))
            return cls(path, len(held), changed, sha256(held).hexdigest() if checksum else "", held)
        return cls(path, status.st_size, changed, _sha256_of(path) if checksum else "")

    @property
    def sample(self) -> Path | tuple[str, bytes]:
        """What guesses are made by: the file, or at least its first lines."""
        return self.text if self.pipe is None else (self.source, self.pipe.head)

    @property
    def text(self) -> Path | tuple[str, bytes]:
        """What is to be read; of a pipe, all that has not been read."""
        if self.pipe is not None:
            return self.source, b"".join(iter(self.pipe, b""))
        return self.source if self.held is None else (self.source, self.held)

    @property
    def parts(self) -> Path | tuple[str, Callable[[], bytes]]:
        """What is to be read block by block."""
        return self.source if self.pipe is None else (self.source, self.pipe)

    def attributes(self) -> dict[str, Any]:
        """Return what is stored of it."""
        size, checksum = self.source_bytes, self.source_sha256
        if self.pipe is not None:
            size, checksum = self.pipe.bytes, self.pipe.sha256
        attributes = {"source": self.source, "source_bytes": size, "source_mtime": self.source_mtime}
        return attributes | ({"source_sha256": checksum} if checksum else {})

    def check_unchanged(self) -> None:
        """Raise `OSError` when the file is another one by now: what was read of it may be half of each."""
        if self.held is not None or self.pipe is not None:
            return
        now = Source.of(self.source, checksum=bool(self.source_sha256))
        if now != self:
            what = f"was changed while it was loaded ({self.difference(now)}): load it again when it is complete"
            raise OSError(errno.ESTALE, what, self.source)

    def difference(self, now: Source) -> str:
        """Say how this one differs from another."""
        if self.source != now.source:
            return f"it was {self.source} and is {now.source}"
        if self.source_bytes != now.source_bytes:
            return f"it had {self.source_bytes:,} bytes and has {now.source_bytes:,}"
        if self.source_mtime != now.source_mtime:
            return f"it was of {self.source_mtime} and is of {now.source_mtime}"
        return "its check sum is another one"


def _sha256_of(path: str) -> str:
    total = sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            interrupt.check()
            total.update(piece)
    return total.hexdigest()


def recorded_options(args: argparse.Namespace) -> dict[str, str]:
    """Return the options that a result depends on, as texts by the names that users know."""
    return {f"--{name.replace('_', '-')}": _text(getattr(args, name, None)) for name in _OPTIONS}


def check_complete(saved: Sequence[Source], sources: Sequence[Source], where: str) -> None:
    """Raise `ValueError` unless the sources begin with those that have been saved."""
    for number, one in enumerate(saved):
        if number >= len(sources):
            raise ValueError(f"{where} cannot be resumed: {one.source} is complete in it, and not among the files now")
        if sources[number] != one:
            way_out = "give the files as they were, or begin anew without --resume"
            difference = one.difference(sources[number])
            raise ValueError(f"{where} cannot be resumed: file {number + 1} has changed: {difference}; {way_out}")


def source_of(attributes: Mapping[str, Any]) -> Source:
    """Undo `Source.attributes`, whatever else there is beside them."""
    size, checksum = int(attributes["source_bytes"]), attributes.get("source_sha256", "")
    return Source(attributes["source"], size, attributes["source_mtime"], checksum)


def _text(value: Any) -> str:
    if value is None:
        return "not given"
    return dtype_text(value) if isinstance(value, np.dtype) else str(value)
