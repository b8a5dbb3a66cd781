"""Work on threads whose results come in order, a few at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

from onecopy._cli import interrupt

Task = TypeVar("Task")
Result = TypeVar("Result")


# How long a signal may go unnoticed that the main thread has lost.
_WAKE_SECONDS = 0.1


class Stopped(Exception):
    """The results are not wanted any more."""


def in_order(
    tasks: Iterable[Task], work: Callable[[Task, Callable[[], None]], Result], workers: int
) -> Generator[Result, None, None]:
    """Yield ``work(task, stop)`` for each task, in order.

    At most `workers` tasks are under way or waiting, besides the result that the caller has: while that is used, the
    next ones are made. When the caller closes the generator, or a task fails, the others are told by ``stop()``, which
    raises `Stopped` in them, and are waited for.
    """
    stopping = threading.Event()

    def stop() -> None:
        if stopping.is_set():
            raise Stopped

    rest = iter(tasks)
    pool = ThreadPoolExecutor(workers)
    try:
        pending: deque[Future[Result]] = deque(pool.submit(work, task, stop) for task in islice(rest, workers))
        while pending:
            result = _result(pending.popleft())
            pending.extend(pool.submit(work, task, stop) for task in islice(rest, 1))
            yield result
            # Its memory is free for the next one.
            del result
    finally:
        stopping.set()
        pool.shutdown(cancel_futures=True)


def _result(future: Future[Result]) -> Result:
    while not wait([future], timeout=_WAKE_SECONDS).done:
        interrupt.check()
    return future.result()
