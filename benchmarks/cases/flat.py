"""Does a row cost the same in small and in huge texts, and in one file as in a thousand?"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import data
from benchmarks.isolated import isolated
from benchmarks.measure import MIB, Scale, take_turns
from benchmarks.report import Table
from examples.methylation_files import CALL

TITLE = "Seconds per row of five columns, all cores, files in the page cache"

ROWS = "rows in one file"
FILES = "10^7 rows in so many files"
MEMORY = "memory of the process, rows streamed"

SMALLEST, STREAMED = "10^5", "10^8, streamed by iter_text"
SIZES = {SMALLEST: 100_000, "10^6": 1_000_000, "10^7": 10_000_000}
COUNTS = [1, 10, 100, 1000]
#: How much more than the smallest the largest may cost per row.
FLAT = 1.25


def run(scale: Scale) -> Table:
    table = Table(TITLE)
    largest = data.methylation(scale.rows(10_000_000))
    huge = data.repeated(largest, 10)
    try:
        _add_sizes(table, scale, huge)
    finally:
        huge.unlink()
    _add_counts(table, scale, largest)
    table.claim_ratio(ROWS, 1 / FLAT, ours=STREAMED, peers=[SMALLEST])
    table.claim_ratio(ROWS, 1 / FLAT, ours="10^7", peers=[SMALLEST])
    table.claim_ratio(FILES, 1 / FLAT, ours="1,000", peers=["1"])
    table.claim_limit(MEMORY, 128 * MIB, ours="10^8", peer="10^6")
    return table


def _add_sizes(table: Table, scale: Scale, huge: Path) -> None:
    contenders: dict[str, Callable[[], list[float]]] = {}
    for name, rows in SIZES.items():
        path = data.methylation(scale.rows(rows))
        contenders[name] = partial(isolated, load_repeatedly, [str(path)], scale.rows(rows), 1_000_000 // rows + 4)
    contenders[STREAMED] = partial(isolated, stream, str(huge), scale.rows(100_000_000))
    middle = data.methylation(scale.rows(1_000_000))
    contenders["10^6, streamed by iter_text"] = partial(isolated, stream, str(middle), scale.rows(1_000_000))
    results, notes = take_turns(contenders, min(scale.rounds, 3))
    for name, rounds in results.items():
        table.add(ROWS, name, [seconds for seconds, _ in rounds], "s")
    for name in ("10^6", "10^8"):
        table.add(MEMORY, name, [peak for _, peak in results.get(f"{name}, streamed by iter_text", [])], "B")
    table.notes += notes


def _add_counts(table: Table, scale: Scale, largest: Path) -> None:
    rows = scale.rows(10_000_000)
    contenders = {
        f"{count:,}": partial(
            isolated, load_repeatedly, [str(path) for path in data.split(largest, rows, count)], rows, 4
        )
        for count in COUNTS
    }
    results, notes = take_turns(contenders, min(scale.rounds, 3))
    for name, rounds in results.items():
        table.add(FILES, name, [seconds for seconds, _ in rounds], "s")
    table.notes += notes


def load_repeatedly(paths: list[str], rows: int, repeats: int) -> list[float]:
    """In a process of its own: seconds per row, of the median of all loads but the first, and the most memory."""
    import onecopy

    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        arrays = onecopy.loadtxt([Path(path) for path in paths], dtype=CALL, delimiter="\t")
        seconds.append(time.perf_counter() - start)
        assert sum(map(len, arrays)) == rows
        del arrays
    return [statistics.median(seconds[1:]) / rows, _peak()]


def stream(path: str, rows: int) -> list[float]:
    """In a process of its own: seconds per row of one pass, and the most memory."""
    import onecopy

    for _ in onecopy.iter_text(path, dtype=CALL, delimiter="\t", max_rows=100_000):
        pass  # threads and memory are warm, as for the others
    start = time.perf_counter()
    read = sum(map(len, onecopy.iter_text(path, dtype=CALL, delimiter="\t", rows=100_000)))
    seconds = time.perf_counter() - start
    assert read == rows
    return [seconds / rows, _peak()]


def _peak() -> int:
    """The most memory that this process had, shared pages included."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) << 10
    raise OSError("/proc/self/status has no VmHWM")
