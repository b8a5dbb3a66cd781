"""Queues in shared memory: the parts that need not be fast."""

from __future__ import annotations

import copyreg
import pickle
from collections import ChainMap
from collections.abc import Callable
from io import BytesIO
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any, cast

from onecopy import _auditor, _locks, _native
from onecopy._native import Queue as Queue

if TYPE_CHECKING:
    from typing_extensions import Self

#: The examples of the native class are run as this module's.
__test__ = {"Queue": Queue.__doc__ or ""}


class SimpleQueue(Queue):
    """A queue of objects without a bound; see `onecopy.Queue`, all of whose methods it has.

    Examples
    --------
    >>> import onecopy as oc
    >>> queue = oc.SimpleQueue()
    >>> queue.put(1)
    >>> queue.get(), queue.empty()
    (1, True)
    """

    __slots__ = ()

    def __new__(cls, *, handle: bytes | None = None) -> Self:
        """Make the queue, or attach to the one that a handle names."""
        return super().__new__(cls, handle=handle)


class JoinableQueue(Queue):
    """A queue that also counts what has been done with the objects that were got; see `onecopy.Queue`.

    Examples
    --------
    >>> import onecopy as oc
    >>> queue = oc.JoinableQueue()
    >>> queue.put("a task")
    >>> queue.get()
    'a task'
    >>> queue.task_done()
    >>> queue.join()
    """

    __slots__ = ()

    def task_done(self) -> None:
        """Say that one more of the objects that were got has been dealt with.

        Raises
        ------
        ValueError
            That has been said of all objects that were put.
        """
        self._task_done()

    def join(self) -> None:
        """Wait until all objects that were put have been dealt with.

        A process that is killed never says that it has dealt with what it got.
        """
        self._join()

    async def ajoin(self) -> None:
        """Wait as `join` does, in a task of an event loop, without a thread."""
        from onecopy import _tasks

        await _tasks.join(self)


#: Reducers of what travels by handle. Modules that are imported late add to it.
BY_HANDLE: dict[type, Callable[[Any], tuple[Any, ...]]] = dict.fromkeys(
    (
        _locks.Barrier,
        _locks.BoundedSemaphore,
        _locks.Condition,
        _native.Counter,
        _native.Event,
        _native.Lock,
        _native.RLock,
        _locks.RWLock,
        _native.Semaphore,
        Queue,
        SimpleQueue,
        JoinableQueue,
    ),
    _locks.by_handle,
)


def send_by_handle(class_: type) -> None:
    """Let objects of a class that is derived from one of onecopy travel through queues as handles, too."""
    BY_HANDLE[class_] = _locks.by_handle


class _Pickler(pickle.Pickler):
    """Reduces arrays as `multiprocessing` does with onecopy, and shared objects to their handles."""

    dispatch_table = ChainMap(  # noqa: RUF012  # the pickler looks for it at the class too, which is faster
        cast(dict[type, Any], BY_HANDLE),
        ForkingPickler._extra_reducers,  # type: ignore[attr-defined]  # a live view of what is registered
        cast(dict[type, Any], copyreg.dispatch_table),
    )


def dumps(obj: Any) -> bytes:
    """Pickle an object for a queue."""
    buffer = BytesIO()
    if _auditor.note is not None:
        from onecopy import _audit

        _audit.measured(obj, lambda: _dump(obj, buffer))
    else:
        _dump(obj, buffer)
    return buffer.getvalue()


def _dump(obj: Any, buffer: BytesIO) -> int:
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(obj)
    return buffer.tell()
