"""`to_parquet` and `to_ipc`: what pyarrow, polars and DuckDB read from them."""

import datetime
import os
import subprocess
import sys

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onecopy as oc
from onecopy._export import tables

pa = pytest.importorskip("pyarrow")
pa_feather = pytest.importorskip("pyarrow.feather")
pa_parquet = pytest.importorskip("pyarrow.parquet")

CALL = np.dtype([("chr", "S10"), ("pos", "<i4"), ("pct", "<f4"), ("c", "<i4"), ("day", "<M8[D]"), ("word", "<U3")])


def calls(count):
    array = oc.zeros(count, CALL)
    array["chr"] = np.array([b"chr1", b"chrX", b""])[np.arange(count) % 3]
    array["pos"] = np.arange(count) * 7
    array["pct"] = np.where(np.arange(count) % 5, np.arange(count) / 3, np.nan)
    array["day"] = np.where(np.arange(count) % 4, np.datetime64("2020-02-29"), np.datetime64("NaT"))
    array["word"] = np.array(["é", "日本", "a"])[np.arange(count) % 3]
    return array


@pytest.fixture(params=["parquet", "ipc"])
def kind(request):
    return request.param


@pytest.fixture
def path(tmp_path, kind):
    return tmp_path / {"parquet": "a.parquet", "ipc": "a.arrow"}[kind]


def write(path, data, **options):
    return (oc.to_parquet if path.suffix == ".parquet" else oc.to_ipc)(path, data, **options)


def read(path):
    return pa_parquet.read_table(path) if path.suffix == ".parquet" else pa_feather.read_table(path)


# ---------------------------------------------------------------- tables


def test_arrow_reads_types_and_values(path):
    array = calls(1000)
    write(path, array)
    table = read(path)
    types = [pa.string(), pa.int32(), pa.float32(), pa.int32(), pa.date32(), pa.string()]
    assert table.schema == pa.schema(list(zip(CALL.names, types, strict=True)))
    assert table["chr"].to_pylist() == [text.decode() for text in array["chr"].tolist()]
    assert table["word"].to_pylist() == array["word"].tolist()
    assert table["day"].to_pylist() == array["day"].tolist()
    for name in ("pos", "pct", "c"):
        np.testing.assert_array_equal(table[name].to_numpy(), array[name], strict=True)


def test_polars_and_duckdb_read_it(path):
    polars = pytest.importorskip("polars")
    array = calls(1000)
    write(path, array)
    frame = polars.read_parquet(path) if path.suffix == ".parquet" else polars.read_ipc(path)
    assert frame.schema == {
        "chr": polars.String,
        "pos": polars.Int32,
        "pct": polars.Float32,
        "c": polars.Int32,
        "day": polars.Date,
        "word": polars.String,
    }
    np.testing.assert_array_equal(frame["pos"].to_numpy(), array["pos"])
    assert frame["word"].to_list() == array["word"].tolist()
    if path.suffix == ".parquet":
        duckdb = pytest.importorskip("duckdb")
        with duckdb.connect() as database:
            query = f"select chr, count(*), sum(pos) from '{path}' where day is null group by chr order by chr"
            rows = database.execute(query).fetchall()
        null = np.isnat(array["day"])
        expected = [
            (
                name.decode(),
                int((array["chr"][null] == name).sum()),
                int(array["pos"][null & (array["chr"] == name)].sum()),
            )
            for name in [b"", b"chr1", b"chrX"]
        ]
        assert rows == expected


@pytest.mark.parametrize(
    ("dtype", "values", "kind_of", "expected"),
    [
        ("?", [True, False], pa.bool_(), [True, False]),
        (">u8", [1, 2**63], pa.uint64(), [1, 2**63]),
        ("<f2", [1.5, np.inf], pa.float16(), [1.5, np.inf]),
        ("V3", [b"a\0b", b"xyz"], pa.binary(3), [b"a\0b", b"xyz"]),
        ("S4", [b"a\0b", b"xy"], pa.string(), ["a\0b", "xy"]),
        ("M8[h]", ["2020-01-01T06", "NaT"], pa.timestamp("s"), [datetime.datetime(2020, 1, 1, 6), None]),
        ("M8[25us]", [4, 8], pa.timestamp("us"), [datetime.datetime(1970, 1, 1, 0, 0, 0, n) for n in (100, 200)]),
        ("M8[M]", ["2020-02", "NaT"], pa.date32(), [datetime.date(2020, 2, 1), None]),
        (">M8[ms]", [1, "NaT"], pa.timestamp("ms"), [datetime.datetime(1970, 1, 1, 0, 0, 0, 1000), None]),
        ("m8[D]", [2, "NaT"], pa.duration("s"), [datetime.timedelta(2), None]),
        ([("x", ">i2"), ("t", "S2")], [(1, b"a"), (2, b"")], None, [{"x": 1, "t": "a"}, {"x": 2, "t": ""}]),
    ],
)
def test_every_kind_of_column(path, dtype, values, kind_of, expected):
    array = np.array(values, dtype)
    write(path, {"x": array, "every second": np.repeat(array, 2)[::2]})
    table = read(path)
    for column in table.columns:
        assert column.to_pylist() == expected
        # Parquet has nothing between days and milliseconds.
        if kind_of is not None and not (path.suffix == ".parquet" and kind_of == pa.timestamp("s")):
            assert column.type == kind_of


