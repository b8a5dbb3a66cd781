"""`to_zarr`: what zarr and xarray read from it, and what is left of stores that fail."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import types

import numpy as np
import pytest

import onecopy as oc
from onecopy import _native
from onecopy._export import zarr_store
from test_export import CALL, calls


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
        ({"a\0b": [1]}, {}, ValueError, "no name"),
        ({"../x": [1]}, {}, ValueError, r"'\.\./x' is no name.*'\.\.'"),
        ({"a\\b": [1]}, {}, ValueError, r"'a\\\\b' is no name"),
        ({"g/zarr.json": [1]}, {}, ValueError, r"'g/zarr.json' is no name"),
        ({"a": [1], "/a": [2]}, {}, ValueError, "'/a' and 'a' are one name"),
        ({"a/b": [1], "a": [2]}, {}, ValueError, "'a/b': 'a' is an array and no group"),
        ({"r": np.zeros(2, [("a", "i4")]), "r/a": [1]}, {}, ValueError, "'r/a' and 'r' are one name"),
        ({"x": np.array(["a\ud800"])}, {}, ValueError, "array 'x' has text that is no Unicode"),
        ({"x": np.zeros(2, "i8").view("M8")}, {}, TypeError, "no type for dtype datetime64"),
        ({"x": [1, 2]}, {"chunks": (5, 5)}, ValueError, r"'x': chunks \(5, 5\) do not fit shape \(2,\)"),
        ({"x": [1, 2]}, {"chunks": (0,)}, ValueError, r"'x': chunks \(0,\) do not fit"),
        ({"x": [1, 2]}, {"chunks": "ab"}, TypeError, r"'x': chunks 'ab': give a tuple"),
        ({"x": [1, 2]}, {"chunks": {"y": (5,)}}, ValueError, "chunks for 'y', but there is no such array"),
        ({"x": [1, 2]}, {"dims": {"y": ["t"]}}, ValueError, "dims for 'y', but there is no such"),
        ({"x": [1, 2]}, {"dims": ["t"], "coords": {"t": np.ma.masked_array([1, 2], [1, 0])}}, TypeError, "masked"),
        ({"x": [1]}, {"attrs": {"x": {"k": {1, 2}}}}, TypeError, r"'x': attribute 'k'.*\{1, 2\}"),
        ({"x": [1]}, {"attrs": {"x": {"k": b"y"}}}, TypeError, r"'x': attribute 'k'.*b'y'"),
    ],
)
def test_arrays_that_cannot_be_leave_what_was_there(store, data, options, error, words):
    oc.to_zarr(store, {"old": [1]})
    with pytest.raises(error, match=words):
        oc.to_zarr(store, data, **{"mode": "w", **options})
    assert list(open_zarr(store)) == ["old"]
    assert os.listdir(store.parent) == ["a.zarr"]


def test_attributes_and_text_of_every_kind(store):
    import zarr

    given = {
        "number": np.float32(1.5),
        "array": np.arange(3),
        "day": np.datetime64("2020-01-31"),
        "days": np.array(["2020-01-31", "NaT"], "M8[D]"),
        "nested": {"a": [np.int8(1), "é"]},
        "none": None,
    }
    text = np.array(["é", "日本", "a\0b"])
    oc.to_zarr(store, {"x": [1], "swapped": text.astype(">U3"), "one": np.array("é")}, attrs={"x": given})
    group = zarr.open_group(store, mode="r")
    assert dict(group["x"].attrs) == {
        "number": 1.5,
        "array": [0, 1, 2],
        "day": "2020-01-31",
        "days": ["2020-01-31", "NaT"],
        "nested": {"a": [1, "é"]},
        "none": None,
    }
    assert group["swapped"][...].tolist() == text.tolist() and group["one"][()] == "é"


def test_chunks_of_records_and_of_grids_with_coordinates(store):
    import zarr

    records = np.zeros(20, [("n", "i4"), ("grid", "f4", (2, 3))])
    oc.to_zarr(store, {"r": records}, chunks=(5,))
    group = zarr.open_group(store, mode="r")
    assert (group["r/n"].chunks, group["r/grid"].chunks) == ((5,), (5, 2, 3))
    grid = np.zeros((4, 6))
    coords = {"t": np.arange(4), "x": np.arange(6)}
    oc.to_zarr(store, {"a": grid}, chunks=(2, 3), dims=["t", "x"], coords=coords, mode="w")
    assert zarr.open_group(store, mode="r")["a"].chunks == (2, 3)


@pytest.mark.parametrize("block", [1, 100, 1000])
def test_arrays_larger_than_a_block(store, monkeypatch, block):
    import zarr

    monkeypatch.setattr(zarr_store, "_BLOCK_BYTES", block)
    grid, text = np.arange(350).reshape(50, 7), np.arange(50).astype("S")
    oc.to_zarr(store, {"grid": grid, "every": grid[::-3], "text": text}, chunks={"grid": (3, 7)})
    group = zarr.open_group(store, mode="r")
    np.testing.assert_array_equal(group["grid"][...], grid)
    np.testing.assert_array_equal(group["every"][...], grid[::-3])
    assert group["text"][...].tolist() == text.astype("U").tolist()


def test_names_with_empty_parts(store):
    import zarr

    oc.to_zarr(store, {"//a": [1], "g//b": [2]})
    group = zarr.open_group(store, mode="r")
    assert (group["a"][0], group["g/b"][0]) == (1, 2)


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
    with pytest.raises(OSError, match="cannot be written: no space left on device; make room") as caught:
        oc.to_zarr(store, {"x": [1]})
    assert caught.value.filename == str(store)
    assert os.listdir(store.parent) == []


def test_a_directory_that_cannot_be_written_to():
    # Nobody, not even root, may create a directory there.
    pytest.importorskip("zarr")
    with pytest.raises(OSError, match=r"cannot be created in its directory: .*write elsewhere: '/sys/a.zarr'"):
        oc.to_zarr("/sys/a.zarr", {"x": [1]})


def lacking(*args):
    raise OSError(errno.EINVAL, "Invalid argument")


def test_a_file_system_that_lacks_ways_to_rename(store, monkeypatch):
    """Network file systems cannot refuse to replace, nor exchange."""
    monkeypatch.setattr(_native, "rename_noreplace", lacking)
    monkeypatch.setattr(_native, "rename_exchange", lacking)
    oc.to_zarr(store, {"x": [1]})
    with pytest.raises(FileExistsError):
        oc.to_zarr(store, {"x": [2]})
    with pytest.raises(OSError, match="cannot be replaced at once on this file system: remove it") as caught:
        oc.to_zarr(store, {"x": [2]}, mode="w")
    assert caught.value.filename == str(store)
    assert os.listdir(store.parent) == ["a.zarr"] and open_zarr(store)["x"].values.tolist() == [1]
    sync = _native.sync_file_system
    monkeypatch.setattr(_native, "sync_file_system", lambda fd: ((store.parent / "b.zarr").mkdir(), sync(fd)))
    with pytest.raises(FileExistsError):
        oc.to_zarr(store.parent / "b.zarr", {"x": [2]})
    assert sorted(os.listdir(store.parent)) == ["a.zarr", "b.zarr"] and os.listdir(store.parent / "b.zarr") == []


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


def test_a_version_that_is_too_old_is_named(tmp_path, monkeypatch):
    old = types.ModuleType("zarr")
    old.__version__ = "2.18.7"
    monkeypatch.setitem(sys.modules, "zarr", old)
    with pytest.raises(ImportError, match=r"to_zarr needs a newer zarr than 2\.18\.7: pip install -U zarr"):
        oc.to_zarr(tmp_path / "a.zarr", {"x": [1]})
    assert os.listdir(tmp_path) == []
