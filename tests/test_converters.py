"""Converters of `loadtxt`: functions make the elements of some columns, all others are parsed as ever; as numpy."""

import gzip
import io
import itertools
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onecopy as oc
from samples import identical

CALLS = np.dtype([("chr", "S10"), ("pos", "<i4"), ("pct", "<f4"), ("n", "<i4", (2,))])
ROWS = 40_000
TEXT = "".join(f"chr{i % 22}\t{i}\t{i % 100}%\t{i % 40}\t{i % 13}\n" for i in range(ROWS))

pytestmark = pytest.mark.usefixtures("nothing_left")


def percent(text: str) -> float:
    return float(text[:-1]) / 100


def numbered() -> Callable[[str], int]:
    seen: dict[str, int] = {}
    return lambda text: seen.setdefault(text, len(seen))


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    path = tmp_path / "calls.tsv"
    path.write_text(TEXT)
    return path


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("numpy's reader was used")


@pytest.mark.parametrize(
    "converters",
    [
        lambda: {2: percent},
        lambda: {2: percent, 1: lambda text: int(text) // 2, -1: lambda text: text[-1]},
        # What two columns make depends on the order of all calls.
        lambda: {0: str.upper, 2: percent, **dict.fromkeys((3, 4), numbered())},
    ],
)
@pytest.mark.parametrize("threads", [1, 3])
def test_many_rows_are_numpys(calls: Path, converters: Any, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = np.loadtxt(calls, CALLS, delimiter="\t", converters=converters())
    monkeypatch.setattr(np, "loadtxt", never)
    ours = oc.loadtxt(calls, CALLS, delimiter="\t", converters=converters(), threads=threads)
    assert oc.is_shared(ours) and identical(ours, theirs)


def test_one_function_for_all_columns_and_compressed_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "grid.gz"
    path.write_bytes(gzip.compress("".join(f"{i},{-i},{i / 8}\n" for i in range(30_000)).encode()))
    theirs = np.loadtxt(path, delimiter=",", converters=float)
    monkeypatch.setattr(np, "loadtxt", never)
    assert identical(oc.loadtxt(path, delimiter=",", converters=float), theirs)


def test_functions_are_called_row_by_row_in_this_thread(calls: Path) -> None:
    called: list[tuple[str, int]] = []

    def note(text: str) -> int:
        called.append((text, threading.get_ident()))
        return 0

    oc.loadtxt(calls, CALLS, delimiter="\t", converters={1: note, 2: note}, threads=3)
    assert [text for text, _ in called] == [text for i in range(ROWS) for text in (str(i), f"{i % 100}%")]
    assert {thread for _, thread in called} == {threading.get_ident()}


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-9, 9), st.text("ab \"#'é", max_size=4)), min_size=1, max_size=9))
def test_functions_get_the_texts_that_numpy_gives(rows: list[tuple[int, str]]) -> None:
    text = "".join(f'{n},"{word.replace(chr(34), chr(34) * 2)}"\n' for n, word in rows)
    options: dict[str, Any] = {"delimiter": ",", "quotechar": '"', "dtype": "i4,U9", "ndmin": 1}
    got: dict[Any, list[str]] = {np.loadtxt: [], oc.loadtxt: []}
    for load, words in got.items():
        load(io.StringIO(text), converters={1: lambda word, words=words: words.append(word) or word}, **options)
    assert got[oc.loadtxt] == got[np.loadtxt] == [word for _, word in rows]


def test_bytes_are_given_to_functions_that_ask_for_them() -> None:
    for source in ([b"caf\xe9 1"], io.BytesIO(b"caf\xe9 1")):
        kept = oc.loadtxt(source, "U4,i4", converters={0: lambda text: repr(text)[2:6]}, encoding="bytes")
        assert kept["f0"] == "caf\\"
    assert oc.loadtxt(io.BytesIO(b"caf\xe9 1"), "U4,i4", converters={0: str.upper})["f0"] == "CAF\xc9"


