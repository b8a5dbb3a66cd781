"""Contexts: what `multiprocessing` offers, for one start method each.

The start method is a setting of the whole program. It is the standard library's, because started children and other
libraries ask there; the contexts of this module only make other objects.
"""

from __future__ import annotations

import multiprocessing.context
from collections.abc import Callable, Iterable
from multiprocessing.context import (
    AuthenticationError,
    BufferTooShort,
    ProcessError,
    TimeoutError,
    assert_spawning,
    get_spawning_popen,
    set_spawning_popen,
)
from typing import TYPE_CHECKING, Any

from onecopy.multiprocessing import reduction

if TYPE_CHECKING:
    from onecopy.multiprocessing import managers, pool, queues, synchronize

__all__ = [
    "AuthenticationError",
    "BaseContext",
    "BufferTooShort",
    "DefaultContext",
    "ForkContext",
    "ForkProcess",
    "ForkServerContext",
    "ForkServerProcess",
    "Process",
    "ProcessError",
    "SpawnContext",
    "SpawnProcess",
    "TimeoutError",
    "assert_spawning",
    "get_spawning_popen",
    "reduction",
    "set_spawning_popen",
]

_std: Any = multiprocessing.context
_program = _std._default_context


class Process(_std.Process):
    """A process that is started by the start method of the program; see `multiprocessing.Process`."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        return _default_context.get_context().Process._Popen(process_obj)


class ForkProcess(_std.ForkProcess):
    """A process that is forked."""


class SpawnProcess(_std.SpawnProcess):
    """A process that starts with a new interpreter."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        from multiprocessing.popen_spawn_posix import Popen

        from onecopy.multiprocessing.cradle import with_cradle

        return with_cradle(Popen)(process_obj)


