"""Fork: what a process pays that holds much data when it starts another, and when it next writes to that data."""

import os
import time
from functools import partial

import numpy as np

from benchmarks.isolated import isolated
from benchmarks.measure import GIB, Scale, take_turns
from benchmarks.report import Table

TITLE = "Fork of a process that holds a large array"

FORK, REWRITE = "4 GiB array, fork", "4 GiB array, first write to all of it after the fork"


def run(scale: Scale) -> Table:
    table = Table(TITLE)
    size = scale.size(4 * GIB)
    contenders = {
        "onecopy": partial(isolated, fork_and_write, "onecopy", size),
        "plain numpy": partial(isolated, fork_and_write, "numpy", size),
    }
    results, notes = take_turns(contenders, min(scale.rounds, 3))
    for position, figure in enumerate([FORK, REWRITE]):
        for name, rounds in results.items():
            table.add(figure, name, [result[position] for result in rounds], "s")
    table.notes += notes
    return table


def fork_and_write(kind: str, nbytes: int) -> list[float]:
    """Seconds of ``os.fork`` and of the pass of writes that follows it while the child lives."""
    array = _array(kind, nbytes)
    read_end, write_end = os.pipe()
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        os.close(write_end)
        os.read(read_end, 1)  # returns when the parent closes its end
        os._exit(0)
    forked = time.perf_counter()
    array[:: 4096 // array.itemsize] = 2.0
    written = time.perf_counter()
    os.close(write_end)
    os.waitpid(child, 0)
    return [forked - start, written - forked]


def _array(kind: str, nbytes: int) -> np.ndarray:
    if kind == "numpy":
        return np.ones(nbytes // 8)
    import onecopy

    return onecopy.ones(nbytes // 8)
