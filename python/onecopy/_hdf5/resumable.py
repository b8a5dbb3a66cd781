"""A file that appears under its name only when it is complete, and whose writing can be taken up again."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from onecopy._atomic import JOURNAL, PARTIAL, AtomicFile, Mode, cannot_create, sync_directory
from onecopy._hdf5.journal import Journal, Note, Record, apply
from onecopy._hdf5.overlay import PAGE, Overlay
from onecopy._temporaries import hidden_name, lock_file


class ResumableFile(AtomicFile):
    """A file under construction that keeps what was saved of it, whatever becomes of its writer.

    It lies beside its destination under a name of its own, with a journal of its saved states. The next one with the
    same destination begins with the last of them.

    Parameters
    ----------
    path, mode
        As for `AtomicFile`; mode "a" is not possible.
    options : mapping of str to str
        What the contents depend on, by the names that users know.

    Attributes
    ----------
    notes : list of dict
        What was noted about each saved state, in order.
    complete : bool
        Whether all was saved, so that only the name is missing.
    image : Overlay
        The file as libhdf5 is to see it.

    Raises
    ------
    ValueError
        What was saved was made with other options, mode "a".
    OSError
        EBUSY: another process is writing it.
    """

    image: Overlay

    def __init__(self, path: str | os.PathLike[str], mode: Mode, options: Mapping[str, str]) -> None:
        super().__init__(path, mode)
        if mode == "a":
            raise ValueError("mode 'a' cannot be resumed: add to a complete file, or begin a new one with mode 'x'")
        self._options = dict(options)
        self.temporary = partial_path(self.path)
        self._journal_path = self.path.with_name(hidden_name(self.path, JOURNAL))
        self.notes: list[Note] = []

    def __enter__(self) -> ResumableFile:
        self._old = self._check_destination()
        try:
            self._fd = _open_locked(self.temporary)
        except BlockingIOError:
            raise OSError(
                errno.EBUSY, "is being written by another process: wait until it is done", self.given
            ) from None
        except OSError as error:
            raise cannot_create(self.given, error) from None
        try:
            self._take_up()
        except BaseException:
            self._close()
            raise
        return self

    @property
    def begun(self) -> bool:
        """Whether there is something in the file already."""
        return self.image.end > 0

    @property
    def saved_end(self) -> int:
        """The first byte behind the saved state: before it, nothing is written but through `image`."""
        return self.image.end

    def save(self, note: Note) -> None:
        """Keep what libhdf5, which has been flushed, and everybody else has written; it counts when this returns."""
        self._settle()
        # What is behind the end, and the pages of the last record.
        os.fdatasync(self._fd)
        try:
            self._journal.append(Record(note, self.image.size, self.image.pages))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise self.no_space(len(self.image.pages) * PAGE, error.errno) from None
            raise
        # It counts now, whatever becomes of what follows.
        pages = self.image.take_pages()
        self.notes.append(note)
        apply(pages, self._fd)

    def write_at(self, data: bytes, position: int) -> None:
        """Write bytes to a place; before the end of the saved state they wait for the next one."""
        self.image.write_at(memoryview(data), position)

    def give_up(self) -> None:
        """Drop what is written from now on."""
        self.image.abandon()

    def commit(self) -> None:
        """Put the file, which nobody may have open for writing any more, on the disk and under its name."""
        self.save({"complete": True})
        os.ftruncate(self._fd, self.image.size)
        super().commit()
        self._journal.remove()

    def _take_up(self) -> None:
        if not os.fstat(self._fd).st_size:
            # A new one: a journal that is there belongs to one that has become complete.
            with suppress(FileNotFoundError):
                os.unlink(self._journal_path)
        self._journal = Journal(self._journal_path)
        try:
            if not self._journal.records:
                self._begin()
            first, *saved = self._journal.records
            self._compare(first.note["options"])
            last = self._journal.records[-1]
            if os.fstat(self._fd).st_size < last.end:
                raise OSError(errno.EIO, "is shorter than its journal says: delete it and begin anew", self.temporary)
            os.ftruncate(self._fd, last.end)
            apply(last.pages, self._fd)
        except BaseException:
            self._journal.close()
            raise
        self.image = Overlay(self._fd, last.end)
        self.notes = [record.note for record in saved if "complete" not in record.note]
        self.complete = len(self.notes) < len(saved)

    def _begin(self) -> None:
        os.ftruncate(self._fd, 0)
        self._journal.append(Record({"options": self._options}, 0, {}))
        self._journal.records.append(Record({"options": self._options}, 0, {}))
        sync_directory(self.path.parent)

    def _compare(self, before: Mapping[str, str]) -> None:
        now = self._options
        for key in [*now, *(key for key in before if key not in now)]:
            one, other = before.get(key, "not given"), now.get(key, "not given")
            if one != other:
                raise ValueError(
                    f"{self.given} cannot be resumed: {key} was {one} and is {other}; "
                    f"give what it was, or begin anew after deleting {self.temporary}"
                )

    def _settle(self) -> None:
        """Make the file as long as libhdf5 takes it for: it refuses to open one that is shorter."""
        if os.fstat(self._fd).st_size < self.image.size:
            os.ftruncate(self._fd, self.image.size)

    def _discard(self) -> None:
        if self.image.end:
            # Also gives back what was reserved.
            os.ftruncate(self._fd, self.image.end)
        else:
            for name in (self.temporary, self._journal_path):
                with suppress(FileNotFoundError):
                    os.unlink(name)
        self._journal.close()
        self._close()


def partial_path(path: str | os.PathLike[str]) -> Path:
    """Return where a destination lies while it is under construction and can be resumed."""
    destination = Path(os.path.realpath(path))
    return destination.with_name(hidden_name(destination, PARTIAL))


def _open_locked(path: Path) -> int:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if not lock_file(fd, False):
                raise BlockingIOError(errno.EAGAIN, "locked by another process", str(path))
            # Between the two calls, the one before may have become complete, or was removed.
            if os.fstat(fd).st_nlink and os.path.samestat(os.fstat(fd), os.stat(path)):
                return fd
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
