"""Put: copy 1 GiB to where other processes can read it, beside what memcpy reaches into memory that is there."""

import mmap
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import shared_memory

import numpy as np

from benchmarks.isolated import isolated
from benchmarks.measure import GIB, MIB, Scale, take_turns
from benchmarks.report import Table

TITLE = "Put: copy an array into shared memory"

PUTS = 5


def run(scale: Scale) -> Table:
    table = Table(TITLE)
    size = scale.size(GIB)
    for threads in sorted({1, len(os.sched_getaffinity(0))}):
        memcpy = f"memcpy, faulted 4 KiB pages, {threads} thread(s)"
        huge = f"memcpy, faulted numpy memory, {threads} thread(s)"
        shared = f"memcpy, faulted shared pages, {threads} thread(s)"
        through = f"pwrite into as many new memory files, {threads} thread(s)"
        recycled, fresh = (
            f"1 GiB into recycled memory, {threads} core(s)",
            f"1 GiB into fresh memory, {threads} core(s)",
        )
        results, notes = take_turns(
            {
                "onecopy": partial(isolated, put_onecopy, size, threads),
                memcpy: partial(isolated, copy_into_faulted, size, threads, "small pages"),
                huge: partial(isolated, copy_into_faulted, size, threads, "numpy"),
                shared: partial(isolated, copy_into_faulted, size, threads, "shared"),
                through: partial(isolated, write_through_files, size, threads),
                "SharedMemory(create=True)": partial(isolated, put_shared_memory, size, threads),
            },
            scale.rounds,
        )
        for name, rounds in results.items():
            for figure, kind in [(recycled, "recycled"), (fresh, "fresh")]:
                if values := [size / result[kind] for result in rounds if kind in result]:
                    table.add(figure, name, values, "B/s")
        table.notes += notes
        table.claim_ratio(recycled, 0.9, peers=[memcpy])
        table.claim_ratio(fresh, 3, peers=["SharedMemory(create=True)"])
    return table


def put_onecopy(nbytes: int, threads: int) -> dict[str, float]:
    """Seconds of the first put of a process, and of later ones into the memory that earlier ones left."""
    _use_cores(threads)
    import onecopy

    source = _source(nbytes)
    onecopy.share(_source(8))  # a process makes its arena once
    seconds = []
    for _ in range(2 + PUTS):
        start = time.perf_counter()
        shared = onecopy.share(source)
        seconds.append(time.perf_counter() - start)
        assert onecopy.is_shared(shared) and shared[-1] == source[-1]
        del shared
    return {"fresh": seconds[0], "recycled": statistics.median(seconds[2:])}


def put_shared_memory(nbytes: int, threads: int) -> dict[str, float]:
    """Seconds to create a segment and copy into it; a segment cannot be recycled."""
    _use_cores(threads)
    source = _source(nbytes)
    start = time.perf_counter()
    memory = shared_memory.SharedMemory(create=True, size=nbytes)
    np.copyto(np.ndarray(source.shape, source.dtype, buffer=memory.buf), source)
    seconds = time.perf_counter() - start
    memory.close()
    memory.unlink()
    return {"fresh": seconds}


def write_through_files(nbytes: int, threads: int) -> dict[str, float]:
    """Seconds to write into memory files that are new, one per thread: how fast the system makes pages at best."""
    _use_cores(threads)
    source = memoryview(_source(nbytes)).cast("B")
    files = [os.memfd_create("benchmark") for _ in range(threads)]
    share = nbytes // threads

    def write(part: int) -> None:
        for offset in range(0, share, 4 * MIB):
            os.pwrite(files[part], source[part * share + offset : part * share + min(offset + 4 * MIB, share)], offset)

    with ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        list(pool.map(write, range(threads)))
        return {"fresh": time.perf_counter() - start}


def copy_into_faulted(nbytes: int, threads: int, kind: str) -> dict[str, float]:
    """Seconds of a copy by as many threads into memory whose pages are all there: the limit for recycled memory."""
    _use_cores(threads)
    source = _source(nbytes)
    flags = mmap.MAP_ANONYMOUS | (mmap.MAP_SHARED if kind == "shared" else mmap.MAP_PRIVATE)
    memory = mmap.mmap(-1, nbytes, flags=flags)
    if kind == "small pages":
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    target = np.empty_like(source) if kind == "numpy" else np.frombuffer(memory, source.dtype)
    target[:] = 0
    edges = [len(source) * part // threads for part in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:

        def copy_part(part: int) -> None:
            piece = slice(edges[part], edges[part + 1])
            np.copyto(target[piece], source[piece])

        seconds = []
        for _ in range(2 + PUTS):
            start = time.perf_counter()
            list(pool.map(copy_part, range(threads)))
            seconds.append(time.perf_counter() - start)
    return {"recycled": statistics.median(seconds[2:])}


def _source(nbytes: int) -> np.ndarray:
    return np.arange(nbytes // 8, dtype=np.float64)


def _use_cores(count: int) -> None:
    """Confine the process before its libraries count the cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
