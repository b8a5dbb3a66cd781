"""`onecopy.loadtxt`: numpy's results in shared memory, more kinds of input, and errors that say where."""

import bz2
import gzip
import io
import itertools
import lzma
import os
import pickle
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onecopy as oc
from onecopy import _native
from samples import identical

CALLS = np.dtype([("chr", "S10"), ("pos", "<i4"), ("pct", "<f4"), ("c", "<i4"), ("t", "<i4")])

pytestmark = pytest.mark.usefixtures("nothing_left")


def same(ours: Any, theirs: Any) -> bool:
    return identical(np.asarray(ours), np.asarray(theirs))


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# --- the same as numpy ---

AS_NUMPY: list[tuple[str, dict[str, Any]]] = [
    ("1 2 3\n4 5 6\n", {}),
    ("1 2 3\n4 5 6", {"dtype": int}),
    ("1 2 3\r\n4 5 6\r\n", {"dtype": "f4"}),
    ("1 2 3\r4 5 6\r", {"dtype": ">i2"}),
    ("# head\n1 2 # tail\n\n   \n3 4\n", {}),
    ("1,2\n3,4\n", {"delimiter": ","}),
    ("1, 2\n3 ,4\n", {"delimiter": ",", "dtype": "i8"}),
    ("a;b\nx y; z\n", {"delimiter": ";", "dtype": "U3"}),
    ('"a,b",1\n"c ""d""",2\n', {"delimiter": ",", "quotechar": '"', "dtype": [("s", "U8"), ("n", "i4")]}),
    ("1 2\n3 4\n5 6\n", {"skiprows": 1, "max_rows": 1}),
    ("1 2 3\n4 5 6\n", {"usecols": (2, 0)}),
    ("1 2 3\n4 5 6\n", {"usecols": -1}),
    ("1 2 3\n4 5 6\n", {"unpack": True}),
    ("1 2 3\n", {}),
    ("1\n2\n3\n", {"ndmin": 2}),
    ("1 2 3\n", {"ndmin": 2}),
    ("5\n", {}),
    ("5\n", {"ndmin": 1}),
    ("5\n", {"ndmin": 2}),
    ("nan inf -inf 1e400 -0.0 1e-320 0.1 123456789012345678901234567890\n", {}),
    ("0.1 0.2 16777217 3.4028236e38\n", {"dtype": "f4"}),
    ("1 65504 0.1\n", {"dtype": "f2"}),
    ("1+2j (3-4j) 5\n", {"dtype": complex}),
    ("1 0 2\n", {"dtype": bool}),
    ("abc de\n", {"dtype": "S3"}),
    ("chr1 10 0.5 1 2\nchrX 11 0.25 3 4\n", {"dtype": CALLS}),
    ("chr1 10 0.5 1 2\n", {"dtype": CALLS}),
    ("chr1 10 0.5 1 2\nchrX 11 0.25 3 4\n", {"dtype": CALLS, "unpack": True}),
    ("1 2 3\n4 5 6\n", {"dtype": [("a", "i4"), ("b", "f8", 2)]}),
    ("1 2 3\n4 5 6\n", {"dtype": [("a", "i4"), ("b", [("x", "f8"), ("y", "u1")])]}),
    ("1 2\n3 4\n", {"dtype": np.dtype([("a", "i1"), ("b", "f8")], align=True)}),
    ("2020-01-02 2021-03-04\n", {"dtype": "M8[D]"}),
    ("2020-01-02T03:04:05\n", {"dtype": "M8[s]", "ndmin": 1}),
    ("1 2\n% x\n3 4 // y\n", {"comments": ["%", "//"]}),
    ("1 2\n3 4\n", {"comments": None}),
    ("1 2\n3 4\n", {"converters": {0: lambda text: float(text) * 10}}),
    ("1 2\n3 4\n", {"dtype": "g"}),
    ("a b\n", {"dtype": "U"}),
    ("caf\xe9 x\n", {"dtype": "U5", "encoding": "utf-8"}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "options"), AS_NUMPY)
