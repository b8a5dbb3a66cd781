"""Dictionaries and lists: what another process than the one that made them pays for an item, and how readers share."""

import multiprocessing
import os
import time
from functools import partial
from typing import Any

from benchmarks.isolated import isolated
from benchmarks.measure import Scale, take_turns
from benchmarks.report import Table

TITLE = "Dictionaries and lists: one process made them, another uses them"

KEYS = 1_000
#: Operations of a contender that asks a server, or takes many microseconds for other reasons, of a full run.
SLOW = 20_000
FAST = 1_000_000
SLOW_ONES = ("Manager", "ShareableList", "UltraDict")
DICTS = ("onecopy", "Manager", "UltraDict")
LISTS = ("onecopy", "Manager", "ShareableList")
READERS = "dict, get, as many readers as cores, all together"


def run(scale: Scale) -> Table:
    table = Table(TITLE)
    for kind, names in [("dict", DICTS), ("list", LISTS)]:
        for what in ("get", "set"):
            figure = f"{kind}, {what}"
            contenders = {name: partial(isolated, use, kind, what, name, count(scale, name)) for name in names}
            measure(table, scale, figure, contenders)
            table.claim_ratio(figure, 50, peers=["Manager"])
    for what in ("get", "set"):
        table.claim_ratio(f"dict, {what}", 3, peers=["UltraDict"])
    contenders = {
        f"onecopy, {readers} reading": partial(isolated, read_together, readers, count(scale, "onecopy"))
        for readers in sorted({1, len(os.sched_getaffinity(0))})
    }
    measure(table, scale, READERS, contenders)
    return table


def count(scale: Scale, name: str) -> int:
    return scale.rows(SLOW if name in SLOW_ONES else FAST)


def measure(table: Table, scale: Scale, figure: str, contenders: dict[str, Any]) -> None:
    results, notes = take_turns(contenders, scale.rounds)
    for name, values in results.items():
        table.add(figure, name, values, "s")
    table.notes += notes


def make(kind: str, name: str) -> tuple[Any, Any]:
    """Make a container with as many items as there are keys; the other value is to be kept as long as it is used."""
    if name == "onecopy":
        import onecopy

        return (onecopy.Dict((n, n) for n in range(KEYS)) if kind == "dict" else onecopy.List(range(KEYS))), None
    if name == "Manager":
        manager = multiprocessing.Manager()
        items: Any = dict.fromkeys(range(KEYS), 0) if kind == "dict" else list(range(KEYS))
        return (manager.dict(items) if kind == "dict" else manager.list(items)), manager
    if name == "UltraDict":
        from UltraDict import UltraDict

        shared = UltraDict(dict.fromkeys(range(KEYS), 0), buffer_size=1 << 20)
        return shared, shared
    from multiprocessing.shared_memory import ShareableList

    shareable = ShareableList(range(KEYS))
    return shareable, shareable


def use(kind: str, what: str, name: str, times: int) -> float:
    """Seconds per item of a process that did not make the container; the one that did checks what it finds."""
    container, kept = make(kind, name)
    container[KEYS - 1] = 7
    ours, theirs = multiprocessing.Pipe()
    worker = multiprocessing.get_context("fork").Process(target=work, args=(container, what, times, theirs))
    worker.start()
    seconds, last = ours.recv()
    worker.join()
    assert last == 7 if what == "get" else container[KEYS - 1] == last == times // KEYS - 1
    close(name, kept)
    return seconds / times


def close(name: str, kept: Any) -> None:
    if name == "Manager":
        kept.shutdown()
    elif name == "UltraDict":
        kept.unlink()
    elif name == "ShareableList":
        kept.shm.close()
        kept.shm.unlink()


def work(container: Any, what: str, times: int, answer: Any) -> None:
    last, keys = None, range(KEYS)
    start = time.perf_counter()
    if what == "get":
        for _ in range(times // KEYS):
            for key in keys:
                last = container[key]
    else:
        for last in range(times // KEYS):
            for key in keys:
                container[key] = last
    answer.send((time.perf_counter() - start, last))


def read_together(readers: int, times: int) -> float:
    """Seconds per item of several processes together that read one dictionary, from the start to the last end."""
    container, _ = make("dict", "onecopy")
    context = multiprocessing.get_context("fork")
    start, pipes, workers = context.Event(), [], []
    for _ in range(readers):
        ours, theirs = multiprocessing.Pipe()
        workers.append(context.Process(target=wait_and_read, args=(container, times, start, theirs)))
        workers[-1].start()
        pipes.append(ours)
    for pipe in pipes:
        pipe.recv()
    begin = time.perf_counter()
    start.set()
    for pipe in pipes:
        pipe.recv()
    seconds = time.perf_counter() - begin
    for worker in workers:
        worker.join()
    return seconds / (readers * times)


def wait_and_read(container: Any, times: int, start: Any, answer: Any) -> None:
    answer.send("ready")
    start.wait()
    work(container, "get", times, answer)
