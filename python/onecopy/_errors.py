"""The exceptions of onecopy.

Each is an `OnecopyError` and also the builtin exception that a user would catch. All of them pickle with their
attributes.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    _ShutDown = Exception
else:
    # New in Python 3.13.
    _ShutDown = getattr(queue, "ShutDown", Exception)


class OnecopyError(Exception):
    """Base of all exceptions that onecopy raises on its own account.

    Parameters
    ----------
    message : str
        What happened and what to do about it.
    **attributes : object
        The figures of the message, which become attributes.
    """

    def __init__(self, message: str = "", **attributes: Any) -> None:
        super().__init__(message)
        self.__dict__.update(attributes)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the message and the attributes."""
        return (type(self), self.args, self.__dict__.copy())

    def __str__(self) -> str:
        """Return the message; `KeyError` and its kin would show its repr."""
        return str(self.args[0]) if self.args else ""


class OutOfMemoryError(OnecopyError, MemoryError):
    """There is not enough memory, or a table of the arena is full, or the system has no more of what an arena needs.

    It is raised before any memory is touched; what was there before is as it was.

    Attributes
    ----------
    asked : int
        Bytes asked for. (Entries, where the bound is a table.)
    free : int
        How much of that could be had, in the unit of the limit.
    limit : int
        The narrowest limit: bytes, or entries, open files or mappings, whatever the bound counts.
    bound : str
        Which limit that is: the arena's, the machine's memory, a cgroup's, one of the process (``ulimit``).

    Examples
    --------
    >>> import onecopy as oc
    >>> try:
    ...     oc.zeros(1 << 45, "u1")
    ... except oc.OutOfMemoryError as error:
    ...     print(error.asked == 1 << 45, error.free < error.asked)
    True True
    """

    asked: int
    free: int
    limit: int
    bound: str


class StaleHandleError(OnecopyError, LookupError):
    """A handle names an array that has been freed."""


class InvalidHandleError(OnecopyError, ValueError):
    """Bytes are no handle, or one that does not fit what it names."""


class NameTakenError(OnecopyError, FileExistsError):
    """Something is published under that name, or there is an arena of that name or at that path."""


class NameUnknownError(OnecopyError, FileNotFoundError):
    """Nothing is published under that name, or there is no arena of that name or at that path."""


class ArenaError(OnecopyError, OSError):
    """An arena cannot be reached, is damaged, or the system refused a call on it."""


class ForeignArenaError(ArenaError):
    """What should be an arena is none, or one of another version, byte order or state; it was not touched."""


class DamagedArenaError(ArenaError):
    """The tables of an arena contradict each other, in what cannot be rebuilt."""


class OwnerDiedError(OnecopyError, OSError):
    """A process ended while it held a lock, so what the lock protects may be half changed.

    The lock is not held by whoever gets this, but by `Condition.wait`. Every process gets it once per death, until one
    takes the lock by `recover()`, by ``acquire(on_owner_died="take")`` or by acquiring it again.
    """


class BrokenBarrierError(OnecopyError, threading.BrokenBarrierError):
    """A barrier is broken: a party died, was late, or broke or reset it."""


class ParseError(OnecopyError, ValueError):
    """A text file does not hold what it should.

    Attributes
    ----------
    filename : str
        The file.
    line : int
        Line, from 1.
    column : int or None
        Column in bytes of the field's first character, from 1; None where the whole line is meant.
    field : str or None
        Name of the field.
    text : str or None
        Text of the field.
    """

    filename: str
    line: int
    column: int | None
    field: str | None
    text: str | None


class ShutDownError(OnecopyError, _ShutDown):
    """The queue has been shut down, or the pool was terminated; also `queue.ShutDown` where Python has that (3.13)."""


class WorkerDiedError(OnecopyError, RuntimeError):
    """A worker of a pool ended in the middle of a task: it was killed, crashed or left by itself.

    Attributes
    ----------
    pid : int
        The worker.
    exitcode : int or None
        As `multiprocessing.Process.exitcode` says it: negative for a signal. None if it is not known.
    signal : str or None
        Name of the signal that ended it, such as ``"SIGKILL"``.
    task : str or None
        What it was doing.
    """

    pid: int
    exitcode: int | None
    signal: str | None
    task: str | None