def test_axes_and_masks(path):
    grid = np.arange(24, dtype="f4").reshape(4, 3, 2)
    records = np.zeros(4, [("grid", "f4", (3, 2)), ("n", "i4")])
    records["grid"] = grid
    masked = np.ma.masked_array([1, 2, 3, 4], [0, 1, 0, 1])
    write(path, {"grid": grid, "masked": masked, "text": np.ma.masked_array([b"a", b"b", b"c", b"d"], [1, 0, 0, 0])})
    table = read(path)
    assert table["grid"].to_pylist() == grid.tolist()
    assert table["masked"].to_pylist() == [1, None, 3, None]
    assert table["text"].to_pylist() == [None, "b", "c", "d"]
    write(path, records, mode="w")
    assert read(path)["grid"].to_pylist() == grid.tolist()


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(st.sampled_from(["S5", "U4", "i2", "f8", "M8[us]", "?"]), hnp.array_shapes(max_dims=1, max_side=40)),
    st.sampled_from([1, 2, -1]),
)
def test_any_column_comes_back(tmp_path_factory, array, step):
    path = tmp_path_factory.mktemp("any") / "a.arrow"
    array = array[::step]
    try:
        expected = [bytes(x).decode() for x in array] if array.dtype.kind == "S" else None
    except UnicodeDecodeError:
        with pytest.raises(ValueError, match="no UTF-8"):
            oc.to_ipc(path, {"x": array})
        return
    try:
        oc.to_ipc(path, {"x": array})
    except UnicodeEncodeError:
        # A lone surrogate is no text.
        assert array.dtype.kind == "U"
        return
    found = pa_feather.read_table(path)["x"]
    if array.dtype.kind in "SU":
        assert found.to_pylist() == (expected if expected is not None else array.tolist())
    else:
        np.testing.assert_array_equal(found.to_numpy(), array)


@pytest.mark.parametrize("dtype", ["S3", "U3", ">U3"])
@pytest.mark.parametrize("masked", [False, True])
def test_text_with_nul_is_kept(path, dtype, masked):
    texts = np.array(["a\0b", "c", "", "\0d"]).astype(dtype)
    expected = ["a\0b", "c", "", "\0d"]
    if masked:
        texts, expected[1] = np.ma.masked_array(texts, [0, 1, 0, 0]), None
    write(path, {"x": texts, "list": np.array(texts[[0, 0, 1, 1, 2, 2, 3, 3]]).reshape(4, 2)})
    assert read(path)["x"].to_pylist() == expected
    assert read(path)["list"].to_pylist()[0] == ["a\0b", "a\0b"]


def test_dates_at_the_ends(path):
    days = np.array([2**31 - 1, -(2**31), 0], "i8").view("M8[D]")
    seconds = np.array([2**40 * 3600, 0, -5], "i8").view("M8[s]").astype("M8[h]")
    masked = np.ma.masked_array(np.array([1, 2**40, 2], "i8").view("M8[D]"), [0, 1, 0])
    write(path, {"day": days, "hour": seconds, "masked": masked})
    assert read(path)["masked"].null_count == 1
    assert read(path)["day"].cast(pa.int32()).to_pylist() == [2**31 - 1, -(2**31), 0]
    assert read(path)["hour"].cast(pa.int64()).to_pylist()[1:] in ([0, -3600], [0, -3_600_000])


def test_blocks_of_rows_one_after_the_other(path, monkeypatch):
    monkeypatch.setattr(tables, "_BLOCK_BYTES", 100 * CALL.itemsize)
    array = calls(950)
    alive = []

    def blocks():
        for first in range(0, 950, 300):
            alive.append(first)
            yield array[first : first + 300]

    write(path, blocks())
    assert alive == [0, 300, 600, 900]
    assert read(path)["pos"].to_pylist() == array["pos"].tolist()
    groups = pa_parquet.ParquetFile(path).num_row_groups if path.suffix == ".parquet" else None
    assert groups in (None, 10)


def test_a_full_disk_is_an_error_and_leaves_nothing(path):
    program = f"""
import resource, signal, sys
import numpy as np, onecopy as oc
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
numbers = np.random.default_rng(0).random(1_000_000)
try:
    oc.{"to_parquet" if path.suffix == ".parquet" else "to_ipc"}({str(path)!r}, {{"x": numbers}})
except OSError as error:
    assert error.filename == {str(path)!r} and "make room or write elsewhere" in str(error), error
    print("said", error)
"""
    ended = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "") and "said" in ended.stdout, ended.stderr
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("name", ["zip", "", 3, "snappy:1"])
def test_compressions_that_there_are_not(path, name):
    with pytest.raises(ValueError, match=rf"compression {name!r}: give .*'zstd'.* or None"):
        write(path, {"x": [1]}, compression=name)
    assert os.listdir(path.parent) == []


