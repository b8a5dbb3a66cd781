"""Tasks that no worker has."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from onecopy._pool.tasks import Source, Task


class Backlog:
    """Sources of tasks, one after the other, and before them tasks that came back from workers.

    Any thread may add a source; all else is the dispatcher's, so nothing here needs a lock.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self.sources: deque[Source] = deque()
        self.returned: deque[Task] = deque()

    def __bool__(self) -> bool:
        """Whether there may be a task."""
        return bool(self.sources or self.returned)

    def next_task(self) -> tuple[Task | None, bool]:
        """Return the next task that is still wanted, and whether it came back from a worker."""
        if self.returned:
            return self.returned.popleft(), True
        sources = self.sources
        while sources:
            task = sources[0].next_task(self._workers)
            if task is None:
                sources.popleft()
            elif task.begin():
                return task, False
        return None, False

    def drop_sources(self) -> Iterator[Task]:
        """Yield all tasks that no worker has had, which will not be done."""
        while self.sources:
            source = self.sources.popleft()
            while (task := source.next_task(self._workers)) is not None:
                yield task

    def put_back(self, tasks: Iterable[Task]) -> None:
        """Have tasks done before all others that are here and did not come back as well."""
        self.returned.extend(tasks)
