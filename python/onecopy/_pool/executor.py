"""`ProcessPoolExecutor`: the interface of `concurrent.futures.ProcessPoolExecutor`."""

from __future__ import annotations

import itertools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.context import BaseContext
from typing import Any, TypeVar

from onecopy import _native
from onecopy._errors import OnecopyError, WorkerDiedError
from onecopy._pool import auditing, letters
from onecopy._pool.dispatcher import Dispatcher
from onecopy._pool.errors import Fault, UnsendableError, explained
from onecopy._pool.progress import Progress, ProgressOption
from onecopy._pool.start import (
    check_context,
    check_count,
    check_initializer,
    check_may_have_children,
    prepare,
    processors,
)
from onecopy._pool.tasks import Function, Functions, Single, Task
from onecopy._pool.workers import Workers

T = TypeVar("T")

#: Chunks for each worker where the size of chunks is left to the executor.
SHARES = 4


class BrokenByDeathError(WorkerDiedError, BrokenProcessPool):
    """A worker died; for those who catch what the standard library raises then."""


class TransferError(OnecopyError, BrokenProcessPool):
    """A task or a result was sent, but cannot be unpickled where it arrived; the cause says why."""


class _Item(Task):
    """A task with a future."""

    __slots__ = ("done", "future")

    def __init__(self, what: int, function: Function, given: Any, site: str | None) -> None:
        super().__init__(what, function, given, function.pace, site)
        self.future: Future[Any] = Future()
        #: Results of a chunk before the item that failed.
        self.done: Sequence[Any] = ()

    def begin(self) -> bool:
        return self.future.set_running_or_notify_cancel()

    def cancel(self) -> None:
        self.future.cancel()
        self.future.set_running_or_notify_cancel()

    def succeed(self, value: Any, nanoseconds: int) -> None:
        # What came in is not kept as long as the future.
        self.given = None
        self.future.set_result(value)

    def fail(self, fault: Fault) -> None:
        self.given = None
        self.done = fault.done
        self.future.set_exception(_as_told(fault))

    def outcome(self, timeout: float | None) -> tuple[Sequence[Any], BaseException | None]:
        """Wait for the results of a chunk, and the error that ended it."""
        error = self.future.exception(timeout)
        return (self.future.result(), None) if error is None else (self.done, error)


def _as_told(fault: Fault) -> BaseException:
    error = fault.error
    if isinstance(error, WorkerDiedError):
        return _broken(error)
    if fault.stage in (letters.UNPICKLING, letters.OPENING):
        what = "task" if fault.stage == letters.UNPICKLING else "result"
        advice = "send and return what can be unpickled where it arrives"
        told = TransferError(f"the {what} cannot be unpickled: {type(error).__name__}: {error}; {advice}")
        told.__cause__ = error
        return told
    if fault.stage == letters.PICKLING:
        return explained(error, f"the result cannot be sent back: {error}; return what can be pickled")
    return _of_the_same_type(error) if isinstance(error, UnsendableError) else error


def _of_the_same_type(error: UnsendableError) -> BaseException:
    """Make what the standard library raises for an exception that cannot be sent back, with what is said here."""
    told = TransferError(str(error)) if error.reason is None else explained(error.reason, str(error))
    told.__cause__ = error.__cause__
    return told


def _broken(error: OnecopyError) -> OnecopyError:
    if not isinstance(error, WorkerDiedError):
        return error
    made = BrokenByDeathError(*error.args, **error.__dict__)
    made.__cause__ = error.__cause__
    return made