@pytest.mark.parametrize("row", [0, 1, ROWS // 2, ROWS - 1])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_what_a_function_raises_is_told_with_its_place(
    row: int, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    lines = TEXT.splitlines(keepends=True)
    lines[row] = lines[row].replace("%", "?", 1)
    # An error of a compiled column in a later row, which threads see first, is not the first in the file.
    lines.append("chr1\tx\t5%\t1\t2\n")
    path = tmp_path / "calls"
    path.write_bytes(pack(b"# head\n\n" + "".join(lines).encode()))

    def strict(text: str) -> float:
        if not text.endswith("%"):
            raise LookupError(f"no percent sign\nin {text}")
        return percent(text)

    with pytest.raises(oc.ParseError, match=r"its converter raised LookupError: no percent sign;") as caught:
        oc.loadtxt(path, CALLS, delimiter="\t", converters={2: strict}, threads=2)
    error = caught.value
    assert isinstance(error.__cause__, LookupError) and "\n" not in str(error)
    assert f"at row {row}, column 3 (field 'pct')" in str(error)
    assert (error.filename, error.line, error.field) == (str(path), row + 3, "pct")
    assert error.column == len(lines[row].split("?")[0].rpartition("\t")[0]) + 2


def test_functions_are_called_for_all_rows_before_a_flaw(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    path.write_text(TEXT + "chr1\tx\t5%\t1\t2\n" + TEXT)
    count = itertools.count()
    with pytest.raises(oc.ParseError, match=f":{ROWS + 1}:6: could not convert string 'x' to int32"):
        oc.loadtxt(path, CALLS, delimiter="\t", converters={2: lambda _: next(count)}, threads=3)
    assert next(count) == ROWS


def test_an_exception_that_no_program_handles_is_told_as_numpy_does(calls: Path) -> None:
    def interrupt(text: str) -> float:
        raise KeyboardInterrupt

    for load in (np.loadtxt, oc.loadtxt):
        with pytest.raises(ValueError, match="could not convert string") as caught:
            load(calls, CALLS, delimiter="\t", converters={2: interrupt})
        assert isinstance(caught.value.__cause__, KeyboardInterrupt)


def test_a_text_that_is_not_utf8_is_not_the_fault_of_a_function(tmp_path: Path) -> None:
    path = tmp_path / "cafe.txt"
    path.write_bytes(b"1 ok\n2 caf\xe9\n")
    for read in (oc.loadtxt, lambda *args, **options: list(oc.iter_text(*args, **options))):
        with pytest.raises(oc.ParseError, match=r"cafe.txt:2:3: .*: it is not UTF-8; set encoding='latin-1'"):
            read(path, "i4,U4", converters={1: str.upper})
    assert oc.loadtxt(path, "i4,U4", converters={1: str.upper}, encoding="latin1")["f1"][1] == "CAF\xc9"


def test_columns_by_name_with_names_and_missing(tmp_path: Path) -> None:
    path = tmp_path / "calls.csv"
    path.write_text("pos,pct\n1,50%\nNA,7%\n")
    options: dict[str, Any] = {"delimiter": ",", "names": True, "missing": {"NA": -1}}
    for converters in ({"pct": percent}, {1: percent}):
        assert oc.loadtxt(path, converters=converters, **options).tolist() == [(1.0, 0.5), (-1.0, 0.07)]
    chosen = oc.loadtxt(path, usecols=["pct"], converters={"pct": percent}, **options)
    assert chosen["pct"].tolist() == [0.5, 0.07]
    with pytest.raises(ValueError, match="'part'"):
        oc.loadtxt(path, converters={"part": percent}, **options)


@pytest.mark.parametrize(
    "converters", [3, {9: float}, {"a": float}, {0: 3}, {1.5: float}, {-3: float}, {2**80: float}, {0: float, 1: None}]
)
def test_converters_that_make_no_sense_are_refused_as_numpy_does(converters: Any) -> None:
    with pytest.raises((TypeError, ValueError)) as expected:
        np.loadtxt(["1 2"], converters=converters)
    with pytest.raises(expected.type):
        oc.loadtxt(["1 2"], converters=converters)
    # Without rows nobody looks at them.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for lines, most in ((["# 1 2"], None), (["1 2"], 0)):
            theirs = np.loadtxt(lines, converters=converters, max_rows=most)
            assert oc.loadtxt(lines, converters=converters, max_rows=most).shape == theirs.shape


def test_a_function_may_load_and_share_itself(calls: Path) -> None:
    def nested(text: str) -> float:
        return float(oc.loadtxt([text.rstrip("%")], converters=float))

    loaded = oc.loadtxt(calls, CALLS, delimiter="\t", converters={2: nested}, max_rows=200)
    assert loaded["pct"].tolist() == [float(i % 100) for i in range(200)]


# --- where the rows are ---


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_the_index_says_on_which_line_each_row_is(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    lines = [f"{i} {i * i}" if i % 3 else ("", "# note")[i % 2] for i in range(50_000)]
    path = tmp_path / "gaps.txt"
    path.write_bytes(pack("\n".join(["head", *lines]).encode()))
    array, index = oc.loadtxt(path, skiprows=1, return_index=True, threads=3)
    assert index.dtype == np.int64 and oc.is_shared(index)
    assert (index == array[:, 0] + 1).all()
    again, _ = oc.loadtxt(path, skiprows=index[777], max_rows=1, return_index=True)
    assert (again == array[777]).all()
    for rows in (1000, 1 << 20):
        parts = list(oc.iter_text(path, skiprows=1, rows=rows, return_index=True))
        assert (np.concatenate([part for part, _ in parts]) == array).all()
        assert (np.concatenate([part for _, part in parts]) == index).all()


def test_the_index_goes_with_every_form_of_result(tmp_path: Path) -> None:
    text = ["# a", "1 2", "3 4"]
    (first, second), index = oc.loadtxt(text, "i4,i4", unpack=True, return_index=True)
    assert (first.tolist(), second.tolist(), index.tolist()) == ([1, 3], [2, 4], [1, 2])
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for path in paths:
        path.write_text("\n".join(text))
    for array, lines in oc.loadtxt(paths, int, return_index=True):
        assert (array.shape, lines.tolist()) == ((2, 2), [1, 2])
    with pytest.warns(UserWarning, match="no data"):
        assert oc.loadtxt(["#"], return_index=True)[1].shape == (0,)
    assert oc.loadtxt(["", "7"], return_index=True)[1].tolist() == [1]
    quoted = ['"1', '1",2', "3,4"]
    array, index = oc.loadtxt(io.StringIO("\n".join(quoted)), "U4,i4", delimiter=",", quotechar='"', return_index=True)
    assert (array["f0"].tolist(), index.tolist()) == (["1\n1", "3"], [0, 2])
