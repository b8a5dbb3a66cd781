"""Managers, as `multiprocessing.managers` names them.

A `SyncManager` keeps what it makes in shared memory. It starts a server process only for what needs one: classes that
the program registers, pools, an initializer, and an address at which others can find it.
"""

from __future__ import annotations

import multiprocessing.managers
import threading
from collections.abc import Callable, Iterable
from multiprocessing import util
from multiprocessing.process import parent_process
from typing import Any

from onecopy.multiprocessing import _serverless, get_context, pool, shared_memory
from onecopy.multiprocessing._serverless import (
    AcquirerProxy,
    ArrayProxy,
    BarrierProxy,
    ConditionProxy,
    DictProxy,
    EventProxy,
    ListProxy,
    NamespaceProxy,
    ValueProxy,
)

__all__ = [
    "AcquirerProxy",
    "ArrayProxy",
    "AutoProxy",
    "BarrierProxy",
    "BaseManager",
    "BaseProxy",
    "ConditionProxy",
    "DictProxy",
    "EventProxy",
    "ListProxy",
    "MakeProxyType",
    "Namespace",
    "NamespaceProxy",
    "PoolProxy",
    "RemoteError",
    "Server",
    "SharedMemoryManager",
    "SharedMemoryServer",
    "State",
    "SyncManager",
    "Token",
    "ValueProxy",
]


_std: Any = multiprocessing.managers

AutoProxy = _std.AutoProxy
BaseProxy = _std.BaseProxy
MakeProxyType = _std.MakeProxyType
Namespace = _std.Namespace
PoolProxy = _std.PoolProxy
RemoteError = _std.RemoteError
Server = _std.Server
State = _std.State
Token = _std.Token


def __getattr__(name: str) -> Any:
    return getattr(_std, name)


class _ChildServer(_std.Server):
    """A server that ends with the process that started it, which may not be able to tell it to."""

    def accepter(self) -> None:
        threading.Thread(target=self._stop_with_parent, daemon=True).start()
        super().accepter()

    def _stop_with_parent(self) -> None:
        if (parent := parent_process()) is not None:
            parent.join()
            self.stop_event.set()


class BaseManager(_std.BaseManager):
    """A manager of registered classes, whose objects live in a server process; see `multiprocessing.managers`."""

    _Server: Any = _ChildServer

    def __init__(
        self,
        address: Any = None,
        authkey: bytes | None = None,
        serializer: str = "pickle",
        ctx: Any = None,
        **settings: Any,
    ) -> None:
        super().__init__(address, authkey, serializer, ctx or get_context(), **settings)


class SyncManager(BaseManager, _std.SyncManager):
    """A manager of locks, queues, containers and values; see `multiprocessing.managers.SyncManager`.

    What it makes lies in shared memory, is used without a server, and lives as long as any process uses it, also after
    `shutdown`.

    Examples
    --------
    >>> from onecopy.multiprocessing import Manager
    >>> with Manager() as manager:
    ...     queue = manager.Queue()
    ...     queue.put("hello")
    ...     queue.get()
    'hello'
    """

    _registry: Any = _std.SyncManager._registry.copy()
    _process: Any = None

    def __init__(self, *args: Any, **kwds: Any) -> None:
        super().__init__(*args, **kwds)
        # Whoever gives an address wants to be found there, or to find a server there.
        self._in_memory = self._address is None
        self._starting = threading.Lock()

    def start(self, initializer: Callable[..., object] | None = None, initargs: Iterable[Any] = ()) -> None:
        """Start the manager.

        Parameters
        ----------
        initializer : callable, optional
            Called in the server process, which is started for it now.
        initargs : iterable, optional
            Arguments of the initializer.
        """
        if self._address is not None or initializer is not None or self._state.value != State.INITIAL:
            super().start(initializer, initargs)
        else:
            self._state.value = State.STARTED
            self.shutdown = util.Finalize(self, _end, (self._state,), exitpriority=0)

    def _serve(self) -> None:
        """Start the server process of a started manager, if it has none."""
        with self._starting:
            if self._address is None and self._state.value == State.STARTED:
                self.shutdown.cancel()
                self._state.value = State.INITIAL
                super().start()

    @property
    def address(self) -> Any:
        """Where the server is; asking starts it."""
        self._serve()
        return self._address

    def _create(self, typeid: str, /, *args: Any, **kwds: Any) -> Any:
        self._serve()
        return super()._create(typeid, *args, **kwds)

    def _debug_info(self) -> str:
        return "" if self._address is None else super()._debug_info()

    def _number_of_objects(self) -> int:
        return 0 if self._address is None else super()._number_of_objects()


def _end(state: Any) -> None:
    state.value = State.SHUTDOWN


def _method(typeid: str, make: Callable[..., Any]) -> Callable[..., Any]:
    served = getattr(_std.SyncManager, typeid)

    def method(self: SyncManager, /, *args: Any, **kwds: Any) -> Any:
        if not self._in_memory:
            return served(self, *args, **kwds)
        assert self._state.value == State.STARTED, "server not yet started"
        return make(*args, **kwds)

    method.__name__ = typeid
    method.__qualname__ = f"SyncManager.{typeid}"
    method.__doc__ = f"Return a new {typeid} in shared memory, or at the server of a manager that has an address."
    return method


for _typeid, _make in _serverless.FACTORIES.items():
    setattr(SyncManager, _typeid, _method(_typeid, _make))

SyncManager.register("Pool", pool.Pool, PoolProxy)


class _Segments(_std._SharedMemoryTracker):
    """Names of segments that are removed with their manager."""

    def destroy_segment(self, segment_name: str) -> None:
        self.segment_names.remove(segment_name)
        segment = shared_memory.SharedMemory(segment_name)
        segment.close()
        segment.unlink()


class SharedMemoryServer(_ChildServer, _std.SharedMemoryServer):
    """The server of a `SharedMemoryManager`."""

    shared_memory_context: Any

    def __init__(self, *args: Any, **kwds: Any) -> None:
        super().__init__(*args, **kwds)
        self.shared_memory_context = _Segments(self.shared_memory_context.shared_memory_context_name, [])


class SharedMemoryManager(BaseManager, _std.SharedMemoryManager):
    """A manager of segments, which it removes when it is shut down; see `multiprocessing.managers`.

    Examples
    --------
    >>> from onecopy.multiprocessing.managers import SharedMemoryManager
    >>> with SharedMemoryManager() as manager:
    ...     segment = manager.SharedMemory(size=128)
    ...     len(segment.buf)
    128
    """

    _Server = SharedMemoryServer

    def __init__(self, *args: Any, **kwds: Any) -> None:
        BaseManager.__init__(self, *args, **kwds)

    def SharedMemory(self, size: int) -> shared_memory.SharedMemory:
        """Return a new segment of that many bytes."""
        segment = shared_memory.SharedMemory(create=True, size=size)
        self._track(segment)
        return segment

    def ShareableList(self, sequence: Iterable[Any] | None) -> shared_memory.ShareableList:
        """Return a new list with the items of a sequence."""
        made = shared_memory.ShareableList(sequence)
        self._track(made.shm)
        return made

    def _track(self, segment: Any) -> None:
        try:
            with self._Client(self._address, authkey=self._authkey) as connection:
                _std.dispatch(connection, None, "track_segment", (segment.name,))
        except BaseException:
            segment.unlink()
            raise
