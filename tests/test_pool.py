"""The interface of pools, as in the standard library, and what onecopy adds. Dying workers: `test_pool_deaths.py`."""

from __future__ import annotations

import contextlib
import gc
import io
import itertools
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from functools import partial
from multiprocessing.pool import RemoteTraceback
from typing import Any

import numpy as np
import pytest

import onecopy as oc
from onecopy._pool.chunks import Chunks
from onecopy._pool.pace import Pace

METHODS = ("fork", "spawn", "forkserver")
MIB = 1 << 20


@pytest.fixture(scope="module", params=METHODS)
def pool(request: pytest.FixtureRequest) -> Iterator[oc.Pool]:
    with oc.Pool(2, context=multiprocessing.get_context(request.param)) as made:
        yield made
    made.join()


@pytest.fixture(scope="module", params=METHODS)
def executor(request: pytest.FixtureRequest) -> Iterator[oc.ProcessPoolExecutor]:
    with oc.ProcessPoolExecutor(2, multiprocessing.get_context(request.param)) as made:
        yield made


def square(x: Any) -> Any:
    return x * x


def worker(_: Any = None) -> int:
    return os.getpid()


def refuse(x: int) -> int:
    if x == 5:
        raise ValueError(f"not {x}")
    return x


# --- calls ---


@pytest.mark.parametrize("chunksize", [None, 1, 7, 1000])
def test_maps_give_what_the_builtin_gives(pool, chunksize):
    for count in (0, 1, 5, 300):
        expected = [square(x) for x in range(count)]
        assert pool.map(square, range(count), chunksize) == expected
        assert pool.map(square, iter(range(count)), chunksize) == expected
        assert pool.map_async(square, range(count), chunksize).get(60) == expected
        assert pool.starmap(pow, ((x, 2) for x in range(count)), chunksize) == expected
        assert pool.starmap_async(pow, [(x, 2) for x in range(count)], chunksize).get(60) == expected
        for items in (range(count), iter(range(count))):
            assert list(pool.imap(square, items, chunksize)) == expected
        for items in (range(count), iter(range(count))):
            assert sorted(pool.imap_unordered(square, items, chunksize)) == expected


def test_single_calls(pool):
    assert pool.apply(pow, (2, 5)) == 32
    assert pool.apply(int, ("11",), {"base": 2}) == 3
    result = pool.apply_async(square, (3,))
    result.wait(60)
    assert result.ready() and result.successful() and result.get() == 9
    slow = pool.apply_async(time.sleep, (0.5,))
    with pytest.raises(multiprocessing.TimeoutError):
        slow.get(0.01)
    assert not slow.ready()
    with pytest.raises(ValueError, match="not ready"):
        slow.successful()
    assert slow.get(60) is None


def test_callbacks_and_one_that_raises(pool, capsys):
    told: list[Any] = []
    pool.apply_async(square, (3,), callback=told.append).get(60)
    pool.map_async(square, range(3), callback=told.append).get(60)
    failing = pool.apply_async(square, ("a",), error_callback=told.append)
    failing.wait(60)
    assert told[:2] == [9, [0, 1, 4]] and isinstance(told[2], TypeError)
    pool.apply_async(square, (3,), callback=lambda value: value.no_such_name).wait(60)
    assert pool.apply(square, (4,)) == 16
    assert "no_such_name" in capsys.readouterr().err


def test_an_exception_has_the_traceback_of_the_worker(pool):
    for call in (
        lambda: pool.apply(refuse, (5,)),
        lambda: pool.map(refuse, range(9)),
        lambda: list(pool.imap(refuse, [5])),
    ):
        with pytest.raises(ValueError, match="not 5") as caught:
            call()
        assert isinstance(caught.value.__cause__, RemoteTraceback)
        assert 'raise ValueError(f"not {x}")' in str(caught.value.__cause__)
        assert "onecopy/_pool" not in str(caught.value.__cause__)


