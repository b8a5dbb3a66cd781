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
