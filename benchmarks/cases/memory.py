"""Memory: many workers read one large array; shared pages count once."""

import multiprocessing
from functools import partial
from multiprocessing import shared_memory
from typing import Any

import numpy as np
import psutil

from benchmarks.isolated import isolated
from benchmarks.measure import GIB, MIB, Scale, take_turns
from benchmarks.report import Table
from examples.peak_memory import tree_memory

TITLE = "Memory of all processes together (sum of PSS), each has read the whole array"

PER_WORKER = 60 * MIB


def run(scale: Scale) -> Table:
    table = Table(TITLE)
    size = scale.size(2 * GIB)
    for workers in [2, 4]:
        figure = f"2 GiB array, {workers} workers"
        contenders = {
            "onecopy": partial(isolated, read_in_workers, "onecopy", size, workers),
            "SharedMemory by hand": partial(isolated, read_in_workers, "shared_memory", size, workers),
        }
        if workers == 2:  # four workers would need 10 GiB
            contenders["plain numpy, Process(args=)"] = partial(isolated, read_in_workers, "numpy", size, workers)
        results, notes = take_turns(contenders, 1)
        for name, nbytes in results.items():
            table.add(figure, name, nbytes, "B")
        table.notes += notes
        table.claim_limit(figure, size + workers * PER_WORKER, peer="SharedMemory by hand")
    return table


def read_in_workers(kind: str, nbytes: int, count: int) -> int:
    """Bytes that this process and its workers hold when all of them have summed the array."""
    if kind == "shared_memory":
        memory = shared_memory.SharedMemory(create=True, size=nbytes)
        np.ndarray(nbytes // 8, buffer=memory.buf)[:] = 1.0
        try:
            return _memory_while_reading((memory.name, nbytes // 8), nbytes, count)
        finally:
            memory.close()
            memory.unlink()
    if kind == "numpy":
        return _memory_while_reading(np.ones(nbytes // 8), nbytes, count)
    import onecopy

    return _memory_while_reading(onecopy.ones(nbytes // 8), nbytes, count)


def _memory_while_reading(message: Any, nbytes: int, count: int) -> int:
    processes = multiprocessing.get_context("spawn")
    sums, finish = processes.SimpleQueue(), processes.Event()
    workers = [processes.Process(target=_read, args=(message, sums, finish)) for _ in range(count)]
    for worker in workers:
        worker.start()
    assert [sums.get() for _ in workers] == [nbytes // 8] * count
    held = tree_memory(psutil.Process())
    finish.set()
    for worker in workers:
        worker.join()
    return held


def _read(message: Any, sums: Any, finish: Any) -> None:
    if isinstance(message, tuple):
        name, length = message
        memory = shared_memory.SharedMemory(name=name)
        array = np.ndarray(length, buffer=memory.buf)
    else:
        array = message
    sums.put(float(array.sum()))
    finish.wait()
    del array