@pytest.mark.parametrize("chunksize", [1, 4, 100])
def test_imap_gives_what_comes_before_and_after_an_exception(pool, chunksize):
    got: list[Any] = []
    results = pool.imap(refuse, range(20), chunksize)
    while True:
        try:
            got.append(next(results))
        except ValueError:
            got.append("error")
        except StopIteration:
            break
    # An error takes the rest of its chunk with it.
    lost = {1: 1, 4: 3, 100: 15}[chunksize]
    assert got == [*range(5), "error", *range(5 + lost, 20)]


def test_an_iterable_that_raises(pool):
    def items() -> Iterator[int]:
        yield from (1, 2)
        raise KeyError("items")

    with pytest.raises(KeyError, match="items"):
        pool.map(square, items())
    for imap in (pool.imap, pool.imap_unordered):
        results, got = imap(square, items()), []
        with pytest.raises(KeyError, match="items"):
            for result in results:
                got.append(result)
        assert sorted(got) in ([1, 4], [1], [4], []) if imap == pool.imap_unordered else got == [1, 4]
        assert list(imap(square, [3])) == [9]


def test_imap_takes_items_as_they_are_needed(pool):
    taken = itertools.count()
    results = pool.imap(square, (next(taken) for _ in itertools.count()))
    assert list(itertools.islice(results, 50)) == [n * n for n in range(50)]
    with pytest.raises(multiprocessing.TimeoutError):
        pool.imap(time.sleep, [1]).next(timeout=0.01)
    # Nobody wants more of them.
    del results
    before = next(taken)
    pool.map(square, range(10))
    assert next(taken) - before < 1000


def test_tasks_that_wait_for_tasks_behind_them(pool):
    """One of the two is given to the worker that waits for it, and taken back when the other has nothing to do."""
    events = [oc.Event(), oc.Event()]
    waiting = pool.apply_async(wait_for_all, (events,))
    busy = pool.apply_async(time.sleep, (0.2,))
    setting = [pool.apply_async(event_set, (event,)) for event in events]
    assert waiting.get(60) is True
    assert [one.get(60) for one in (busy, *setting)] == [None] * 3


def wait_for_all(events: Any) -> bool:
    return all(event.wait(50) for event in events)


def event_wait(event: Any) -> bool:
    return event.wait(50)


def event_set(event: Any) -> None:
    event.set()


# --- arrays ---


def add_one_in_place(array: np.ndarray[Any, Any]) -> bool:
    array += 1
    return oc.is_shared(array)


def make(count: int, shared: bool) -> dict[str, Any]:
    return {"deep": [(oc.full if shared else np.full)(count, 3.0)]}


