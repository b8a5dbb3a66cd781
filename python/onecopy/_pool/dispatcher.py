"""Gives tasks to workers, and settles what becomes of each."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from time import perf_counter_ns
from typing import Any

from onecopy import _native
from onecopy._errors import OnecopyError, OutOfMemoryError, ShutDownError
from onecopy._pool import auditing, letters
from onecopy._pool.backlog import Backlog
from onecopy._pool.errors import Fault, again, death, error_of, unsent
from onecopy._pool.failures import Failure
from onecopy._pool.pace import LEAST_AHEAD, Pace
from onecopy._pool.pickling import dumps
from onecopy._pool.sending import Sender
from onecopy._pool.tasks import Source, Task
from onecopy._pool.telling import deliver, settle
from onecopy._pool.workers import Worker, Workers

#: Letters that are looked at before tasks are given out again.
BATCH = 64
#: Seconds after which a task that waits behind another one is taken back for a worker that has nothing to do.
WAIT_BEHIND = 0.005
#: Seconds after which a task is sent again for which there was no memory; and how long that goes on if no other task is
#: there whose end would change it. Somebody may be about to free some.
LACK_OF_MEMORY, END_OF_LACK = 0.02, 1.0
#: Workers in a row that may be killed before they are ready.
MOST_FAILED_STARTS = 8


class Dispatcher:
    """A thread that owns the workers of a pool.

    All that it has to know comes through one queue: results, deaths and requests. So what a worker has said is always
    dealt with before its death is.
    """

    def __init__(
        self,
        workers: Workers,
        results: _native.Queue,
        size: int,
        *,
        retries: int | None,
        on_demand: bool = False,
        name: str,
    ) -> None:
        self._workers = workers
        self._results = results
        self._size = size
        #: How often a task is tried again whose worker died; None: any death is the end of the pool.
        self._retries = retries
        #: Whether workers are started when there is work for them.
        self._on_demand = on_demand
        self._lock = threading.Lock()
        self._backlog = Backlog(size)
        self._tasks: dict[int, Task] = {}
        self._numbers = itertools.count()
        self._open = True
        self._feeders = 0
        self._terminated = False
        self._ended = False
        self._cancel: Callable[[Any], object] | None = None
        self._failed_starts = 0
        #: Of the last task that was given out.
        self._pace = Pace()
        self._sender = Sender()
        self._short_of_memory = False
        self.broken: OnecopyError | None = None
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    # What other threads call.

    def submit(self, source: Source) -> None:
        """Have the tasks of a source done, after those of the sources before it."""
        with self._lock:
            if self.broken is not None:
                raise again(self.broken)
            if self._ended:
                raise ShutDownError("the pool has ended: it takes no more tasks")
            self._backlog.sources.append(source)
        self.wake()

    def feed(self, change: int) -> None:
        """Count those that will submit more, for which a pool that was closed waits."""
        with self._lock:
            self._feeders += change
        if change < 0:
            self.wake()

    def close(self) -> None:
        """Let the pool end when all is done."""
        self._open = False
        self.wake()

    def cancel_rest(self, cancel: Callable[[Any], object]) -> None:
        """Have a function called with each task for which no worker is free now, instead of having it done."""
        self._cancel = cancel
        self.wake()

    def terminate(self) -> None:
        """End the workers at once; what has not been done fails."""
        self._open = False
        self._terminated = True
        self.wake()
        if threading.current_thread() is not self.thread:
            self.thread.join()

    def wake(self) -> None:
        """Have the thread look what there is to do."""
        # It looks after whatever it takes out of its queue. There is no flag that says that it has been told: Ctrl-C
        # between setting that and telling would be the last that it heard.
        if self._results.empty():
            self._results._post(letters.WAKE, 0, 0, None, dumps)

    def start(self) -> None:
        """Begin, after the first workers were started."""
        self._workers.watch()
        self.thread.start()

    # What only the thread does.

    def _run(self) -> None:
        try:
            while not self._is_over():
                self._handle_all()
                if self.broken is None and not self._terminated:
                    if self._on_demand:
                        self._grow()
                    self._give_all()
                    self._cancel_rest()
                    self._sender.forget_functions(self._workers)
        except BaseException as error:
            self.broken = OnecopyError(f"the pool failed: {error!r}")
            self.broken.__cause__ = error
        self._end()

    def _is_over(self) -> bool:
        with self._lock:
            called_off = self.broken is not None or self._terminated
            busy = self._open or self._feeders or self._backlog or self._tasks
            self._ended = called_off or not busy
            return self._ended

    def _end(self) -> None:
        with self._lock:
            self._ended = True
        if self._terminated or self.broken is not None:
            self._fail_all(self.broken or ShutDownError("the pool was terminated before the task was done"))
            self._workers.kill()
        else:
            self._workers.dismiss()

    def _fail_all(self, error: OnecopyError) -> None:
        tasks, self._tasks = list(self._tasks.values()), {}
        self._backlog.returned.clear()
        tasks += [task for task in self._backlog.drop_sources() if task.begin()]
        for task in tasks:
            settle(task.fail, Fault(again(error)))

    def _cancel_rest(self) -> None:
        if self._cancel is not None:
            for task in self._backlog.drop_sources():
                settle(self._cancel, task)

    # Letters.

    def _handle_all(self) -> None:
        for letter in self._results._fetch(BATCH, self._patience()) or (None,):
            if letter is None:
                self._short_of_memory = False
                self._share_out()
            elif letter.topic == letters.RESULT:
                self._handle_result(letter)
            else:
                self._handle(letter)

    def _patience(self) -> float | None:
        """How long nothing may come before something is done about it."""
        if self._short_of_memory:
            return LACK_OF_MEMORY
        if self._backlog:
            return None
        waits = any(len(worker.assigned) > worker.ready for worker in self._workers)
        return WAIT_BEHIND if waits and self._has_idle() else None

    def _handle(self, letter: _native.Letter) -> None:
        topic, number = letter.topic, letter.number
        if topic == letters.FAILED:
            self._handle_failure(letter, number)
        elif topic == letters.READY:
            self._handle_ready(number)
        elif topic == letters.ENDED:
            self._handle_end(number)
        elif topic == letters.UNFIT:
            self._handle_unfit(letter)

    def _take(self, number: int) -> Task | None:
        task = self._tasks.pop(number, None)
        if task is not None and task.worker is not None:
            task.worker.assigned.pop(number, None)
            self._short_of_memory = False
        return task

    def _handle_result(self, letter: _native.Letter) -> None:
        task = self._take(letter.number)
        if task is None:
            return
        self._failed_starts = 0
        task.pace.learn(letter.extra)
        auditing.note_result(task, letter)
        tell = deliver(task, letter)
        # With the task go its arguments, and the result is nowhere but where the caller gets it.
        del task
        if tell is not None:
            settle(tell)

    def _handle_failure(self, letter: _native.Letter, number: int) -> None:
        task = self._take(number)
        if task is None:
            return None
        stage = letter.extra
        try:
            failure = Failure(*letter.take())
            error = error_of(failure)
        except Exception as unreadable:
            return settle(task.fail, Fault(unreadable, stage))
        if stage == letters.UNPICKLING and not task.by_value and isinstance(error, (AttributeError, ImportError)):
            return self._send_by_value(task)
        return settle(task.fail, Fault(error, stage, failure.done, failure.shown))

    def _send_by_value(self, task: Task) -> None:
        """Try again a task that arrived where a name in it is not known."""
        self._sender.send_by_value(task.function, self._workers)
        self._tasks[task.number] = task
        self._backlog.put_back([task])

    def _handle_ready(self, serial: int) -> None:
        worker = self._workers.get(serial)
        if worker is None:
            return
        worker.ready, worker.cradle = True, None
        self._failed_starts = 0
        # One that may begin now need not wait for what was meant for those that are still starting.
        for other in self._workers:
            if not other.ready and not other.stopping:
                self._return(other)

    def _handle_unfit(self, letter: _native.Letter) -> None:
        worker = self._workers.get(letter.number)
        if worker is not None:
            worker.leaving = True
        if self.broken is not None:
            return
        cause = error_of(Failure(*letter.open()))
        error = death(worker.pid if worker else 0, 1, None)
        error.args = (f"the initializer of the workers raised {type(cause).__name__}: {cause}",)
        error.__cause__ = cause
        self.broken = error

    def _handle_end(self, serial: int) -> None:
        worker = self._workers.remove(serial)
        if worker is None:
            return
        self._short_of_memory = False
        self._return(worker)
        # What broke the pool first is what callers are told, not the deaths that follow from it.
        if self.broken is None and (worker.assigned or not worker.stopping):
            self._handle_death(worker)
        if self.broken is None:
            self._replace()

    def _handle_death(self, worker: Worker) -> None:
        exitcode = worker.process.exitcode
        lost = [self._tasks[number] for number in worker.assigned if number in self._tasks]
        if self._retries is None:
            self.broken = death(worker.pid, exitcode, lost[0].describe() if lost else None)
            return
        if not worker.ready:
            self._failed_starts += 1
            by_itself = exitcode is not None and exitcode >= 0
            if by_itself or self._failed_starts > max(MOST_FAILED_STARTS, 2 * self._size):
                self.broken = death(worker.pid, exitcode, None)
                self.broken.args = (f"{self.broken} before it could begin. {_START_ADVICE}",)
            return
        for task in lost:
            task.attempts += 1
            if task.attempts <= self._retries:
                self._backlog.put_back([task])
            else:
                del self._tasks[task.number]
                settle(task.fail, Fault(death(worker.pid, exitcode, task.describe())))

    def _replace(self) -> None:
        wanted = self._open or self._backlog.sources or self._tasks or self._feeders
        if wanted and not self._on_demand and len(self._workers) < self._size:
            self._start_one()

    def _grow(self) -> None:
        """Start as many workers as there is work for."""
        work = len(self._backlog.sources) + len(self._tasks)
        while len(self._workers) < min(work, self._size) and self._start_one():
            pass

    def _start_one(self) -> bool:
        try:
            self._workers.start()
        except Exception as error:
            if len(self._workers) == 0:
                self.broken = OnecopyError(f"no worker can be started: {error!r}")
                self.broken.__cause__ = error
            return False
        return True

    # Tasks.

    def _give_all(self) -> None:
        """Give tasks to the workers that have least, until there are none or all have enough."""
        if self._short_of_memory or not self._backlog:
            return
        hands: dict[Worker, list[Task]] = {}
        for worker, task, ahead in self._deal():
            if ahead > LEAST_AHEAD:
                # Where many are given, sending them together costs much less.
                hands.setdefault(worker, []).append(task)
            else:
                self._give(worker, [task])
        for worker, tasks in hands.items():
            self._give(worker, tasks)

    def _deal(self) -> Iterator[tuple[Worker, Task, int]]:
        """Assign tasks to workers, one by one; with each goes how many of its kind a worker may have."""
        ahead = self._pace.ahead()
        free = [worker for worker in self._workers if not worker.stopping]
        # Those that are starting are given tasks only where there are no others.
        free = [worker for worker in free if worker.ready] or free
        free.sort(key=_load)
        while free:
            for worker in free:
                if self._short_of_memory or len(worker.assigned) + (not worker.ready) >= ahead:
                    # The others have as many.
                    return
                task = self._next()
                if task is None:
                    return
                task.worker = worker
                worker.assigned[task.number] = None
                if worker.quota is not None:
                    worker.quota -= 1
                if task.pace is not self._pace:
                    self._pace = task.pace
                    ahead = self._pace.ahead()
                yield worker, task, ahead
            free = [worker for worker in free if worker.ready and worker.quota != 0]

    def _next(self) -> Task | None:
        task, came_back = self._backlog.next_task()
        if task is not None and not came_back:
            task.number = next(self._numbers)
            self._tasks[task.number] = task
        return task

    def _give(self, worker: Worker, tasks: list[Task]) -> None:
        """Send tasks to the worker that they are assigned to, all together; each alone if that fails."""
        sent, began = 0, perf_counter_ns()
        try:
            sent = self._sender.send(worker, tasks)
        except BaseException as error:
            if len(tasks) == 1:
                self._unassign(worker, tasks[0])
                self._keep_back(tasks[0], error)
        if sent:
            tasks[0].pace.learn_of_sending((perf_counter_ns() - began) / sent)
        if len(tasks) > 1:
            for task in tasks[sent:]:
                if self._short_of_memory:
                    self._unassign(worker, task)
                    self._backlog.put_back([task])
                else:
                    self._give(worker, [task])
        if worker.quota == 0:
            worker.stop()

    def _unassign(self, worker: Worker, task: Task) -> None:
        del worker.assigned[task.number]
        if worker.quota is not None:
            worker.quota += 1

    def _keep_back(self, task: Task, error: BaseException) -> None:
        """Deal with a task that could not be sent."""
        if isinstance(error, OutOfMemoryError) and self._may_pass(task):
            self._short_of_memory = True
            self._backlog.returned.appendleft(task)
        else:
            del self._tasks[task.number]
            settle(task.fail, Fault(unsent(error, task.describe())))

    def _may_pass(self, task: Task) -> bool:
        """Say whether memory may still come for a task."""
        now = time.monotonic()
        if task.lacks_memory_since is None or any(worker.assigned for worker in self._workers):
            task.lacks_memory_since = now
        return now - task.lacks_memory_since < END_OF_LACK

    def _share_out(self) -> None:
        """Take tasks back that wait behind others while a worker has nothing to do."""
        if self._has_idle():
            for worker in self._workers:
                if len(worker.assigned) > worker.ready:
                    self._return(worker)

    def _return(self, worker: Worker) -> None:
        """Take the tasks back that a worker has not begun."""
        for number in worker.take_back():
            worker.assigned.pop(number, None)
            if worker.quota is not None:
                worker.quota += 1
            if number in self._tasks:
                self._backlog.put_back([self._tasks[number]])

    def _has_idle(self) -> bool:
        return any(worker.ready and not worker.assigned for worker in self._workers)


_START_ADVICE = (
    "Where the start method is spawn or forkserver, the program must be a module that can be imported, with what "
    "starts the pool under `if __name__ == '__main__':`"
)


def _load(worker: Worker) -> int:
    """How much it has to do; that it has to start is as much as one task."""
    return len(worker.assigned) + (not worker.ready)
