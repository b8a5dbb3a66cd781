"""Rows that are added to datasets: `append=True`, and `onecopy load --append`."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onecopy as oc
from onecopy.__main__ import main
from test_hdf5 import CALL, assert_same, sample

OPTIONS = [
    {},
    {"compression": "gzip"},
    {"compression": "lzf", "chunks": 7},
    {"compression": "zstd", "fletcher32": True},
]

try:
    import hdf5plugin
except ImportError:
    ZSTD_IN_H5PY = False
else:
    ZSTD_IN_H5PY = "zstd" in hdf5plugin.FILTERS

PADDED = np.dtype([("flag", "?"), ("value", ">f8")], align=True)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.h5"


@settings(max_examples=40, deadline=None)
@given(
    calls=st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=3), min_size=1, max_size=4),
    options=st.sampled_from(OPTIONS),
    chunks=st.integers(1, 30),
    dtype=st.sampled_from([CALL, np.dtype("<M8[s]"), np.dtype(">f4"), PADDED]),
    columns=st.sampled_from([(), (3,)]),
)
def test_rows_come_one_after_the_other(tmp_path_factory, calls, options, chunks, dtype, columns):
    path = tmp_path_factory.mktemp("append") / "out.h5"
    whole = sample(dtype, (sum(map(sum, calls)), *columns))
    start = 0
    for sizes in calls:
        parts = []
        for size in sizes:
            parts.append(("x", whole[start : start + size]))
            start += size
        oc.to_hdf5(path, parts, append=True, **{**options, "chunks": (chunks, *columns)})
    assert_same(oc.from_hdf5(path, "x"), whole)
    with h5py.File(path) as file:
        assert file["x"].attrs["rows"] == len(whole)
        assert file["x"].maxshape == (None, *columns)
        if dtype.kind != "M" and (options.get("compression") != "zstd" or ZSTD_IN_H5PY):
            assert_same(file["x"][()], whole)


def test_filters_of_the_dataset_stay(path):
    oc.to_hdf5(path, {"x": np.arange(10)}, append=True, compression="gzip", compression_opts=9, chunks=4)
    oc.to_hdf5(path, {"x": np.arange(10), "y": np.arange(3)}, append=True)
    with h5py.File(path) as file:
        assert (file["x"].compression, file["x"].compression_opts, file["x"].chunks) == ("gzip", 9, (4,))
        assert (file["y"].compression, file["y"].maxshape) == (None, (None,))
        assert file["x"][()].tolist() == [*range(10)] * 2


def test_datasets_of_others_that_can_grow(path):
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "x", data=np.arange(12).reshape(3, 4), chunks=(2, 3), maxshape=(None, 4), compression="gzip"
        )
        file.create_dataset("five", data=np.arange(3.0), maxshape=(5,))
        file["fixed"] = np.arange(3)
    oc.to_hdf5(path, {"x": np.arange(12, 20).reshape(2, 4), "five": [3.0, 4.0]}, append=True)
    assert oc.from_hdf5(path, "x").tolist() == np.arange(20).reshape(5, 4).tolist()
    assert oc.from_hdf5(path, "five").tolist() == [0, 1, 2, 3, 4]
    with h5py.File(path) as file:
        assert "rows" not in file["x"].attrs
    before = path.read_bytes()
    for data, words in [
        ({"five": [5.0]}, r"'/five' cannot grow to 6 rows: .*append=True.*maxshape"),
        ({"fixed": [1]}, "'/fixed' cannot grow"),
        ({"x": np.zeros((1, 4), "f8")}, "'/x' has the type int64, but the rows to be added float64: use astype"),
        ({"x": np.zeros((1, 3), "i8")}, r"'/x' has rows of shape \(4,\), but those to be added have \(3,\)"),
        ({"x": 5}, "'x': a single value has no rows"),
    ]:
        # All rows are added, or none.
        with pytest.raises(ValueError, match=words):
            oc.to_hdf5(path, {"x": np.arange(4).reshape(1, 4), **data} if "x" not in data else data, append=True)
        assert path.read_bytes() == before
    with pytest.raises(TypeError, match=r"'u': type <U1 has no fixed size.*use S"):
        oc.to_hdf5(path, {"u": np.array(["a"])}, append=True)
    assert os.listdir(path.parent) == ["out.h5"]


def test_modes(path):
    oc.to_hdf5(path, {"x": [1]}, append=True)
    with pytest.raises(FileExistsError):
        oc.to_hdf5(path, {"x": [1]}, append=True, mode="x")
    oc.to_hdf5(path, {"x": [1]}, append=True, mode="a")
    assert oc.from_hdf5(path, "x").tolist() == [1, 1]
    oc.to_hdf5(path, {"x": [2]}, append=True, mode="w")
    assert oc.from_hdf5(path, "x").tolist() == [2]


def test_blocks_of_a_text(path):
    path.with_name("a.txt").write_text("".join(f"{row} {row / 2}\n" for row in range(1000)))
    blocks = oc.iter_text(path.with_name("a.txt"), dtype=[("n", "i4"), ("half", "f8")], max_rows=300)
    oc.to_hdf5(path, (("x", block) for block in blocks), append=True, compression="lzf")
    assert oc.from_hdf5(path, "x")["n"].tolist() == [*range(300)]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_parts_that_are_kept_are_gone_on_with(path, options):
    made = []

    def parts(until):
        for number in range(until):

            def make(number=number):
                made.append(number)
                return np.arange(number * 10, number * 10 + 10)

            yield "x", make
        if until < 5:
            raise ZeroDivisionError

    for until in (2, 4):
        with pytest.raises(ZeroDivisionError):
            oc.to_hdf5(path, parts(until), append=True, mode="x", resume=True, **{"chunks": 7, **options})
    oc.to_hdf5(path, parts(5), append=True, mode="x", resume=True, **{"chunks": 7, **options})
    assert made == [0, 1, 2, 3, 4]
    assert oc.from_hdf5(path, "x").tolist() == [*range(50)]


# ---------------------------------------------------------------- the command


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("chr1\t1\t0.5\nchr10\t2\t1.5\n")
    Path("b.txt").write_text("chr2\t3\t2\n")
    return tmp_path


def test_rows_are_added_to_the_one_dataset(here):
    for file in ["a.txt", "b.txt", "b.txt"]:
        assert main(["load", file, "-o", "out.h5", "--append", "--layout", "concat", "--quiet"]) == 0
    found = oc.from_hdf5("out.h5")
    # Of the type of the dataset, whatever the lines look like.
    assert found["data"].tolist() == [(b"chr1", 1, 0.5), (b"chr10", 2, 1.5), (b"chr2", 3, 2), (b"chr2", 3, 2)]
    index = found["data_sources"][["source", "first_row", "rows", "source_bytes"]]
    size = Path("b.txt").stat().st_size
    assert index.tolist() == [("a.txt", 0, 2, 23), ("b.txt", 2, 1, size), ("b.txt", 3, 1, size)]


def test_files_without_rows_are_in_the_index_too(here):
    Path("empty.txt").write_text("")
    for file in ["empty.txt", "empty.txt", "a.txt"]:
        command = ["load", file, "-o", "out.h5", "--append", "--layout", "concat", "--dtype", "c:S5,n:i4,x:f4"]
        assert main([*command, "--quiet"]) == 0
    index = oc.from_hdf5("out.h5", "data_sources")[["source", "first_row", "rows"]]
    assert index.tolist() == [("empty.txt", 0, 0), ("empty.txt", 0, 0), ("a.txt", 0, 2)]


def test_datasets_are_added_to_the_file(here, capsys):
    assert main(["load", "a.txt", "-o", "out.h5", "--append", "--quiet"]) == 0
    assert main(["load", "b.txt", "-o", "out.h5", "--append", "--quiet", "--compression", "gzip"]) == 0
    assert list(oc.from_hdf5("out.h5")) == ["a", "b"]
    before = Path("out.h5").read_bytes()
    assert main(["load", "a.txt", "-o", "out.h5", "--append", "--quiet"]) == 1
    assert "dataset 'a' is in out.h5 already" in capsys.readouterr().err
    assert Path("out.h5").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("chr1\t1\n", [], "c.txt"),
        ("chr1\tx\t1\n", [], "'x'"),
        ("chrom\tpos\tpct\nchr1\t1\t1\n", [], "dataset 'data' has f0, f1, f2: give"),
        ("chr1\t1\t1\n", ["--dtype", "S8,i8,f8"], "b.txt: dataset '/data' has the type"),
    ],
)
def test_rows_that_do_not_fit_change_nothing(here, capsys, text, options, words):
    command = ["-o", "out.h5", "--append", "--layout", "concat", "--quiet"]
    assert main(["load", "a.txt", *command]) == 0
    before = Path("out.h5").read_bytes()
    Path("c.txt").write_text(text)
    files = ["c.txt"] if text.startswith("chrom") else ["b.txt", "c.txt"]
    assert main(["load", *files, *command, *options]) == 1
    assert words in capsys.readouterr().err
    assert Path("out.h5").read_bytes() == before
    assert sorted(os.listdir()) == ["a.txt", "b.txt", "c.txt", "out.h5"]


def test_append_does_not_go_with_others(here, capsys):
    assert main(["load", "a.txt", "-o", "out.h5", "--append", "--force"]) == 2
    assert main(["load", "a.txt", "-o", "out.h5", "--append", "--resume"]) == 1
    assert "mode 'a' cannot be resumed" in capsys.readouterr().err
