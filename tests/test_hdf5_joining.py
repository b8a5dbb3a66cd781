"""`join_hdf5`: one dataset of several files, for onecopy and for any other reader."""

import os
import shutil

import h5py
import numpy as np
import pytest

import onecopy as oc
from onecopy import _native

RECORD = np.dtype([("chr", "S5"), ("pos", "<i4"), ("day", "<M8[D]")])


def records(first, count):
    array = np.zeros(count, RECORD)
    array["chr"] = b"chr1"
    array["pos"] = np.arange(first, first + count)
    array["day"] = array["pos"].astype("M8[D]")
    return array


@pytest.fixture
def parts(tmp_path):
    """Three files with 1000, 0 and 700 rows, stored in different ways."""
    (tmp_path / "in").mkdir()
    options = [{"compression": "gzip", "chunks": 300}, {}, {"compression": "lzf"}]
    for number, (first, count) in enumerate([(0, 1000), (1000, 0), (1000, 700)]):
        oc.to_hdf5(tmp_path / "in" / f"{number}.h5", {"run/calls": records(first, count)}, **options[number])
    return [tmp_path / "in" / f"{number}.h5" for number in range(3)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "all.h5"


def test_rows_of_all_files_in_order(parts, path, monkeypatch):
    oc.join_hdf5(path, {"calls": [(part, "run/calls") for part in parts], "run/calls": parts[::-1]})
    expected = records(0, 1700)
    chunks = []
    native = _native.read_chunks
    monkeypatch.setattr(_native, "read_chunks", lambda *a, **options: (chunks.append(a), native(*a, **options)))
    found = oc.from_hdf5(path, "calls")
    assert found.dtype == RECORD and oc.is_shared(found) and len(chunks) == 2
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(
        oc.from_hdf5(path, "calls", rows=slice(900, 1300), fields="day"), expected["day"][900:1300]
    )
    np.testing.assert_array_equal(oc.from_hdf5(path)["run/calls"]["pos"], np.r_[1000:1700, 0:1000])
    with h5py.File(path) as file:
        assert file["calls"].is_virtual and file["calls"].attrs["rows"] == 1700
        np.testing.assert_array_equal(file["calls"]["pos"], expected["pos"])
        assert {source.file_name for source in file["calls"].virtual_sources()} <= {f"in/{n}.h5" for n in range(3)}
    assert os.path.getsize(path) < 50_000


def test_all_files_can_be_moved_together(parts, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    oc.join_hdf5("all.h5", {"run/calls": ["in/0.h5", "in/2.h5"]})
    (tmp_path / "moved").mkdir()
    shutil.move(tmp_path / "in", tmp_path / "moved" / "in")
    shutil.move(path, tmp_path / "moved" / "all.h5")
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(oc.from_hdf5(tmp_path / "moved" / "all.h5", "run/calls"), records(0, 1700))
    (tmp_path / "moved" / "in" / "2.h5").unlink()
    with pytest.raises(FileNotFoundError, match=r"virtual dataset '/run/calls'.*2\.h5"):
        oc.from_hdf5(tmp_path / "moved" / "all.h5", "run/calls")


def test_stacked_grids_and_joins_of_joins(path, tmp_path):
    grids = np.arange(24.0).reshape(4, 2, 3)
    names = [tmp_path / f"{step}.h5" for step in range(4)]
    for name, grid in zip(names, grids, strict=True):
        oc.to_hdf5(name, {"t2m": grid})
    oc.join_hdf5(tmp_path / "early.h5", {"t2m": names[:3]}, stack=True)
    oc.join_hdf5(tmp_path / "late.h5", {"t2m": names[3:]}, stack=True)
    oc.join_hdf5(path, {"t2m": [tmp_path / "early.h5", tmp_path / "late.h5"]})
    np.testing.assert_array_equal(oc.from_hdf5(path, "t2m"), grids)
    np.testing.assert_array_equal(oc.from_hdf5(path, "t2m", rows=slice(2, 4)), grids[2:])
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["t2m"][()], grids)


def test_datasets_of_other_modes_beside_it(parts, path):
    oc.to_hdf5(path, {"own": [1, 2]})
    with pytest.raises(FileExistsError, match="mode='w'"):
        oc.join_hdf5(path, {"run/calls": parts})
    oc.join_hdf5(path, {"run/calls": parts}, mode="a")
    assert sorted(oc.from_hdf5(path)) == ["own", "run/calls"]
    with pytest.raises(ValueError, match=r"is in .* already"):
        oc.join_hdf5(path, {"own": [(parts[0], "run/calls")]}, mode="a")


@pytest.mark.parametrize(
    ("sources", "options", "error", "words"),
    [
        (["none.h5"], {}, FileNotFoundError, "none.h5"),
        ([("in/0.h5", "calls")], {}, KeyError, r"no dataset 'calls' in .*0\.h5; there are: run/calls"),
        ([], {}, ValueError, "has no sources"),
        (["in/0.h5", "other.h5"], {}, ValueError, r"other\.h5: dataset 'run/calls' has the type int64, but that of"),
        (["in/0.h5", "in/2.h5"], {"stack": True}, ValueError, r"2\.h5.*shape \(700,\), but that of .*0\.h5 \(1000,\)"),
        ([("other.h5", "one")], {}, ValueError, "is a scalar"),
        ([("other.h5", "text")], {}, ValueError, "holds objects"),
        ([("other.h5", "wide"), ("other.h5", "run/calls")], {}, ValueError, r"shape \(3,\), but that of .* \(3, 2\)"),
        (["all.h5"], {"mode": "w"}, ValueError, "is a source and the destination"),
    ],
)
def test_what_cannot_be_joined_leaves_what_was_there(parts, path, monkeypatch, sources, options, error, words):
    monkeypatch.chdir(path.parent)
    text = np.array(["a", "bc"], object)
    oc.to_hdf5("other.h5", {"run/calls": np.arange(3), "one": 1, "text": text, "wide": np.ones((3, 2), "i8")})
    oc.to_hdf5(path, {"run/calls": records(0, 3)})
    with pytest.raises(error, match=words):
        oc.join_hdf5(path, {"run/calls": sources}, **{"mode": "w", **options})
    assert oc.from_hdf5(path, "run/calls")["pos"].tolist() == [0, 1, 2]
    assert sorted(os.listdir()) == ["all.h5", "in", "other.h5"]


@pytest.mark.parametrize("name", ["a%b.h5", "p%%q.h5", "100%.h5", "é %5b.h5"])
def test_names_that_mean_something_to_libhdf5_are_names(tmp_path, path, name):
    """In the names of sources, libhdf5 replaces "%b" by numbers, and takes what is then missing for zeros."""
    oc.to_hdf5(tmp_path / name, {"x%b": records(0, 9), "x": np.arange(3)})
    oc.join_hdf5(path, {"x": [tmp_path / name] * 2, "y": [(tmp_path / name, "x%b")]})
    assert oc.from_hdf5(path, "x").tolist() == [0, 1, 2] * 2
    np.testing.assert_array_equal(oc.from_hdf5(path, "y"), records(0, 9))
    with h5py.File(path) as file:
        assert file["x"][()].tolist() == [0, 1, 2] * 2
        np.testing.assert_array_equal(file["y"]["pos"], records(0, 9)["pos"])


def test_patterns_of_names_are_left_to_libhdf5(tmp_path, path):
    for number in range(3):
        oc.to_hdf5(tmp_path / f"part{number}.h5", {"x": np.arange(number * 10, number * 10 + 2)})
    every = h5py.h5s.create_simple((6,), (h5py.h5s.UNLIMITED,))
    every.select_hyperslab((0,), (h5py.h5s.UNLIMITED,), (2,), (2,))
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_virtual(every, b"part%b.h5", b"x", h5py.h5s.create_simple((2,)))
    with h5py.File(path, "w") as file:
        h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_INT64, every, properties)
    assert oc.from_hdf5(path, "x").tolist() == [0, 1, 10, 11, 20, 21]


