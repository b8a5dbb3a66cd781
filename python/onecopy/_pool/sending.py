"""How tasks get into the queue of a worker, and functions before them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from onecopy._pool import auditing, letters
from onecopy._pool.pickling import dumps, dumps_by_value
from onecopy._pool.tasks import Function, Task
from onecopy._pool.workers import Worker


class Sender:
    """Sends tasks, and each function once to each worker, until nobody will call it any more."""

    def __init__(self) -> None:
        self._by_value = False
        #: Numbers of functions that nobody will call any more.
        self._gone: deque[int] = deque()

    def send(self, worker: Worker, tasks: list[Task]) -> int:
        """Send tasks together, and say how many of them went; an error says that none did."""
        by_value = self._by_value
        pickle = auditing.for_callers(tasks, dumps_by_value if by_value else dumps)
        posted: list[tuple[int, int, int, object]] = []
        for task in tasks:
            function = task.function
            task.by_value = by_value
            if function.number not in worker.functions:
                self._introduce(worker, function, pickle)
            order = letters.order(task.what, by_value, function.number)
            posted.append((letters.TASK, task.number, order, task.given))
        return worker.tasks._post_many(posted, pickle)

    def _introduce(self, worker: Worker, function: Function, pickle: Callable[[Any], bytes]) -> None:
        worker.tasks._post(letters.FUNCTION, function.number, 0, function.call, pickle)
        worker.functions.add(function.number)
        if not function.watched:
            function.watched = True
            function.when_gone(self._gone.append)

    def send_by_value(self, function: Function, workers: Iterable[Worker]) -> None:
        """Send what is not where its name says, such as a function of a notebook, again; and all else by value, too."""
        self._by_value = True
        for worker in workers:
            worker.functions.discard(function.number)

    def forget_functions(self, workers: Iterable[Worker]) -> None:
        """Have workers forget functions that nobody will call any more, and with them what belongs to these."""
        while self._gone:
            number = self._gone.popleft()
            for worker in workers:
                if number in worker.functions:
                    worker.functions.discard(number)
                    worker.tasks._post(letters.FORGET, number, 0, None, dumps)
