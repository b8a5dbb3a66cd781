"""Four text files to one HDF5 file: the tutorials' way, the best by hand (all write by h5py), and onecopy."""

import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context, resource_tracker, shared_memory
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data, readers
from benchmarks.isolated import ContenderError, isolated
from benchmarks.measure import Scale, take_turns
from benchmarks.report import Table
from examples.methylation_files import CALL
from examples.peak_memory import PeakMemory

TITLE = "Four text files to one HDF5 file, in bytes of text per second"

FIGURE = "4 files, one dataset each"
PEAK = "peak memory of all processes, interpreters and libraries included"
ROWS = 5_000_000
FILES = 4
TUTORIAL = "Process, np.loadtxt, SharedMemory"
DISK = "the disk alone"
BY_HAND = {
    "Pool, polars, SharedMemory": "polars, categoricals",
    "Pool, pyarrow, SharedMemory": "pyarrow, dictionary",
    "Pool, pandas, SharedMemory": "pandas, categories",
}
ONE_PROCESS = {
    "polars in one process": "polars, categoricals",
    "pyarrow in one process": "pyarrow, dictionary",
}


def run(scale: Scale) -> Table:
    table = Table(TITLE)
    files = [data.methylation(scale.rows(ROWS), seed) for seed in range(FILES)]
    output = data.FOLDER / "pipeline.h5"
    paths = [str(path) for path in files]
    ways = {
        "onecopy": partial(way_onecopy, paths, str(output)),
        "onecopy, whole arrays": partial(way_arrays, paths, str(output)),
        "onecopy load (command)": partial(way_command, paths, str(output)),
        TUTORIAL: partial(way_tutorial, paths, str(output)),
        **{name: partial(way_pool, reader, paths, str(output)) for name, reader in BY_HAND.items()},
        **{name: partial(way_one_process, reader, paths, str(output)) for name, reader in ONE_PROCESS.items()},
    }
    result = len(files) * scale.rows(ROWS) * CALL.itemsize
    turns: dict[str, Callable[[], float]] = {name: partial(_seconds, files, output, way) for name, way in ways.items()}
    results, notes = take_turns({**turns, DISK: partial(_disk_seconds, output, result)}, scale.rounds)
    text = sum(path.stat().st_size for path in files)
    for name, seconds in results.items():
        table.add(FIGURE, name, [text / value for value in seconds], "B/s")
    table.notes += notes
    peaks, notes = take_turns({name: partial(_peak, output, way) for name, way in ways.items()}, 1)
    for name, sizes in peaks.items():
        table.add(PEAK, name, sizes, "B")
    table.notes += notes
    table.claim_ratio(FIGURE, 9, peers=[TUTORIAL])
    table.claim_ratio(FIGURE, 5, peers=[*BY_HAND, *ONE_PROCESS])
    for name in ("onecopy", "onecopy, whole arrays"):
        table.claim_limit(PEAK, 1.15 * result, ours=name, peer="Pool, polars, SharedMemory")
    return table


# A pool has a process per core already: more threads in each would only get into each other's way.
SINGLE_THREAD = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}


def way_onecopy(files: list[str], output: str) -> float:
    from onecopy import iter_text, to_hdf5

    start = time.perf_counter()
    # Each block is written while the next ones are parsed, and its memory is warm for them.
    blocks = {Path(file).stem: iter_text(file, dtype=CALL, delimiter="\t") for file in files}
    to_hdf5(output, blocks, mode="w")
    return time.perf_counter() - start


def way_arrays(files: list[str], output: str) -> float:
    """Each file as an array, which may be used before it is written."""
    from onecopy import loadtxt, to_hdf5

    start = time.perf_counter()
    arrays = ((Path(file).stem, loadtxt(file, dtype=CALL, delimiter="\t")) for file in files)
    to_hdf5(output, arrays, mode="w")
    return time.perf_counter() - start


def way_command(files: list[str], output: str) -> float:
    """The command line: the start of the interpreter is part of it, as a user waits for that too."""
    dtype = ",".join(f"{name}:{CALL[name].str.strip('<|')}" for name in readers.NAMES)
    command = [sys.executable, "-m", "onecopy", "load", *files, "-o", output, "--dtype", dtype, "--force", "--quiet"]
    start = time.perf_counter()
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise ContenderError((finished.stderr.strip().splitlines() or ["failed"])[-1])
    return time.perf_counter() - start


