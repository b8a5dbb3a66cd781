"""What is sent by handle, what is copied, from which line, and why. Only imported by those who want to know."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import pool, queues, reduction, util
from multiprocessing.reduction import ForkingPickler
from types import TracebackType
from typing import TYPE_CHECKING, Any

from onecopy import _auditor, _native

if TYPE_CHECKING:
    from typing_extensions import Self

_PACKAGE = os.path.dirname(__file__) + os.sep
_LIBRARY = os.path.dirname(os.__file__) + os.sep


@dataclass(frozen=True, order=True)
class Row:
    """What a line of a program sent in one way for one reason."""

    #: File and line of the user's code.
    site: str
    #: "handle" (no copy), "moved in" (copied once into shared memory) or "copied" (through a message or into a pickle).
    how: str
    what: str
    why: str
    count: int
    nbytes: int


class Report:
    """What has been sent since the audit began; see `onecopy.audit`."""

    def __init__(self) -> None:
        self._totals: dict[tuple[str, str, str, str], list[int]] = {}

    def _add(self, site: str, how: str, what: str, why: str, nbytes: int) -> None:
        total = self._totals.setdefault((site, how, what, why), [0, 0])
        total[0] += 1
        total[1] += nbytes

    @property
    def rows(self) -> list[Row]:
        """What was sent, the largest copies first."""
        rows = [Row(*key, *total) for key, total in list(self._totals.items())]
        return sorted(rows, key=lambda row: (row.how == "handle", -row.nbytes, row))

    def total(self, how: str) -> int:
        """Return the bytes that went in one of the ways."""
        return sum(row.nbytes for row in self.rows if row.how == how)

    def __str__(self) -> str:
        """Return a table for people."""
        sums = [f"{_native.format_size(self.total(how))} {how}" for how in ("copied", "moved in", "handle")]
        lines = [", ".join(sums).replace("handle", "by handle")]
        head = ("bytes", "count", "how", "what", "where", "why")
        table = [head] + [
            (_native.format_size(row.nbytes), str(row.count), row.how, row.what, row.site, row.why) for row in self.rows
        ]
        if len(table) == 1:
            return "nothing was sent"
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        for cells in table:
            numbers = (cell.rjust(width) for cell, width in zip(cells[:2], widths, strict=False))
            words = (cell.ljust(width) for cell, width in zip(cells[2:], widths[2:], strict=False))
            lines.append("  ".join([*numbers, *words]).rstrip())
        return "\n".join(lines)

    def __enter__(self) -> Self:
        """Begin."""
        _begin(self)
        return self

    def __exit__(
        self, _class: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """End."""
        _end(self)


# --- who wants to know ---

_reports: list[Report] = []
_lock = threading.Lock()
_local = threading.local()


def _begin(report: Report) -> None:
    with _lock:
        _reports.append(report)
        if len(_reports) == 1:
            _auditor.note = _note
            _native.audit_queues(True)
            _listen()


def _end(report: Report) -> None:
    with _lock:
        _reports.remove(report)
        if not _reports:
            _auditor.note = None
            _native.audit_queues(False)
            _forget()


def _note(how: str, what: str, why: str, nbytes: int) -> None:
    if how == "copied":
        _local.copied = getattr(_local, "copied", 0) + nbytes
    note_at(getattr(_local, "site", None) or site(), how, what, why, nbytes)


def note_at(site: str, how: str, what: str, why: str, nbytes: int) -> None:
    """Note what was sent or received for a line."""
    with _lock:
        for report in _reports:
            report._add(site, how, what, why, nbytes)


# --- which line it was ---

_machinery: dict[str, bool] = {}


def _is_machinery(filename: str) -> bool:
    known = _machinery.get(filename)
    if known is None:
        inside = filename.startswith((_PACKAGE, _LIBRARY, "<frozen "))
        known = _machinery[filename] = inside or f"{os.sep}site-packages{os.sep}" in filename
    return known


def _users_line() -> str | None:
    frame = sys._getframe(1)
    while frame is not None:
        if not _is_machinery(frame.f_code.co_filename):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return None


def site() -> str:
    """Return the user's line that is being executed, or else the thread."""
    return _users_line() or f"thread {threading.current_thread().name}"


# --- messages: what is in them beside arrays, and whose they are where a thread of the library sends them ---

