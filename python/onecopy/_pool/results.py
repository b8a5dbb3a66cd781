"""Results of a pool that come later."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections import deque
from collections.abc import Callable
from multiprocessing.context import TimeoutError as PoolTimeoutError
from multiprocessing.pool import ApplyResult
from typing import TYPE_CHECKING, Any

from onecopy._pool.jobs import Job
from onecopy._pool.progress import Progress
from onecopy._pool.tasks import Function

if TYPE_CHECKING:
    from typing_extensions import Self

Callback = Callable[[Any], object] | None


class AsyncResult(ApplyResult):  # type: ignore[type-arg]
    """The result of a call that may still be running; as `multiprocessing.pool.AsyncResult`."""

    def __init__(self, pool: object, callback: Callback, error_callback: Callback) -> None:
        # Not the constructor of the base class, which enters the result into a table of the other kind of pool.
        self._pool = pool  # which is kept until the result is there
        self._event = threading.Event()
        self._callback = callback
        self._error_callback = error_callback
        self._success = True
        self._value: Any = None

    def keep_outcome(self, success: bool, value: Any) -> None:
        """Keep the result, or the exception."""
        self._success, self._value = success, value

    def tell(self) -> None:
        """Tell those who wait that the outcome is there."""
        callback = self._callback if self._success else self._error_callback
        self._callback = self._error_callback = self._pool = None
        try:
            if callback:
                callback(self._value)
        finally:
            self._event.set()


class MapResult(AsyncResult, Job[Any]):
    """The results of all items, in order, or the first exception."""

    def __init__(
        self,
        pool: object,
        count: int,
        callback: Callback,
        error_callback: Callback,
        function: Function,
        star: bool,
        chunksize: int | None,
        progress: Progress,
    ) -> None:
        AsyncResult.__init__(self, pool, callback, error_callback)
        Job.__init__(self, function, star, chunksize, progress)
        self._left = count
        self._value: Any = [None] * count
        self.publish()

    def keep(self, start: int, values: list[Any]) -> None:
        """Keep some results."""
        if self._success:
            self._value[start : start + len(values)] = values
        self._left -= len(values)

    def keep_error(self, start: int, count: int, error: BaseException) -> None:
        """Keep the first error; the other items are still waited for."""
        if self._success:
            self._success, self._value = False, error
        self._left -= count

    def publish(self) -> None:
        """Tell those who wait, if that was all."""
        if self._left == 0:
            self._progress.close()
            self._function = None  # type: ignore[assignment]
            self.tell()


class Stream(Job[Any]):
    """Results one by one, in the order of the items or as they come."""

    def __init__(
        self,
        pool: object,
        ordered: bool,
        function: Function,
        chunksize: int | None,
        progress: Progress,
        most_ahead: int | None,
    ) -> None:
        super().__init__(function, False, chunksize, progress)
        self._pool = pool  # which is kept until the last result is there
        self._ordered = ordered
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._waiting = 0
        #: Numbers of first items, and results from there on, that have been kept and not been published.
        self._new: deque[tuple[int, list[tuple[bool, Any]]]] = deque()
        self._ready: deque[tuple[bool, Any]] = deque()
        self._early: dict[int, tuple[bool, Any]] = {}
        self._arrived = self._given = 0
        self._next = 0
        self._length: int | None = None
        #: None if there need not be room, as all items are there.
        self._room = None if most_ahead is None else threading.Semaphore(most_ahead)
        self._abandoned = False

    # The pool's side.

    def wait_for_room(self) -> bool:
        """Wait until not too many items are on their way; say whether anybody still wants their results."""
        if self._room is not None:
            self._room.acquire()
        return not self._abandoned

    def set_length(self, length: int) -> None:
        """Say how many items there are."""
        with self._lock:
            self._length = length
            self._end_if_done()
            self._tell()

    def keep(self, start: int, values: list[Any]) -> None:
        """Keep some results."""
        self._new.append((start, [(True, value) for value in values]))

    def keep_error(self, start: int, count: int, error: BaseException) -> None:
        """Keep an error, which stands for all items that were not done with it."""
        self._new.append((start, [(False, error)] + [(False, None)] * (count - 1)))

    def publish(self) -> None:
        """Let those who want results have what has been kept, and tell those who wait."""
        with self._lock:
            while self._new:
                self._add(*self._new.popleft())
            self._end_if_done()
            self._tell()

    def _add(self, start: int, results: list[tuple[bool, Any]]) -> None:
        self._arrived += len(results)
        if not self._ordered:
            self._ready.extend(results)
        elif start == self._next:
            self._ready.extend(results)
            self._next += len(results)
            while self._next in self._early:
                self._ready.append(self._early.pop(self._next))
                self._next += 1
        else:
            self._early.update(zip(itertools.count(start), results, strict=False))

    def advance(self, count: int) -> None:
        """Make room for another chunk."""
        super().advance(count)
        self._make_room()

    def _make_room(self) -> None:
        if self._room is not None:
            self._room.release()

    def _tell(self) -> None:
        if self._waiting:
            self._changed.notify_all()

    def _end_if_done(self) -> None:
        if self._arrived == self._length:
            self._pool = None
            self._function = None  # type: ignore[assignment]
            self._progress.close()

    # The caller's side.

    def abandon(self) -> None:
        """Have no more items taken."""
        self._abandoned = True
        self._make_room()

    def take(self, timeout: float | None) -> Any:
        """Wait for the next result."""
        while True:
            with self._lock:
                if not self._ready:
                    self._wait(timeout)
                if not self._ready:
                    self._pool = None
                    raise StopIteration
                success, value = self._ready.popleft()
                self._given += 1
            if success:
                return value
            if value is not None:
                raise value

    def _wait(self, timeout: float | None) -> None:
        self._waiting += 1
        try:
            if not self._changed.wait_for(lambda: self._ready or self._is_over(), timeout):
                raise PoolTimeoutError(f"no result within {timeout} seconds")
        finally:
            self._waiting -= 1

    def _is_over(self) -> bool:
        return self._length is not None and self._given >= self._length


class ResultIterator:
    """Results that come one by one; as `multiprocessing.pool.IMapIterator`.

    When nobody has it any more, no more items are taken from the iterable that it was made for.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        weakref.finalize(self, stream.abandon).atexit = False

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def __next__(self) -> Any:
        """Wait for the next result."""
        return self._stream.take(None)

    def next(self, timeout: float | None = None) -> Any:
        """Wait for the next result.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most; for ever by default.

        Raises
        ------
        multiprocessing.TimeoutError
            There was none in time.
        """
        return self._stream.take(timeout)
