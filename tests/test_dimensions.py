"""Axes with names and coordinates, by `to_hdf5` and `onecopy load --layout stack`, as xarray sees them."""

import gzip
import json
import re
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest

import onecopy as oc
from onecopy import _text
from onecopy.__main__ import main

xr = pytest.importorskip("xarray")

LATITUDES = [50.5, 50.0, 49.5]
LONGITUDES = [-10.0, -9.5, -9.0, -8.5]
GRIDS = np.round(np.random.default_rng(1).normal(280, 10, (5, 3, 4)), 2)
DAYS = np.arange("2020-02-27", "2020-03-03", dtype="M8[D]")


def opened(path):
    with xr.open_dataset(path, engine="h5netcdf") as dataset:
        return dataset.load()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.h5"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def files(here):
    """One table per day, with a header of longitudes and a column of latitudes."""
    names = []
    for day, grid in zip(DAYS, GRIDS, strict=True):
        names.append(f"t2m_{str(day).replace('-', '')}.txt.gz")
        lines = ["lat " + " ".join(map(str, LONGITUDES))]
        lines += [f"{lat} " + " ".join(map(str, row)) for lat, row in zip(LATITUDES, grid, strict=True)]
        with gzip.open(here / names[-1], "wt") as file:
            file.write("# kelvin\n" + "\n".join(lines) + "\n")
    return names


def load(*arguments, code=0):
    assert main(["load", "--quiet", "-o", "out.h5", "--layout", "stack", *map(str, arguments)]) == code


FULL = ["--header", "--index-column", 0, "--time-from", r"(\d{8})", "--dims", "time,lat,lon", "--name", "t2m"]


# ---------------------------------------------------------------- in Python


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}, {"chunks": {"t2m": (2, 3, 4)}}], ids=str)
def test_xarray_shows_coordinates(path, options):
    arrays = {"t2m": GRIDS.astype("f4"), "height": GRIDS[0], "count": np.arange(5)}
    dims = {"t2m": ["time", "lat", "lon"], "height": ["lat", "lon"], "count": ["time"]}
    coords = {"time": DAYS, "lat": LATITUDES, "lon": ["10W", "9½W", "9W", "8W"]}
    attrs = {"t2m": {"units": "K"}, "lat": {"units": "degrees_north"}}
    oc.to_hdf5(path, arrays, dims=dims, coords=coords, attrs=attrs, **options)
    found = opened(path)
    assert found["t2m"].dims == ("time", "lat", "lon") and found["t2m"].dtype == "f4"
    np.testing.assert_array_equal(found["t2m"], arrays["t2m"])
    np.testing.assert_array_equal(found["height"], GRIDS[0])
    np.testing.assert_array_equal(found.coords["time"], DAYS)
    np.testing.assert_array_equal(found.coords["lat"], LATITUDES)
    assert found.coords["lon"].values.tolist() == coords["lon"]
    assert float(found["t2m"].sel(time="2020-02-29", lat=50.0, lon="9W")) == arrays["t2m"][2, 1, 2]
    assert found["t2m"].attrs["units"] == "K" and found.coords["lat"].attrs["units"] == "degrees_north"
    np.testing.assert_array_equal(oc.from_hdf5(path, "time"), DAYS, strict=True)


def test_chunks_of_grids_are_not_those_of_coordinates(path):
    oc.to_hdf5(path, GRIDS, dims=["t", "y", "x"], coords={"t": DAYS}, chunks=(2, 3, 4), compression="gzip")
    np.testing.assert_array_equal(opened(path).coords["t"], DAYS)
    with h5py.File(path) as file:
        assert file["data"].chunks == (2, 3, 4) and file["t"].chunks is None


def test_names_alone_for_all_that_have_as_many_axes(path):
    oc.to_hdf5(path, {"a": GRIDS, "b": GRIDS + 1, "line": [1, 2]}, dims=["time", "lat", "lon"])
    with h5py.File(path) as file:
        assert [axis[0].name for axis in file["b"].dims] == ["/time", "/lat", "/lon"]
        assert not file["line"].dims[0].keys()
    found = oc.from_hdf5(path)
    assert set(found) == {"a", "b", "line"}
    with xr.open_dataset(path, engine="h5netcdf", phony_dims="sort") as dataset:
        assert dataset["a"].dims == ("time", "lat", "lon")
        assert not dataset.coords


