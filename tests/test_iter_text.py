"""`onecopy.iter_text`: the rows of `loadtxt`, block by block; and what else `loadtxt` adds to numpy's."""

import bz2
import gzip
import io
import itertools
import lzma
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onecopy as oc
from samples import identical
from test_loadtxt import bgzf

CALLS = np.dtype([("chr", "S10"), ("pos", "<i4"), ("pct", "<f4")])

pytestmark = pytest.mark.usefixtures("nothing_left")


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@settings(deadline=None)
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
    most, before = 0, oc.stats()["used_bytes"]
    for _ in oc.iter_text(path, "i4", rows=1000, threads=2):
        most = max(most, oc.stats()["used_bytes"])
    assert most < before + 300_000


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
        ({"rows": "2"}, TypeError, "rows='2'"),
        ({"threads": -1}, ValueError, "threads=-1"),
        ({"converters": 3}, TypeError, "converters=3"),
        ({"converters": {"a": float}}, TypeError, "by the number"),
        ({"converters": float, "dtype": None}, ValueError, "dtype=None"),
        ({"encoding": 5}, ValueError, "encoding=5"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(options: dict[str, Any], error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        oc.iter_text(["1"], **options)


def test_what_is_no_text_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="not int"):
        oc.iter_text(5)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        next(oc.iter_text(tmp_path / "absent.txt"))
    with pytest.raises(FileNotFoundError, match="no such file"):
        oc.loadtxt(tmp_path / "absent*.txt")


# --- functions and texts of Python ---


def numbered() -> Callable[[str], int]:
    """Return a function whose results depend on the order of its calls."""
    seen: dict[str, int] = {}
    return lambda text: seen.setdefault(text, len(seen))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 900), st.integers(1, 400), st.integers(1, 4), st.booleans())
def test_converters_make_what_they_make_for_loadtxt(count: int, rows: int, threads: int, as_records: bool) -> None:
    lines = [f"{n % 7}x {n} {n * n % 11}x" for n in range(count)]
    options: dict[str, Any] = {"dtype": "i4,f8,i8" if as_records else float, "threads": threads}
    if count:
        whole = oc.loadtxt(
            lines, ndmin=1 if as_records else 2, converters=dict.fromkeys((0, -1), numbered()), **options
        )
        blocks = list(oc.iter_text(lines, rows=rows, converters=dict.fromkeys((0, -1), numbered()), **options))
        assert [len(block) for block in blocks[:-1]] == [rows] * (len(blocks) - 1)
        assert identical(np.concatenate(blocks), whole)
    else:
        assert list(oc.iter_text(lines, converters=float, **options)) == []


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bgzf])
@pytest.mark.parametrize("rows", [1000, 1 << 20])
def test_converters_go_with_all_other_options(pack: Callable[[bytes], bytes], rows: int, tmp_path: Path) -> None:
    path = tmp_path / "calls"
    lines = [f"chr{n % 22},{n % 100}%,{'NA' if n % 9 == 0 else n}\n" for n in range(30_000)]
    path.write_bytes(pack(b"# made by hand\nchr,pct,n\n\n" + "".join(lines).encode()))
    options: dict[str, Any] = {
        "dtype": float, "delimiter": ",", "usecols": ["n", "pct"], "names": True, "missing": {"NA": -1},
        "return_index": True, "max_rows": 25_000, "converters": {"pct": lambda text: float(text[:-1]) / 100},
    }  # fmt: skip
    with pytest.warns(UserWarning, match="no data"):
        whole, index = oc.loadtxt(path, **options)
    parts = list(oc.iter_text(path, rows=rows, threads=3, **options))
    assert identical(np.concatenate([part for part, _ in parts]), whole)
    assert identical(np.concatenate([lines for _, lines in parts]), index)


