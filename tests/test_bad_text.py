"""Texts that are wrong, or that change, on every way in: the error names the place, and nothing is left."""

import bz2
import gzip
import lzma
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onecopy as oc
from onecopy import _native
from test_loadtxt import bgzf

pytestmark = pytest.mark.usefixtures("nothing_left")

ROWS = 30_000


def plain(data: bytes) -> bytes:
    return data


def zstd(data: bytes) -> bytes:
    """Write a frame of blocks that are not compressed: the format allows that, and Python needs no package for it."""
    blocks = [data[start : start + 100_000] for start in range(0, len(data), 100_000)] or [b""]
    # One segment, its size in eight bytes; a block's header holds its size and whether it is the last.
    out = b"\x28\xb5\x2f\xfd" + b"\xe0" + len(data).to_bytes(8, "little")
    for i, block in enumerate(blocks):
        out += (len(block) << 3 | (i + 1 == len(blocks))).to_bytes(3, "little") + block
    return out


def members(data: bytes) -> bytes:
    """Write gzip of many members."""
    return b"".join(gzip.compress(data[start : start + 50_000]) for start in range(0, len(data), 50_000))


def mixed(data: bytes) -> bytes:
    """Write BGZF to which gzip of another kind was appended, and zeros to that."""
    half = len(data) // 2
    return bgzf(data[:half]) + gzip.compress(data[half:]) + bytes(100)


PACKED = pytest.mark.parametrize(
    "pack", [plain, gzip.compress, members, bgzf, mixed, zstd, bz2.compress, lzma.compress]
)


def all_blocks(path: Any, **options: Any) -> list[Any]:
    return list(oc.iter_text(path, rows=7000, **options))


def all_blocks_of_an_open_file(path: Path, **options: Any) -> list[Any]:
    with path.open("rb") as file:
        return all_blocks(file, **options)


READERS = pytest.mark.parametrize(
    "load",
    [
        oc.loadtxt,
        all_blocks,
        lambda path, **options: oc.loadtxt([path, path], **options),
        lambda path, **options: oc.loadtxt(path, converters={1: int}, **options),
        lambda path, **options: oc.loadtxt(path, return_index=True, **options),
        lambda path, **options: all_blocks(path, converters={1: int}, **options),
        all_blocks_of_an_open_file,
    ],
)


def rows(count: int = ROWS) -> list[str]:
    return [f"{i} {i * 7919 % 1_000_003}\n" for i in range(count)]


@PACKED
def test_all_forms_hold_the_same(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(pack("".join(rows()).encode()))
    loaded = oc.loadtxt(path, int)
    assert (loaded[:, 0] == np.arange(ROWS)).all()


@PACKED
@READERS
@pytest.mark.parametrize("row", [0, ROWS - 1])
def test_an_error_names_its_line(
    pack: Callable[[bytes], bytes], load: Callable[..., Any], row: int, tmp_path: Path
) -> None:
    lines = ["# head\n", *rows()]
    lines[row + 1] = "12 3x\n"
    path = tmp_path / "rows"
    path.write_bytes(pack("".join(lines).encode()))
    with pytest.raises(
        oc.ParseError, match=f":{row + 2}:4: could not convert string '3x' to int64 at row {row}"
    ) as caught:
        load(path, dtype=int)
    assert (caught.value.filename, caught.value.line, caught.value.text) == (str(path), row + 2, "3x")


@PACKED
def test_the_file_that_is_wrong_is_named_among_many(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    for n in range(12):
        lines = rows(500)
        if n in (7, 9):
            lines[321] = "1 2 3\n"
        (tmp_path / f"{n:02}.txt").write_bytes(pack("".join(lines).encode()))
    pattern = str(tmp_path / "*.txt")
    with pytest.raises(oc.ParseError, match=r"/07\.txt:322:5: the number of columns changed from 2 to 3 at row 322"):
        oc.loadtxt(pattern, int)
    blocks = oc.iter_text(pattern, int, rows=500)
    with pytest.raises(oc.ParseError, match=r"/07\.txt:322:5: "):
        assert len(list(zip(range(99), blocks, strict=False))) == 7


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def extend(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"0 0\n")


def rewrite(path: Path) -> None:
    content = path.read_bytes()
    os.utime(path, (0, 0))  # a clock's tick may be longer than this test
    with path.open("rb+") as file:
        file.write(content)


def extend_and_hide_when(path: Path) -> None:
    kept = path.stat()
    extend(path)
    os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))


