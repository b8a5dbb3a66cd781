"""`to_parquet`, `to_ipc` and `to_zarr`: what pyarrow, polars, DuckDB, zarr and xarray read from them."""

import datetime
import errno
import fcntl
import os
import signal
import subprocess
import sys
import types

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onecopy as oc
from onecopy import _native
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
    print("said", error)
"""
    ended = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "") and "said" in ended.stdout, ended.stderr
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


def test_a_version_that_is_too_old_is_named(tmp_path, monkeypatch):
    old = types.ModuleType("zarr")
    old.__version__ = "2.18.7"
    monkeypatch.setitem(sys.modules, "zarr", old)
    with pytest.raises(ImportError, match=r"to_zarr needs a newer zarr than 2\.18\.7: pip install -U zarr"):
        oc.to_zarr(tmp_path / "a.zarr", {"x": [1]})
    assert os.listdir(tmp_path) == []


# ---------------------------------------------------------------- Zarr


@pytest.fixture
def store(tmp_path):
    pytest.importorskip("zarr")
    return tmp_path / "a.zarr"


def open_zarr(store, **options):
    import xarray

    with xarray.open_zarr(store, consolidated=False, **options) as dataset:
        return dataset.load()


def test_xarray_opens_a_grid_with_coordinates(store):
    days = np.arange("2020-01-01", "2020-01-04", dtype="M8[D]").astype("M8[s]")
    grid = np.random.default_rng(0).random((3, 4, 5)).astype("f4")
    coords = {"time": days, "lat": [1.5, 2, 3, 4], "lon": list("abcdé")}
    dims = {"t2m": ["time", "lat", "lon"], "height": ["lat", "lon"]}
    options = {"chunks": {"t2m": (2, 4, 5)}, "attrs": {"t2m": {"units": "K"}}}
    oc.to_zarr(store, {"t2m": grid, "height": grid[0]}, dims=dims, coords=coords, **options)
    found = open_zarr(store)
    np.testing.assert_array_equal(found["t2m"], grid)
    assert found["t2m"].dims == ("time", "lat", "lon") and found["t2m"].dtype == "f4"
    assert found["t2m"].attrs == {"units": "K"} and set(found.coords) == set(coords)
    assert float(found["t2m"].sel(time="2020-01-02", lat=3, lon="é")) == grid[1, 2, 4]
    import zarr

    assert zarr.open_group(store, mode="r")["t2m"].chunks == (2, 4, 5)


@pytest.mark.parametrize("dtype", ["?", "i1", ">i4", "u8", "f2", "f8", "c8", "c16", "M8[s]", "M8[25us]", "m8[h]"])
def test_zarr_keeps_types(store, dtype):
    import zarr

    array = (np.arange(30) % 7).astype("i8" if dtype[0] in "mM" else dtype).astype(dtype).reshape(5, 6)
    oc.to_zarr(store, {"g/x": array, "scalar": array[1, 2], "empty": array[:0], "every": array[::-1, ::2]})
    group = zarr.open_group(store, mode="r")
    for name, expected in {"g/x": array, "scalar": array[1, 2], "empty": array[:0], "every": array[::-1, ::2]}.items():
        np.testing.assert_array_equal(group[name][...], expected)
        assert group[name].dtype == array.dtype.newbyteorder("=")


def test_records_become_a_group_of_columns(store):
    array = calls(100)
    records = np.zeros(3, [("grid", "f4", (2,)), ("n", "i4")])
    oc.to_zarr(store, {"run/calls": array, "r": records}, attrs={"r": {"source": "x"}})
    found = open_zarr(store, group="run/calls")
    assert dict(found.sizes) == {"row": 100}
    for name in CALL.names:
        expected = array[name].astype("U") if name == "chr" else array[name]
        np.testing.assert_array_equal(found[name].values.astype(expected.dtype), expected)
    assert open_zarr(store, group="r").attrs == {"source": "x"}
    assert open_zarr(store, group="r")["grid"].dims == ("row", "grid0")


@pytest.mark.parametrize(
    ("data", "options", "error", "words"),
    [
        ({"x": np.zeros(2, "longdouble")}, {}, TypeError, "array 'x': Zarr has no type for dtype"),
        ({"x": np.zeros(2, "V3")}, {}, TypeError, "Zarr has no type"),
        ({"x": np.array([None])}, {}, TypeError, "Zarr has no type for dtype object"),
        ({"x": np.ma.masked_array([1], [1])}, {}, TypeError, "masked"),
        ({"x": np.array([b"\xff"])}, {}, ValueError, "no UTF-8"),
        ({"x": [1]}, {"dims": ["t"], "coords": {"t": [1, 2]}}, ValueError, "'t' has 1 indices, but coords 2 values"),
        ({"x": [1]}, {"dims": ["x"], "coords": {"x": [1]}}, ValueError, "name of an array"),
        ({"x": [1]}, {"attrs": {"y": {}}}, ValueError, "attrs for 'y'"),
        ({"x": [1]}, {"mode": "a"}, ValueError, "mode 'a'"),
        ({"": [1]}, {}, TypeError, "no name"),
    ],
)
def test_arrays_that_cannot_be_leave_what_was_there(store, data, options, error, words):
    oc.to_zarr(store, {"old": [1]})
    with pytest.raises(error, match=words):
        oc.to_zarr(store, data, **{"mode": "w", **options})
    assert list(open_zarr(store)) == ["old"]
    assert os.listdir(store.parent) == ["a.zarr"]


def test_a_store_is_replaced_and_nothing_else(store, tmp_path):
    oc.to_zarr(store, {"x": [1]})
    with pytest.raises(FileExistsError, match="mode='w'"):
        oc.to_zarr(store, {"x": [2]})
    oc.to_zarr(store, {"y": [2]}, mode="w")
    assert list(open_zarr(store)) == ["y"]
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "me.jpg").write_bytes(b"x")
    (tmp_path / "file").write_bytes(b"x")
    for name in ("photos", "file"):
        with pytest.raises(FileExistsError, match="no Zarr store"):
            oc.to_zarr(tmp_path / name, {"y": [2]}, mode="w")
    with pytest.raises(FileNotFoundError, match="create it first"):
        oc.to_zarr(tmp_path / "none" / "a.zarr", {"y": [2]})
    assert sorted(os.listdir(tmp_path)) == ["a.zarr", "file", "photos"]
    mask = os.umask(0)
    os.umask(mask)
    assert store.stat().st_mode & 0o777 == 0o777 & ~mask


def test_a_store_that_appears_meanwhile_is_not_replaced(store, monkeypatch):
    sync = _native.sync_file_system

    def appear(fd):
        store.mkdir()
        sync(fd)

    monkeypatch.setattr(_native, "sync_file_system", appear)
    with pytest.raises(FileExistsError):
        oc.to_zarr(store, {"x": [1]})
    assert os.listdir(store) == [] and os.listdir(store.parent) == ["a.zarr"]


def test_a_full_disk_leaves_nothing(store, monkeypatch):
    def full(fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_native, "sync_file_system", full)
    with pytest.raises(OSError, match="No space left"):
        oc.to_zarr(store, {"x": [1]})
    assert os.listdir(store.parent) == []


def test_what_a_killed_writer_left_is_swept_and_a_live_one_is_not(store):
    program = f"""
import os, signal
from onecopy import _native
_native.sync_file_system = lambda fd: os.kill(os.getpid(), signal.SIGKILL)
import onecopy as oc
oc.to_zarr({str(store)!r}, {{"x": [1]}})
"""
    killed = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    (left,) = os.listdir(store.parent)
    assert left.endswith(".onecopy-tmp")
    fd = os.open(store.parent / left, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        oc.to_zarr(store, {"x": [1]})
        assert sorted(os.listdir(store.parent)) == [left, "a.zarr"]
    finally:
        os.close(fd)
    oc.to_zarr(store, {"x": [2]}, mode="w")
    assert os.listdir(store.parent) == ["a.zarr"]


def test_native_calls_say_what_is_wrong(tmp_path):
    with pytest.raises(OSError, match=r"[Bb]ad file"):
        _native.sync_file_system(-1)
    with pytest.raises(FileNotFoundError):
        _native.rename_exchange(tmp_path / "a", tmp_path / "b")