class ForkServerProcess(_std.ForkServerProcess):
    """A process that is forked from a server which has imported onecopy."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        from multiprocessing.popen_forkserver import Popen

        from onecopy._pool.start import prepare
        from onecopy.multiprocessing.cradle import with_cradle

        prepare(_concrete_contexts["forkserver"])
        return with_cradle(Popen)(process_obj)


class BaseContext(_std.BaseContext):
    """Makes the objects of this package; see the documentation of contexts in `multiprocessing`."""

    Process: Any

    def Manager(self) -> managers.SyncManager:
        """Return a started manager; it needs a server process only for registered classes, pools and an address."""
        from onecopy.multiprocessing.managers import SyncManager

        manager = SyncManager(ctx=self.get_context())
        manager.start()
        return manager

    def Pipe(self, duplex: bool = True) -> Any:
        """Return two connected connections."""
        from onecopy.multiprocessing.connection import Pipe

        return Pipe(duplex)

    def Lock(self) -> synchronize.Lock:
        """Return a lock; see `onecopy.Lock`."""
        from onecopy.multiprocessing.synchronize import Lock

        return Lock(ctx=self.get_context())

    def RLock(self) -> synchronize.RLock:
        """Return a lock that its holder can take again; see `onecopy.RLock`."""
        from onecopy.multiprocessing.synchronize import RLock

        return RLock(ctx=self.get_context())

    def Condition(self, lock: Any = None) -> synchronize.Condition:
        """Return a condition; see `onecopy.Condition`."""
        from onecopy.multiprocessing.synchronize import Condition

        return Condition(lock, ctx=self.get_context())

    def Semaphore(self, value: int = 1) -> synchronize.Semaphore:
        """Return a semaphore; see `onecopy.Semaphore`."""
        from onecopy.multiprocessing.synchronize import Semaphore

        return Semaphore(value, ctx=self.get_context())

    def BoundedSemaphore(self, value: int = 1) -> synchronize.BoundedSemaphore:
        """Return a semaphore that never has more permits than at first; see `onecopy.BoundedSemaphore`."""
        from onecopy.multiprocessing.synchronize import BoundedSemaphore

        return BoundedSemaphore(value, ctx=self.get_context())

    def Event(self) -> synchronize.Event:
        """Return an event; see `onecopy.Event`."""
        from onecopy.multiprocessing.synchronize import Event

        return Event(ctx=self.get_context())

    def Barrier(
        self, parties: int, action: Callable[[], object] | None = None, timeout: float | None = None
    ) -> synchronize.Barrier:
        """Return a barrier; see `onecopy.Barrier`."""
        from onecopy.multiprocessing.synchronize import Barrier

        return Barrier(parties, action, timeout, ctx=self.get_context())

    def Queue(self, maxsize: int = 0) -> queues.Queue:
        """Return a queue; see `onecopy.Queue`."""
        from onecopy.multiprocessing.queues import Queue

        return Queue(maxsize, ctx=self.get_context())

    def JoinableQueue(self, maxsize: int = 0) -> queues.JoinableQueue:
        """Return a queue that counts what has been done; see `onecopy.JoinableQueue`."""
        from onecopy.multiprocessing.queues import JoinableQueue

        return JoinableQueue(maxsize, ctx=self.get_context())

    def SimpleQueue(self) -> queues.SimpleQueue:
        """Return a queue without a bound; see `onecopy.SimpleQueue`."""
        from onecopy.multiprocessing.queues import SimpleQueue

        return SimpleQueue(ctx=self.get_context())

    def Pool(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
    ) -> pool.Pool:
        """Return a pool of worker processes."""
        from onecopy.multiprocessing.pool import Pool

        return Pool(processes, initializer, initargs, maxtasksperchild, context=self.get_context())

    def RawValue(self, typecode_or_type: Any, *args: Any) -> Any:
        """Return a value in shared memory without a lock."""
        from onecopy.multiprocessing.sharedctypes import RawValue

        return RawValue(typecode_or_type, *args)

    def RawArray(self, typecode_or_type: Any, size_or_initializer: Any) -> Any:
        """Return an array of values in shared memory without a lock."""
        from onecopy.multiprocessing.sharedctypes import RawArray

        return RawArray(typecode_or_type, size_or_initializer)

    def Value(self, typecode_or_type: Any, *args: Any, lock: Any = True) -> Any:
        """Return a value in shared memory, with a lock."""
        from onecopy.multiprocessing.sharedctypes import Value

        return Value(typecode_or_type, *args, lock=lock, ctx=self.get_context())

    def Array(self, typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True) -> Any:
        """Return an array of values in shared memory, with a lock."""
        from onecopy.multiprocessing.sharedctypes import Array

        return Array(typecode_or_type, size_or_initializer, lock=lock, ctx=self.get_context())

    def get_context(self, method: str | None = None) -> Any:
        """Return the context of a start method; this one by default."""
        if method is None:
            return self
        try:
            context = _concrete_contexts[method]
        except KeyError:
            known = ", ".join(map(repr, _concrete_contexts))
            raise ValueError(f"cannot find context for {method!r}: expected one of {known}") from None
        context._check_available()
        return context


class DefaultContext(BaseContext):
    """Does as the context of the program's start method."""

    Process: Any = Process

    def get_context(self, method: str | None = None) -> Any:
        """Return the context of a start method; that of the program by default, which is then settled."""
        return super().get_context(_program.get_start_method() if method is None else method)

    def set_start_method(self, method: str | None, force: bool = False) -> None:
        """Set the start method of the program, also for users of `multiprocessing` itself."""
        if method is not None:
            self.get_context(method)  # a method that is not there is refused with the names of those that are
        _program.set_start_method(method, force)

    def get_start_method(self, allow_none: bool = False) -> Any:
        """Return the name of the program's start method; unless `allow_none` is true, it is then settled."""
        method: str | None = _program.get_start_method(allow_none)
        return method

    def get_all_start_methods(self) -> list[str]:
        """Return the names of the start methods that are there, the default first."""
        methods: list[str] = _program.get_all_start_methods()
        return methods


class ForkContext(BaseContext, _std.ForkContext):
    """The context of forked processes."""

    Process: Any = ForkProcess


class SpawnContext(BaseContext, _std.SpawnContext):
    """The context of processes with a new interpreter."""

    Process: Any = SpawnProcess


class ForkServerContext(BaseContext, _std.ForkServerContext):
    """The context of processes that are forked from a server."""

    Process: Any = ForkServerProcess


_concrete_contexts: dict[str, Any] = {
    "fork": ForkContext(),
    "spawn": SpawnContext(),
    "forkserver": ForkServerContext(),
}
_default_context = DefaultContext()