def test_compression_and_columns_that_are_mapped(tmp_path):
    numbers = np.zeros(100_000)
    oc.to_parquet(tmp_path / "a.parquet", {"x": numbers}, compression="gzip", compression_level=9)
    assert pa_parquet.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0).column(0).compression == "GZIP"
    oc.to_parquet(tmp_path / "b.parquet", {"x": numbers}, compression=None)
    assert pa_parquet.ParquetFile(tmp_path / "b.parquet").metadata.row_group(0).column(0).compression == "UNCOMPRESSED"
    oc.to_ipc(tmp_path / "a.arrow", {"x": numbers}, compression="zstd")
    assert os.path.getsize(tmp_path / "a.arrow") < 10_000
    oc.to_ipc(tmp_path / "b.arrow", {"x": numbers})
    mapped = pa_feather.read_table(tmp_path / "b.arrow", memory_map=True)["x"].chunk(0)
    before = pa.total_allocated_bytes()
    assert mapped.to_numpy(zero_copy_only=True)[-1] == 0 and pa.total_allocated_bytes() == before


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (np.zeros(3), TypeError, "no names for its columns"),
        ({"x": np.zeros(3, "c16")}, TypeError, "column 'x': Arrow has no type for dtype complex128"),
        ({"x": np.array([None, 1])}, TypeError, "column 'x': Arrow has no type for dtype object"),
        ({"x": np.zeros(3, "m8[M]")}, TypeError, r"timedelta64\[M\]: convert it to s"),
        ({"x": [1, 2], "y": [1]}, ValueError, "different lengths: {'x': 2, 'y': 1}"),
        ({"x": 1}, TypeError, "column 'x' must have"),
        ({}, ValueError, "no columns"),
        ([], ValueError, "there is no data"),
        ({"x": np.array([b"\xff"])}, ValueError, "column 'x' has bytes that are no UTF-8"),
        ({"x": np.zeros((3, 0))}, TypeError, r"column 'x': Arrow has no lists of 0 values: leave it out"),
        (np.zeros(2, [("x", "f4", (2, 0))]), TypeError, r"column 'x': Arrow has no lists of 0 values"),
        ({"x": np.zeros((0, 0))}, TypeError, r"column 'x': Arrow has no lists of 0 values"),
        ({"x": np.zeros(2, "V0")}, TypeError, "column 'x' has values of no bytes"),
        ({"x": np.array(["a\ud800"])}, ValueError, "column 'x' has text that is no Unicode"),
        ({"x": np.ma.masked_array(["a\ud800"], [0])}, ValueError, "column 'x' has text that is no Unicode"),
        ({"a\ud800": [1]}, ValueError, r"column 'a\\ud800'.*surrogates"),
        ({"x": np.array([2**40], "i8").view("M8[D]")}, ValueError, r"column 'x' has 3010\d{6}-.*beyond date32"),
        ({"x": np.array([-(2**40)], "i8").view("M8[D]")}, ValueError, r"column 'x'.*beyond date32"),
        ({"x": np.array([2**61], "i8").view("M8[W]")}, ValueError, r"column 'x'.*beyond date32"),
        ({"x": np.array([2**60], "i8").view("M8[h]")}, ValueError, r"column 'x'.*beyond timestamp\[s\]"),
        ({"x": np.array([2**61], "i8").view("m8[W]")}, ValueError, r"column 'x'.*beyond duration\[s\]"),
        ([{"x": [1]}, {"x": [1.5]}], ValueError, "a block has the columns x: double, but the first one x: int64"),
    ],
)
def test_tables_that_cannot_be_leave_what_was_there(path, data, error, words):
    write(path, {"old": [1]})
    with pytest.raises(error, match=words):
        write(path, data, mode="w")
    assert read(path).column_names == ["old"]
    assert len(list(path.parent.iterdir())) == 1
    with pytest.raises(FileExistsError, match="mode='w'"):
        write(path, {"x": [1]})
    with pytest.raises(ValueError, match="mode 'a'"):
        write(path, {"x": [1]}, mode="a")


def test_what_is_needed_is_named():
    program = """
import sys
import onecopy as oc
sys.modules["pyarrow"] = sys.modules["zarr"] = None
for call, package in [(oc.to_parquet, "pyarrow"), (oc.to_ipc, "pyarrow"), (oc.to_zarr, "zarr")]:
    try:
        call("x", {"a": [1]})
    except ImportError as error:
        assert f"pip install {package}" in str(error) and call.__name__ in str(error), error
    else:
        raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)
