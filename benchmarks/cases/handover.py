"""Hand-over: a 1 GiB array to a worker that waits, and the worker's reply."""

import multiprocessing
import statistics
import time
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from benchmarks.isolated import isolated
from benchmarks.measure import GIB, Scale, take_turns
from benchmarks.report import Table
from benchmarks.waiting import messages, waiting_worker

TITLE = "Hand-over of an array to a waiting worker, and its reply"

FIGURE = "1 GiB array"


def run(scale: Scale) -> Table:
    table = Table(TITLE)
    size = scale.size(GIB)
    contenders = {
        "onecopy": partial(isolated, over_pipe, "onecopy", size, 200),
        "onecopy, multiprocessing.Queue": partial(isolated, over_queue, "onecopy", size, 200),
        "multiprocessing.Pipe, pickled": partial(isolated, over_pipe, "numpy", size, 1),
        "multiprocessing.Queue, pickled": partial(isolated, over_queue, "numpy", size, 1),
        "nothing but the message": partial(isolated, over_pipe, "nothing", 0, 200),
    }
    results, notes = take_turns(contenders, min(scale.rounds, 3))
    for name, seconds in results.items():
        table.add(FIGURE, name, seconds, "s")
    table.notes += notes
    table.claim_limit(FIGURE, 60e-6, peer="multiprocessing.Queue, pickled")
    return table


def over_pipe(kind: str, nbytes: int, repeats: int) -> float:
    """Median seconds from sending the array to the reply, over a pipe."""
    array = _array(kind, nbytes)
    with waiting_worker(_reply_over_pipe) as worker:
        return _median_exchange(worker.send, worker.recv, array, repeats)


def over_queue(kind: str, nbytes: int, repeats: int) -> float:
    """The same over two queues."""
    array = _array(kind, nbytes)
    processes = multiprocessing.get_context("spawn")
    tasks, replies = processes.Queue(), processes.Queue()
    worker = processes.Process(target=_reply_over_queue, args=(tasks, replies), daemon=True)
    worker.start()
    try:
        return _median_exchange(tasks.put, replies.get, array, repeats)
    finally:
        worker.kill()


def _array(kind: str, nbytes: int) -> Any:
    if kind == "nothing":
        return np.float64(1.5)
    if kind == "numpy":
        return np.full(nbytes // 8, 1.5)
    import onecopy

    return onecopy.full(nbytes // 8, 1.5)


def _median_exchange(send: Any, receive: Any, array: Any, repeats: int) -> float:
    small = array if array.nbytes <= 8 or repeats > 1 else array[:8]
    seconds = []
    for message in [small] * 10 + [array] * repeats:
        start = time.perf_counter()
        send(message)
        reply = receive()
        seconds.append(time.perf_counter() - start)
        assert reply == 1.5
    return statistics.median(seconds[10:])


def _reply_over_pipe(connection: Connection) -> None:
    for array in messages(connection):
        connection.send(float(np.ravel(array)[-1]))


def _reply_over_queue(tasks: Any, replies: Any) -> None:
    while True:
        replies.put(float(tasks.get()[-1]))
