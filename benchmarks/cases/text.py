"""Text to arrays: five columns of mixed type, and a grid of a thousand numbers per line."""

import statistics
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import data, readers
from benchmarks.isolated import isolated
from benchmarks.measure import Scale, take_turns
from benchmarks.report import Table

TITLE = "Text to arrays, all cores, file in the page cache"

OWN = "own frame"
ARRAY = "array"


def run(scale: Scale) -> Table:
    table = Table(TITLE)
    calls = data.methylation(scale.rows(5_000_000))
    grid = data.grid(scale.rows(26_000))
    add_rates(table, scale, "5 columns", "CALLS", calls, calls)
    add_rates(table, scale, "1,000 columns", "GRID", grid, grid)
    table.claim_ratio(f"5 columns, {ARRAY}", 10, peers=["np.loadtxt"])
    table.claim_ratio(f"5 columns, {OWN}", 3, peers=["pandas", "polars", "pyarrow"])
    table.claim_ratio(f"5 columns, {ARRAY}", 6)
    table.claim_ratio(f"1,000 columns, {ARRAY}", 7, peers=["np.loadtxt"])
    table.claim_ratio(f"1,000 columns, {ARRAY}", 2.5, peers=["polars"])
    table.claim_ratio(f"5 columns, {ARRAY}, first file of a process", 4)
    return table


def add_rates(
    table: Table, scale: Scale, label: str, kind: str, path: Path, text: Path, names: list[str] | None = None
) -> None:
    """Add what each reader reaches with ``path``, in bytes of the plain ``text`` per second."""
    contenders = {name: _measurement(kind, name, path, scale.repeats) for name in names or getattr(readers, kind)}
    results, notes = take_turns(contenders, scale.rounds)
    size = text.stat().st_size
    figures: dict[str, Callable[[dict], float]] = {
        OWN: lambda result: statistics.median(result["read"]),
        ARRAY: lambda result: statistics.median(_totals(result)),
        f"{ARRAY}, first file of a process": lambda result: _totals(result)[0],
    }
    for figure, seconds in figures.items():
        for name, rounds in results.items():
            table.add(f"{label}, {figure}", name, [size / seconds(result) for result in rounds], "B/s")
    table.notes += notes + _disagreements(results)


def read_repeatedly(kind: str, name: str, path: str, repeats: int) -> dict:
    """In a process of its own: seconds of each read and each conversion, and a checksum of the array."""
    reader = getattr(readers, kind)[name]()
    result: dict = {"read": [], "convert": []}
    for _ in range(repeats):
        start = time.perf_counter()
        own = reader.read(path)
        middle = time.perf_counter()
        array = reader.convert(own)
        end = time.perf_counter()
        result["read"].append(middle - start)
        result["convert"].append(end - middle)
        result["checksum"] = _checksum(array)
        del own, array
    return result


def _measurement(kind: str, name: str, path: Path, repeats: int) -> Callable[[], dict]:
    return lambda: isolated(read_repeatedly, kind, name, str(path), repeats)


def _totals(result: dict) -> list[float]:
    return [read + convert for read, convert in zip(result["read"], result["convert"], strict=True)]


def _checksum(array: np.ndarray) -> list[float]:
    columns = [array] if array.dtype.names is None else [array[name] for name in readers.NUMBERS]
    text = b"" if array.dtype.names is None else np.ascontiguousarray(array["chr"]).tobytes()
    return [len(array), zlib.crc32(text), *(float(column.sum(dtype=np.float64)) for column in columns)]


def _disagreements(results: dict[str, list[dict]]) -> list[str]:
    """Readers that got other values than the first: a fast wrong answer must be seen."""
    expected = next(iter(results.values()))[0]["checksum"] if results else []
    return [
        f"{name} disagrees: {rounds[0]['checksum']}, not {expected}"
        for name, rounds in results.items()
        if not np.allclose(rounds[0]["checksum"], expected, rtol=1e-9)
    ]