def test_coordinates_among_the_data_and_more_data_later(path):
    oc.to_hdf5(path, {"a": GRIDS, "time": DAYS}, dims={"a": ["time", "y", "x"], "time": ["time"]})
    oc.to_hdf5(path, {"b": GRIDS[0]}, dims=["y", "x"], mode="a")
    found = opened(path)
    np.testing.assert_array_equal(found.coords["time"], DAYS)
    assert found["b"].dims == ("y", "x")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dims": ["t", "y", "x"], "coords": {"lon": [1]}}, r"coords for 'lon', but dims has t, x, y"),
        ({"coords": {"lon": [1]}}, r"coords for 'lon', but dims has no names"),
        ({"dims": ["t", "y", "x"], "coords": {"x": [1, 2]}}, r"'x' has 4 indices, but coords 2 values"),
        ({"dims": ["t", "y", "x"], "coords": {"x": [[1, 2]]}}, r"'x' have the shape \(1, 2\)"),
        ({"dims": {"a": ["t", "y"]}}, r"dims of 'a' are t, y, but it has 3 axes"),
        ({"dims": {"a": ["t", "y", "y"]}}, r"'y' has 3 indices in 'a', but 4 in 'a'"),
        ({"dims": {"a": ["t", "y", "x"], "g/b": ["t", "x"]}}, r"'t' has 5 indices in 'a', but 3 in 'g/b'"),
        ({"dims": ["t", "y", "a/b"]}, r"'a/b' is no name"),
        ({"dims": ["t", "y", "x"], "append": True}, r"dims with append"),
        ({"dims": {"a": ["t", "y", "x"], "b": ["t"]}}, r"dims for 'b', but there is no such dataset"),
        ({"dims": ["t"], "coords": {"t": [1]}}, r"no dataset has that dimension"),
        ({"dims": "time"}, r"'time'.*give a list"),
        ({"dims": {"a": "tyx"}}, r"'tyx'.*give a list"),
        ({"dims": ["t", "y", "x\0"]}, r"'x\\x00' is no name"),
        ({"dims": ["t", "y", "."]}, r"'\.' is no name"),
        ({"dims": ["t", "y", "\ud800"]}, r"'\\ud800' is no name"),
        ({"dims": ["t", "y", "a"]}, r"'a' is that of a dataset with 3 axes"),
        ({"dims": {"g/b": ["t", "g"]}}, r"'g' is that of a group"),
        ({"dims": ["t", "y", "x"], "coords": {"x": np.ma.masked_array([1, 2, 3, 4], [1, 0, 0, 0])}}, r"'x'.*masked"),
        ({"dims": ["t", "y", "x"], "coords": {"x": [1, "b", None, 2.0]}}, r"'x' are Python objects"),
    ],
)
def test_dimensions_that_do_not_fit_leave_nothing(path, options, words):
    with pytest.raises((ValueError, TypeError), match=words):
        oc.to_hdf5(path, {"a": GRIDS, "g/b": GRIDS[0]}, **options)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(("dims", "coords"), [(5, None), (["t", "y", "x"], [1])])
def test_dimensions_of_other_types(path, dims, coords):
    with pytest.raises(TypeError, match=r"give a list of names|give a mapping"):
        oc.to_hdf5(path, {"a": GRIDS}, dims=dims, coords=coords)


@pytest.mark.parametrize("until", [1, 2, 3])
def test_writing_with_dimensions_is_gone_on_with(path, until):
    made = []

    def pairs(until=3):
        for number, name in enumerate("abc"[: until + 1]):
            if number == until:
                raise ZeroDivisionError
            yield name, lambda number=number: (made.append(number), GRIDS + number)[1]

    options = {"dims": ["time", "lat", "lon"], "coords": {"time": DAYS, "lat": LATITUDES}, "resume": True}
    if until < 3:
        with pytest.raises(ZeroDivisionError):
            oc.to_hdf5(path, pairs(until), **options)
    for changed in ({"dims": ["time", "lat", "x"]}, {"coords": {"time": DAYS + 1, "lat": LATITUDES}}, {"coords": None}):
        if until < 3:
            with pytest.raises(ValueError, match=r"cannot be resumed: (dims|coords) w"):
                oc.to_hdf5(path, pairs(), **{**options, **changed})
    oc.to_hdf5(path, pairs(), **options)
    assert made == [0, 1, 2]
    found = opened(path)
    for number, name in enumerate("abc"):
        assert found[name].dims == ("time", "lat", "lon")
        np.testing.assert_array_equal(found[name], GRIDS + number)
    np.testing.assert_array_equal(found.coords["time"], DAYS)
    np.testing.assert_array_equal(found.coords["lat"], LATITUDES)


