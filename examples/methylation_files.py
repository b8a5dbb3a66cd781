"""Sample methylation calls: the same seed writes the same bytes, in every run of the demo and of the benchmarks.

Each line is one site of the genome: chromosome, position, percentage of methylated reads, methylated and other reads.
The model is small but has what a plot of real data shows: short unmethylated islands in a methylated genome, and
megabase domains that lose methylation in a tumour.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

MEGABASES = [248, 242, 198, 190, 182, 171, 159, 145, 138, 134, 135, 133, 114, 107, 102, 90, 83, 80, 59, 64, 47, 51, 156]
CHROMOSOMES = [f"chr{name}" for name in [*range(1, 23), "X"]]
CALL = np.dtype([("chr", "S10"), ("pos", "<i4"), ("pct", "<f4"), ("c", "<i4"), ("t", "<i4")])

ISLAND_SITES = 8
ISLAND_SHARE = 0.1
ROWS_AT_ONCE = 250_000


class Sites(NamedTuple):
    """The sites of one chromosome: positions (base pairs) and the level of methylation (0 to 1) of healthy cells."""

    positions: np.ndarray
    levels: np.ndarray
    domain: np.ndarray


def write_sample(path: Path, *, rows: int, seed: int, tumour: bool = False) -> None:
    """Write one sample of ``rows`` lines; all samples of as many rows have the same sites."""
    random = np.random.default_rng(seed)
    shares = np.cumsum([0, *MEGABASES]) * rows // sum(MEGABASES)
    with path.open("wb") as file:
        for chromosome, (name, length) in enumerate(zip(CHROMOSOMES, MEGABASES, strict=True)):
            sites = _sites(chromosome, int(shares[chromosome + 1] - shares[chromosome]), length * 1_000_000)
            levels = sites.levels * (1 - 0.45 * sites.domain) if tumour else sites.levels
            for start in range(0, len(levels), ROWS_AT_ONCE):
                part = slice(start, start + ROWS_AT_ONCE)
                file.write(_lines(name, sites.positions[part], levels[part], random))


def _sites(chromosome: int, count: int, length: int) -> Sites:
    """Lay islands and domains over one chromosome, the same for every sample."""
    random = np.random.default_rng([2026, chromosome])
    island = np.repeat(random.random(count // ISLAND_SITES + 1) < ISLAND_SHARE, ISLAND_SITES)[:count]
    gaps = np.where(island, random.integers(4, 60, count), 60 + random.exponential(1.0, count) * length / max(count, 1))
    positions = np.cumsum(gaps)
    positions = 10_000 + positions * ((length - 20_000) / positions[-1] if count else 1)
    wave = sum(np.sin(positions / scale + random.uniform(0, 6.28)) for scale in (0.9e6, 2.3e6, 5.1e6, 11e6))
    domain = 1 / (1 + np.exp(-4 * wave))
    levels = np.where(island, 0.05, 0.82) + 0.05 * random.standard_normal(count)
    return Sites(positions.astype(np.int64), np.clip(levels, 0, 1), np.where(island, 0, domain))


def _lines(name: str, positions: np.ndarray, levels: np.ndarray, random: np.random.Generator) -> bytes:
    """Draw reads for each site and format them; one boolean selection drops the leading zeros of all lines at once."""
    reads = 4 + random.poisson(26, len(levels))
    methylated = random.binomial(reads, levels)
    percent = (1_000_000 * methylated + reads // 2) // reads
    tab, dot, newline = _constant("\t"), _constant("."), _constant("\n")
    columns = [_constant(name), tab, _digits(positions, 9), tab]
    columns += [_digits(percent // 10_000, 3), dot, _digits(percent % 10_000, 4, keep_zeros=True), tab]
    columns += [_digits(methylated, 3), tab, _digits(reads - methylated, 3), newline]
    width = sum(column.shape[1] for column, _ in columns)
    text, keep = np.empty((len(levels), width), np.uint8), np.empty((len(levels), width), bool)
    start = 0
    for column, shown in columns:
        stop = start + column.shape[1]
        text[:, start:stop], keep[:, start:stop] = column, shown
        start = stop
    return text[keep].tobytes()


def _constant(text: str) -> tuple[np.ndarray, np.ndarray]:
    return np.frombuffer(text.encode(), np.uint8)[np.newaxis], np.ones((1, len(text)), bool)


def _digits(values: np.ndarray, width: int, *, keep_zeros: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Right-aligned decimal digits of non-negative integers and which of them are shown, both (len(values), width)."""
    rest = values.astype(np.uint32)
    text, keep = np.empty((len(rest), width), np.uint8), np.empty((len(rest), width), bool)
    for column in reversed(range(width)):
        keep[:, column] = True if keep_zeros or column == width - 1 else rest > 0
        rest, digit = np.divmod(rest, np.uint32(10))
        text[:, column] = digit + ord("0")
    return text, keep
