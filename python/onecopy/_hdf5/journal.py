"""The journal of a file under construction: one record for each state that is saved.

A record holds what the writer notes about the state, how long the file is, and the pages that differ from the state
before. It is appended and synced; from that moment on it counts, and not before. Only the last record's pages can be
missing in the file, because those of the one before were synced with the file before this one was begun.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from onecopy._atomic import write_all
from onecopy._hdf5.overlay import PAGE

Note = dict[str, Any]

_MAGIC = b"onecopy\1"
# What it begins with, the check sum of all that follows, and the bytes of the text and of the pages.
_HEAD = struct.Struct("<8sIIQ")
_SIZES = struct.Struct("<IQ")


@dataclass(frozen=True)
class Record:
    """One saved state.

    Attributes
    ----------
    note : dict
        What the writer says about it.
    end : int
        How long the file is.
    pages : dict of int to bytes-like
        The pages that have changed, by number.
    """

    note: Note
    end: int
    pages: Mapping[int, bytes | bytearray]


class Journal:
    """An open journal, to which records are appended.

    Parameters
    ----------
    path : str or path-like
        Its file, which is made when there is none.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self.records, self._end = _read(self._fd)
        # What was being appended when the writer died.
        os.ftruncate(self._fd, self._end)

    def append(self, record: Record) -> None:
        """Add a record; it counts when this returns.

        Raises
        ------
        OSError
            The disk is full: the record does not count.
        """
        data = memoryview(_encode(record))
        write_all(self._fd, data, self._end)
        os.fdatasync(self._fd)
        self._end += len(data)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def remove(self) -> None:
        """Remove and close the file, unless its name is that of another one by now."""
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._fd), os.stat(self._path)):
                os.unlink(self._path)
        self.close()


def apply(pages: Mapping[int, bytes | bytearray], fd: int) -> None:
    """Put pages at their places in a file."""
    for number, page in pages.items():
        write_all(fd, memoryview(page), number * PAGE)


def _encode(record: Record) -> bytes:
    sizes = [[number, len(page)] for number, page in record.pages.items()]
    text = json.dumps({"note": record.note, "end": record.end, "pages": sizes}).encode()
    pages = b"".join(record.pages.values())
    lengths = _SIZES.pack(len(text), len(pages))
    check = zlib.crc32(pages, zlib.crc32(text, zlib.crc32(lengths)))
    return _HEAD.pack(_MAGIC, check, len(text), len(pages)) + text + pages


def _read(fd: int) -> tuple[list[Record], int]:
    """Return the records, and where the last whole one ends; only the last one has its pages."""
    records: list[Record] = []
    end = 0
    size = os.fstat(fd).st_size
    while (read := _read_one(fd, end, size)) is not None:
        record, end = read
        if records:
            records[-1] = Record(records[-1].note, records[-1].end, {})
        records.append(record)
    return records, end


def _read_one(fd: int, start: int, size: int) -> tuple[Record, int] | None:
    head = os.pread(fd, _HEAD.size, start)
    if len(head) < _HEAD.size:
        return None
    magic, check, text_bytes, page_bytes = _HEAD.unpack(head)
    end = start + _HEAD.size + text_bytes + page_bytes
    if magic != _MAGIC or end > size:
        return None
    body = os.pread(fd, text_bytes + page_bytes, start + _HEAD.size)
    if zlib.crc32(body, zlib.crc32(_SIZES.pack(text_bytes, page_bytes))) != check:
        return None
    text = json.loads(body[:text_bytes])
    pages = {}
    at = text_bytes
    for number, length in text["pages"]:
        pages[number] = body[at : at + length]
        at += length
    return Record(text["note"], text["end"], pages), end
