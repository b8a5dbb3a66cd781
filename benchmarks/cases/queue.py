"""Queues: messages from one process to another, one by one and many at once, and exchanges of small ones and arrays."""

import multiprocessing
import os
import statistics
import time
from functools import partial
from typing import Any

import numpy as np

from benchmarks.isolated import isolated
from benchmarks.measure import MIB, Scale, take_turns
from benchmarks.report import Table

TITLE = "Queue: one producer, one consumer, two processes"

ONE_BY_ONE, MANY = "small objects, one by one", "small objects, many at once"
EXCHANGE = "exchange of a small object"
ASLEEP = "exchange of a small object, both sides asleep meanwhile"
BUSY = "exchange of a small object while other programs keep all cores busy"
ARRAYS = "1 MiB arrays"
SHARED = "exchange of a 1 MiB array that is shared already"
SMALL = "onecopy, a small object"
P99 = ", 99th percentile"
PIPE = "os.pipe, 32 bytes"

PEERS = ("multiprocessing.Queue", "faster-fifo", "pyzmq ipc")


def run(scale: Scale) -> Table:
    table = Table(TITLE)
    count = scale.rows(200_000)
    measure(table, scale, ONE_BY_ONE, "messages/s", rate, ("onecopy", *PEERS), count)
    measure(table, scale, MANY, "messages/s", rate_many, ("onecopy", "faster-fifo"), 10 * count)
    exchanges = count // 20
    measure_exchange(table, scale, EXCHANGE, ("onecopy", *PEERS, PIPE), exchanges)
    # The peers always sleep.
    measure_exchange(table, scale, ASLEEP, ("onecopy", PIPE), exchanges, environment={"ONECOPY_SPIN": "0"})
    measure_exchange(table, scale, BUSY, ("onecopy", *PEERS, PIPE), exchanges // 10, "small", True)
    measure(table, scale, ARRAYS, "arrays/s", rate_of_arrays, ("onecopy", *PEERS), scale.rows(2_000))
    measure_exchange(table, scale, SHARED, ("onecopy", SMALL), exchanges, "array")
    table.claim_ratio(ONE_BY_ONE, 8, peers=["multiprocessing.Queue"])
    table.claim_ratio(ONE_BY_ONE, 6, peers=["faster-fifo"])
    table.claim_ratio(ONE_BY_ONE, 1.5, peers=["pyzmq ipc"])
    table.claim_ratio(ARRAYS, 30, peers=["multiprocessing.Queue"])
    table.claim_ratio(ARRAYS, 3, peers=["pyzmq ipc"])
    table.claim_limit(EXCHANGE, 5e-6, peer="multiprocessing.Queue")
    table.claim_limit(ASLEEP, 17e-6, peer=PIPE)
    table.claim_ratio(SHARED, 1 / 3, peers=[SMALL])
    return table


def measure(
    table: Table, scale: Scale, figure: str, unit: str, function: Any, names: tuple[str, ...], *arguments: Any
) -> None:
    contenders = {name: partial(isolated, function, name, *arguments) for name in names}
    results, notes = take_turns(contenders, scale.rounds)
    for name, values in results.items():
        table.add(figure, name, values, unit)
    table.notes += notes


def measure_exchange(
    table: Table,
    scale: Scale,
    figure: str,
    names: tuple[str, ...],
    count: int,
    what: str = "small",
    busy: bool = False,
    environment: dict[str, str] | None = None,
) -> None:
    """Add the median of an exchange, and the 99th percentile as a figure of its own."""
    contenders = {name: partial(isolated, exchange, name, count, what, busy, environment=environment) for name in names}
    results, notes = take_turns(contenders, scale.rounds)
    for position, suffix in enumerate(["", P99]):
        for name, rounds in results.items():
            table.add(figure + suffix, name, [result[position] for result in rounds], "s")
    table.notes += notes


class Pipe:
    """Bytes through the system's pipe, from Python: what nothing that sleeps can be much faster than."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def put(self, obj: Any) -> None:
        os.write(self._write, b"%032d" % obj)

    def get(self) -> Any:
        return int(os.read(self._read, 32))


class Zmq:
    """A pair of PUSH and PULL sockets over ipc, each opened by the process that uses it first."""

    def __init__(self) -> None:
        import tempfile

        self._address = f"ipc://{tempfile.mkdtemp()}/queue"
        self._socket: Any = None

    def _open(self, kind: str, reach: str) -> Any:
        if self._socket is None:
            import zmq

            self._socket = zmq.Context().socket(getattr(zmq, kind))
            getattr(self._socket, reach)(self._address)
        return self._socket

    def put(self, obj: Any) -> None:
        self._open("PUSH", "connect").send_pyobj(obj)

    def get(self) -> Any:
        return self._open("PULL", "bind").recv_pyobj()

    def finish(self) -> None:
        """Wait until what was put is sent, which the end of a worker does not."""
        if self._socket is not None:
            self._socket.close()
            self._socket.context.term()


def make(name: str) -> Any:
    if name in ("onecopy", SMALL):
        import onecopy

        return onecopy.Queue()
    if name == PIPE:
        return Pipe()
    if name == "faster-fifo":
        from faster_fifo import Queue

        return Queue(256 * MIB)
    return multiprocessing.Queue() if name == "multiprocessing.Queue" else Zmq()


def start(target: Any, *arguments: Any) -> None:
    multiprocessing.get_context("fork").Process(target=work, args=(target, *arguments), daemon=True).start()


def work(target: Any, *arguments: Any) -> None:
    target(*arguments)
    for argument in arguments:
        if isinstance(argument, Zmq):
            argument.finish()


def drain(there: Any, back: Any, count: int) -> None:
    back.put(sum(there.get() for _ in range(count)))


def drain_many(there: Any, back: Any, count: int) -> None:
    received = total = 0
    while received < count:
        objects = there.get_many()
        received += len(objects)
        total += sum(objects)
    back.put(total)


def echo(there: Any, back: Any, count: int) -> None:
    for _ in range(count):
        back.put(there.get())


def rate(name: str, count: int) -> float:
    """Messages per second until the consumer has added them all up."""
    there, back = make(name), make(name)
    start(drain, there, back, count)
    begin = time.perf_counter()
    for n in range(count):
        there.put(n)
    assert back.get() == count * (count - 1) // 2
    return count / (time.perf_counter() - begin)


def rate_many(name: str, count: int) -> float:
    """The same, 1,000 messages at once."""
    there, back = make(name), make(name)
    start(drain_many, there, back, count)
    begin = time.perf_counter()
    for n in range(0, count, 1000):
        there.put_many(range(n, n + 1000)) if name == "onecopy" else there.put_many(list(range(n, n + 1000)))
    assert back.get() == count * (count - 1) // 2
    return count / (time.perf_counter() - begin)


def rate_of_arrays(name: str, count: int) -> float:
    """Arrays of the producer's own memory per second, at most 16 on the way."""
    there, back = make(name), make(name)
    window = multiprocessing.Semaphore(16)
    start(drain_arrays, there, back, count, window)
    array = np.random.default_rng(7).integers(0, 1 << 50, MIB // 8)
    begin = time.perf_counter()
    for _ in range(count):
        window.acquire()
        there.put(array)
    assert back.get() == count * int(array[-1])
    return count / (time.perf_counter() - begin)


def drain_arrays(there: Any, back: Any, count: int, window: Any) -> None:
    total = 0
    for _ in range(count):
        total += int(there.get()[-1])
        window.release()
    back.put(total)


def exchange(name: str, count: int, what: str, busy: bool) -> tuple[float, float]:
    """Seconds from putting an object to getting it back from another process: the median and the 99th percentile."""
    there, back = make(name), make(name)
    start(echo, there, back, count)
    message: Any = 7
    if what == "array" and name != SMALL:
        import onecopy

        message = onecopy.zeros(MIB // 8)
    for _ in range(len(os.sched_getaffinity(0)) if busy else 0):
        start(keep_busy, os.getpid())
    seconds = []
    for _ in range(count):
        begin = time.perf_counter()
        there.put(message)
        back.get()
        seconds.append(time.perf_counter() - begin)
    percentiles = statistics.quantiles(seconds, n=100)
    return percentiles[49], percentiles[98]


def keep_busy(parent: int) -> None:
    """Use a core as long as the parent lives, which does not end its workers when it fails."""
    while os.getppid() == parent:
        sum(range(10_000))
