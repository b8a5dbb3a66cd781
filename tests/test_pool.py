"""The interface of pools, as in the standard library, and what onecopy adds. Dying workers: `test_pool_deaths.py`."""

from __future__ import annotations

import gc
import io
import itertools
import multiprocessing
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from functools import partial
from multiprocessing.pool import RemoteTraceback
from typing import Any

import pytest

import onecopy as oc
from onecopy._pool.chunks import Chunks
from onecopy._pool.pace import Pace
from workloads import METHODS, event_set, event_wait, refuse, square, worker

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
    event = oc.Event()
    slow = pool.apply_async(event_wait, (event,))
    with pytest.raises(multiprocessing.TimeoutError):
        slow.get(0.01)
    assert not slow.ready()
    with pytest.raises(ValueError, match="not ready"):
        slow.successful()
    event.set()
    assert slow.get(60) is True


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
    event = oc.Event()
    with pytest.raises(multiprocessing.TimeoutError):
        pool.imap(event_wait, [event]).next(timeout=0.01)
    event.set()
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


# --- progress ---


def test_progress(pool):
    out = io.StringIO()
    options = {"file": out, "desc": "squares", "mininterval": 0}
    assert pool.map(square, range(50), progress=options) == [n * n for n in range(50)]
    assert "squares: 100%" in out.getvalue() and "50/50" in out.getvalue()
    assert len(list(pool.imap(square, iter(range(7)), progress={"file": out, "desc": "some"}))) == 7
    assert "some: 7it" in out.getvalue()


# --- what is refused ---


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


# --- how many at once ---


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