@pytest.mark.parametrize("kind", ["path", "file", "binary", "lines", "generator"])
def test_results_are_numpys(text: str, options: dict[str, Any], kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / "data.txt", text)

    def load(function: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            if kind == "path":
                return function(path, **options)
            if kind == "file":
                with path.open(newline=None, encoding="utf-8") as file:
                    return function(file, **options)
            if kind == "binary":
                with path.open("rb") as file:
                    return function(file, **options)
            lines = io.StringIO(text, newline=None)
            return function(list(lines) if kind == "lines" else (line for line in lines), **options)

    if kind == "binary" and ("\r4" in text or not text.isascii()):
        pytest.skip("numpy reads bytes as Latin-1 and without universal newlines")
    theirs, ours = load(np.loadtxt), load(oc.loadtxt)
    if isinstance(theirs, list):
        assert len(ours) == len(theirs) and all(same(a, b) for a, b in zip(ours, theirs, strict=True))
    else:
        assert same(ours, theirs)
        assert oc.is_shared(ours)


NUMBERS = st.floats(allow_subnormal=True) | st.integers(-(10**20), 10**20)


@settings(deadline=None)
@given(st.integers(1, 5).flatmap(lambda n: st.lists(st.lists(NUMBERS, min_size=n, max_size=n), min_size=1)))
def test_floats_are_numpys_bit_for_bit(rows: list[list[float]]) -> None:
    text = ["\t".join(map(repr, row)) for row in rows]
    assert same(oc.loadtxt(text), np.loadtxt(text))
    assert same(oc.loadtxt(text, "f4"), np.loadtxt(text, "f4"))


def test_many_rows_on_all_cores_are_numpys(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    columns = [*rng.integers(1, [[22], [2**31], [50], [50]], (4, 60_000)), rng.random(60_000)]
    rows = [f"chr{a}\t{b}\t{e:.4f}\t{c}\t{d}\n" for a, b, c, d, e in zip(*columns, strict=True)]
    path = write(tmp_path / "calls.tsv", "".join(rows))
    assert same(oc.loadtxt(path, CALLS, threads=4), np.loadtxt(path, CALLS))


def test_an_empty_input_warns_and_is_empty(tmp_path: Path) -> None:
    path = write(tmp_path / "empty.txt", "# nothing\n")
    with pytest.warns(UserWarning, match="input contained no data"):
        ours = oc.loadtxt(path, CALLS)
    with pytest.warns(UserWarning):
        assert same(ours, np.loadtxt(path, CALLS))


# --- beyond numpy ---


def bgzf(data: bytes, size: int = 20_000) -> bytes:
    """Write blocked gzip: members with their length in an extra field."""
    out = b""
    for start in [*range(0, len(data), size), len(data)]:
        member = gzip.compress(data[start : start + size])
        if start == len(data):
            member = gzip.compress(b"")
        body = member[10:]
        total = 18 + len(body)
        out += member[:3] + b"\x04" + member[4:10] + b"\x06\x00BC\x02\x00" + (total - 1).to_bytes(2, "little") + body
    return out


TEXT = "".join(f"chr{i % 22} {i} {i / 7:.4f} {i % 40} {i % 13}\n" for i in range(20_000)).encode()


@pytest.mark.parametrize("compress", [gzip.compress, bgzf, lambda d: gzip.compress(d[:9]) + gzip.compress(d[9:])])
@pytest.mark.parametrize("name", ["calls.txt", "calls.gz"])
def test_compression_is_recognised_by_content(compress: Any, name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, compress(TEXT))
    assert same(oc.loadtxt(path, CALLS), oc.loadtxt(io.BytesIO(TEXT), CALLS))


@pytest.mark.parametrize(
    "compress", [gzip.compress, bgzf, bz2.compress, lzma.compress, lambda d: lzma.compress(d, lzma.FORMAT_ALONE)]
)
def test_compressed_files_may_be_open(compress: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "calls", compress(TEXT))
    assert b"\r" in path.read_bytes(), "which are no line ends"
    with path.open("rb") as file:
        assert same(oc.loadtxt(file, CALLS), oc.loadtxt(path, CALLS))


@pytest.mark.parametrize("compress", [bz2.compress, lzma.compress])
def test_what_is_compressed_by_any_means_goes_with_everything(compress: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "head.csv.any", compress(b"x,y\n1,NA\n3,4\n"))
    loaded, index = oc.loadtxt(path, delimiter=",", names=True, missing={"NA": 7}, return_index=True)
    assert (loaded["y"].tolist(), index.tolist()) == ([7, 4], [1, 2])
    assert oc.loadtxt(path, "i4,U4", delimiter=",", skiprows=1, converters={1: str.lower})["f1"].tolist() == ["na", "4"]
    assert oc.loadtxt([path, path], None, delimiter=",", names=True)[1]["x"].tolist() == [1, 3]


def test_a_name_does_not_make_a_compression(tmp_path: Path) -> None:
    assert oc.loadtxt(write(tmp_path / "plain.bz2", "1 2\n")).tolist() == [1, 2]
    with pytest.raises(oc.ParseError, match=r"cut.xz: truncated xz data: it ends at byte 40;"):
        oc.loadtxt(write(tmp_path / "cut.xz", lzma.compress(TEXT)[:40]))


def test_several_files_give_a_list_in_order(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{n}.txt", f"{n} {n}\n" * (n + 1)) for n in range(20)]
    for files in (paths, [str(path) for path in paths], tuple(paths)):
        arrays = oc.loadtxt(files, dtype=int, ndmin=2)
        assert [a.shape for a in arrays] == [(n + 1, 2) for n in range(20)]
        assert all((a == n).all() and oc.is_shared(a) for n, a in enumerate(arrays))


def test_paths_strings_and_patterns_mix_in_a_sequence_of_files(tmp_path: Path) -> None:
    for n in range(3):
        write(tmp_path / f"{n}.txt", f"{n}\n")
    first, pattern = str(tmp_path / "0.txt"), tmp_path / "[12].txt"
    for files in ([first, pattern], [pattern.with_name("0.txt"), str(pattern)], (first, str(pattern))):
        assert [int(array) for array in oc.loadtxt(files, int)] == [0, 1, 2]
    with pytest.raises(TypeError, match="paths go in a list"):
        oc.loadtxt(tmp_path.glob("*.txt"))


def test_one_missing_file_among_several_is_named(tmp_path: Path) -> None:
    there = write(tmp_path / "there.txt", "1\n")
    with pytest.raises(FileNotFoundError, match=r"absent\.txt"):
        oc.loadtxt([str(there), str(tmp_path / "absent.txt")])


def test_names_of_the_header(tmp_path: Path) -> None:
    path = write(tmp_path / "head.csv", "# c\nx,y\n1,2\n3,4\n")
    loaded = oc.loadtxt(path, delimiter=",", names=True)
    assert loaded.dtype == [("x", "f8"), ("y", "f8")] and loaded["y"].tolist() == [2, 4]
    assert oc.loadtxt(path, delimiter=",", names=True, usecols="y").tolist() == [(2.0,), (4.0,)]
    records = oc.loadtxt(path, dtype=[("a", "i4"), ("b", "i4")], delimiter=",", names=True)
    assert records.tolist() == [(1, 2), (3, 4)]


def test_missing_values(tmp_path: Path) -> None:
    path = write(tmp_path / "gaps.csv", "a,1,NA\n-,NA,0.5\n,,\n")
    loaded = oc.loadtxt(
        path, dtype="S3,i4,f4", delimiter=",",
        missing={"NA": -1, "f2": {"NA": np.nan, "": 9}, "f1": {"": 7}},
    )  # fmt: skip
    assert loaded["f1"].tolist() == [1, -1, 7]
    assert np.isnan(loaded["f2"][0]) and loaded["f2"][2] == 9


def test_missing_values_are_spelled_as_the_text_would(tmp_path: Path) -> None:
    assert oc.loadtxt(["NA 1"], bool, missing={"NA": np.True_}).tolist() == [True, True]
    assert oc.loadtxt(["NA 1"], "S3,i4", missing={"NA": b"abc"})["f0"] == b"abc"
    with pytest.raises(oc.ParseError, match=r"'NA' to int64 .*: it is listed as missing, but 'nan' is no int64"):
        oc.loadtxt(["1 NA"], int, missing={"NA": np.nan})
    # Where no value is missing it does not matter.
    assert oc.loadtxt(["1 2"], int, missing={"NA": np.nan}).tolist() == [1, 2]


def test_quotes_that_are_closed_may_end_a_line_of_a_list() -> None:
    lines = ['"a b","c"', '1,"2"', '3,"4"']
    options: dict[str, Any] = {"delimiter": ",", "quotechar": '"', "names": True}
    assert oc.loadtxt(lines, **options).dtype.names == ("a b", "c")
    assert [len(block) for block in oc.iter_text(lines, **options)] == [2]
    # Only numpy's reader joins these.
    with pytest.raises(ValueError, match="only numpy's reader"):
        oc.loadtxt(['"a', 'b",c', "1,2"], **options)


@settings(deadline=None)
@given(st.lists(st.text('ab",# ', max_size=6), min_size=1, max_size=4), st.sampled_from([None, ","]))
def test_quoted_lines_of_a_list_are_numpys(lines: list[str], delimiter: str | None) -> None:
    def outcome(load: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return load(lines, "U9", delimiter=delimiter, quotechar='"', ndmin=2).tolist()
            except ValueError:
                return None

    # Where white space delimits, an empty quoted field at the end of a line is one: see docs/design/text.md.
    if delimiter is not None or not any('""' in line or '" ' in line for line in lines):
        assert outcome(oc.loadtxt) == outcome(np.loadtxt)


def test_messages_name_an_open_file(tmp_path: Path) -> None:
    path = write(tmp_path / "calls.txt", "1\nx\n")
    with path.open() as file, pytest.raises(oc.ParseError, match=r"calls\.txt:2:1: ") as caught:
        oc.loadtxt(file)
    assert caught.value.filename == str(path)


def test_long_strings_are_an_error_unless_truncated() -> None:
    with pytest.raises(oc.ParseError, match="truncate=True"):
        oc.loadtxt(["abcd"], "S3")
    assert oc.loadtxt(["abcd"], "S3", truncate=True) == b"abc"


# --- errors ---


@pytest.mark.parametrize(
    ("text", "place", "field", "value", "words"),
    [
        ("chr1 1 0.5 1 2\nchr2 x 0.5 1 2\n", (2, 6), "pos", "x", "int32"),
        ("chr1 1 0.5 1 2\n\n# c\nchr2 2 0.5 1 99999999999\n", (4, 14), "t", "99999999999", "2147483647"),
        ("chr1 1 0.5 1\n", (1, None), None, None, "requires 5 columns but 4 were found at row"),
        ("chr1 1 0.5 1 2 3\n", (1, None), None, None, "requires 5 columns but 6 were found at row"),
        ("chromosome11 1 0.5 1 2\n", (1, 1), "chr", "chromosome11", "S10"),
        ("chr1 1.5 0.5 1 2\n", (1, 6), "pos", "1.5", "int32"),
        ("chr1 1 half 1 2\n", (1, 8), "pct", "half", "float32"),
        ("chr1 1\x00 0.5 1 2\n", (1, None), "pos", None, "NUL"),
    ],
)
@pytest.mark.parametrize("rows_before", [0, 30_000])
def test_a_parse_error_says_where_and_what(
    text: str, place: Any, field: Any, value: Any, words: str, rows_before: int, tmp_path: Path
) -> None:
    good = "chr7 123 1e3 4 5\n"
    path = write(tmp_path / "calls.txt", good * rows_before + text + good * rows_before)
    with pytest.raises(oc.ParseError) as caught:
        oc.loadtxt(path, CALLS, threads=3)
    error = caught.value
    line, column = place
    assert str(error).startswith(f"{path}:{line + rows_before}:") and "\n" not in str(error) and words in str(error)
    assert (error.filename, error.line) == (str(path), line + rows_before)
    assert column is None or error.column == column
    assert field is None or error.field == field
    assert value is None or error.text == value
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.line) == (str(error), error.line)


def test_invalid_utf8_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    path = write(tmp_path / "cafe.txt", b"caf\xe9\n")
    with pytest.raises(oc.ParseError, match="latin-1"):
        oc.loadtxt(path, "U5")
    assert oc.loadtxt(path, "U5", encoding="latin1") == "caf\xe9"


def test_bytes_of_a_file_are_latin1_as_for_numpy() -> None:
    assert oc.loadtxt(io.BytesIO(b"caf\xe9\n"), "U5") == oc.loadtxt([b"caf\xe9"], "U5") == "caf\xe9"
    assert oc.loadtxt(io.BytesIO(b"caf\xc3\xa9\n"), "U5", encoding="utf-8") == "caf\xe9"


def test_columns_may_come_from_a_generator() -> None:
    for dtype in (int, object):
        columns = (column for column in (1, 0))
        assert oc.loadtxt(["1 2", "3 4"], dtype, usecols=columns).tolist() in (
            [[2, 1], [4, 3]],
            [["2", "1"], ["4", "3"]],
        )


def test_rows_of_a_generator_without_an_end() -> None:
    assert oc.loadtxt((f"{n} {n}" for n in itertools.count()), max_rows=2).tolist() == [[0, 0], [1, 1]]


def test_lines_that_do_not_count_towards_max_rows_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "gaps.txt", "1\n\n2\n3\n")
    with pytest.warns(UserWarning, match="Input line 2 contained no data"):
        assert oc.loadtxt(path, max_rows=2).tolist() == [1, 2]


@pytest.mark.parametrize("compress", [gzip.compress, bgzf])
def test_truncated_and_corrupt_gzip_are_named(compress: Any, tmp_path: Path) -> None:
    whole = compress(TEXT)
    with pytest.raises(oc.ParseError, match="truncated"):
        oc.loadtxt(write(tmp_path / "cut.gz", whole[: len(whole) // 2]), CALLS)
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    with pytest.raises(oc.ParseError, match=r"corrupt|truncated"):
        oc.loadtxt(write(tmp_path / "bad.gz", bytes(damaged)), CALLS)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        oc.loadtxt(tmp_path / "absent.txt")
    with pytest.raises(IsADirectoryError, match="is a directory"):
        oc.loadtxt(tmp_path)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"ndmin": 3}, ValueError, "ndmin keyword: 3"),
        ({"skiprows": -1}, ValueError, "skiprows=-1"),
        ({"max_rows": -1}, ValueError, "max_rows=-1"),
        ({"usecols": 1.5}, TypeError, "float"),
        ({"usecols": 7}, (ValueError, IndexError), "7|columns"),
        ({"usecols": "x"}, TypeError, "names=True"),
        ({"delimiter": ""}, TypeError, "delimiter"),
        ({"skiprows": 2**64}, OverflowError, "skiprows=18446744073709551616"),
        ({"max_rows": 2**63}, OverflowError, "max_rows"),
        ({"encoding": 5}, ValueError, "encoding=5"),
        ({"threads": -1}, ValueError, "threads=-1"),
        ({"threads": "2"}, TypeError, "threads='2'"),
        ({"names": ["a", "b"]}, TypeError, "structured dtype"),
        ({"missing": ["NA"]}, TypeError, "missing=.*such as"),
        ({"missing": {0: 1}}, TypeError, "missing has 0"),
        ({"missing": {"f": {b"NA": 1}}}, TypeError, "missing has b'NA'"),
        ({"comments": "#", "delimiter": "#"}, TypeError, "#"),
        ({"quotechar": "''"}, TypeError, "quotechar"),
        ({"dtype": None, "converters": float}, ValueError, "converters"),
        ({"names": True, "like": np.empty(0)}, ValueError, "like"),
        ({"return_index": True, "dtype": object}, ValueError, "return_index"),
    ],
)
def test_parameters_that_make_no_sense(options: dict[str, Any], error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        oc.loadtxt(["1 2"], **options)


def test_a_result_beyond_the_limit_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "big.txt", "123456 123456\n" * 400_000)
    limit = oc.stats()["limit"]
    oc.set_limit(oc.stats()["used_bytes"] + (2 << 20))
    try:
        with pytest.raises(oc.OutOfMemoryError, match="arena's limit"):
            oc.loadtxt(path)
    finally:
        oc.set_limit(limit)


INTERRUPTED = """
import sys
import onecopy as oc
print("ready", flush=True)
try:
    oc.loadtxt(sys.argv[1])
except KeyboardInterrupt:
    print("interrupted", oc.stats()["blocks"])
"""


def test_ctrl_c_ends_a_load(tmp_path: Path) -> None:
    # A pipe that never ends: only the signal can end the load.
    fifo = tmp_path / "endless"
    os.mkfifo(fifo)
    command = [sys.executable, "-c", INTERRUPTED, str(fifo)]
    environment = {k: v for k, v in os.environ.items() if k != _native.SESSION_VARIABLE}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        with fifo.open("wb", buffering=0) as pipe:
            stop = threading.Event()

            def feed() -> None:
                while not stop.is_set():
                    try:
                        pipe.write(b"1 2 3\n" * 1000)
                    except BrokenPipeError:
                        return

            feeder = threading.Thread(target=feed)
            feeder.start()
            process.send_signal(signal.SIGINT)
            assert process.stdout.read() == "interrupted 0\n"
            stop.set()
        feeder.join()


def test_ends_of_lines_inside_of_quotes_stay_as_they_are_given() -> None:
    lines = ["1\n", '"\n', "a\r", '2"\n']
    for source in (lines, iter(lines)):
        read = oc.loadtxt(source, "U4", delimiter=",", quotechar='"', truncate=True)
        assert read.tolist() == ["1", "\na\r2"]


def test_fields_that_overlap_are_written_in_their_order():
    dtype = np.dtype({"names": ["a", "b"], "formats": ["<i8", "<i2"], "offsets": [0, 2], "itemsize": 8})
    text = [f"{n * 99999999999} {n % 100 - 50}" for n in range(500)]
    expected, loaded = np.loadtxt(text, dtype=dtype), oc.loadtxt(text, dtype=dtype)
    for name in dtype.names:
        assert loaded[name].tolist() == expected[name].tolist()


def test_strings_are_cut_where_that_is_wanted():
    text = [f"{'abcdefgh'[: n % 8 + 1]} {n}" for n in range(2000)]
    loaded = oc.loadtxt(text, dtype="S3,i4", truncate=True)
    assert loaded["f0"].tolist() == [line.split()[0][:3].encode() for line in text]
    assert loaded["f1"].tolist() == list(range(2000))
    with pytest.raises(oc.ParseError, match="it has 4 characters and 3 fit"):
        oc.loadtxt(text, dtype="S3,i4")
