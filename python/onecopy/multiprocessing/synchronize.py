"""Locks, as `multiprocessing.synchronize` names them.

Those of `onecopy`, which take a context that they have no use for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import onecopy as _oc
from onecopy import _queues

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]

#: The most permits that a semaphore can have.
SEM_VALUE_MAX = 2**31 - 1


class Lock(_oc.Lock):
    """A lock; see `onecopy.Lock`."""

    def __new__(cls, *, ctx: Any = None, handle: bytes | None = None) -> Self:
        """Make the lock, or attach to the one that a handle names."""
        return super().__new__(cls, handle=handle)


class RLock(_oc.RLock):
    """A lock that its holder can take again; see `onecopy.RLock`."""

    def __new__(cls, *, ctx: Any = None, handle: bytes | None = None) -> Self:
        """Make the lock, or attach to the one that a handle names."""
        return super().__new__(cls, handle=handle)


class Semaphore(_oc.Semaphore):
    """A semaphore; see `onecopy.Semaphore`."""

    def __new__(cls, value: int = 1, *, ctx: Any = None, bounded: bool = False, handle: bytes | None = None) -> Self:
        """Make the semaphore, or attach to the one that a handle names."""
        return super().__new__(cls, value, bounded=bounded, handle=handle)


class BoundedSemaphore(Semaphore, _oc.BoundedSemaphore):
    """A semaphore that never has more permits than at first; see `onecopy.BoundedSemaphore`."""

    def __new__(cls, value: int = 1, *, ctx: Any = None, handle: bytes | None = None) -> Self:
        """Make the semaphore, or attach to the one that a handle names."""
        return _oc.BoundedSemaphore.__new__(cls, value, handle=handle)


class Condition(_oc.Condition):
    """A lock and a place to wait; see `onecopy.Condition`."""

    def __new__(cls, lock: Any = None, *, ctx: Any = None, handle: bytes | None = None) -> Self:
        """Make the condition, or attach to the one that a handle names."""
        return super().__new__(cls, lock, handle=handle)

    def __init__(self, lock: Any = None, *, ctx: Any = None, handle: bytes | None = None) -> None:
        super().__init__(RLock() if lock is None else lock, handle=handle)


class Event(_oc.Event):
    """An event; see `onecopy.Event`."""

    def __new__(cls, *, ctx: Any = None, handle: bytes | None = None) -> Self:
        """Make the event, or attach to the one that a handle names."""
        return super().__new__(cls, handle=handle)

    def __repr__(self) -> str:
        """Describe it as the standard library does."""
        return f"<{type(self).__qualname__} at {id(self):#x} {'set' if self.is_set() else 'unset'}>"


class Barrier(_oc.Barrier):
    """A meeting point; see `onecopy.Barrier`."""

    def __new__(
        cls,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        ctx: Any = None,
        handle: bytes | None = None,
    ) -> Self:
        """Make the barrier, or attach to the one that a handle names."""
        return super().__new__(cls, parties, action, timeout, handle=handle)

    def __init__(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        ctx: Any = None,
        handle: bytes | None = None,
    ) -> None:
        super().__init__(parties, action, timeout, handle=handle)


for _class in (Lock, RLock, Semaphore, BoundedSemaphore, Condition, Event, Barrier):
    _queues.send_by_handle(_class)