class ProcessPoolExecutor(Executor):
    """Worker processes behind futures; arrays go there and come back by handle, without a copy.

    It is `concurrent.futures.ProcessPoolExecutor`, with what `Pool` adds to `multiprocessing.Pool`. Workers are not
    daemonic, so tasks may start pools of their own.

    As in the standard library, the death of a worker breaks the executor: all futures that are not done fail with a
    `WorkerDiedError`, which is also a `concurrent.futures.process.BrokenProcessPool`, and no more are accepted. With
    `retries` it does not: only the task of that worker fails, or is tried again, and a new worker takes the place.

    Parameters
    ----------
    max_workers : int, optional
        How many workers; by default as many as there are processors for this process.
    mp_context : optional
        A context of `multiprocessing`, which says how workers are started.
    initializer : callable, optional
        Called by each worker before its first task. If it raises, the executor is broken.
    initargs : tuple, optional
        Arguments of the initializer.
    max_tasks_per_child : int, optional
        After so many tasks a worker is replaced by a new one. Not with the start method fork.
    retries : int, optional
        How often a task is given to another worker when the worker that had it has died. None, the default: its death
        breaks the executor.
    progress : bool, str or dict, optional
        Show a progress bar over all tasks; a text is its description, a dictionary is for `tqdm.tqdm`.

    Raises
    ------
    ValueError
        A number is not one that can be, or `max_tasks_per_child` is given with the start method fork.
    TypeError
        The initializer cannot be called.

    Examples
    --------
    >>> import onecopy as oc
    >>> with oc.ProcessPoolExecutor(2) as executor:
    ...     executor.submit(pow, 2, 10).result(), list(executor.map(abs, [-1, -2]))
    (1024, [1, 2])
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        retries: int | None = None,
        progress: ProgressOption = None,
    ) -> None:
        self._max_workers = processors() if max_workers is None else check_count("max_workers", max_workers, 1)
        check_initializer(initializer)
        if retries is not None:
            check_count("retries", retries, 0)
        if mp_context is None:
            mp_context = get_context("spawn") if max_tasks_per_child is not None else get_context()
        check_context(mp_context)
        self._context = mp_context
        self._forks = mp_context.get_start_method() == "fork"
        if max_tasks_per_child is not None:
            check_count("max_tasks_per_child", max_tasks_per_child, 1)
            if self._forks:
                raise ValueError(
                    "max_tasks_per_child is incompatible with the 'fork' multiprocessing start method, as new workers "
                    "would be forked from a process with threads; pass mp_context=multiprocessing.get_context('spawn')"
                )
        self._setup = (_initialize, (initializer, *initargs)) if initializer else (None, ())
        self._max_tasks = max_tasks_per_child
        self._retries = retries
        self._bar = Progress(progress)
        self._pid = os.getpid()
        self._functions = Functions()
        self._lock = threading.Lock()
        self._dispatcher: Dispatcher | None = None
        self._shut_down = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Have a function called in a worker.

        Returns
        -------
        concurrent.futures.Future

        Raises
        ------
        RuntimeError
            The executor has been shut down, or belongs to a parent of this process.
        WorkerDiedError
            The executor is broken.
        """
        return self._submit(_Item(letters.CALL, self._functions.get(fn), (args, kwargs), auditing.site()))

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = 1,
        progress: ProgressOption = None,
    ) -> Iterator[T]:
        """Call a function with the items of one or more iterables, and return an iterator of the results in order.

        Parameters
        ----------
        fn : callable
            The function.
        *iterables : iterable
            One for each argument.
        timeout : float, optional
            Seconds from now in which results must have come.
        chunksize : int, optional
            How many calls go to a worker at once; None for four chunks for each worker.
        progress : bool, str or dict, optional
            Show a progress bar over these calls, as for `Pool.map`; the executor's own bar counts chunks.

        Raises
        ------
        TimeoutError
            A result did not come in time.
        ValueError
            `chunksize` is less than 1.
        """
        if chunksize is not None and chunksize < 1:
            raise ValueError(f"chunksize must be >= 1, not {chunksize}")
        end = None if timeout is None else time.monotonic() + timeout
        calls = zip(*iterables, strict=False)
        if chunksize is None:
            listed = list(calls)
            chunksize = max(1, len(listed) // (SHARES * self._max_workers))
            calls = iter(listed)  # type: ignore[assignment]
        items, function, site, bar = [], Function(fn), auditing.site(), Progress(progress)
        while chunk := list(itertools.islice(calls, chunksize)):
            items.append(_Item(letters.STAR_EACH, function, chunk, site))
            if bar.is_shown:
                bar.expect(len(chunk))
                _count(items[-1], bar, len(chunk))
            self._submit(items[-1])
        return _results(items, end, bar)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more tasks, and end the workers when all is done.

        Parameters
        ----------
        wait : bool, optional
            Wait for that.
        cancel_futures : bool, optional
            Cancel what has not been given to a worker.
        """
        with self._lock:
            self._shut_down = True
            dispatcher = self._dispatcher
        if dispatcher is None or os.getpid() != self._pid:
            return
        if cancel_futures:
            dispatcher.cancel_rest(_Item.cancel)
        dispatcher.close()
        if wait:
            dispatcher.thread.join()
            self._bar.close()

    def _submit(self, item: _Item) -> Future[Any]:
        if os.getpid() != self._pid:
            raise RuntimeError(
                f"cannot schedule new futures: the executor belongs to process {self._pid}, of which this is a child; "
                "make another one here"
            )
        with self._lock:
            if _interpreter_ends:
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            if self._shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            dispatcher = self._dispatcher or self._start()
            try:
                dispatcher.submit(Single(item))
            except OnecopyError as error:
                raise _broken(error) from error.__cause__
        if self._bar.is_shown:
            self._bar.expect(1)
            _count(item, self._bar, 1)
        return item.future

    def _start(self) -> Dispatcher:
        check_may_have_children()
        prepare(self._context)
        results = _native.Queue()
        workers = Workers(self._context, results, self._setup, quota=self._max_tasks, daemon=False, leaves=False)
        dispatcher = Dispatcher(
            workers,
            results,
            self._max_workers,
            retries=self._retries,
            on_demand=not self._forks,
            name="onecopy executor",
        )
        try:
            # All that are forked are so now, while this process may still have one thread. Of others one is started, as
            # somebody waits for it; the rest are when they are needed.
            for _ in range(self._max_workers if self._forks else 1):
                workers.start()
        except BaseException:
            workers.kill()
            raise
        dispatcher.start()
        _running.add(dispatcher)
        self._dispatcher = dispatcher
        weakref.finalize(self, dispatcher.close).atexit = False
        return dispatcher


def _count(item: _Item, bar: Progress, count: int) -> None:
    """Have a bar show when an item is done, which is so many things."""
    item.future.add_done_callback(lambda _: bar.advance(count))


def _results(items: list[_Item], end: float | None, bar: Progress) -> Iterator[Any]:
    items.reverse()
    try:
        while items:
            # Taken off the list, so that it is not kept while its results are looked at.
            values, error = items.pop().outcome(None if end is None else end - time.monotonic())
            values = list(reversed(values))
            while values:
                yield values.pop()
            if error is not None:
                raise error
    finally:
        for item in items:
            item.future.cancel()
        bar.close()


def _initialize(initializer: Callable[..., object], *arguments: Any) -> None:
    try:
        initializer(*arguments)
    except BaseException:
        # As in the standard library, for those who look there.
        import logging

        logging.getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=True)
        raise


#: Of executors that may not have ended.
_running: weakref.WeakSet[Dispatcher] = weakref.WeakSet()
_interpreter_ends = False


def _finish_all() -> None:
    """Have everything done before the interpreter ends."""
    global _interpreter_ends
    _interpreter_ends = True
    running = list(_running)
    for dispatcher in running:
        dispatcher.close()
    for dispatcher in running:
        dispatcher.thread.join()


def _forget_all() -> None:
    """Forget the executors of the parent, in a child that was forked."""
    _running.clear()


os.register_at_fork(after_in_child=_forget_all)
if hasattr(threading, "_register_atexit"):
    threading._register_atexit(_finish_all)
else:
    import atexit

    atexit.register(_finish_all)