def test_dimensions_of_a_file_that_only_lacked_its_name(path):
    """Killed when all was saved: nothing is labelled twice."""
    code = """if True:
        import os, signal, sys
        import numpy as np, onecopy as oc
        from onecopy import _native
        def die(*args):
            os.kill(os.getpid(), signal.SIGKILL)
        _native.rename_noreplace = die
        oc.to_hdf5(sys.argv[1], {"a": np.zeros((2, 3))}, dims=["t", "x"], coords={"t": [5, 6]}, resume=True)
    """
    died = subprocess.run([sys.executable, "-c", code, path], check=False)
    assert died.returncode == -signal.SIGKILL and not path.exists()
    oc.to_hdf5(path, {"a": np.zeros((2, 3))}, dims=["t", "x"], coords={"t": [5, 6]}, resume=True)
    found = opened(path)
    assert found["a"].dims == ("t", "x") and found.coords["t"].values.tolist() == [5, 6]


# ---------------------------------------------------------------- on the command line


@pytest.mark.parametrize("compression", ["none", "gzip:4"])
def test_files_become_an_axis(files, compression):
    load(*files, *FULL, "--compression", compression, "--jobs", 2)
    found = opened("out.h5")
    assert found["t2m"].dims == ("time", "lat", "lon")
    np.testing.assert_array_equal(found["t2m"], GRIDS)
    np.testing.assert_array_equal(found.coords["time"], DAYS)
    np.testing.assert_array_equal(found.coords["lat"], LATITUDES)
    np.testing.assert_array_equal(found.coords["lon"], LONGITUDES)
    assert found["t2m_source"].dims == ("time",) and found["t2m_source"].values.tolist() == files
    np.testing.assert_array_equal(oc.from_hdf5("out.h5", "t2m", rows=slice(2, 3))[0], GRIDS[2])
    with h5py.File("out.h5") as file:
        assert file["t2m_source"].dims[0][0].name == "/time"


def test_thousands_of_columns_and_missing_values(here):
    grids = np.round(np.random.default_rng(2).random((3, 7, 4000)), 3).astype("f4")
    grids[:, 2, 7] = np.nan
    for step, grid in enumerate(grids):
        text = "\n".join(",".join("NA" if np.isnan(x) else str(x) for x in row) for row in grid)
        (here / f"step-{step}.csv").write_text(text + "\n")
    load(*(f"step-{n}.csv" for n in range(3)), "--dtype", "f4", "--missing", "NA=nan", "--time-from", r"step-(\d+)")
    found = opened("out.h5")
    assert found["data"].dims == ("file", "row", "column") and found["data"].dtype == "f4"
    np.testing.assert_array_equal(found["data"], grids)
    assert found.coords["file"].values.tolist() == [0, 1, 2] and set(found.coords) == {"file"}


def test_coordinates_from_options_and_some_columns(files):
    coords = ["--coord", "time=1,2,3,4,5", "--coord", "lat=a,b,c", "--coord", "lon=7,8.5"]
    load(*files, *FULL, "--columns", "1,-1", *coords, "--dtype", "f4", "--json")
    found = opened("out.h5")
    np.testing.assert_array_equal(found["t2m"], GRIDS[..., [0, 3]].astype("f4"))
    assert found.coords["time"].values.tolist() == [1, 2, 3, 4, 5]
    assert found.coords["lat"].values.tolist() == ["a", "b", "c"]
    assert found.coords["lon"].values.tolist() == [7, 8.5]


def test_text_for_coordinates_of_rows_and_columns(here):
    (here / "a.txt").write_text("site x y\nnorth 1 2\nsöuth 3 4\n")
    load("a.txt", "--header", "--index-column", 0)
    found = opened("out.h5")
    assert found.coords["row"].values.tolist() == ["north", "söuth"]
    assert found.coords["column"].values.tolist() == ["x", "y"]
    assert found["data"].values.tolist() == [[[1, 2], [3, 4]]]


def test_numbers_of_all_files_and_dates_in_parts_of_their_names(here):
    (here / "t_2020_01_31.txt").write_text("1 2\n3 4\n")
    (here / "t_2020_02_01.txt").write_text("1.5 2\n3 4\n")
    load("t_2020_01_31.txt", "t_2020_02_01.txt", "--time-from", r"(\d{4})_(\d\d)_(\d\d)")
    found = oc.from_hdf5("out.h5")
    np.testing.assert_array_equal(found["data"], [[[1, 2], [3, 4]], [[1.5, 2], [3, 4]]])
    np.testing.assert_array_equal(found["file"], np.array(["2020-01-31", "2020-02-01"], "M8[D]"), strict=True)
    load("t_2020_01_31.txt", "t_2020_02_01.txt", "--time-from", r"(\d{4})_(\d\d)_", "--force")
    months = np.array(["2020-01-01", "2020-02-01"], "M8[D]")
    np.testing.assert_array_equal(oc.from_hdf5("out.h5", "file"), months, strict=True)


