"""Pipes: an object and its answer, messages one way, large bytes, and a wait for one of many."""

import multiprocessing
import multiprocessing.connection
import os
import statistics
import time
from functools import partial
from typing import Any

from benchmarks.isolated import isolated
from benchmarks.measure import Scale, take_turns
from benchmarks.report import Table

TITLE = "Pipe: two processes"

EXCHANGE = "exchange of a small object"
ONE_WAY = "small objects, one way"
LARGE = "64 KiB of bytes, one way"
ANY = "exchange by the one of 10 pipes that is ready"

PEER, FLOOR = "multiprocessing.Pipe", "os.pipe, bytes alone"


def run(scale: Scale) -> Table:
    table = Table(TITLE)
    count = scale.rows(100_000)
    measure(table, scale, EXCHANGE, "s", exchange, ("onecopy", PEER, FLOOR), count // 10)
    measure(table, scale, ONE_WAY, "messages/s", rate, ("onecopy", PEER, FLOOR), count, None)
    measure(table, scale, LARGE, "messages/s", rate, ("onecopy", PEER), count // 5, 64 << 10)
    measure(table, scale, ANY, "s", exchange_by_any, ("onecopy", PEER), count // 50)
    table.claim_ratio(EXCHANGE, 3, peers=[PEER])
    table.claim_ratio(ONE_WAY, 3, peers=[PEER])
    return table


def measure(
    table: Table, scale: Scale, figure: str, unit: str, function: Any, names: tuple[str, ...], *arguments: Any
) -> None:
    contenders = {name: partial(isolated, function, name, *arguments) for name in names}
    results, notes = take_turns(contenders, scale.rounds)
    for name, values in results.items():
        table.add(figure, name, values, unit)
    table.notes += notes


class Raw:
    """Two pipes of the system, through which bytes of a fixed length go."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write = read, write

    def send(self, number: int) -> None:
        os.write(self._write, number.to_bytes(8, "little"))

    def recv(self) -> int:
        return int.from_bytes(os.read(self._read, 8), "little")


def pipe(name: str) -> tuple[Any, Any]:
    if name == "onecopy":
        import onecopy

        return onecopy.Pipe()
    if name == FLOOR:
        (a, b), (c, d) = os.pipe(), os.pipe()
        return Raw(a, d), Raw(c, b)
    return multiprocessing.Pipe()


def start(target: Any, *arguments: Any) -> None:
    multiprocessing.get_context("fork").Process(target=target, args=arguments, daemon=True).start()


def echo(connection: Any, count: int) -> None:
    for _ in range(count):
        connection.send(connection.recv())


def exchange(name: str, count: int) -> float:
    """Median seconds from sending an object to receiving it from another process."""
    here, there = pipe(name)
    start(echo, there, count)
    return statistics.median(timed(lambda: (here.send(7), here.recv())) for _ in range(count))


def timed(work: Any) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def drain(connection: Any, count: int, size: int | None) -> None:
    if size is None:
        total = sum(connection.recv() for _ in range(count))
    else:
        total = sum(len(connection.recv_bytes()) for _ in range(count))
    connection.send(total)


def rate(name: str, count: int, size: int | None) -> float:
    """Messages per second until the other process has added them all up."""
    here, there = pipe(name)
    start(drain, there, count, size)
    begin = time.perf_counter()
    if size is None:
        for n in range(count):
            here.send(n)
    else:
        message = bytes(size)
        for _ in range(count):
            here.send_bytes(message)
    assert here.recv() == (count * (count - 1) // 2 if size is None else count * size)
    return count / (time.perf_counter() - begin)


def exchange_by_any(name: str, count: int) -> float:
    """Median seconds of an exchange in which the answer is waited for at ten pipes."""
    if name == "onecopy":
        import onecopy

        wait: Any = onecopy.wait
    else:
        wait = multiprocessing.connection.wait
    ends = [pipe(name) for _ in range(10)]
    for _, there in ends:
        start(echo, there, count)

    def once(n: int) -> None:
        ends[n % 10][0].send(n)
        (ready,) = wait([here for here, _ in ends])
        ready.recv()

    return statistics.median(timed(partial(once, n)) for n in range(count))
