"""Input files: made once, the same bytes every time, kept in benchmarks/data/, and read once before they are used.

What a file costs to read depends on how it came into the page cache: piece by piece, or hours ago, it may lie there in
single pages, and is then half as fast as one that was read from the disk at a stretch. So all files come from there.
"""

import gzip
import itertools
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from examples.methylation_files import write_sample

FOLDER = Path(__file__).parent / "data"

GRID_COLUMNS = 1000
GRID_ROWS_AT_ONCE = 1000

# BGZF: gzip members of at most 64 KiB, each with its own size in an extra field, and an empty one at the end.
BGZF_BLOCK = 0xFF00
BGZF_HEADER = struct.Struct("<4BI2BH2B2H")
BGZF_TRAILER = struct.Struct("<2I")


def methylation(rows: int, seed: int = 0) -> Path:
    """A tab-separated file of five columns: ``chr pos pct c t``."""
    return _cached(f"methylation-{rows}-{seed}.tsv", lambda path: write_sample(path, rows=rows, seed=seed))


def grid(rows: int) -> Path:
    """A climate grid: ``rows`` lines of 1,000 temperatures with four decimals, separated by blanks."""
    return _cached(f"grid-{rows}x{GRID_COLUMNS}.txt", lambda path: _write_grid(path, rows))


def gzipped(source: Path) -> Path:
    """The same file, compressed by gzip -6."""
    return _cached(source.name + ".gz", lambda path: _write_gzip(source, path))


def bgzipped(source: Path) -> Path:
    """The same file as BGZF, as bgzip and samtools write it."""
    return _cached(source.name + ".bgzf.gz", lambda path: _write_bgzf(source, path))


def repeated(source: Path, times: int) -> Path:
    """The same rows so many times in one file; not kept, as it is large."""
    path = source.with_name(f"{source.stem}-times-{times}{source.suffix}")
    with path.open("wb") as file:
        for _ in range(times):
            with source.open("rb") as text:
                shutil.copyfileobj(text, file, 8 << 20)
    return path


def split(source: Path, rows: int, count: int) -> list[Path]:
    """The ``rows`` rows of a file in so many files."""
    folder = source.with_name(f"{source.stem}-in-{count}")
    paths = [folder / f"{number:04}{source.suffix}" for number in range(count)]
    if not paths[-1].exists():
        folder.mkdir(exist_ok=True)
        each = -(-rows // count)
        with source.open("rb") as text:
            for path in paths:
                path.write_bytes(b"".join(itertools.islice(text, each)))
    return paths


def _cached(name: str, write: Callable[[Path], None]) -> Path:
    path = FOLDER / name
    if not path.exists():
        FOLDER.mkdir(exist_ok=True)
        unfinished = path.with_name(name + ".unfinished")
        write(unfinished)
        unfinished.rename(path)
    _read_from_disk(path)
    return path


def _read_from_disk(path: Path) -> None:
    """Have a file in the page cache as the kernel puts it there that reads ahead."""
    with path.open("rb", buffering=0) as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while file.read(1 << 20):
            pass


def _write_grid(path: Path, rows: int) -> None:
    import polars

    random = np.random.default_rng(7)
    with path.open("wb") as file:
        for start in range(0, rows, GRID_ROWS_AT_ONCE):
            shape = (min(GRID_ROWS_AT_ONCE, rows - start), GRID_COLUMNS)
            temperatures = polars.from_numpy(10 + 12 * random.standard_normal(shape))
            temperatures.write_csv(file, include_header=False, separator=" ", float_precision=4)


def _write_gzip(source: Path, path: Path) -> None:
    with source.open("rb") as text, gzip.GzipFile(path, "wb", compresslevel=6, mtime=0) as packed:
        shutil.copyfileobj(text, packed, 1 << 20)


def _write_bgzf(source: Path, path: Path) -> None:
    size = source.stat().st_size
    with source.open("rb") as text, path.open("wb") as packed, ThreadPoolExecutor(os.cpu_count()) as threads:
        offsets = range(0, size, BGZF_BLOCK)
        for member in threads.map(lambda offset: _bgzf_member(os.pread(text.fileno(), BGZF_BLOCK, offset)), offsets):
            packed.write(member)
        packed.write(_bgzf_member(b""))


def _bgzf_member(data: bytes) -> bytes:
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = deflate.compress(data) + deflate.flush()
    size = BGZF_HEADER.size + len(body) + BGZF_TRAILER.size
    header = BGZF_HEADER.pack(31, 139, 8, 4, 0, 0, 255, 6, ord("B"), ord("C"), 2, size - 1)
    return header + body + BGZF_TRAILER.pack(zlib.crc32(data), len(data))
