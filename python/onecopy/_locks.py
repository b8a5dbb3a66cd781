"""Locks in shared memory: the parts that need not be fast.

As those of `multiprocessing` they are handed to a process when it is started, by inheritance or as an argument, and
refuse to be pickled for anything else.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import process
from multiprocessing.context import assert_spawning
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from onecopy import _native
from onecopy._native import Counter, Event, Lock, RLock, RWLockSide, Semaphore

if TYPE_CHECKING:
    from typing_extensions import Self

    from onecopy._containers import ContainerLock

T = TypeVar("T")

#: The examples of the native classes are run as this module's.
__test__ = {class_.__name__: class_.__doc__ or "" for class_ in (Counter, Event, Lock, RLock, Semaphore)}


def by_handle(shared: Any) -> tuple[Any, ...]:
    """Reduce a shared object for a receiver that gets the same object: one handle, one receiver."""
    class_: Callable[..., Any] = type(shared)
    arguments: tuple[Any, ...] = getattr(shared, "_arguments", tuple)()
    return partial(class_, *arguments, handle=shared._send()), ()


def _reduce(shared: Any) -> tuple[Any, ...]:
    """Reduce a shared object for `pickle`, which may only do so for a process that is being started."""
    assert_spawning(shared)
    return by_handle(shared)


def _describe_lock(lock: Any) -> str:
    owner = _owner(lock._owner())
    depth = f"{owner}, {lock._depth()}" if isinstance(lock, RLock) else f"owner={owner}"
    return f"<{type(lock).__name__}({depth})>"


def _owner(pid: int | None) -> str:
    """Describe the holder of a lock as `multiprocessing` does; other processes by their pid."""
    if pid is None:
        return "None"
    if pid != os.getpid():
        return f"process {pid}"
    name = process.current_process().name
    thread = threading.current_thread()
    return name if thread is threading.main_thread() else f"{name}|{thread.name}"


def _describe_semaphore(semaphore: Semaphore) -> str:
    bound = f", maxvalue={semaphore._initial()}" if isinstance(semaphore, BoundedSemaphore) else ""
    return f"<{type(semaphore).__name__}(value={semaphore.get_value()}{bound})>"


def _describe_event(event: Event) -> str:
    return f"<{type(event).__name__}({'set' if event.is_set() else 'unset'})>"


class _Recovery:
    """Holds a lock for a `with` statement, also one whose holder died."""

    def __init__(self, lock: Lock | RLock | RWLockSide | ContainerLock, timeout: float | None) -> None:
        self._lock = lock
        self._timeout = timeout

    def __enter__(self) -> bool:
        somebody_died = self._lock._recover(self._timeout)
        if somebody_died is None:
            raise TimeoutError(f"{self._lock!r} could not be had within {self._timeout} seconds")
        return somebody_died

    def __exit__(
        self, class_: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if class_ is not None:
            self._lock._give_up()
        self._lock.release()


class BoundedSemaphore(Semaphore):
    """A semaphore that never has more permits than at first.

    Parameters
    ----------
    value : int, optional
        Permits at first, from 0 to 2147483647.

    Examples
    --------
    >>> import onecopy as oc
    >>> semaphore = oc.BoundedSemaphore(1)
    >>> semaphore.release()
    Traceback (most recent call last):
    ValueError: semaphore or lock released too many times
    """

    __slots__ = ()

    def __new__(cls, value: int = 1, *, handle: bytes | None = None) -> Self:
        """Make the semaphore, or attach to the one that a handle names."""
        return super().__new__(cls, value, bounded=True, handle=handle)


class RWLock(_native.RWLock):
    """A lock that any number of readers hold together, or one writer alone.

    Writers are preferred: while one waits, readers that come wait too. When a writer leaves, those that wait to read
    enter before the next writer. It is not re-entrant. Readers that die are forgotten; after the death of a writer,
    both sides raise `OwnerDiedError` as `Lock` does.

    Attributes
    ----------
    reader, writer : lock
        The two sides, each with the methods of `Lock`.

    Examples
    --------
    >>> import onecopy as oc
    >>> lock = oc.RWLock()
    >>> with lock.reader, lock.reader:
    ...     lock.writer.acquire(timeout=0.01)
    False
    >>> with lock.writer:
    ...     lock
    <RWLock(writer=MainProcess, readers=0)>
    """

    __slots__ = ("reader", "writer")

    reader: RWLockSide
    writer: RWLockSide

    def __init__(self, *, handle: bytes | None = None) -> None:
        self.reader = self._side(False)
        self.writer = self._side(True)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle it as an argument of a process that is being started."""
        return _reduce(self)

    def __repr__(self) -> str:
        """Describe who holds it."""
        return f"<{type(self).__name__}(writer={_owner(self._writer())}, readers={self._readers()})>"


