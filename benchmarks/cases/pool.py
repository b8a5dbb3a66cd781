"""Pools of two workers: arrays in and out, many small tasks, and the time until the first results."""

import compileall
import multiprocessing
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks.isolated import isolated
from benchmarks.measure import MIB, Scale, take_turns, time_within
from benchmarks.report import Table

TITLE = "Pools: two workers"

SHARED = "64 arrays of 16 MiB in and out, shared already"
ORDINARY = "64 arrays of 16 MiB in and out, ordinary"
CHUNKS, SINGLE = "10,000 small tasks", "10,000 small tasks, one by one"
START = "first results with start method"

PEERS = ("multiprocessing.Pool", "ProcessPoolExecutor", "joblib", "ray", "threads")
#: Who can be told how many small tasks to send at once; the others send each by itself.
CHUNKING = ("onecopy", "multiprocessing.Pool", "joblib")

#: Seconds that a contender may take for its calls, after one to warm up; one is measured in any case.
BUDGET = 1.0


def run(scale: Scale) -> Table:
    table = Table(TITLE)
    size, count = scale.size(16 * MIB), scale.rows(10_000)
    everybody = ("onecopy", *PEERS)
    add(table, SHARED, measure(table, 1, arrays, ("onecopy",), size, True))
    ordinary = measure(table, 1, arrays, everybody, size, False)
    add(table, ORDINARY, ordinary)
    # What is not onecopy's cannot be shared already: the peers have the same task in both figures.
    add(table, SHARED, {name: values for name, values in ordinary.items() if name != "onecopy"})
    chosen = measure(table, 1, small, everybody, count, None)
    add(table, CHUNKS, chosen)
    add(table, SINGLE, measure(table, 1, small, CHUNKING, count, 1))
    add(table, SINGLE, {name: values for name, values in chosen.items() if name not in CHUNKING})
    # An installed package has its byte code, as the standard library has.
    package = find_spec("onecopy")
    for folder in (package and package.submodule_search_locations) or ():
        compileall.compile_dir(folder, quiet=2)
    for method in ("fork", "spawn", "forkserver"):
        names = ("onecopy", "multiprocessing.Pool")
        add(table, f"{START} {method}", measure(table, min(scale.rounds, 4), start, names, method))
    table.claim_ratio(SHARED, 20, peers=["multiprocessing.Pool"])
    table.claim_ratio(SHARED, 10, peers=["joblib"])
    table.claim_ratio(SHARED, 3, peers=["ray"])
    table.claim_ratio(SHARED, 1 / 1.3, peers=["threads"])
    table.claim_ratio(ORDINARY, 8, peers=["multiprocessing.Pool"])
    table.claim_ratio(ORDINARY, 1.5, peers=["ray"])
    table.claim_ratio(CHUNKS, 1, peers=["multiprocessing.Pool"])
    table.claim_ratio(SINGLE, 3, peers=["multiprocessing.Pool"])
    for method in ("spawn", "forkserver"):
        table.claim_ratio(f"{START} {method}", 1, peers=["multiprocessing.Pool"])
    return table


def measure(
    table: Table, rounds: int, function: Any, names: tuple[str, ...], *arguments: Any
) -> dict[str, list[float]]:
    contenders = {name: partial(isolated, function, name, *arguments) for name in names}
    results, notes = take_turns(contenders, rounds)
    table.notes += notes
    return {name: [seconds for values in rounds for seconds in values] for name, rounds in results.items()}


def add(table: Table, figure: str, results: dict[str, list[float]]) -> None:
    for name, values in results.items():
        table.add(figure, name, values, "s")


#: Calls a function with each item, some at once; None: as many as the pool sees fit.
Map = Callable[[Callable[[Any], Any], list[Any], int | None], list[Any]]


def make(name: str) -> Map:
    """Start a pool."""
    if name == "onecopy":
        import onecopy

        return onecopy.Pool(2).map
    if name == "multiprocessing.Pool":
        return multiprocessing.get_context("fork").Pool(2).map
    if name == "joblib":
        import joblib

        def by_joblib(function: Any, items: list[Any], size: int | None) -> list[Any]:
            return joblib.Parallel(2, batch_size=size or "auto")(joblib.delayed(function)(item) for item in items)

        return by_joblib
    if name == "ray":
        return by_ray()
    import concurrent.futures as futures

    executor = futures.ThreadPoolExecutor(2) if name == "threads" else futures.ProcessPoolExecutor(2)
    return lambda function, items, size: list(executor.map(function, items, chunksize=size or 1))


def by_ray() -> Map:
    import logging

    import ray

    ray.init(num_cpus=2, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    remotes: dict[Any, Any] = {}

    def call(function: Any, items: list[Any], size: int | None) -> list[Any]:
        remote = remotes.setdefault(function, ray.remote(function))
        return ray.get([remote.remote(item) for item in items])

    return call


def add_one(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array + 1.0


def add_one_shared(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import onecopy

    result = onecopy.empty_like(array)
    np.add(array, 1.0, out=result)
    return result


def arrays(name: str, nbytes: int, shared: bool) -> list[float]:
    """Seconds for 64 arrays, with a pool that has done it before."""
    ours = name == "onecopy" and shared
    if ours:
        import onecopy
    filled = onecopy.full if ours else np.full
    items = [filled(nbytes // 8, float(n)) for n in range(64)]
    call, function = make(name), add_one_shared if ours else add_one

    def once() -> float:
        begin = time.perf_counter()
        results = call(function, items, 1)
        seconds = time.perf_counter() - begin
        assert all(result[0] == n + 1 for n, result in enumerate(results))
        return seconds

    once()
    return time_within(BUDGET, once)


def increment(n: int) -> int:
    return n + 1


def small(name: str, count: int, size: int | None) -> list[float]:
    """Seconds for many small tasks, with a pool that has worked before."""
    call, items = make(name), list(range(count))

    def once() -> float:
        begin = time.perf_counter()
        assert call(increment, items, size)[-1] == count
        return time.perf_counter() - begin

    call(increment, items[:100], None)
    return time_within(BUDGET, once, most=20)


def start(name: str, method: str) -> list[float]:
    """Seconds until both workers have answered, in a program that uses numpy and onecopy."""
    import onecopy

    context = multiprocessing.get_context(method)
    made = partial(onecopy.Pool, context=context) if name == "onecopy" else context.Pool
    begin = time.perf_counter()
    pool = made(2)
    assert pool.map(answer, range(2), 1) == [1, 2]
    seconds = time.perf_counter() - begin
    pool.terminate()
    return [seconds]


def answer(n: int) -> int:
    # What any task with arrays needs.
    import onecopy  # noqa: F401

    return n + 1