CHANGES = pytest.mark.parametrize("change", [cut, empty, extend, rewrite, extend_and_hide_when])


@pytest.fixture(scope="module")
def long_text() -> bytes:
    """Return more than is read ahead of anybody, compressed too."""
    rng = random.Random(1)
    return "".join(f"{rng.getrandbits(62)} {rng.getrandbits(62)}\n" for _ in range(60_000)).encode()


@PACKED
@CHANGES
def test_a_file_that_changes_while_it_is_loaded_is_an_error(
    pack: Callable[[bytes], bytes], change: Callable[[Path], None], long_text: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "rows"
    path.write_bytes(pack(long_text))
    calls = iter([change])

    def convert(text: str) -> int:
        for due in calls:
            due(path)
        return len(text)

    # The first row changes the file, when most of it has not been read yet.
    with pytest.raises(OSError, match=r"rows: changed while it was read"):
        oc.loadtxt(path, int, converters={0: convert}, threads=2)


@PACKED
@CHANGES
def test_a_file_that_changes_between_two_blocks_is_an_error(
    pack: Callable[[bytes], bytes], change: Callable[[Path], None], long_text: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "rows"
    path.write_bytes(pack(long_text))
    blocks = oc.iter_text(path, int, rows=100)
    assert next(blocks).shape == (100, 2)
    change(path)
    with pytest.raises(OSError, match=r"rows: changed while it was read"):
        for _ in blocks:
            pass
    assert list(blocks) == []


INTERRUPTED = """
import sys
import onecopy as oc
print("ready", flush=True)
try:
    {statement}
except KeyboardInterrupt:
    blocks = None  # and with the exception goes its traceback, which has the rest
print("interrupted", oc.stats()["blocks"])
"""


@pytest.mark.parametrize("pack", [plain, members])
@pytest.mark.parametrize(
    "statement",
    [
        "oc.loadtxt(sys.argv[1], int)",
        "oc.loadtxt(sys.argv[1], int, converters={0: int}, return_index=True)",
        "oc.loadtxt([sys.argv[1]], int)",
        "blocks = list(oc.iter_text(sys.argv[1], int, rows=1 << 28))",
        "for blocks in oc.iter_text(sys.argv[1], int, rows=10): pass",
        "for blocks in oc.iter_text(sys.argv[1], int, rows=10, converters={0: int}): pass",
        "for blocks in oc.iter_text(open(sys.argv[1], 'rb'), int, rows=10): pass",
        "blocks = list(oc.iter_text(sys.argv[1], None, rows=1 << 24))",
    ],
)
def test_ctrl_c_ends_every_way_of_reading_and_leaves_nothing(
    pack: Callable[[bytes], bytes], statement: str, tmp_path: Path
) -> None:
    # A pipe that never ends: only the signal can end the reading.
    fifo = tmp_path / "endless"
    os.mkfifo(fifo)
    command = [sys.executable, "-c", INTERRUPTED.format(statement=statement), str(fifo)]
    environment = {k: v for k, v in os.environ.items() if k != _native.SESSION_VARIABLE}
    part = pack(b"1 2\n" * 10_000)
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        written = threading.Event()

        def feed() -> None:
            with fifo.open("wb", buffering=0) as pipe:
                while True:
                    try:
                        pipe.write(part)
                    except BrokenPipeError:
                        return
                    written.set()

        feeder = threading.Thread(target=feed)
        feeder.start()
        assert written.wait(60)
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "interrupted 0\n"
        feeder.join()
