"""The processes of a pool, as the pool sees them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

from onecopy import _native
from onecopy._pool import letters, worker
from onecopy._pool.pickling import Portable, dumps
from onecopy._pool.watch import Watch

#: Seconds that a worker has to end after SIGTERM, before SIGKILL.
GRACE = 2.0
#: As many letters as there can be.
ALL = (1 << 32) - 1


class Worker:
    """One process, the queue of its tasks, and which tasks were put there and have not come back."""

    def __init__(self, serial: int, process: BaseProcess, tasks: _native.Queue, quota: int | None) -> None:
        self.serial = serial
        self.process = process
        self.pid = process.pid or 0
        self.tasks = tasks
        self.assigned: dict[int, None] = {}
        #: Those that it has been sent.
        self.functions: set[int] = set()
        #: How many more tasks it may be given.
        self.quota = quota
        self.ready = False
        self.stopping = False
        #: Whether it ends by itself, having said why.
        self.leaving = False
        #: Owns what was sent to it when it was started, until it has that.
        self.cradle: _native.Queue | None = None

    def stop(self) -> None:
        """Have it end when it has done what is in its queue."""
        if not self.stopping:
            self.stopping = True
            self.tasks._post(letters.STOP, 0, 0, None, dumps)

    def take_back(self) -> list[int]:
        """Take all tasks that it has not begun out of its queue, the oldest first.

        All at once: one whose function is taken must not be left.
        """
        taken: list[int] = []
        for letter in self.tasks._fetch(ALL, 0):
            if letter.topic == letters.TASK:
                taken.append(letter.number)
            elif letter.topic == letters.FUNCTION:
                self.functions.discard(letter.number)
            else:
                self.tasks._post(letter.topic, letter.number, 0, None, dumps)
        return taken


class Workers:
    """The living processes of a pool."""

    def __init__(
        self,
        context: BaseContext,
        results: _native.Queue,
        setup: tuple[Callable[..., object] | None, tuple[Any, ...]],
        *,
        quota: int | None,
        daemon: bool,
        leaves: bool,
    ) -> None:
        self._context = context
        self._results = results
        self._setup = Portable(setup)
        self._quota = quota
        self._daemon = daemon
        self._leaves = leaves
        self._serials = itertools.count()
        self._living: dict[int, Worker] = {}
        self._watch = Watch(self._tell_end)

    def __len__(self) -> int:
        return len(self._living)

    def __iter__(self) -> Iterator[Worker]:
        return iter(list(self._living.values()))

    def get(self, serial: int) -> Worker | None:
        """Find one by its serial number."""
        return self._living.get(serial)

    def remove(self, serial: int) -> Worker | None:
        """Forget one that has ended, whose exit code is known after this."""
        removed = self._living.pop(serial, None)
        if removed is not None:
            removed.process.join()
        return removed

    def start(self) -> None:
        """Start one more."""
        serial = next(self._serials)
        tasks = _native.Queue()
        process: BaseProcess = self._context.Process(  # type: ignore[attr-defined]
            target=worker.main, args=(serial, tasks, self._results, self._setup, self._leaves)
        )
        process.name = process.name.replace("Process", "PoolWorker")
        process.daemon = self._daemon
        cradle = None
        if self._context.get_start_method() == "fork":
            process.start()
        else:
            cradle = _native.Queue()
            cradle._owning(process.start)
        started = Worker(serial, process, tasks, self._quota)
        started.cradle = cradle
        self._living[serial] = started
        self._watch.add(serial, process)

    def watch(self) -> None:
        """Begin to say when one ends."""
        self._watch.start()

    def dismiss(self) -> None:
        """Have all end that are there, and wait for that."""
        for living in self:
            living.stop()
        for living in self:
            living.process.join()
        self._close()

    def kill(self) -> None:
        """End all at once; those that end by themselves may say what they have to, such as what they have logged."""
        for living in self:
            if not living.leaving:
                living.process.terminate()
        end = time.monotonic() + GRACE
        for living in self:
            living.process.join(max(0.0, end - time.monotonic()))
            if living.process.exitcode is None:
                living.process.kill()
                living.process.join()
        self._close()

    def _close(self) -> None:
        self._watch.stop()
        self._living.clear()

    def _tell_end(self, serial: int) -> None:
        self._results._post(letters.ENDED, serial, 0, None, dumps)