def test_converters_are_called_in_order_in_this_thread_and_not_far_ahead(tmp_path: Path) -> None:
    path = write(tmp_path / "long.txt", "".join(f"{n}\n" for n in range(200_000)))
    called: list[int] = []
    threads = set()

    def note(text: str) -> int:
        called.append(int(text))
        threads.add(threading.get_ident())
        return 7

    blocks = oc.iter_text(path, "i4", rows=100, converters=note, threads=3)
    assert called == []
    assert (next(blocks) == 7).all()
    assert 100 <= len(called) < 100_000
    assert sum(map(len, blocks)) == 199_900
    assert called == list(range(200_000)) and threads == {threading.get_ident()}


@pytest.mark.parametrize("row", [0, 1, 2499, 2500, 2501, 29_999])
@pytest.mark.parametrize("threads", [1, 3])
def test_what_a_converter_raises_comes_behind_the_whole_blocks_before(row: int, threads: int, tmp_path: Path) -> None:
    lines = [f"{n} 0\n" for n in range(30_000)]
    lines[row] = f"{row} bad\n"
    # Threads see this first, and it is not the first in the file.
    lines.append("x 0\n")
    path = write(tmp_path / "rows.txt", "# head\n" + "".join(lines))
    blocks = oc.iter_text(path, "i4,i4", rows=500, converters={1: int}, threads=threads)
    for number in range(row // 500):
        assert next(blocks)["f0"].tolist() == list(range(500 * number, 500 * number + 500))
    with pytest.raises(
        oc.ParseError, match=f"rows.txt:{row + 2}:.* its converter raised ValueError: invalid"
    ) as caught:
        next(blocks)
    assert isinstance(caught.value.__cause__, ValueError)
    assert list(blocks) == []


def test_converters_with_a_state_keep_it_from_file_to_file(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{n}.txt", f"{n}\n7\n") for n in range(3)]
    blocks = oc.iter_text(paths, int, converters=numbered())
    assert [block[:, 0].tolist() for block in blocks] == [[0, 1], [2, 1], [3, 1]]


def test_leaving_early_while_threads_wait_for_converters(tmp_path: Path) -> None:
    path = write(tmp_path / "long.txt", "1 2\n" * 500_000)
    for _ in oc.iter_text(path, rows=100, converters=float, threads=4):
        break


@pytest.mark.parametrize("return_index", [False, True])
def test_columns_can_be_unpacked(return_index: bool) -> None:
    lines = ["1 2", "3 4", "5 6"]
    for dtype in (int, "i8,i8"):
        for block in oc.iter_text(lines, dtype, rows=3, unpack=True, return_index=return_index):
            first, second = block[0] if return_index else block
            assert (first.tolist(), second.tolist()) == ([1, 3, 5], [2, 4, 6])


def test_a_generator_without_an_end_is_read_as_it_is_needed() -> None:
    made, threads = [], set()

    def lines() -> Iterator[str]:
        for n in itertools.count():
            made.append(n)
            threads.add(threading.get_ident())
            yield f"{n} {n * n}"

    before = oc.stats()["used_bytes"]
    blocks = oc.iter_text(lines(), int, rows=100)
    assert made == []
    for number, block in enumerate(itertools.islice(blocks, 500)):
        assert block[:, 0].tolist() == list(range(100 * number, 100 * number + 100))
        assert oc.stats()["used_bytes"] < before + 150_000
    assert len(made) < 1_000_000 and threads == {threading.get_ident()}


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bgzf, bz2.compress, lzma.compress])
def test_an_open_file_is_read_as_it_is_needed(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    count = 200_000 if pack is bytes else 20_000
    text = "".join(f"{n} {n * n % 1_000_003}\n" for n in range(count)).encode()
    path = tmp_path / "rows"
    path.write_bytes(pack(text))
    with path.open("rb") as file:
        blocks = oc.iter_text(file, int, rows=1000)
        next(blocks)
        assert pack is not bytes or file.tell() < len(text) // 2
        assert sum(map(len, blocks)) == count - 1000
    with path.open("rb") as file:
        assert identical(np.concatenate(list(oc.iter_text(file, None, rows=7000))), oc.loadtxt(path, None))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 300), st.integers(1, 90), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