#: By identity, of what lies in the buffer of a `multiprocessing.Queue`.
_put: dict[int, deque[str]] = {}
#: By number, of the tasks of pools.
_jobs: dict[int, str] = {}
_replaced: list[tuple[Any, str, Any]] = []


def measured(obj: Any, write: Callable[[], int]) -> None:
    """Note what a message holds; `write` writes it and answers its size."""
    outer = getattr(_local, "site", None), getattr(_local, "copied", 0)
    _local.site, _local.copied = _sender_of(obj), 0
    try:
        size = write()
        what = f"{type(obj).__module__}.{type(obj).__qualname__}".removeprefix("builtins.")
        _note("copied", what, "Python objects are pickled", max(size - _local.copied, 0))
    finally:
        _local.site, _local.copied = outer


def on_behalf_of(sender: str, write: Callable[[Any], bytes], obj: Any) -> bytes:
    """Write a message, all of which is said to be of a line that is not being executed."""
    outer = getattr(_local, "sender", None)
    _local.sender = sender
    try:
        return write(obj)
    finally:
        _local.sender = outer


def _sender_of(obj: Any) -> str:
    sender: str | None = getattr(_local, "sender", None)
    if sender is not None:
        return sender
    waiting = _put.get(id(obj))
    if waiting:
        sender = waiting.popleft()
        if not waiting:
            del _put[id(obj)]
        return sender
    job = obj[0] if isinstance(obj, tuple) and obj and isinstance(obj[0], int) else None
    return _users_line() or _jobs.get(-1 if job is None else job) or site()


def _replace(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    original = vars(owner)[name]
    _replaced.append((owner, name, original))
    setattr(owner, name, make(original))


def _forget() -> None:
    while _replaced:
        setattr(*_replaced.pop())
    _put.clear()
    _jobs.clear()


def _listen() -> None:
    _replace(ForkingPickler, "dumps", _listening_dumps)
    _replace(reduction, "dump", _listening_dump)
    _replace(queues.Queue, "put", _listening_put)
    for class_ in (pool.ApplyResult, pool.IMapIterator):
        _replace(class_, "__init__", _listening_job)


def _listening_dumps(original: Any) -> Any:
    def dumps(cls: Any, obj: Any, protocol: int | None = None) -> Any:
        message = None

        def write() -> int:
            nonlocal message
            message = original.__func__(cls, obj, protocol)
            return len(message)

        measured(obj, write)
        return message

    return classmethod(dumps)


def _listening_dump(original: Any) -> Any:
    def dump(obj: Any, file: Any, protocol: int | None = None) -> None:
        def write() -> int:
            before = file.tell()
            original(obj, file, protocol)
            return int(file.tell() - before)

        measured(obj, write)

    return dump


def _listening_put(original: Any) -> Any:
    def put(self: Any, obj: Any, *args: Any, **keywords: Any) -> None:
        # The queue's thread pickles it later, and keeps it till then, so that nothing else can have its identity.
        waiting = _put.setdefault(id(obj), deque())
        waiting.append(_sender_of(None))
        try:
            original(self, obj, *args, **keywords)
        except BaseException:
            if waiting:
                waiting.pop()
            raise

    return put


def _listening_job(original: Any) -> Any:
    def __init__(self: Any, *args: Any, **keywords: Any) -> None:
        original(self, *args, **keywords)
        _jobs[self._job] = site()

    return __init__


# --- all of a program ---


class _AtExit(Report):
    """The report of a process, printed at its end; each child begins anew."""

    def start(self) -> None:
        _begin(self)
        self._print_later()
        util.register_after_fork(self, _AtExit._start_again)
        os.register_at_fork(after_in_child=self._start_again)

    def _start_again(self) -> None:
        self._totals.clear()
        self._print_later()

    def _print_later(self) -> None:
        # After the threads of queues have sent what they have to.
        util.Finalize(None, self._print, exitpriority=-100)

    def _print(self) -> None:
        if self in _reports:
            text = "\n".join(f"onecopy audit, process {os.getpid()}: {line}" for line in str(self).splitlines())
            sys.stderr.write(text + "\n")
            sys.stderr.flush()
            _end(self)


def report_at_exit() -> None:
    """Audit this process and its children, and have each print a report to stderr at its end."""
    _AtExit().start()
