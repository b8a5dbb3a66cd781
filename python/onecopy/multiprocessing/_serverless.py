"""Proxies of managed objects that lie in shared memory: their methods need no server."""

from __future__ import annotations

import array
import copy
import multiprocessing.managers
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

import onecopy as oc
from onecopy import _queues
from onecopy._arrays import Array as NumpyArray
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


class ListProxy(Serverless, _std.ListProxy):
    """A list."""

    def _getvalue(self) -> list[Any]:
        return self._referent.copy()  # type: ignore[no-any-return]

    def __str__(self) -> str:
        """Describe the items."""
        return repr(self._getvalue())


class DictProxy(Serverless, _std.DictProxy):
    """A dictionary."""

    def _callmethod(self, methodname: str, args: Iterable[Any] = (), kwds: Mapping[str, Any] = {}) -> Any:
        if methodname == "__iter__":
            return _keys_of(self._referent, len(self._referent))
        result = super()._callmethod(methodname, args, kwds)
        # Views have to be asked for again and again; the standard library's proxies give what is there now.
        return list(result) if methodname in ("items", "keys", "values") else result

    def _getvalue(self) -> dict[Any, Any]:
        return self._referent.copy()  # type: ignore[no-any-return]

    def __str__(self) -> str:
        """Describe the items."""
        return repr(self._getvalue())


def _keys_of(referent: Any, size: int) -> Iterator[Any]:
    """Iterate over the keys as over those of a `dict`, which must not grow or shrink meanwhile."""
    keys = iter(referent)
    while len(referent) == size:
        try:
            yield next(keys)
        except StopIteration:
            return
    raise RuntimeError("dictionary changed size during iteration")


class NamespaceProxy(Serverless, _std.NamespaceProxy):
    """A namespace, whose attributes are the items of a dictionary: none of them is a method's name."""

    def _callmethod(self, methodname: str, args: Iterable[Any] = (), kwds: Mapping[str, Any] = {}) -> Any:
        name, *value = args
        try:
            return getattr(self._referent, _ITEM_METHODS[methodname])(name, *value)
        except KeyError:
            raise AttributeError(f"'Namespace' object has no attribute {name!r}") from None

    def _getvalue(self) -> Any:
        return _std.Namespace(**self._referent.copy())

    def __str__(self) -> str:
        """Describe the attributes."""
        return repr(self._getvalue())


_ITEM_METHODS = {"__getattribute__": "__getitem__", "__setattr__": "__setitem__", "__delattr__": "__delitem__"}


class ValueProxy(Serverless, _std.ValueProxy):
    """A value of any type, in a list of the value and its type code."""

    def _callmethod(self, methodname: str, args: Iterable[Any] = (), kwds: Mapping[str, Any] = {}) -> Any:
        if methodname == "get":
            return self._referent[0]
        (self._referent[0],) = args
        return None

    def _getvalue(self) -> Any:
        value, typecode = self._referent.copy()
        return _std.Value(typecode, value)

    def __str__(self) -> str:
        """Describe the value."""
        return repr(self._getvalue())


class SharedArray:
    """An `array.array` of fixed length in shared memory."""

    def __init__(self, typecode: str, items: NumpyArray) -> None:
        self._typecode = typecode
        self._items = items

    @classmethod
    def of(cls, source: array.array[Any]) -> SharedArray:
        """Copy an array into shared memory."""
        return cls(source.typecode, oc.array(np.frombuffer(source.tobytes(), f"V{source.itemsize}")))

    def copy(self) -> array.array[Any]:
        """Return an array of this process alone."""
        return self._array(self._items)

    def _array(self, items: Any) -> array.array[Any]:
        return array.array(self._typecode, items.tobytes())

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, key: Any) -> Any:
        found = self._array(self._items[key])
        return found if isinstance(key, slice) else found[0]

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(key, slice):
            if not isinstance(value, array.array) or value.typecode != self._typecode:
                raise TypeError(f"can only assign an array.array of {self._typecode!r} to a slice, not {value!r}")
            self._items[key] = np.frombuffer(value.tobytes(), self._items.dtype)
        else:
            self._items[key] = np.frombuffer(array.array(self._typecode, [value]).tobytes(), self._items.dtype)[0]

    def __repr__(self) -> str:
        return repr(self.copy())


class ArrayProxy(Serverless, _std.ArrayProxy):
    """An array of a fixed number of items."""

    def _getvalue(self) -> array.array[Any]:
        return self._referent.copy()  # type: ignore[no-any-return]


def _as_parts(proxy: Serverless) -> tuple[Any, ...]:
    """Reduce a proxy for the channels and containers of onecopy, which see to what lies in them themselves."""
    return type(proxy), (proxy._referent, proxy._token.typeid)


for _class in (
    AcquirerProxy,
    ArrayProxy,
    BarrierProxy,
    ConditionProxy,
    DictProxy,
    EventProxy,
    ListProxy,
    NamespaceProxy,
    QueueProxy,
    ValueProxy,
):
    _queues.BY_HANDLE[_class] = _as_parts


def _lock(typeid: str, class_: Callable[..., Any]) -> Callable[..., AcquirerProxy]:
    return lambda *args: AcquirerProxy(class_(*args), typeid)


def _condition(lock: Any = None) -> ConditionProxy:
    return ConditionProxy(synchronize.Condition(getattr(lock, "_referent", lock)), "Condition")


def _queue(typeid: str) -> Callable[..., QueueProxy]:
    return lambda maxsize=0: QueueProxy(queues.JoinableQueue(maxsize), typeid)


#: For each type of `SyncManager` what makes one without a server.
FACTORIES: dict[str, Callable[..., Any]] = {
    "Array": lambda typecode, sequence, lock=True: ArrayProxy(SharedArray.of(array.array(typecode, sequence)), "Array"),
    "Barrier": lambda *args, **kwds: BarrierProxy(synchronize.Barrier(*args, **kwds), "Barrier"),
    "BoundedSemaphore": _lock("BoundedSemaphore", synchronize.BoundedSemaphore),
    "Condition": _condition,
    "dict": lambda *args, **kwds: DictProxy(oc.Dict(*args, **kwds), "dict"),
    "Event": lambda: EventProxy(synchronize.Event(), "Event"),
    "JoinableQueue": _queue("JoinableQueue"),
    "list": lambda *args: ListProxy(oc.List(*args), "list"),
    "Lock": _lock("Lock", synchronize.Lock),
    "Namespace": lambda **kwds: NamespaceProxy(oc.Dict(**kwds), "Namespace"),
    "Queue": _queue("Queue"),
    "RLock": _lock("RLock", synchronize.RLock),
    "Semaphore": _lock("Semaphore", synchronize.Semaphore),
    "Value": lambda typecode, value, lock=True: ValueProxy(oc.List([value, typecode]), "Value"),
}
