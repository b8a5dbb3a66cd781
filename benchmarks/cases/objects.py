"""Objects: a 1 GiB frame stored, handed over and read by many; many small objects at once."""

import gc
import multiprocessing
import os
import pickle
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.isolated import isolated
from benchmarks.measure import GIB, MIB, Scale, take_turns, time_within
from benchmarks.report import Table
from benchmarks.waiting import messages, waiting_worker
from examples.peak_memory import tree_memory

TITLE = "Objects"

COLUMNS = 8
FIGURES = {
    "store": "1 GiB pandas frame: store or pickle it",
    "hand over": "1 GiB pandas frame: hand-over to one more worker, which reads the last item",
    "reply": "1 GiB pandas frame: the same, and the worker's reply",
    "memory": "1 GiB pandas frame: memory of all processes, 4 workers",
}
MESSAGE = "100,000 small arrays in one message, sent and received"
PER_WORKER = 120 * MIB


def run(scale: Scale) -> Table:
    table = Table(TITLE)
    size = scale.size(GIB)
    contenders = {
        "onecopy.share": partial(isolated, frame, "share", size, 50),
        "onecopy.put": partial(isolated, frame, "put", size, 50),
        "multiprocessing, pickled": partial(isolated, frame, "pickle", size, 1),
        "joblib, memory-mapped": partial(isolated, frame, "joblib", size, 5),
        "multiprocessing, 8 rows of it, pickled": partial(isolated, frame, "few rows", size // 1024, 50),
    }
    # One round, as a gigabyte takes each of them many seconds: what is short is measured often within it.
    results, notes = take_turns(contenders, 1)
    for what, figure in FIGURES.items():
        for name, (result,) in results.items():
            if result[what]:
                table.add(figure, name, result[what], "B" if what == "memory" else "s")
    table.notes += notes
    for ours in ("onecopy.share", "onecopy.put"):
        table.claim_limit(FIGURES["hand over"], 200e-6, ours=ours, peer="joblib, memory-mapped")
    table.claim_limit(FIGURES["memory"], size + 4 * PER_WORKER, ours="onecopy.share", peer="joblib, memory-mapped")
    _add_message(table, scale)
    _add_many(table, scale)
    return table


def _add_message(table: Table, scale: Scale) -> None:
    count = scale.rows(100_000)
    contenders = {
        "onecopy, shared arrays": partial(isolated, one_message, "shared", count),
        "onecopy.put, numpy arrays": partial(isolated, one_message, "put", count),
        "pickle, numpy arrays": partial(isolated, one_message, "plain", count),
    }
    results, notes = take_turns(contenders, min(scale.rounds, 2))
    for name, seconds in results.items():
        table.add(MESSAGE, name, seconds, "s")
    table.notes += notes


def _add_many(table: Table, scale: Scale) -> None:
    """The time per object may not grow with their number."""
    counts = [1_000, 10_000, 100_000, scale.rows(1_000_000)]
    kinds: dict[str, Callable[..., Any]] = {"small array": many_arrays, "Ref": many_refs}
    for kind, measure in kinds.items():
        figure = f"time per {kind}, made, looked at and dropped, while n of them live"
        contenders = {f"onecopy, n = {count:,}": partial(isolated, measure, count) for count in counts}
        results, notes = take_turns(contenders, 1)
        for name, (seconds,) in results.items():
            table.add(figure, name, seconds, "s")
        table.notes += notes
        fewest, most = (f"onecopy, n = {count:,}" for count in (counts[0], counts[-1]))
        few = table.row(figure, fewest)
        if few is not None:
            table.claim_limit(figure, 2 * few.median, ours=most, peer=fewest)


# --- the frame ---


def frame(kind: str, nbytes: int, repeats: int) -> dict[str, list[float]]:
    """Seconds to store a frame and of each time it is handed over, and the memory that four readers of it need."""
    import pandas as pd

    whole = pd.DataFrame(np.full((nbytes // 8 // COLUMNS, COLUMNS), 1.5))
    folder = Path(tempfile.mkdtemp(dir="/dev/shm")) if kind == "joblib" else None
    try:
        store: Callable[[Any], Any] = {
            "share": _share,
            "put": _put,
            "pickle": lambda obj: obj,
            "few rows": lambda obj: obj.iloc[:8],
            "joblib": lambda obj: _dump(obj, folder),
        }[kind]
        small = store(whole.iloc[:8])
        if kind in ("pickle", "few rows"):
            stored = store(whole)
            store_seconds = _seconds(lambda: bytes(ForkingPickler.dumps(stored)))
        else:
            start = time.perf_counter()
            stored = store(whole)
            store_seconds = time.perf_counter() - start
            del whole
        gc.collect()
        # Who uses onecopy uses its pipes and processes, too.
        module = "onecopy.multiprocessing" if kind in ("share", "put") else "multiprocessing"
        with waiting_worker(_reply, module=module) as worker:
            for _ in range(10):
                _exchange(worker, small)  # imports what the frame needs
            exchanges = [_exchange(worker, stored) for _ in range(repeats)]
        there, back = zip(*exchanges, strict=True)
        # Pickled, it would need 5 GiB.
        memory = [_memory_of_readers(stored, 4)] if kind in ("share", "joblib") else []
        store_figure = [] if kind == "few rows" else [store_seconds]
        return {"store": store_figure, "hand over": list(there), "reply": list(back), "memory": memory}
    finally:
        if folder is not None:
            shutil.rmtree(folder)


def _share(obj: Any) -> Any:
    import onecopy

    return onecopy.share(obj)


def _put(obj: Any) -> Any:
    import onecopy

    return onecopy.put(obj)


def _dump(obj: Any, folder: Path | None) -> str:
    import joblib

    path = f"{folder}/{len(obj)}"
    joblib.dump(obj, path)
    return path


def _opened(message: Any) -> Any:
    if isinstance(message, str):
        import joblib

        return joblib.load(message, mmap_mode="r")
    return message.get() if hasattr(message, "get") and hasattr(message, "free") else message


def _reply(connection: Connection) -> None:
    for message in messages(connection):
        item = float(_opened(message).iat[-1, -1])
        connection.send((item, time.perf_counter()))


def _exchange(worker: Connection, message: Any) -> tuple[float, float]:
    """Seconds until the worker has read the last item, and until its reply is there: one clock for all processes."""
    start = time.perf_counter()
    worker.send(message)
    item, read = worker.recv()
    end = time.perf_counter()
    assert item == 1.5
    return read - start, end - start


def _memory_of_readers(message: Any, count: int) -> int:
    processes = multiprocessing.get_context("spawn")
    sums, finish = processes.SimpleQueue(), processes.Event()
    workers = [processes.Process(target=_read, args=(message, sums, finish)) for _ in range(count)]
    for worker in workers:
        worker.start()
    assert len({sums.get() for _ in workers}) == 1
    held = tree_memory(psutil.Process(os.getpid()))
    finish.set()
    for worker in workers:
        worker.join()
    return held


def _read(message: Any, sums: Any, finish: Any) -> None:
    opened = _opened(message)
    # Item by item of the frame's memory, without a copy that some ways to add it up would make.
    sums.put(sum(float(opened[name].to_numpy().sum()) for name in opened.columns))
    finish.wait()
    del opened


# --- many ---


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    kept = work()
    seconds = time.perf_counter() - start
    del kept
    return seconds


def one_message(kind: str, count: int) -> float:
    """Seconds to send many small arrays in one message and to receive them."""
    import onecopy

    arrays = [onecopy.zeros(8) if kind == "shared" else np.zeros(8) for _ in range(count)]
    gc.disable()

    def exchange() -> Any:
        if kind == "put":
            with pickle.loads(pickle.dumps(onecopy.put(arrays))) as ref:
                return ref.get()
        return pickle.loads(bytes(ForkingPickler.dumps(arrays)))

    return min(_seconds(exchange) for _ in range(3))


def many_arrays(count: int) -> list[float]:
    """Seconds per array to make it, find it and drop it while so many live."""
    import onecopy

    def use() -> None:
        arrays = [onecopy.empty(8) for _ in range(count)]
        assert all(map(onecopy.is_shared, arrays))

    return _per_object(use, count)


def many_refs(count: int) -> list[float]:
    """The same for Refs to small objects."""
    import onecopy

    def use() -> None:
        refs = [onecopy.put(number) for number in range(count)]
        assert sum(ref.get() for ref in refs) == count * (count - 1) // 2

    return _per_object(use, count)


def _per_object(use: Callable[[], None], count: int) -> list[float]:
    # Python's own collector looks at all objects again and again, whatever they are.
    gc.disable()
    use()
    rounds = max(1, 10_000 // count)

    def once() -> float:
        return _seconds(lambda: [use() for _ in range(rounds)]) / rounds / count

    return time_within(1.0, once)
