"""Tables of figures, and the claims that the project makes about them."""

import json
import os
import platform
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

#: Seconds, bytes, bytes per second, or things per second, such as ``"messages/s"``.
Unit = str

PACKAGES = ["onecopy", "numpy", "pandas", "polars", "pyarrow", "h5py"]


@dataclass(frozen=True)
class Row:
    """What one contender reached in one figure: a value per round."""

    figure: str
    contender: str
    values: list[float]
    unit: Unit

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass(frozen=True)
class Claim:
    """One promise: onecopy's median beside a peer's, the ratio (above 1: onecopy is better), and whether it is kept."""

    figure: str
    onecopy: float
    peer: str
    peer_value: float
    unit: Unit
    bar: str
    kept: bool
    ratio: float


@dataclass
class Table:
    """The figures of one case."""

    title: str
    rows: list[Row] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, figure: str, contender: str, values: list[float], unit: Unit) -> None:
        self.rows.append(Row(figure, contender, list(values), unit))

    def row(self, figure: str, contender: str) -> Row | None:
        return next((row for row in self.rows if (row.figure, row.contender) == (figure, contender)), None)

    def peers(self, figure: str, ours: str) -> list[Row]:
        return [row for row in self.rows if row.figure == figure and row.contender != ours]

    def claim_ratio(
        self, figure: str, at_least: float, *, ours: str = "onecopy", peers: list[str] | None = None
    ) -> None:
        """Claim that onecopy is ``at_least`` times better than the best of the peers (None: of all in the figure)."""
        row = self.row(figure, ours)
        rivals = [rival for rival in self.peers(figure, ours) if peers is None or rival.contender in peers]
        if row is None or not rivals:
            return self.notes.append(f"no claim about {figure}: {ours} or its peers were not measured")
        rival = max(rivals, key=lambda rival: better(rival, row))
        ratio = better(row, rival)
        bar = f"at least {at_least:g} x"
        self.claims.append(
            Claim(figure, row.median, rival.contender, rival.median, row.unit, bar, ratio >= at_least, ratio)
        )
        return None

    def claim_limit(self, figure: str, at_most: float, *, ours: str = "onecopy", peer: str) -> None:
        """Claim that onecopy needs ``at_most`` so many seconds or bytes, shown beside one peer."""
        row, rival = self.row(figure, ours), self.row(figure, peer)
        if row is None or rival is None:
            return self.notes.append(f"no claim about {figure}: {ours} or {peer} was not measured")
        bar = f"at most {show(at_most, row.unit)}"
        label = figure if ours == "onecopy" else f"{figure}, {ours}"
        self.claims.append(
            Claim(label, row.median, peer, rival.median, row.unit, bar, row.median <= at_most, better(row, rival))
        )
        return None


def better(row: Row, rival: Row) -> float:
    """How many times better the first median is: rates grow, times and sizes shrink."""
    return row.median / rival.median if row.unit.endswith("/s") else rival.median / row.median


def show(value: float, unit: Unit) -> str:
    """Three significant digits with the unit that suits them."""
    if unit == "s":
        steps = [(1, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")]
    elif unit == "B":
        steps = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")]
    elif unit == "B/s":
        steps = [(1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s")]
        if value < 5e9:
            steps = steps[1:]
    else:
        steps = [(1e6, f"M {unit}"), (1e3, f"k {unit}"), (1, unit)]
    size, name = next((step for step in steps if value >= step[0]), steps[-1])
    scaled = value / size
    digits = 0 if scaled >= 100 else 1 if scaled >= 10 else 2
    return f"{scaled:,.{digits}f} {name}"


def render(table: Table) -> str:
    """The table as text, with onecopy's ratio to each peer; the claims below it."""
    lines = [f"== {table.title}"]
    for figure in dict.fromkeys(row.figure for row in table.rows):
        lines += ["", figure, *_figure_lines([row for row in table.rows if row.figure == figure])]
    lines.append("")
    lines += [
        f"{'kept  ' if claim.kept else 'MISSED'} {claim.figure}: {show(claim.onecopy, claim.unit)}, "
        f"{claim.ratio:,.2f} x {claim.peer} ({claim.bar})"
        for claim in table.claims
    ]
    return "\n".join(lines + [f"note   {note}" for note in table.notes]) + "\n"


def _figure_lines(rows: list[Row]) -> Iterator[str]:
    ours = next((row for row in rows if row.contender.startswith("onecopy")), None)
    for row in rows:
        spread = f"({show(min(row.values), row.unit)} to {show(max(row.values), row.unit)})"
        ratio = f"{ours.contender} {better(ours, row):,.2f} x" if ours and ours is not row else ""
        yield f"  {row.contender:44} {show(row.median, row.unit):>11}  {spread:29} {ratio}".rstrip()


def save(table: Table, path: Path) -> None:
    """Write the table, the machine and the versions as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine(), **asdict(table)}
    path.write_text(json.dumps(content, indent=1) + "\n")


def load(path: Path) -> Table:
    """Read back what ``save`` wrote."""
    content = json.loads(path.read_text())
    rows = [Row(**row) for row in content["rows"]]
    return Table(content["title"], rows, [Claim(**claim) for claim in content["claims"]], content["notes"])


def machine() -> dict[str, Any]:
    """What a reader needs to judge the figures."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
