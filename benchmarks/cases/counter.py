"""Shared state: counting together, and what reading and writing a shared value costs."""

import importlib
import multiprocessing
import time
import timeit
from functools import partial
from typing import Any

from benchmarks.isolated import isolated
from benchmarks.measure import Scale, take_turns
from benchmarks.report import Table

TITLE = "Shared state, from Python: two processes that count together, values and arrays"

INCREMENTS = 50_000_000
TUTORIAL = f"2 x {INCREMENTS:,} increments, each process adds its own up and then to the total under a semaphore"
BARE = "the bare loop, nothing shared"
TOGETHER = "two processes add to one counter: time per increment"
ALONE = "add one to a shared counter that nobody else uses"
VALUES = {
    "Value, read": ("Value('i')", "shared.value"),
    "Value, add one under its lock": ("Value('i')", "with shared.get_lock(): shared.value += 1"),
    "RawValue, add one": ("RawValue('i')", "shared.value += 1"),
    "Array, read an item": ("Array('i', 10)", "shared[3]"),
    "Array, write an item": ("Array('i', 10)", "shared[3] = 1"),
}
LIBRARIES = ["onecopy", "multiprocessing"]


def run(scale: Scale) -> Table:
    table = Table(TITLE)
    times = scale.rows(INCREMENTS)
    _measure(table, scale, TUTORIAL, {name: partial(isolated, tutorial, name, times) for name in (*LIBRARIES, BARE)})
    # The loop is the same: what is measured beside it is noise, and the sum that is right.
    table.claim_ratio(TUTORIAL, 0.95, peers=[BARE])
    count = scale.rows(200_000)
    _measure(table, scale, TOGETHER, {name: partial(isolated, together, name, count) for name in LIBRARIES})
    table.claim_ratio(TOGETHER, 5, peers=["multiprocessing"])
    _measure(table, scale, ALONE, {name: partial(isolated, alone, name, count) for name in LIBRARIES})
    table.claim_ratio(ALONE, 5, peers=["multiprocessing"])
    for figure, (expression, statement) in VALUES.items():
        contenders = {name: partial(isolated, timed, name, expression, statement, count) for name in LIBRARIES}
        _measure(table, scale, figure, contenders)
        # A raw value is the same object of ctypes in both.
        table.claim_ratio(figure, 0.95 if figure.startswith("Raw") else 1, peers=["multiprocessing"])
    return table


def _measure(table: Table, scale: Scale, figure: str, contenders: dict[str, Any]) -> None:
    results, notes = take_turns(contenders, scale.rounds)
    for name, values in results.items():
        table.add(figure, name, values, "s")
    table.notes += notes


def _two(work: Any, *arguments: Any) -> float:
    """Seconds that two processes need for the same work, their start included."""
    processes = multiprocessing.get_context("fork")
    workers = [processes.Process(target=work, args=arguments) for _ in range(2)]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - start


def tutorial(library: str, times: int) -> float:
    if library == BARE:
        return _two(_count_locally, times, None, None)
    module = importlib.import_module(library)
    total = module.RawValue("q")
    seconds = _two(_count_locally, times, total, module.Semaphore(1))
    assert total.value == 2 * times
    return seconds


def _count_locally(times: int, total: Any, semaphore: Any) -> None:
    mine = 0
    for _ in range(times):
        mine += 1
    if total is not None:
        with semaphore:
            total.value += mine


def _counter(library: str) -> tuple[Any, Any]:
    """A counter, and the function that adds one to it."""
    if library == "onecopy":
        import onecopy

        counter = onecopy.Counter()
        return counter, counter.add
    value = multiprocessing.Value("q")

    def add() -> None:
        with value.get_lock():
            value.value += 1

    return value, add


def together(library: str, times: int) -> float:
    counter, add = _counter(library)
    seconds = _two(_add, add, times)
    assert counter.value == 2 * times
    return seconds / times / 2


def _add(add: Any, times: int) -> None:
    for _ in range(times):
        add()


def alone(library: str, times: int) -> float:
    return min(timeit.repeat("add()", globals={"add": _counter(library)[1]}, number=times, repeat=5)) / times


def timed(library: str, expression: str, statement: str, times: int) -> float:
    names = {"module": importlib.import_module(library)}
    setup = f"shared = module.{expression}"
    return min(timeit.repeat(statement, setup, globals=names, number=times, repeat=5)) / times
