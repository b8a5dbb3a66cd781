"""Arrays into an HDF5 file on the disk, synced, without filters and with each filter."""

import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data
from benchmarks.isolated import isolated
from benchmarks.measure import Scale, take_turns
from benchmarks.report import Table
from examples.methylation_files import CALL

TITLE = "Arrays to HDF5, synced to the disk, in bytes of arrays per second"

PLAIN = "no filters"
GZIP = "gzip-4 + shuffle"
CHUNK_ROWS = 40_000
LAYOUTS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "fletcher32": {"chunks": CHUNK_ROWS, "fletcher32": True},
    GZIP: {"chunks": CHUNK_ROWS, "compression": "gzip", "compression_opts": 4, "shuffle": True},
    "lzf + shuffle": {"chunks": CHUNK_ROWS, "compression": "lzf", "shuffle": True},
    "zstd-3 + shuffle": {"chunks": CHUNK_ROWS, "compression": "zstd", "compression_opts": 3, "shuffle": True},
}


def run(scale: Scale) -> Table:
    import onecopy

    table = Table(TITLE)
    calls = onecopy.loadtxt(data.methylation(scale.rows(5_000_000)), dtype=CALL, delimiter="\t")
    source = data.FOLDER / "hdf5-calls.npy"
    np.save(source, calls)
    for layout in LAYOUTS:
        ways = {**WAYS, **PLAIN_WAYS} if layout == PLAIN else WAYS
        contenders = {name: partial(isolated, run_way, name, str(source), layout) for name in ways}
        results, notes = take_turns(contenders, scale.rounds)
        for name, runs in results.items():
            table.add(layout, name, [calls.nbytes / seconds for seconds, _ in runs], "B/s")
        if layout != PLAIN:
            for name, runs in results.items():
                table.add(f"{layout}: file", name, [size for _, size in runs], "B")
        table.notes += notes
    source.unlink()
    table.claim_ratio(PLAIN, 0.9, peers=list(PLAIN_WAYS)[:1])
    table.claim_ratio(GZIP, 4)
    table.claim_ratio(f"{GZIP}: file", 1)
    return table


def way_onecopy(calls: np.ndarray, path: str, layout: str) -> None:
    import onecopy

    onecopy.to_hdf5(path, {"calls": calls}, **LAYOUTS[layout])


def way_h5py(calls: np.ndarray, path: str, layout: str) -> None:
    import h5py

    options = dict(LAYOUTS[layout])
    if "chunks" in options:
        options["chunks"] = (options["chunks"],)
    if options.get("compression") == "zstd":
        import hdf5plugin

        del options["compression"], options["compression_opts"]
        options |= hdf5plugin.Zstd(clevel=3)
    with h5py.File(path, "w") as file:
        file.create_dataset("calls", data=calls, **options)
    with open(path, "rb") as written:
        os.fsync(written)


def way_plain(calls: np.ndarray, path: str, layout: str) -> None:
    """The limit: the same bytes and nothing else."""
    with open(path, "wb", buffering=0) as file:
        _write_all(file.fileno(), memoryview(calls.view("u1")))
        os.fsync(file)


def way_direct(calls: np.ndarray, path: str, layout: str) -> None:
    """The same past the page cache, as to_hdf5 does it."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
    whole = calls.nbytes // 4096 * 4096
    _write_all(fd, memoryview(calls.view("u1"))[:whole])
    os.fsync(fd)
    os.close(fd)


WAYS = {"onecopy": way_onecopy, "h5py": way_h5py}
PLAIN_WAYS = {"plain write": way_plain, "plain direct write": way_direct}


def _write_all(fd: int, left: memoryview) -> None:
    while left:
        left = left[os.write(fd, left[: 64 << 20]) :]


def run_way(name: str, source: str, layout: str) -> tuple[float, float]:
    """Seconds of the better of two files, and the size of the last, which must hold what was written."""
    import h5py

    import onecopy

    # At a page of memory that is warm, as results of loadtxt are.
    calls = onecopy.empty_like(np.load(source, mmap_mode="r"))
    calls[...] = np.load(source)
    path = Path(source).with_suffix(".h5")
    way = {**WAYS, **PLAIN_WAYS}[name]
    seconds = []
    for _ in range(2):
        path.unlink(missing_ok=True)
        way(calls[:CHUNK_ROWS], str(path), layout)
        path.unlink()
        start = time.perf_counter()
        way(calls, str(path), layout)
        seconds.append(time.perf_counter() - start)
    size = path.stat().st_size
    if h5py.is_hdf5(path):
        if layout.startswith("zstd"):
            import hdf5plugin  # noqa: F401
        with h5py.File(path) as file:
            assert (file["calls"][-1000:] == calls[-1000:]).all()
    path.unlink()
    return min(seconds), float(size)
