"""`onecopy.iter_text`: the rows of `loadtxt`, block by block; and what else `loadtxt` adds to numpy's."""

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import onecopy as oc

CALLS = np.dtype([("chr", "S10"), ("pos", "<i4"), ("pct", "<f4")])

pytestmark = pytest.mark.usefixtures("nothing_left")


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@given(st.integers(0, 3000), st.integers(1, 700), st.integers(1, 4))
def test_blocks_are_the_rows_of_the_text(count: int, rows: int, threads: int) -> None:
    text = [f"{n} {n * n}" for n in range(count)]
    blocks = list(oc.iter_text(text, int, rows=rows, threads=threads))
    assert all(oc.is_shared(block) for block in blocks)
    assert [len(block) for block in blocks[:-1]] == [rows] * (len(blocks) - 1)
    whole = np.concatenate(blocks) if blocks else np.empty((0, 2), int)
    assert whole.tolist() == [[n, n * n] for n in range(count)]


def test_records_of_several_files_come_file_by_file(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{n}.txt", f"chr{n} {n} 0.5\n" * 5) for n in range(3)]
    blocks = list(oc.iter_text(str(tmp_path / "*.txt"), CALLS, rows=3))
    assert [len(block) for block in blocks] == [3, 2] * 3
    assert [block["pos"][0] for block in blocks[::2]] == [0, 1, 2]
    assert len(list(oc.iter_text(paths, CALLS, rows=5))) == 3


def test_a_header_names_the_columns_of_every_block(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "# made by hand\nday,rain\n" + "1,2.5\n" * 5)
    options: dict[str, Any] = {"delimiter": ",", "names": True, "rows": 2}
    assert [block.dtype.names for block in oc.iter_text(path, **options)] == [("day", "rain")] * 3
    assert [block["rain"].tolist() for block in oc.iter_text(path, usecols="rain", **options)][2] == [2.5]
    guessed = next(oc.iter_text(path, None, **options))
    assert [guessed.dtype[name].kind for name in ("day", "rain")] == ["i", "f"]


def test_memory_is_bounded(tmp_path: Path) -> None:
    path = write(tmp_path / "long.txt", "123456\n" * 300_000)
    most = 0
    for _ in oc.iter_text(path, "i4", rows=1000, threads=2):
        most = max(most, oc.stats()["used_bytes"])
    assert most < 200_000


def test_an_error_comes_after_the_whole_blocks_before_it(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.txt", "1\n" * 2500 + "x\n" + "1\n" * 2500)
    blocks = oc.iter_text(path, int, rows=1000)
    assert [len(block) for block in itertools.islice(blocks, 2)] == [1000, 1000]
    with pytest.raises(oc.ParseError, match=r"bad.txt:2501:1: could not convert string 'x' to int64 at row 2500"):
        next(blocks)
    assert list(blocks) == []


def test_leaving_early_gives_everything_back(tmp_path: Path) -> None:
    path = write(tmp_path / "long.txt", "1 2\n" * 500_000)
    for _ in oc.iter_text(path, rows=100):
        break


def test_a_block_can_be_kept_and_sent(tmp_path: Path) -> None:
    import multiprocessing

    path = write(tmp_path / "a.txt", "1\n2\n3\n")
    first, second = oc.iter_text(path, int, rows=2)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.map(np.sum, [first, second]) == [3, 3]


def test_a_forked_child_is_told_that_the_threads_are_its_parents(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "1\n" * 100_000)
    blocks = oc.iter_text(path, int, rows=10)
    next(blocks)
    pid = os.fork()
    if pid == 0:
        try:
            next(blocks)
        except oc.OnecopyError as error:
            os._exit(0 if "parent" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(next(blocks)) == 10


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"rows": 0}, ValueError, "rows=0"),
        ({"dtype": object}, ValueError, "numpy alone"),
        ({"encoding": "utf-16"}, ValueError, "utf-16"),
        ({"skiprows": -1}, ValueError, "skiprows=-1"),
        ({"delimiter": "#"}, TypeError, "incompatible"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(options: dict[str, Any], error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        oc.iter_text(["1"], **options)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        next(oc.iter_text(tmp_path / "absent.txt"))
    with pytest.raises(FileNotFoundError, match="no such file"):
        oc.loadtxt(tmp_path / "absent*.txt")


# --- what loadtxt adds to numpy's ---


def test_a_pattern_is_all_files_that_match_in_order(tmp_path: Path) -> None:
    for n in (2, 0, 1):
        write(tmp_path / f"part{n}.txt", f"{n} 1\n")
    assert [array[0] for array in oc.loadtxt(tmp_path / "part?.txt", int)] == [0, 1, 2]
    assert oc.loadtxt(write(tmp_path / "a[b].txt", "7\n"), int) == 7


def test_types_are_guessed(tmp_path: Path) -> None:
    path = write(tmp_path / "calls.txt", "chr pos pct\nchr1 10 0.5\nchrX 20 1\n")
    calls = oc.loadtxt(path, None, names=True)
    assert calls.dtype.names == ("chr", "pos", "pct")
    assert [calls.dtype[name].kind for name in calls.dtype.names] == ["S", "i", "f"]
    assert calls["chr"].tolist() == [b"chr1", b"chrX"] and calls["pos"].sum() == 30


def test_progress_adds_up_to_the_size_of_the_files(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{n}.txt", "1 2 3\n" * 400_000) for n in range(2)]
    size = sum(path.stat().st_size for path in paths)
    seen: list[int] = []
    oc.loadtxt(paths, "i4", progress=seen.append)
    assert sum(seen) == size
    seen.clear()
    for _ in oc.iter_text(paths, "i4", progress=seen.append):
        pass
    assert 0 < sum(seen) <= size


def test_a_progress_bar_is_shown_on_demand(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "1 2 3\n" * 400_000)
    program = f"import onecopy as oc; oc.loadtxt({str(path)!r}, 'i4', progress=True)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "100%" in done.stderr and "2.40M" in done.stderr
