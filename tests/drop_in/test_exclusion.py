"""Mutual exclusion for real, between processes of every start method."""

from collections.abc import Callable
from typing import Any

import pytest

import onecopy as oc

ROUNDS = 3000
WORKERS = 3

LOCKS: dict[str, Callable[[Any], Any]] = {
    "Lock": lambda context: context.Lock(),
    "RLock": lambda context: context.RLock(),
    "Semaphore": lambda context: context.Semaphore(1),
    "BoundedSemaphore": lambda context: context.BoundedSemaphore(1),
    "Condition": lambda context: context.Condition(),
    "Value": lambda context: context.Value("i").get_lock(),
    "Array": lambda context: context.Array("d", 3).get_lock(),
    "Manager().Lock": lambda context: context.Manager().Lock(),
    "Manager().RLock": lambda context: context.Manager().RLock(),
    "Manager().Semaphore": lambda context: context.Manager().Semaphore(1),
    "Manager().Condition": lambda context: context.Manager().Condition(),
}


def count(lock: Any, barrier: Any, counter: Any) -> None:
    """Add to a counter in steps between which every other process gets in, if it can."""
    barrier.wait()
    for _ in range(ROUNDS):
        with lock:
            seen = counter[0]
            for _ in range(20):
                pass
            counter[0] = seen + 1


@pytest.mark.parametrize("name", LOCKS)
def test_nobody_else_is_inside(name: str, context: Any) -> None:
    lock, barrier, counter = LOCKS[name](context), context.Barrier(WORKERS), oc.zeros(1, "i8")
    processes = [context.Process(target=count, args=(lock, barrier, counter)) for _ in range(WORKERS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * WORKERS
    assert counter[0] == ROUNDS * WORKERS


def crowd(semaphore: Any, lock: Any, barrier: Any, inside: Any) -> None:
    """Keep the number of those inside, and the most there ever were."""
    barrier.wait()
    for _ in range(300):
        with semaphore:
            with lock:
                inside[0] += 1
                inside[1] = max(inside)
            with lock:
                inside[0] -= 1


@pytest.mark.parametrize("permits", [1, 2])
def test_no_more_are_inside_than_there_are_permits(permits: int, context: Any) -> None:
    inside, barrier = oc.zeros(2, "i8"), context.Barrier(4)
    arguments = (context.Semaphore(permits), context.Lock(), barrier, inside)
    processes = [context.Process(target=crowd, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert inside[0] == 0 and 1 <= inside[1] <= permits
