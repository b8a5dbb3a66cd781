"""`Pool`: the interface of `multiprocessing.pool.Pool`."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from multiprocessing import get_context, process, util
from multiprocessing.context import BaseContext
from types import TracebackType
from typing import TYPE_CHECKING, Any

from onecopy import _native
from onecopy._pool.dispatcher import Dispatcher
from onecopy._pool.jobs import Call, Listed, chunks_of
from onecopy._pool.progress import Progress, ProgressOption
from onecopy._pool.results import AsyncResult, Callback, MapResult, ResultIterator, Stream
from onecopy._pool.start import (
    check_context,
    check_count,
    check_initializer,
    check_may_have_children,
    prepare,
    processors,
)
from onecopy._pool.tasks import Functions, Single
from onecopy._pool.workers import Workers

if TYPE_CHECKING:
    from typing_extensions import Self

RUN, CLOSE, TERMINATE = "RUN", "CLOSE", "TERMINATE"

#: Chunks of an iterable without a length that are on their way for each worker.
MOST_AHEAD = 32


class Pool:
    """Worker processes that call functions; arrays go there and come back by handle, without a copy.

    All methods of `multiprocessing.pool.Pool` are there, with the same meaning. Beyond that:

    - Arrays anywhere in arguments and results stay where they are if they are shared (`onecopy.array`, `onecopy.empty`,
      ...); large ones that are not are copied into shared memory once.
    - A worker that is killed or crashes takes one task with it, which fails at once with `WorkerDiedError`, or is tried
      again; another worker takes its place.
    - Lambdas, closures and functions of a notebook can be called.
    - ``chunksize=None`` finds out how many items are worth sending at once.

    Parameters
    ----------
    processes : int, optional
        How many workers; by default as many as there are processors for this process.
    initializer : callable, optional
        Called by each worker before its first task. If it raises, the pool is broken and says so.
    initargs : iterable, optional
        Arguments of the initializer.
    maxtasksperchild : int, optional
        After so many tasks a worker is replaced by a new one; a chunk is one task.
    context : optional
        A context of `multiprocessing`, which says how workers are started.
    retries : int, optional
        How often a task is given to another worker when the worker that had it has died.
    progress : bool, str or dict, optional
        Show a progress bar for each call; a text is its description, a dictionary is for `tqdm.tqdm`. Methods that
        take many items have the same argument.
    mp_context : optional
        The same as `context`, as `concurrent.futures` calls it.

    Raises
    ------
    ValueError
        `processes`, `maxtasksperchild` or `retries` is not a number that can be.
    TypeError
        The initializer cannot be called.
    AssertionError
        This process is a worker of another pool, which may not have children.

    Examples
    --------
    >>> import onecopy as oc
    >>> a = oc.array([1.0, 2.0, 3.0])
    >>> with oc.Pool(2) as pool:
    ...     pool.map(abs, [-1, -2, -3]), pool.apply(len, (a,))
    ([1, 2, 3], 3)
    """

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> process.BaseProcess:
        """Make a process of a context."""
        made: process.BaseProcess = ctx.Process(*args, **kwds)
        return made

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: BaseContext | None = None,
        *,
        retries: int = 0,
        progress: ProgressOption = None,
        mp_context: BaseContext | None = None,
    ) -> None:
        self._state: str | None = None
        processes = processors() if processes is None else check_count("processes", processes, 1)
        check_count("retries", retries, 0)
        if maxtasksperchild is not None:
            try:
                check_count("maxtasksperchild", maxtasksperchild, 1)
            except TypeError as error:
                # As the standard library has it, for this argument alone.
                raise ValueError(*error.args) from None
        check_initializer(initializer)
        check_may_have_children()
        self._ctx = context or mp_context or get_context()
        check_context(self._ctx)
        self._progress = progress
        self._processes = processes
        self._pid = os.getpid()
        self._functions = Functions()
        prepare(self._ctx)
        results = _native.Queue()
        self._workers = Workers(
            self._ctx,
            results,
            (initializer, tuple(initargs)),
            quota=maxtasksperchild,
            daemon=True,
            leaves=True,
        )
        self._dispatcher = Dispatcher(self._workers, results, processes, retries=retries, name="onecopy pool")
        try:
            for _ in range(processes):
                self._workers.start()
        except BaseException:
            self._workers.kill()
            raise
        self._dispatcher.start()
        self._terminate = util.Finalize(self, self._dispatcher.terminate, exitpriority=15)
        self._state = RUN

    @property
    def _pool(self) -> list[process.BaseProcess]:
        return [worker.process for worker in self._workers]

    def __repr__(self) -> str:
        """Describe the state."""
        return f"<{type(self).__module__}.{type(self).__qualname__} state={self._state} pool_size={len(self._workers)}>"

    def __del__(self, _warn: Any = warnings.warn, _run: str = RUN, _getpid: Callable[[], int] = os.getpid) -> None:
        """Warn that nobody ended it."""
        if getattr(self, "_state", None) == _run and self._pid == _getpid():
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)

    def __reduce__(self) -> Any:
        """Refuse to be sent."""
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def __enter__(self) -> Self:
        """Return the pool."""
        self._check_running()
        return self

    def __exit__(
        self, class_: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Terminate it."""
        self.terminate()

    # Calls.

    def apply(self, func: Callable[..., Any], args: Iterable[Any] = (), kwds: dict[str, Any] | None = None) -> Any:
        """Call a function in a worker and return what it returns."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: dict[str, Any] | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> AsyncResult:
        """Have a function called in a worker.

        Parameters
        ----------
        func : callable
            The function.
        args, kwds : optional
            Its arguments.
        callback, error_callback : callable, optional
            Called in a thread of this process with the result, or with the exception. They should return soon.

        Returns
        -------
        AsyncResult
        """
        self._check_running()
        result = AsyncResult(self, callback, error_callback)
        self._dispatcher.submit(Single(Call(result, self._functions.get(func), tuple(args), dict(kwds or {}))))
        return result

    def map(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        progress: ProgressOption = None,
    ) -> list[Any]:
        """Call a function with each item, and return the results in order.

        Parameters
        ----------
        func : callable
            The function.
        iterable : iterable
            The items.
        chunksize : int, optional
            How many items go to a worker at once; by default as many as take it a few milliseconds.
        progress : bool, str or dict, optional
            Show a progress bar.

        Returns
        -------
        list

        Raises
        ------
        WorkerDiedError
            A worker died that had some of the items. The other items have been done.
        """
        return self.map_async(func, iterable, chunksize, progress=progress).get()  # type: ignore[no-any-return]

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
        *,
        progress: ProgressOption = None,
    ) -> MapResult:
        """Begin what `map` does; the result is a `MapResult`."""
        return self._map_async(func, iterable, False, chunksize, callback, error_callback, progress)

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        progress: ProgressOption = None,
    ) -> list[Any]:
        """Call a function with each item as its arguments, and return the results in order; see `map`."""
        return self.starmap_async(func, iterable, chunksize, progress=progress).get()  # type: ignore[no-any-return]

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
        *,
        progress: ProgressOption = None,
    ) -> MapResult:
        """Begin what `starmap` does; the result is a `MapResult`."""
        return self._map_async(func, iterable, True, chunksize, callback, error_callback, progress)

    def imap(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = 1,
        *,
        progress: ProgressOption = None,
    ) -> ResultIterator:
        """Return an iterator of results in order, which come while others are still being made.

        Items are taken from the iterable as they are needed, some ahead. See `map` for the arguments.
        """
        return self._imap(func, iterable, True, chunksize, progress)

    def imap_unordered(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = 1,
        *,
        progress: ProgressOption = None,
    ) -> ResultIterator:
        """Return an iterator of results in the order in which they come; otherwise as `imap`."""
        return self._imap(func, iterable, False, chunksize, progress)

    def _map_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        star: bool,
        chunksize: int | None,
        callback: Callback,
        error_callback: Callback,
        progress: ProgressOption,
    ) -> MapResult:
        self._check_running()
        items: Sequence[Any] = iterable if isinstance(iterable, (list, tuple, range)) else list(iterable)
        bar = self._bar(progress, len(items))
        result = MapResult(self, len(items), callback, error_callback, self._functions.get(func), star, chunksize, bar)
        self._dispatcher.submit(Listed(result, items))
        return result

    def _imap(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        ordered: bool,
        chunksize: int | None,
        progress: ProgressOption,
    ) -> ResultIterator:
        self._check_running()
        try:
            total = len(iterable)  # type: ignore[arg-type]
        except TypeError:
            total = None
        items = iterable if isinstance(iterable, (list, tuple, range)) else None
        ahead = MOST_AHEAD * self._processes if items is None else None
        stream = Stream(self, ordered, self._functions.get(func), chunksize, self._bar(progress, total), ahead)
        if items is not None:
            self._dispatcher.submit(Listed(stream, items))
            stream.set_length(len(items))
        else:
            arguments = (self._dispatcher, stream, iterable, self._processes)
            feeder = threading.Thread(target=_feed, args=arguments, name="onecopy pool: items", daemon=True)
            self._dispatcher.feed(+1)
            try:
                feeder.start()
            except BaseException:
                # There may be no more threads, or Ctrl-C has come: nobody shall wait for this one.
                if feeder.ident is None:
                    self._dispatcher.feed(-1)
                raise
        return ResultIterator(stream)

    def _bar(self, progress: ProgressOption, total: int | None) -> Progress:
        return Progress(self._progress if progress is None else progress, total)

    # The end.

    def _check_running(self) -> None:
        if os.getpid() != self._pid:
            raise ValueError(
                f"Pool not running: it belongs to process {self._pid}, of which this is a child; make another one here"
            )
        if self._state != RUN:
            raise ValueError(f"Pool not running: it has been {'closed' if self._state == CLOSE else 'terminated'}")

    def close(self) -> None:
        """Take no more calls; the workers end when all is done."""
        util.debug("closing pool")
        if self._state == RUN:
            self._state = CLOSE
            self._dispatcher.close()

    def terminate(self) -> None:
        """End the workers at once. Results that are not there yet become a `ShutDownError`."""
        util.debug("terminating pool")
        if os.getpid() == self._pid:
            self._state = TERMINATE
            self._terminate()

    def join(self) -> None:
        """Wait for the workers to end, after `close` or `terminate`.

        Raises
        ------
        ValueError
            The pool still takes calls.
        """
        util.debug("joining pool")
        if self._state == RUN:
            raise ValueError("Pool is still running: call close() or terminate() before join()")
        if os.getpid() == self._pid:
            self._dispatcher.thread.join()


def _feed(dispatcher: Dispatcher, stream: Stream, iterable: Iterable[Any], workers: int) -> None:
    """Submit the items of an iterable as they come and as there is room for them."""
    count = 0
    try:
        for chunk in chunks_of(iterable, stream, workers):
            if not stream.wait_for_room():
                break
            dispatcher.submit(Single(chunk))
            count += chunk.count
    except BaseException as error:
        # Of the iterable's own; it takes the place of the item that did not come.
        stream.set_length(count + 1)
        stream.keep_error(count, 1, error)
        stream.publish()
    else:
        stream.set_length(count)
    finally:
        dispatcher.feed(-1)