@pytest.mark.usefixtures("nothing_left")
def test_arrays_travel_by_handle_both_ways(pool):
    arrays = [oc.zeros(MIB // 8) for _ in range(4)]
    before = oc.stats()
    assert pool.map(add_one_in_place, arrays) == [True] * 4
    assert all((array == 1).all() for array in arrays)
    result = pool.apply(make, (100_000, True))["deep"][0]
    after = oc.stats()
    assert oc.is_shared(result) and result.sum() == 300_000
    assert after["bytes_moved_in"] == before["bytes_moved_in"]
    assert after["bytes_copied"] == before["bytes_copied"]


@pytest.mark.usefixtures("nothing_left")
def test_large_arrays_of_others_are_moved_in_once(pool):
    array, before = np.zeros(MIB // 8), oc.stats()
    assert pool.apply(add_one_in_place, (array,)) is True
    assert array[0] == 0
    assert oc.stats()["bytes_moved_in"] - before["bytes_moved_in"] == MIB
    result = pool.apply(make, (100_000, False))["deep"][0]
    assert oc.is_shared(result) and result.sum() == 300_000
    assert oc.stats()["bytes_moved_in"] - before["bytes_moved_in"] == MIB


def add_item(array: np.ndarray[Any, Any], n: int) -> float:
    return float(array[n]) + n


@pytest.mark.usefixtures("nothing_left")
def test_what_belongs_to_a_function_goes_to_each_worker_once(pool):
    large, before = np.ones(MIB // 8), oc.stats()
    assert pool.map(partial(add_item, large), range(100), 1) == [1.0 + x for x in range(100)]
    moved = oc.stats()["bytes_moved_in"] - before["bytes_moved_in"]
    # Once for each worker, and again where it was taken back; not with each task.
    assert moved < 10 * MIB
    # Workers are told to forget it, sooner or later; a call brings that on.
    deadline = time.monotonic() + 30
    while oc.stats()["blocks"] > before["blocks"] and time.monotonic() < deadline:
        pool.map(worker, range(4), 1)
    assert oc.stats()["blocks"] <= before["blocks"]


@pytest.mark.usefixtures("nothing_left")
def test_too_large_for_the_limit():
    with oc.Pool(1) as pool:
        limit = oc.stats()["limit"]
        array = np.ones(3 * MIB)
        try:
            oc.set_limit(oc.stats()["used_bytes"] + 16 * MIB)
            with pytest.raises(oc.OutOfMemoryError, match="limit"):
                pool.apply(add_one_in_place, (array,))
            with pytest.raises(oc.OutOfMemoryError, match="limit"):
                pool.apply(make, (3 * MIB, False))
            # What fits one by one waits for room.
            assert pool.map(add_one_in_place, [array[:MIB] for _ in range(8)], 1) == [True] * 8
        finally:
            oc.set_limit(limit)
        assert pool.apply(square, (2,)) == 4
    pool.join()


def counted(counter: Any, x: Any) -> Any:
    counter.add(1)
    return x


def test_of_many_small_tasks_only_those_fail_that_cannot_be_sent(pool):
    # Tasks of a function that is known to be quick are sent many at once.
    items = [threading.Lock() if n % 97 == 96 else n for n in range(2000)]
    counter, got = oc.Counter(), []
    results = pool.imap(partial(counted, counter), items)
    for _ in items:
        try:
            got.append(next(results))
        except TypeError as error:
            assert "pickle" in str(error)
            got.append(None)
    assert got == [None if n % 97 == 96 else n for n in range(2000)]
    assert counter.value == sum(result is not None for result in got)


def test_small_tasks_and_a_quota():
    # Workers that leave after a few tasks are sent no more together than they may have.
    with oc.Pool(2, maxtasksperchild=150) as pool:
        assert pool.map(square, range(1000), 1) == [n * n for n in range(1000)]
        pids = pool.map(worker, range(900), 1)
    assert all(pids.count(pid) <= 150 for pid in set(pids))


# --- functions ---


def test_functions_without_a_name(pool):
    def closure(x: int) -> int:
        return x + offset

    class Local:
        def __init__(self, value: int) -> None:
            self.value = value

    offset = 10
    assert pool.map(closure, range(3)) == [10, 11, 12]
    assert pool.apply(lambda: 42) == 42
    assert pool.apply(lambda local: local.value, (Local(7),)) == 7


def test_a_method_is_sent_as_it_is_now(pool):
    class Counter:
        count = 0

        def get(self) -> int:
            return self.count

    counter = Counter()
    for counter.count in range(5):
        assert pool.apply(counter.get) == counter.count


@pytest.mark.parametrize("method", METHODS)
def test_functions_of_an_interactive_program(method):
    """As in a notebook: its names cannot be found by a worker, or are defined after the workers were started."""
    program = f"""
import multiprocessing, onecopy as oc
with oc.Pool(2, context=multiprocessing.get_context({method!r})) as pool:
    class Point:
        def __init__(self, x): self.x = x
        def __eq__(self, other): return type(self) is type(other) and self.x == other.x
    def double(point): return Point(2 * point.x)
    print(pool.map(double, [Point(n) for n in range(5)]) == [Point(2 * n) for n in range(5)])
    print(pool.apply(double, (Point(3),)).x)
with oc.ProcessPoolExecutor(1, multiprocessing.get_context({method!r})) as executor:
    print(executor.submit(double, Point(4)).result().x)
"""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=100, check=False
    )
    assert (run.stdout, run.stderr) == ("True\n6\n8\n", "")


# --- workers ---


def remember(value: Any) -> None:
    global remembered
    remembered = value


def recall(_: Any = None) -> Any:
    return remembered


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.usefixtures("nothing_left")
def test_initializer_and_what_only_a_starting_process_may_have(method):
    context = multiprocessing.get_context(method)
    lock = context.Lock()
    with oc.Pool(2, remember, ((lock, oc.ones(3)),), context=context) as pool:
        assert all(array.sum() == 3 for array in pool.map(lambda _: recall()[1], range(4), 1))
        with lock:
            assert pool.apply(lambda: recall()[0].acquire(False)) is False
    pool.join()


@pytest.mark.parametrize("method", METHODS)
def test_workers_are_replaced_after_so_many_tasks(method):
    with oc.Pool(2, maxtasksperchild=3, context=multiprocessing.get_context(method)) as pool:
        pids = pool.map(worker, range(12), 1)
        assert max(pids.count(pid) for pid in set(pids)) <= 3
        assert pool.map(square, range(4)) == [n * n for n in range(4)]


def test_workers_end_with_the_program_that_is_killed():
    program = """
import os, time, onecopy as oc
pool = oc.Pool(2)
print(*pool.map(lambda _: (time.sleep(0.05), os.getpid())[1], range(4), 1), flush=True)
time.sleep(100)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = {int(pid) for pid in process.stdout.readline().split()}
        descriptors = [os.pidfd_open(pid) for pid in pids]
        process.kill()
    for descriptor in descriptors:
        assert ended(descriptor), "a worker goes on without its pool"
        os.close(descriptor)


def ended(descriptor: int) -> bool:
    import select

    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(60_000))


@pytest.mark.parametrize("kind", ["Pool(2)", "ProcessPoolExecutor(2)"])
def test_ctrl_c_ends_a_program_and_its_workers(kind):
    """As a terminal sends it: to all processes."""
    program = f"""
import os, time, onecopy as oc
def nap(x):
    os.write(1, b"asleep\\n")
    time.sleep(100)
if __name__ == "__main__":
    with oc.{kind} as pool:
        list(pool.map(nap, range(2)))
"""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["asleep\n"] * 2
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert err.rstrip().endswith("KeyboardInterrupt")
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


# --- progress ---


def test_progress(pool):
    out = io.StringIO()
    options = {"file": out, "desc": "squares", "mininterval": 0}
    assert pool.map(square, range(50), progress=options) == [n * n for n in range(50)]
    assert "squares: 100%" in out.getvalue() and "50/50" in out.getvalue()
    assert len(list(pool.imap(square, iter(range(7)), progress={"file": out, "desc": "some"}))) == 7
    assert "some: 7it" in out.getvalue()


def test_progress_of_an_executor():
    out = io.StringIO()
    with oc.ProcessPoolExecutor(1, progress={"file": out, "mininterval": 0}) as executor:
        executor.submit(square, 2).result(60)
        list(executor.map(square, range(4)))
        own = io.StringIO()
        options = {"file": own, "desc": "squares", "mininterval": 0}
        assert list(executor.map(square, range(10), chunksize=4, progress=options)) == [n * n for n in range(10)]
    assert "8/8" in out.getvalue()
    assert "squares: 100%" in own.getvalue() and "10/10" in own.getvalue()


# --- the end, and what is refused ---


def test_a_pool_that_was_ended():
    pool = oc.Pool(1)
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    result = pool.map_async(square, range(5))
    pool.close()
    with pytest.raises(ValueError, match=r"not running.*closed"):
        pool.map(square, [1])
    pool.join()
    assert result.get(0) == [0, 1, 4, 9, 16]
    pool.terminate()
    with pytest.raises(ValueError, match=r"not running.*terminated"):
        pool.apply(square, (1,))
    with pytest.raises(ValueError, match="not running"), pool:
        pass


def test_terminate_does_not_leave_anybody_waiting():
    pool = oc.Pool(2)
    results = [pool.apply_async(time.sleep, (100,)) for _ in range(5)]
    slow = pool.imap(time.sleep, itertools.repeat(100))
    pool.terminate()
    pool.join()
    for result in results:
        with pytest.raises(oc.ShutDownError, match="terminated"):
            result.get(60)
    with pytest.raises(oc.ShutDownError):
        slow.next(60)


def test_a_pool_that_nobody_ended_warns_and_ends():
    pool = oc.Pool(1)
    process = pool._pool[0]
    with pytest.warns(ResourceWarning, match="unclosed running"):
        del pool
        gc.collect()
    process.join(60)
    assert process.exitcode is not None


def test_a_forked_child_does_not_use_it():
    with oc.Pool(1) as pool, oc.ProcessPoolExecutor(1) as executor:
        executor.submit(abs, 1).result(60)
        child = os.fork()
        if child == 0:
            code = 1
            with contextlib.suppress(ValueError):
                pool.apply_async(abs, (1,))
                code = 2
            with contextlib.suppress(RuntimeError):
                executor.submit(abs, 1)
                code = 2
            pool.terminate()
            executor.shutdown()
            os._exit(0 if code == 1 else code)
        assert os.waitpid(child, 0)[1] == 0
        assert pool.apply(abs, (-2,)) == executor.submit(abs, -2).result(60) == 2


def test_a_pool_in_a_worker(pool):
    with pytest.raises(AssertionError, match="ProcessPoolExecutor"):
        pool.apply(oc.Pool, (1,))
    with pytest.raises(NotImplementedError, match="cannot be passed"):
        pool.apply(repr, (pool,))


def nested(n: int) -> list[int]:
    with oc.Pool(1) as pool:
        return pool.map(square, range(n))


def test_a_pool_in_a_worker_of_an_executor(executor):
    assert executor.submit(nested, 3).result(60) == [0, 1, 4]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"processes": 0}, ValueError, "processes must be greater than 0, not 0"),
        ({"processes": "two"}, TypeError, "processes must be a whole number, not 'two'"),
        ({"processes": 1, "maxtasksperchild": 0}, ValueError, "maxtasksperchild must be greater than 0"),
        ({"processes": 1, "maxtasksperchild": 0.5}, ValueError, "maxtasksperchild must be a whole number"),
        ({"processes": 1, "retries": -1}, ValueError, "retries must be greater than -1"),
        ({"processes": 1, "initializer": 1}, TypeError, "initializer=1"),
    ],
)
def test_bad_arguments(arguments, error, text):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(error, match=text):
            oc.Pool(**arguments)
        gc.collect()


@pytest.mark.parametrize("chunksize", [0, -1, 1.5])
def test_bad_chunk_sizes(pool, chunksize):
    for call in (pool.map, pool.imap):
        with pytest.raises(ValueError, match=f"chunksize={chunksize}"):
            call(square, [1], chunksize)


def test_chunks_grow_with_what_items_take():
    chunks = Chunks(None, Pace())
    assert chunks.next_size(1000, 2) == 1
    chunks.learn(1, 10_000_000)
    assert chunks.next_size(1000, 2) == 1
    chunks = Chunks(None, pace := Pace())
    chunks.learn(1, 10_000)
    assert chunks.next_size(1000, 2) == 125  # a share of what is left
    assert chunks.next_size(100, 2) == 20  # a fifth of a millisecond
    assert chunks.next_size(None, 2) == 400  # four
    assert Chunks(7, pace).next_size(3, 2) == 7
    # What is known from before may not be so this time: no more than a share goes to one worker.
    again = Chunks(None, pace)
    assert [again.next_size(left, 2) for left in (1000, 100, 7, None)] == [125, 12, 1, 1]
    again.learn(1, 30_000)
    assert again.next_size(None, 2) == 200


# --- the executor ---


def test_an_executor_maps(executor):
    assert list(executor.map(pow, range(5), [2] * 9)) == [0, 1, 4, 9, 16]
    for chunksize in (1, 2, 100, None):
        assert list(executor.map(square, range(50), chunksize=chunksize)) == [n * n for n in range(50)]
    with pytest.raises(ValueError, match="chunksize must be >= 1"):
        executor.map(square, [1], chunksize=0)
    got = []
    with pytest.raises(ValueError, match="not 5"):
        for result in executor.map(refuse, range(20), chunksize=10):
            got.append(result)
    assert got == [0, 1, 2, 3, 4]
    with pytest.raises(TimeoutError):
        list(executor.map(time.sleep, [0, 1], timeout=0.01))


def test_futures_are_cancelled():
    with oc.ProcessPoolExecutor(1) as executor:
        blocker = oc.Event()
        futures = [executor.submit(event_wait, blocker) for _ in range(20)]
        assert futures[-1].cancel()
        executor.shutdown(wait=False, cancel_futures=True)
        blocker.set()
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(abs, 1)
    assert futures[0].result(60) is True
    assert sum(future.cancelled() for future in futures) >= 15
    assert all(future.done() for future in futures)


def test_exit_in_a_task_of_an_executor_is_an_exception(executor):
    future = executor.submit(sys.exit, 3)
    with pytest.raises(SystemExit, match="3"):
        future.result(60)
    assert executor.submit(abs, -1).result(60) == 1


def test_an_executor_of_the_wrong_shape():
    with pytest.raises(ValueError, match="fork"):
        oc.ProcessPoolExecutor(1, multiprocessing.get_context("fork"), max_tasks_per_child=1)
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        oc.ProcessPoolExecutor(0)
    with pytest.raises(TypeError, match="retries"):
        oc.ProcessPoolExecutor(1, retries="once")
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(oc.ProcessPoolExecutor(1))


class SlowToSend:
    def __reduce__(self) -> Any:
        time.sleep(0.3)
        return int, ()


def say_and_fail(said: Any) -> None:
    said.put(SlowToSend())
    raise ValueError("as told")


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_whose_initializer_fails_may_say_its_last_words(method):
    # A thread of the queue's sends them at the end of the process, such as what logging has for a `QueueHandler`.
    context = multiprocessing.get_context(method)
    said = context.Queue()
    executor = oc.ProcessPoolExecutor(1, context, say_and_fail, (said,))
    with executor, pytest.raises(oc.WorkerDiedError, match="as told"):
        executor.submit(abs, -1).result(60)
    assert said.get(timeout=60) == 0
    said.close()
    said.join_thread()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.usefixtures("nothing_left")
def test_arguments_and_results_are_not_kept(method):
    threads = threading.active_count()
    for _ in range(2):
        with oc.ProcessPoolExecutor(1, multiprocessing.get_context(method)) as executor:
            executor.submit(abs, -1).result(60)
            before = oc.stats()["blocks"]
            futures = [executor.submit(add_one_in_place, oc.zeros(10)) for _ in range(3)]
            assert [future.result(60) for future in futures] == [True] * 3
            assert executor.submit(make, 10, True).result(60)["deep"][0].sum() == 30
            # The pool sees to the next task before it forgets the last.
            executor.submit(abs, -1).result(60)
            assert oc.stats()["blocks"] <= before
        del executor, futures
    assert threading.active_count() <= threads


def test_work_is_finished_before_the_program_ends():
    program = "import onecopy as oc; oc.ProcessPoolExecutor(1).submit(print, 'done', flush=True)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert (run.stdout, run.stderr) == ("done\n", "")