def test_every_kind_of_source_gives_the_same_blocks(count: int, rows: int, end: str, ends_last: bool) -> None:
    text = end.join(f"{n} é{n}" for n in range(count)) + (end if ends_last else "")
    sources: list[Any] = [
        text.splitlines(), text.splitlines(keepends=True), (line for line in text.splitlines()), io.StringIO(text),
        io.BytesIO(text.encode()), [line.encode() for line in text.splitlines()],
    ]  # fmt: skip
    expected = [(n, f"é{n}") for n in range(count)]
    for source in sources:
        blocks = list(oc.iter_text(source, "i4,U6", rows=rows, encoding="utf-8"))
        assert [row for block in blocks for row in block.tolist()] == expected
        assert [len(block) for block in blocks[:-1]] == [rows] * (len(blocks) - 1)


def test_bytes_are_latin1_as_for_loadtxt() -> None:
    for source in (io.BytesIO(b"caf\xe9\n"), [b"caf\xe9"]):
        assert [block.tolist() for block in oc.iter_text(source, "U5")] == [[["caf\xe9"]]]


def test_what_a_generator_raises_comes_behind_the_whole_blocks_before() -> None:
    def lines() -> Iterator[str]:
        yield from map(str, range(3001))
        raise LookupError("no more")

    blocks = oc.iter_text(lines(), int, rows=1000)
    assert [len(block) for block in itertools.islice(blocks, 3)] == [1000] * 3
    with pytest.raises(LookupError, match="no more"):
        next(blocks)
    assert list(blocks) == []


def test_ctrl_c_in_a_generator_does_not_wait_for_blocks() -> None:
    def lines() -> Iterator[str]:
        yield from map(str, range(5000))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(oc.iter_text(lines(), int, rows=10_000))


def test_a_quote_that_only_numpy_joins_is_an_error_in_its_place() -> None:
    lines = ["1,a", '2,"b', 'c"']
    with pytest.raises(ValueError, match=r"'2,\"b' has a line end inside, or a quote that stays open"):
        list(oc.iter_text(iter(lines), "i4,U4", delimiter=",", quotechar='"'))
    with_ends = [f"{line}\n" for line in lines]
    (block,) = oc.iter_text(with_ends, "i4,U4", delimiter=",", quotechar='"')
    assert block.tolist() == [(1, "a"), (2, "b\nc")]


@pytest.mark.usefixtures("time_limit")
@pytest.mark.parametrize("read", [oc.loadtxt, lambda path, *args: np.concatenate(list(oc.iter_text(path, *args)))])
def test_types_of_a_pipe_are_guessed_by_lines_that_are_read_once(read: Callable[..., Any], tmp_path: Path) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    # One line far behind the first piece makes a column one of floats.
    text = "".join(f"chr{n} {n} {1.5 if n == 30_000 else 2}\n" for n in range(300_000))
    feeder = threading.Thread(target=fifo.write_text, args=(text,), daemon=True)
    feeder.start()
    loaded = read(fifo, None)
    feeder.join()
    assert loaded["f1"].tolist() == list(range(300_000))
    assert [loaded.dtype[n].kind for n in range(3)] == ["S", "i", "f"]


def test_rows_of_a_block_may_be_more_than_there_are(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "1 2\n3 4\n")
    (block,) = oc.iter_text(path, rows=1 << 62)
    assert block.tolist() == [[1, 2], [3, 4]]


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
    for _ in oc.iter_text(paths, "i4", rows=60_000, progress=seen.append):
        pass
    assert sum(seen) == size


def test_a_progress_bar_is_shown_on_demand(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "1 2 3\n" * 400_000)
    program = f"import onecopy as oc; oc.loadtxt({str(path)!r}, 'i4', progress=True)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "100%" in done.stderr and "2.40M" in done.stderr
