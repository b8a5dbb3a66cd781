"""Locks: what one costs that is free, and how two processes share one."""

import importlib
import multiprocessing
import time
import timeit
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.isolated import isolated
from benchmarks.measure import Scale, take_turns
from benchmarks.report import Table

TITLE = "Locks, from Python: free ones, and one that two processes want at the same time"

LIBRARIES = ["onecopy", "multiprocessing", "threading"]
FREE = {
    "with lock": "with lock: pass",
    "acquire and release": "lock.acquire(); lock.release()",
}
SHARED, WAIT = "two processes want a Lock: time per turn", "two processes want a Lock: longest wait for it"
CLASSES = ["Lock", "RLock", "Semaphore"]


def run(scale: Scale) -> Table:
    table = Table(TITLE)
    for name in CLASSES:
        for what, statement in FREE.items():
            contenders = {
                library: partial(isolated, time_free, library, name, statement, scale.rows(400_000))
                for library in LIBRARIES
            }
            _measure(table, scale, f"{name}, {what}", contenders)
    table.claim_ratio("Lock, with lock", 2, peers=["multiprocessing"])
    table.claim_ratio("Lock, acquire and release", 1.12, peers=["multiprocessing"])
    contenders = {library: partial(isolated, contend, library, scale.rows(20) / 20) for library in LIBRARIES[:2]}
    results, notes = take_turns(contenders, scale.rounds)
    for position, figure in enumerate([SHARED, WAIT]):
        for name, rounds in results.items():
            table.add(figure, name, [result[position] for result in rounds], "s")
    table.notes += notes
    table.claim_ratio(SHARED, 1, peers=["multiprocessing"])
    return table


def _measure(table: Table, scale: Scale, figure: str, contenders: dict[str, Any]) -> None:
    results, notes = take_turns(contenders, scale.rounds)
    for label, seconds in results.items():
        table.add(figure, label, seconds, "s")
    table.notes += notes


def time_free(module: str, name: str, statement: str, number: int) -> float:
    """Seconds per execution of the statement with a lock that nobody else wants; the best of several loops."""
    lock = getattr(importlib.import_module(module), name)()
    return min(timeit.repeat(statement, globals={"lock": lock}, number=number, repeat=5)) / number


def contend(module: str, seconds: float) -> list[float]:
    """Seconds per turn of two processes that take a lock as often as they can, and the longest wait of either."""
    processes = multiprocessing.get_context("fork")
    lock = importlib.import_module(module).Lock()
    pipes, workers = [], []
    for _ in range(2):
        ours, theirs = processes.Pipe()
        workers.append(processes.Process(target=_take_turns, args=(lock, theirs, seconds), daemon=True))
        workers[-1].start()
        pipes.append(ours)
    for pipe in pipes:
        pipe.recv()
    for pipe in pipes:
        pipe.send("go")
    turns, waits = zip(*(pipe.recv() for pipe in pipes), strict=True)
    for worker in workers:
        worker.join()
    return [seconds / sum(turns), max(waits)]


def _take_turns(lock: Any, pipe: Connection, seconds: float) -> None:
    pipe.send("ready")
    pipe.recv()
    turns, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(1000):
            with lock:
                pass
        turns += 1000
    longest, end, clock = 0.0, time.perf_counter() + seconds / 4, time.perf_counter
    while clock() < end:
        asked = clock()
        with lock:
            longest = max(longest, clock() - asked)
    pipe.send((turns, longest))
