"""Datasets of an HDF5 file, in the page cache, into memory that other processes can use."""

import statistics
import time
from functools import partial
from multiprocessing import shared_memory
from pathlib import Path

import numpy as np

from benchmarks import data
from benchmarks.isolated import isolated
from benchmarks.measure import Scale, take_turns
from benchmarks.report import Table
from examples.methylation_files import CALL

TITLE = "HDF5 into memory, in bytes of arrays per second"

PLAIN = "contiguous"
# h5py writes the files, with its own chunks of about 1 MiB.
LAYOUTS = {
    PLAIN: {},
    "gzip + shuffle": {"chunks": (40_000,), "compression": "gzip", "shuffle": True},
    "lzf + shuffle": {"chunks": (40_000,), "compression": "lzf", "shuffle": True},
}
CALLS = 3


def run(scale: Scale) -> Table:
    table = Table(TITLE)
    text = data.methylation(scale.rows(5_000_000))
    for layout in LAYOUTS:
        path, size = _written(text, layout)
        contenders = {name: partial(isolated, way, str(path)) for name, way in WAYS.items()}
        results, notes = take_turns(contenders, scale.rounds)
        for name, seconds in results.items():
            table.add(layout, name, [size / value for value in seconds], "B/s")
        table.notes += notes
        if layout != PLAIN:
            table.claim_ratio(layout, 2)
    return table


def way_onecopy(path: str) -> float:
    import onecopy

    return _median(lambda: onecopy.from_hdf5(path, "calls"))


def way_h5py(path: str) -> float:
    """Into private memory, which no other process sees."""
    import h5py

    def read() -> np.ndarray:
        with h5py.File(path) as file:
            return file["calls"][()]

    return _median(read)


def way_shared_memory(path: str) -> float:
    """What a user does whose workers shall have the array."""
    import h5py

    def read() -> shared_memory.SharedMemory:
        with h5py.File(path) as file:
            calls = file["calls"]
            memory = shared_memory.SharedMemory(create=True, size=calls.nbytes)
            calls.read_direct(np.ndarray(calls.shape, calls.dtype, buffer=memory.buf))
        memory.unlink()
        return memory

    return _median(read)


WAYS = {"onecopy": way_onecopy, "h5py": way_h5py, "h5py, SharedMemory": way_shared_memory}


def _median(read) -> float:
    """Seconds of a call; its result is dropped before the next one, outside of the measured time."""
    seconds = []
    for _ in range(CALLS):
        start = time.perf_counter()
        result = read()
        seconds.append(time.perf_counter() - start)
        del result
    return statistics.median(seconds)


def _written(text: Path, layout: str) -> tuple[Path, int]:
    import h5py

    import onecopy

    calls = onecopy.loadtxt(text, dtype=CALL, delimiter="\t")
    path = text.with_name(f"{text.stem}-{layout.partition(' ')[0]}.h5")
    if not path.exists():
        unfinished = path.with_name(path.name + ".unfinished")
        with h5py.File(unfinished, "w") as file:
            file.create_dataset("calls", data=calls, **LAYOUTS[layout])
        unfinished.rename(path)
    found = onecopy.from_hdf5(path, "calls")
    assert found.dtype == calls.dtype and found.tobytes() == calls.tobytes()
    return path, calls.nbytes