def way_tutorial(files: list[str], output: str) -> float:
    """A process per file; each sends the name of its segment through a queue."""
    import h5py

    start = time.perf_counter()
    # Tutorials leave this line out: then each child starts a tracker, which removes the segment when the child ends.
    resource_tracker.ensure_running()
    fork = get_context("fork")
    queue = fork.Queue()
    workers = [fork.Process(target=_send_loaded, args=(file, queue)) for file in files]
    for worker in workers:
        worker.start()
    with h5py.File(output, "w") as target:
        for _ in files:
            _write_segment(target, *queue.get())
    for worker in workers:
        worker.join()
    return time.perf_counter() - start


def way_pool(reader: str, files: list[str], output: str) -> float:
    """A process per core that loads into a segment, and a parent that writes segments as they come."""
    import h5py

    _import_library(reader)
    start = time.perf_counter()
    resource_tracker.ensure_running()
    with get_context("fork").Pool(len(os.sched_getaffinity(0))) as pool, h5py.File(output, "w") as target:
        for segment in pool.imap_unordered(partial(_load_into_segment, reader), files):
            _write_segment(target, *segment)
    return time.perf_counter() - start


def way_one_process(reader: str, files: list[str], output: str) -> float:
    """The library's own threads load one file after the other."""
    import h5py

    read, convert = readers.CALLS[reader]()
    start = time.perf_counter()
    with h5py.File(output, "w") as target:
        for file in files:
            target.create_dataset(Path(file).stem, data=convert(read(file)))
    return time.perf_counter() - start


def _import_library(reader: str) -> None:
    """Users import at the top; neither way pays for imports in the measured time."""
    readers.CALLS[reader]()


def _send_loaded(file: str, queue: Any) -> None:
    queue.put(_load_into_segment("np.loadtxt", file))


def _load_into_segment(reader: str, file: str) -> tuple[str, str, int]:
    read, convert = readers.CALLS[reader]()
    calls = convert(read(file))
    memory = shared_memory.SharedMemory(create=True, size=calls.nbytes)
    np.ndarray(calls.shape, calls.dtype, buffer=memory.buf)[:] = calls
    memory.close()
    return Path(file).stem, memory.name, len(calls)


def _write_segment(target: Any, dataset: str, name: str, rows: int) -> None:
    memory = shared_memory.SharedMemory(name=name)
    target.create_dataset(dataset, data=np.ndarray(rows, CALL, buffer=memory.buf))
    memory.close()
    memory.unlink()


def _seconds(files: list[Path], output: Path, way: "partial[float]") -> float:
    """Measure with no earlier output in the way, then see that the file holds every row."""
    import h5py

    output.unlink(missing_ok=True)
    # Nobody waits for what the one before has left to the disk.
    os.sync()
    seconds = _isolated(way)
    with h5py.File(output) as written:
        for file in files:
            dataset = written[file.stem]
            first, last = file.open().readline().split(), _last_line(file).split()
            for row, line in [(dataset[0], first), (dataset[-1], last)]:
                if (row["chr"].decode(), row["pos"], row["t"]) != (line[0], int(line[1]), int(line[4])):
                    raise ContenderError(f"{file.stem}: {row} is not {line}")
    output.unlink()
    return seconds


def _disk_seconds(output: Path, size: int) -> float:
    """What the disk takes for the result, for which onecopy waits; the others leave theirs in the page cache."""
    os.sync()
    piece = mmap.mmap(-1, 8 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # A disk takes more at a time from these.
    piece.madvise(mmap.MADV_HUGEPAGE)
    piece.write(os.urandom(len(piece)))
    start = time.perf_counter()
    fd = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_DIRECT)
    os.posix_fallocate(fd, 0, size)
    for position in range(0, size - len(piece) + 1, len(piece)):
        os.pwrite(fd, piece, position)
    os.fsync(fd)
    os.close(fd)
    seconds = time.perf_counter() - start
    output.unlink()
    return seconds


def _peak(output: Path, way: "partial[float]") -> float:
    output.unlink(missing_ok=True)
    size = _isolated(partial(peak_of, way.func.__name__, *way.args))
    output.unlink()
    return size


def peak_of(way: str, *arguments: Any) -> float:
    """Bytes at the peak, in a run of its own: to look often takes time."""
    with PeakMemory() as memory:
        globals()[way](*arguments)
    return memory.bytes


def _isolated(way: "partial[float]") -> float:
    environment = SINGLE_THREAD if way_pool.__name__ in (way.func.__name__, way.args[0]) else None
    return isolated(way.func, *way.args, environment=environment)


def _last_line(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(-100, 2)
        return file.read().decode().splitlines()[-1]