@pytest.mark.parametrize("stack", [False, True])
@pytest.mark.parametrize("columns", [(), (3,)])
def test_rows_that_a_source_gets_later_are_not_part_of_it(tmp_path, path, stack, columns):
    data = np.arange(60).reshape(-1, *columns)
    source = tmp_path / "source.h5"
    oc.to_hdf5(source, {"x": data[:10]}, append=True)
    oc.join_hdf5(path, {"x": [source, source]}, stack=stack)
    expected = (np.stack if stack else np.concatenate)([data[:10]] * 2)
    oc.to_hdf5(source, {"x": data[10:15]}, append=True)
    np.testing.assert_array_equal(oc.from_hdf5(path, "x"), expected)
    np.testing.assert_array_equal(oc.from_hdf5(path, "x", rows=slice(1, 2)), expected[1:2])
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["x"][()], expected)


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (np.arange(4), r"'x' has the shape \(4,\), and .*'/x' in .*all\.h5 takes \(10,\) of it: .* join them again"),
        (np.arange(20).reshape(10, 2), r"'x' has the shape \(10, 2\), and .*'/x' in .*all\.h5 takes \(10,\)"),
        (np.int64(3), r"'x' has the shape \(\), and .*'/x' in .*all\.h5 takes \(10,\)"),
    ],
)
@pytest.mark.parametrize("rows", [None, slice(2, 3)])
def test_a_source_that_is_another_one_by_now_is_an_error(tmp_path, path, now, words, rows):
    source = tmp_path / "source.h5"
    oc.to_hdf5(source, {"x": np.arange(10)})
    oc.join_hdf5(path, {"x": [source]})
    oc.to_hdf5(source, {"x": now}, mode="w")
    with pytest.raises(OSError, match=words) as caught:
        oc.from_hdf5(path, "x", rows=rows)
    assert caught.value.filename == str(source)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # The same in the file, but not for numpy, and the other way round.
        (np.zeros(2, "M8[s]"), np.zeros(2, "M8[ms]")),
        (np.zeros(2, "M8[s]"), np.zeros(2, "i8")),
        (np.array(["a", "bc"]), np.array(["日", "bc"])),
    ],
)
def test_types_that_differ_on_one_side_only(tmp_path, path, one, other):
    oc.to_hdf5(tmp_path / "one.h5", {"x": one})
    oc.to_hdf5(tmp_path / "other.h5", {"x": other})
    with pytest.raises(ValueError, match=r"other\.h5: dataset 'x' has the type .*, but that of .*one\.h5"):
        oc.join_hdf5(path, {"x": [tmp_path / "one.h5", tmp_path / "other.h5"]})


