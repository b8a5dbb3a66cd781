"""Arrays that go through pools, and how long anybody keeps them."""

from __future__ import annotations

import contextlib
import threading
import time
from functools import partial
from typing import Any

import numpy as np
import pytest

import onecopy as oc
from workloads import add_one_in_place, make, meet, square, worker

MIB = 1 << 20


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
    # Both workers are ready: what was sent to one that is not is taken back for one that is, and sent again.
    pool.map(meet, [oc.Barrier(2)] * 2, 1)
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


class Guard:
    """Says, where it is dropped, whether that was before somebody has told that the answer is there."""

    def __init__(self, came: Any, told: Any) -> None:
        self.came, self.told, self.array = came, told, oc.ones(10)

    def __reduce__(self) -> Any:
        return list, ([self.array],)

    def __del__(self) -> None:
        self.told.put("late" if self.came.wait(0.3) else "in time")


def fail_with(guard: Guard) -> None:
    assert not guard


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("function", [Guard, lambda *events: fail_with(Guard(*events))], ids=["result", "failure"])
def test_a_worker_keeps_nothing_of_a_task_whose_answer_is_there(pool, function):
    came, told = oc.Event(), oc.Queue()
    answer = pool.apply_async(function, (came, told))
    with contextlib.suppress(AssertionError):
        assert answer.get(60)[0].sum() == 10
    came.set()
    assert told.get(timeout=60) == "in time"


class Told(threading.Event):
    """The event of a result, which looks whether anybody else has what came, when callers are told."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result, self.blocks = result, -1

    def set(self) -> None:
        self.result._value = None
        self.blocks = oc.stats()["blocks"]
        super().set()


def wait_and_make(going: Any, _: Any) -> Any:
    assert going.wait(60)
    return oc.ones(10)


@pytest.mark.usefixtures("nothing_left")
def test_a_pool_keeps_nothing_that_it_has_told_of(pool):
    going = oc.Event()
    before = oc.stats()["blocks"]
    for call in (
        lambda: pool.apply_async(wait_and_make, (going, oc.ones(10))),
        lambda: pool.map_async(partial(wait_and_make, going), [oc.ones(10)] * 4, 1),
    ):
        going.clear()
        result = call()
        result._event = told = Told(result)
        going.set()
        assert told.wait(60)
        assert told.blocks <= before
        del result, told
