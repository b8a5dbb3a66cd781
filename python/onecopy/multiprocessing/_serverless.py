"""Proxies of managed objects that lie in shared memory: their methods need no server."""

from __future__ import annotations

import copy
import multiprocessing.managers
import pickle
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from onecopy import _queues
from onecopy.multiprocessing import queues, synchronize

_std: Any = multiprocessing.managers

#: What `queue.Queue` offers to its proxies.
_QUEUE_METHODS = ("empty", "full", "get", "get_nowait", "join", "put", "put_nowait", "qsize", "task_done")


class Serverless(_std.BaseProxy):
    """A proxy whose referent is a shared object of this process.

    It has the methods of the standard library's proxy that it is mixed with, which all go through `_callmethod`.

    Parameters
    ----------
    referent : object
        The shared object.
    typeid : str
        The name of its type in the manager.
    """

    _referent: Any
    _token: Any

    def __init__(self, referent: Any, typeid: str) -> None:
        self._referent = referent
        self._token = _std.Token(typeid, None, f"{id(referent):x}")
        self._id = self._token.id

    def _callmethod(self, methodname: str, args: Iterable[Any] = (), kwds: Mapping[str, Any] = {}) -> Any:
        return getattr(self._referent, methodname)(*args, **kwds)

    def _getvalue(self) -> Any:
        return copy.copy(self._referent)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle a handle, which is good as long as any process has the object or the message has not arrived."""
        return _rebuild, (type(self), self._token.typeid, _queues.dumps(self._referent))

    def __str__(self) -> str:
        """Describe the shared object; `repr` describes the proxy."""
        return repr(self._referent)


def _rebuild(class_: Callable[[Any, str], Any], typeid: str, message: bytes) -> Any:
    return class_(pickle.loads(message), typeid)


class _Lockable(Serverless):
    """A proxy whose referent is a lock of `threading` in the standard library, with the exceptions of those."""

    def _callmethod(self, methodname: str, args: Iterable[Any] = (), kwds: Mapping[str, Any] = {}) -> Any:
        try:
            return super()._callmethod(methodname, args, kwds)
        except AssertionError as error:
            raise RuntimeError(str(error)) from None
        except ValueError as error:
            if self._token.typeid != "Lock" or methodname != "release":
                raise
            raise RuntimeError(str(error)) from None


class AcquirerProxy(_Lockable, _std.AcquirerProxy):
    """A lock or semaphore."""


class ConditionProxy(_Lockable, _std.ConditionProxy):
    """A condition."""


class EventProxy(Serverless, _std.EventProxy):
    """An event."""


class BarrierProxy(Serverless, _std.BarrierProxy):
    """A barrier."""


_BaseQueueProxy: Any = _std.MakeProxyType("BaseQueueProxy", _QUEUE_METHODS)


class QueueProxy(Serverless, _BaseQueueProxy):
    """A queue."""


def _lock(typeid: str, class_: Callable[..., Any]) -> Callable[..., AcquirerProxy]:
    return lambda *args: AcquirerProxy(class_(*args), typeid)


def _condition(lock: Any = None) -> ConditionProxy:
    return ConditionProxy(synchronize.Condition(getattr(lock, "_referent", lock)), "Condition")


def _queue(typeid: str) -> Callable[..., QueueProxy]:
    return lambda maxsize=0: QueueProxy(queues.JoinableQueue(maxsize), typeid)


#: For each type of `SyncManager` what makes one without a server.
FACTORIES: dict[str, Callable[..., Any]] = {
    "Barrier": lambda *args, **kwds: BarrierProxy(synchronize.Barrier(*args, **kwds), "Barrier"),
    "BoundedSemaphore": _lock("BoundedSemaphore", synchronize.BoundedSemaphore),
    "Condition": _condition,
    "Event": lambda: EventProxy(synchronize.Event(), "Event"),
    "JoinableQueue": _queue("JoinableQueue"),
    "Lock": _lock("Lock", synchronize.Lock),
    "Queue": _queue("Queue"),
    "RLock": _lock("RLock", synchronize.RLock),
    "Semaphore": _lock("Semaphore", synchronize.Semaphore),
}
