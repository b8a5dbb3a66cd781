"""Text files as what a result was made from: which they were, and whether they are still the same."""

from __future__ import annotations

import argparse
import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np

from onecopy._cli import interrupt
from onecopy._cli.options import dtype_text
from onecopy._text.lines import is_read_once, whole
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
    """

    source: str
    source_bytes: int
    source_mtime: str
    source_sha256: str = ""
    held: bytes | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, path: str, *, checksum: bool = False) -> Source:
        """Look at a file; read it, if that can be done only once."""
        status = os.stat(path)
        changed = str(np.datetime_as_string(np.datetime64(status.st_mtime_ns, "ns"), timezone="UTC"))
        if is_read_once(path):
            # Its first lines are looked at before it is loaded.
            _, held = whole(path)
            return cls(path, len(held), changed, sha256(held).hexdigest() if checksum else "", held)
        return cls(path, status.st_size, changed, _sha256_of(path) if checksum else "")

    @property
    def text(self) -> Path | tuple[str, bytes]:
        """What is to be read."""
        return self.source if self.held is None else (self.source, self.held)

    def attributes(self) -> dict[str, Any]:
        """Return what is stored of it."""
        attributes = {"source": self.source, "source_bytes": self.source_bytes, "source_mtime": self.source_mtime}
        return attributes | ({"source_sha256": self.source_sha256} if self.source_sha256 else {})

    def check_unchanged(self) -> None:
        """Raise `OSError` when the file is another one by now: what was read of it may be half of each."""
        if self.held is not None:
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