class Condition(_native.Condition):
    """A lock, and a place to wait until somebody says that what it protects has changed.

    A waiter that is killed is forgotten, and a notification that it was given but had not used is passed on. The
    methods `acquire`, `aacquire`, `release` and `recover` are those of the lock.

    Parameters
    ----------
    lock : Lock or RLock, optional
        The lock; a new `RLock` by default.

    Examples
    --------
    >>> import onecopy as oc
    >>> changed = oc.Condition()
    >>> with changed:
    ...     changed.notify_all()
    ...     changed.wait(timeout=0.01)
    False
    """

    __slots__ = ("_lock", "aacquire", "acquire", "recover", "release")

    def __new__(cls, lock: Lock | RLock | None = None, *, handle: bytes | None = None) -> Self:
        """Make the condition, or attach to the one that a handle names."""
        return super().__new__(cls, handle=handle)

    def __init__(self, lock: Lock | RLock | None = None, *, handle: bytes | None = None) -> None:
        if lock is not None and not isinstance(lock, (Lock, RLock)):
            raise TypeError(f"lock={lock!r}: a condition goes with an onecopy.Lock or onecopy.RLock")
        self._lock = RLock() if lock is None else lock
        self.aacquire = self._lock.aacquire
        self.acquire = self._lock.acquire
        self.recover = self._lock.recover
        self.release = self._lock.release

    def _arguments(self) -> tuple[Any, ...]:
        return (self._lock,)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle it as an argument of a process that is being started."""
        return _reduce(self)

    def __enter__(self) -> bool:
        """Take the lock."""
        return self._lock.__enter__()

    def __exit__(
        self, class_: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release the lock."""
        self._lock.__exit__(class_, value, traceback)

    def __repr__(self) -> str:
        """Describe the lock and how many wait."""
        return f"<{type(self).__name__}({self._lock!r}, {self._waiting()})>"

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock, wait for a notification, and take the lock again.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most; for ever by default.

        Returns
        -------
        bool
            Whether a notification came in time.

        Raises
        ------
        AssertionError
            The caller does not hold the lock.
        OwnerDiedError
            A holder of the lock has died. The caller holds the lock all the same.
        OutOfMemoryError
            1,024 threads wait already.
        """
        return self._wait(self._lock, timeout)

    def wait_for(self, predicate: Callable[[], T], timeout: float | None = None) -> T:
        """Wait until a condition is true.

        Parameters
        ----------
        predicate : callable
            Called with the lock held, at first and after each notification.
        timeout : float, optional
            Seconds to wait at most; for ever by default.

        Returns
        -------
        object
            The last value of the predicate, which is false only if the time was up.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while not (result := predicate()):
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
        return result

    async def __aenter__(self) -> bool:
        """Take the lock, in a task of an event loop."""
        return await self._lock.__aenter__()

    async def __aexit__(
        self, class_: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release the lock."""
        self._lock.release()

    async def await_(self, timeout: float | None = None) -> bool:
        """Wait as `wait` does, in a task of an event loop, without a thread.

        The lock is held again also when the task is cancelled; a notification that came is passed on then. For tasks
        of one loop give the condition a `Lock`: an `RLock`, which is the default, belongs to all of them.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most; for ever by default.

        Returns
        -------
        bool
            Whether a notification came in time.
        """
        from onecopy import _tasks

        return await _tasks.condition(self, timeout)

    async def await_for(self, predicate: Callable[[], T], timeout: float | None = None) -> T:
        """Wait as `wait_for` does, in a task of an event loop, without a thread.

        Parameters
        ----------
        predicate : callable
            Called with the lock held, at first and after each notification.
        timeout : float, optional
            Seconds to wait at most; for ever by default.

        Returns
        -------
        object
            The last value of the predicate, which is false only if the time was up.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while not (result := predicate()):
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            await self.await_(left)
        return result

    def notify(self, n: int = 1) -> None:
        """Wake those that have waited longest.

        Parameters
        ----------
        n : int, optional
            How many at most.

        Raises
        ------
        AssertionError
            The caller does not hold the lock.
        """
        self._notify(self._lock, max(n, 0))

    def notify_all(self) -> None:
        """Wake all that wait.

        Raises
        ------
        AssertionError
            The caller does not hold the lock.
        """
        self._notify(self._lock, None)


class Barrier(_native.Barrier):
    """A meeting point: nobody goes on before all have arrived.

    It breaks when a party dies or its time is up while it waits for the others; then all get a `BrokenBarrierError`.

    Parameters
    ----------
    parties : int
        How many have to arrive.
    action : callable, optional
        Called by one of them when all have arrived, before they go on.
    timeout : float, optional
        Seconds that each waits at most; for ever by default.

    Examples
    --------
    >>> import onecopy as oc
    >>> oc.Barrier(1, action=lambda: print("all here")).wait()
    all here
    0
    """

    __slots__ = ("_action", "_timeout")

    def __new__(
        cls,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        handle: bytes | None = None,
    ) -> Self:
        """Make the barrier, or attach to the one that a handle names."""
        return super().__new__(cls, parties, handle=handle)

    def __init__(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        handle: bytes | None = None,
    ) -> None:
        self._action = action
        self._timeout = timeout

    def _arguments(self) -> tuple[Any, ...]:
        return self.parties, self._action, self._timeout

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle it as an argument of a process that is being started."""
        return _reduce(self)

    def __repr__(self) -> str:
        """Describe how many have arrived."""
        state = "broken" if self.broken else f"waiters={self.n_waiting}/{self.parties}"
        return f"<{type(self).__name__}({state})>"

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the other parties.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most; by default those that the barrier was made with.

        Returns
        -------
        int
            Which of the parties this is, from 0 to `parties` - 1; each gets another number.

        Raises
        ------
        BrokenBarrierError
            The barrier is broken, or was broken or reset meanwhile, or the time was up.
        """
        return self._wait(self._action, self._timeout if timeout is None else timeout)

    async def await_(self, timeout: float | None = None) -> int:
        """Wait as `wait` does, in a task of an event loop, without a thread.

        A task that is cancelled is as if it had not come.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most; by default those that the barrier was made with.

        Returns
        -------
        int
            Which of the parties this is, from 0 to `parties` - 1; each gets another number.

        Raises
        ------
        BrokenBarrierError
            The barrier is broken, or was broken or reset meanwhile, or the time was up.
        """
        from onecopy import _tasks

        return await _tasks.barrier(self, self._action, self._timeout if timeout is None else timeout)
