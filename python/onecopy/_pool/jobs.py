"""What a call of a pool becomes: tasks on one side, a result on the other."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from onecopy._errors import OnecopyError
from onecopy._pool import auditing, letters
from onecopy._pool.chunks import Chunks
from onecopy._pool.errors import Fault, UnsendableError
from onecopy._pool.pace import Pace
from onecopy._pool.progress import Progress
from onecopy._pool.tasks import Function, Task

T = TypeVar("T")


def as_told(fault: Fault) -> BaseException:
    """Make what `multiprocessing.Pool` raises."""
    error = fault.error
    if fault.stage not in (letters.PICKLING, letters.OPENING) or isinstance(error, (OnecopyError, MemoryError)):
        return error
    how = "sent back" if fault.stage == letters.PICKLING else "unpickled"
    told = f"the result cannot be {how}: {type(error).__name__}: {error}; return what can be pickled and unpickled"
    made = UnsendableError(told, exc=repr(error), value=fault.shown, reason=error if how == "sent back" else None)
    made.__cause__ = error
    return made


class Job(Generic[T]):
    """Items and a function, in chunks. What becomes of them is for a derived class to keep."""

    def __init__(self, function: Function, star: bool, chunksize: int | None, progress: Progress) -> None:
        self._function = function
        self._star = star
        self._chunks = Chunks(chunksize, function.item_pace)
        self._pace = Pace()
        self._site = auditing.site()
        self._progress = progress

    def keep(self, start: int, values: list[Any]) -> None:
        """Keep the results of items from number `start` on."""
        raise NotImplementedError

    def keep_error(self, start: int, count: int, error: BaseException) -> None:
        """Keep what was raised for the item of number `start`, with which `count` items were not done."""
        raise NotImplementedError

    def publish(self) -> None:
        """Tell those who wait what has been kept."""
        raise NotImplementedError

    def advance(self, count: int) -> None:
        """Take note that a chunk of so many items is through."""
        self._progress.advance(count)


class Chunk(Task):
    """The task of some items of a job."""

    __slots__ = ("_job", "_start", "count")

    def __init__(self, job: Job[Any], start: int, items: Sequence[Any]) -> None:
        self.count = len(items)
        self._job = job
        self._start = start
        if self.count == 1 and not job._star:
            Task.__init__(self, letters.ONE, job._function, items[0], job._pace, job._site)
        else:
            Task.__init__(
                self, letters.STAR_EACH if job._star else letters.EACH, job._function, items, job._pace, job._site
            )

    def describe(self) -> str:
        """Name function and items."""
        last = self._start + self.count - 1
        items = f"item {self._start}" if self.count == 1 else f"items {self._start} to {last}"
        return f"{self.function.describe()} on {items}"

    def succeed(self, value: Any, nanoseconds: int) -> Callable[[], object]:
        """Take the results."""
        self._job._chunks.learn(self.count, nanoseconds)
        # First, as the bar is closed with the last result.
        self._job.advance(self.count)
        self._job.keep(self._start, [value] if self.what == letters.ONE else value)
        return self._job.publish

    def fail(self, fault: Fault) -> None:
        """Take the results before the failure, and it."""
        self._job.advance(self.count)
        done = len(fault.done)
        if done:
            self._job.keep(self._start, list(fault.done))
        self._job.keep_error(self._start + done, self.count - done, as_told(fault))
        self._job.publish()


class Listed:
    """A source of the tasks of a job all of whose items are there."""

    def __init__(self, job: Job[Any], items: Sequence[Any]) -> None:
        self._job = job
        self._items: Sequence[Any] = items
        self._total = len(items)
        self._next = 0

    def next_task(self, workers: int) -> Chunk | None:
        """Return the next chunk."""
        start, total = self._next, self._total
        if start >= total:
            return None
        end = min(start + self._job._chunks.next_size(total - start, workers), total)
        self._next, items = end, self._items[start:end]
        if end == total:
            # They are with their tasks now, and go with these.
            self._items = ()
        return Chunk(self._job, start, items)


class Call(Task):
    """The task of one call."""

    __slots__ = ("_result",)

    def __init__(self, result: Any, function: Function, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        super().__init__(letters.CALL, function, (arguments, keywords), function.pace, auditing.site())
        self._result = result

    def succeed(self, value: Any, nanoseconds: int) -> Callable[[], object]:
        """Take the result."""
        self._result.keep_outcome(True, value)
        return self._result.tell  # type: ignore[no-any-return]

    def fail(self, fault: Fault) -> None:
        """Take the error."""
        self._result.keep_outcome(False, as_told(fault))
        self._result.tell()


def chunks_of(items: Iterable[Any], job: Job[Any], workers: int) -> Iterator[Chunk]:
    """Yield the tasks of a job whose items come one by one."""
    iterator, start = iter(items), 0
    while chunk := list(itertools.islice(iterator, job._chunks.next_size(None, workers))):
        yield Chunk(job, start, chunk)
        start += len(chunk)