def test_coordinates_that_are_missing_are_the_same_in_all_files(here):
    for name in ("a.txt", "b.txt"):
        (here / name).write_text("1.5 1 2\nnan 3 4\n")
    load("a.txt", "b.txt", "--index-column", 0)
    np.testing.assert_array_equal(opened("out.h5").coords["row"], [1.5, np.nan])


def test_the_summary_names_the_dataset(files, capsys):
    load(*files, *FULL, "--json")
    summary = json.loads(capsys.readouterr().out)
    assert summary["datasets"] == [{"name": "t2m", "sources": files, "rows": 5, "dtype": "f8"}]


def test_files_without_rows_are_stacked_all_the_same(files):
    load(*files, "--header", "--dtype", "f4", "--max-rows", "0")
    assert opened("out.h5")["data"].shape == (5, 0, 5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "lat -10.0 -9.5 -9.0 -8.5\n50.5 1 2 3 4\n50.0 1 2 3 4\n",
            r"odd.txt has the shape \(2, 4\), but t2m_.* \(3, 4\)",
        ),
        ("lat -10.0 -9.5 -9.0\n50.5 1 2 3\n50.0 1 2 3\n49.5 1 2 3\n", r"odd.txt has 3 columns, but t2m_.* has 4"),
        ("lat -10.0 -9.5 -9.0 -8\n50.5 1 2 3 4\n", r"odd.txt has another header than t2m_.*: '-8' instead of '-8.5'"),
        (
            "lat -10.0 -9.5 -9.0 -8.5\n50.5 1 2 3 4\n51.0 1 2 3 4\n49.5 1 2 3 4\n",
            r"odd.txt has 51.0 as coordinate of row 1, but t2m_.* 50.0",
        ),
        ("lat -10.0 -9.5 -9.0 -8.5\n50.5 1 2 x 4\n", r"odd.txt: column 3 holds text"),
    ],
)
def test_a_file_that_does_not_fit_is_named_and_nothing_replaced(files, here, capsys, text, words):
    (here / "out.h5").write_bytes(b"old")
    (here / "odd.txt").write_text(text)
    options = [option if option != r"(\d{8})" else r"(\d{8}|odd)" for option in FULL]
    load(*files, "odd.txt", *options, "--force", code=1)
    said = capsys.readouterr().err
    assert re.search(words, said), said
    assert (here / "out.h5").read_bytes() == b"old"
    assert len(list(here.iterdir())) == len(files) + 2


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--layout", "concat", "--dims", "a,b,c"], 1, "--dims, --index-column: only --layout stack"),
        (["--time-from", r"no(\d)"], 1, "nothing in its name is --time-from"),
        (["--time-from", "("], 2, "no regular expression"),
        (["--dims", "a,b"], 2, "give three names"),
        (["--coord", "a=1"], 1, "--coord a=...: the axes are file, row, column"),
        (["--coord", "row"], 2, "write DIM=VALUE"),
        (["--coord", "row=1,2"], 1, "'row' has 3 indices, but there are 2"),
        (["--coord", "file=1,2"], 1, "'file' has 5 indices, but there are 2"),
        (["--index-column", "9"], 1, "no column 9 for --index-column"),
        (["--dtype", "a:i4,b:i4"], 1, "one type of numbers"),
        (["--append"], 1, "leave out --append"),
        (["--dims", "a/b,c,d"], 1, "'a/b' is no name for a dimension"),
        (["--name", "lat", "--dims", "time,lat,lon"], 1, "'lat' is that of a dataset with 3 axes"),
        (["--name", "g/x", "--dims", "g,h,i"], 1, "'g' is that of a group"),
        (["--name", ""], 1, "'' is no name for a dataset"),
        (["--name", "a/"], 1, "'a/' is no name for a dataset"),
    ],
)
def test_options_that_do_not_go_together(files, here, capsys, monkeypatch, options, code, words):
    if not {"--coord", "--index-column"} & set(options):
        monkeypatch.setattr(_text, "load", lambda *args, **options: pytest.fail("loaded"))
    load(*files, "--header", "--index-column", "0", *options, code=code)
    assert words in capsys.readouterr().err
    assert len(list(here.iterdir())) == len(files)