def test_sources_of_other_types_are_converted(path):
    with h5py.File(path, "w") as file:
        file["whole"] = np.arange(5, dtype="i4")
        file["half"] = np.arange(5) + 0.5
        layout = h5py.VirtualLayout((10,), "i8")
        layout[:5], layout[5:] = h5py.VirtualSource(file["whole"]), h5py.VirtualSource(file["half"])
        file.create_virtual_dataset("x", layout)
    assert oc.from_hdf5(path, "x").tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]


def test_a_source_that_came_along_from_another_directory(tmp_path, path):
    (tmp_path / "far").mkdir()
    oc.to_hdf5(tmp_path / "far" / "source.h5", {"x": np.arange(5)})
    oc.join_hdf5(path, {"x": [tmp_path / "far" / "source.h5"]})
    shutil.move(tmp_path / "far" / "source.h5", tmp_path / "source.h5")
    assert oc.from_hdf5(path, "x").tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("datasets", "error", "words"),
    [
        ({"x": "in/0.h5"}, TypeError, r"sources of 'x' are 'in/0.h5': give a list of files"),
        ({"x": [("in/0.h5", "a", 1)]}, TypeError, r"\('in/0.h5', 'a', 1\) .*pair"),
        ({"x": [3]}, TypeError, r"3 .*pair"),
        (["in/0.h5"], TypeError, r"give a mapping"),
        ({"x/": ["in/0.h5"]}, ValueError, "'x/' is no name"),
        ({"": ["in/0.h5"]}, TypeError, "'' is no name"),
        ({"run/calls": [os.fsdecode(b"in/\xff.h5")]}, ValueError, r"no UTF-8.*rename"),
    ],
)
def test_arguments_that_are_no_sources(parts, path, tmp_path, monkeypatch, datasets, error, words):
    monkeypatch.chdir(tmp_path)
    os.link("in/0.h5", b"in/\xff.h5")
    with pytest.raises(error, match=words):
        oc.join_hdf5(path, datasets)
    assert not path.exists()


def test_sources_that_grow_with_the_virtual_dataset(path):
    endless = h5py.h5s.UNLIMITED
    spaces = [h5py.h5s.create_simple((10,), (endless,)) for _ in range(2)]
    for space in spaces:
        space.select_hyperslab((0,), (1,), block=(endless,))
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_virtual(spaces[0], b"source.h5", b"x", spaces[1])
    with h5py.File(path, "w") as file:
        h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_INT64, spaces[0], properties)
    for rows in (10, 25):
        oc.to_hdf5(path.with_name("source.h5"), {"x": np.arange(rows)}, append=True, mode="w")
        assert oc.from_hdf5(path, "x").tolist() == [*range(rows)]


def test_a_source_that_is_taken_as_a_whole_and_has_changed(path):
    oc.to_hdf5(path.with_name("source.h5"), {"x": np.arange(10)})
    layout = h5py.VirtualLayout((10,), "i8")
    layout[...] = h5py.VirtualSource("source.h5", "x", (10,), "i8")
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("x", layout)
    assert oc.from_hdf5(path, "x").tolist() == [*range(10)]
    oc.to_hdf5(path.with_name("source.h5"), {"x": np.arange(20).reshape(10, 2)}, mode="w")
    with pytest.raises(OSError, match=r"has the shape \(10, 2\), and .* takes \(10,\)"):
        oc.from_hdf5(path, "x")
