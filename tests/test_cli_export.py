"""`onecopy load` into Parquet, Arrow IPC and Zarr, by the ending of the output."""

import json
import os
import sys

import numpy as np
import pytest

import onecopy as oc
from onecopy.__main__ import main

CALLS = "chr1\t100\t87.5\nchr1\t250\t0.0\nchr10\t7\t12.25\n"
MORE = "chrX\t1\t1.5\nchr2_random\t-9\t100.0\n"
TABLE = {
    "chr": ["chr1", "chr1", "chr10", "chrX", "chr2_random"],
    "pos": [100, 250, 7, 1, -9],
    "pct": [87.5, 0.0, 12.25, 1.5, 100.0],
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text(CALLS)
    (tmp_path / "b.txt").write_text(MORE)
    return tmp_path


def load(*arguments, code=0):
    assert main(["load", *arguments]) == code


@pytest.mark.parametrize("output", ["out.parquet", "out.arrow", "out.feather"])
def test_all_files_become_one_table(output, capsys):
    pytest.importorskip("pyarrow")
    import pyarrow.feather
    import pyarrow.parquet

    load("a.txt", "b.txt", "-o", output, "--names", "chr,pos,pct", "--quiet", "--json")
    read = pyarrow.parquet.read_table if output == "out.parquet" else pyarrow.feather.read_table
    assert read(output).to_pydict() == TABLE
    summary = json.loads(capsys.readouterr().out)
    assert (summary["rows"], summary["text_bytes"]) == (5, len(CALLS + MORE))
    assert summary["file_bytes"] == os.path.getsize(output)
    load("b.txt", "-o", output, "--names", "chr,pos,pct", "--quiet", code=1)
    assert "--force" in capsys.readouterr().err
    load("b.txt", "-o", output, "--names", "chr,pos,pct", "--quiet", "--force")
    assert read(output)["pos"].to_pylist() == [1, -9]


def test_columns_without_names_are_numbered():
    parquet = pytest.importorskip("pyarrow.parquet")
    for name in ("m.txt", "n.txt"):
        np.savetxt(name, np.arange(6).reshape(2, 3))
    load("m.txt", "n.txt", "-o", "out.parquet", "--dtype", "f4", "--quiet")
    assert parquet.read_table("out.parquet").to_pydict() == {"f0": [0, 3, 0, 3], "f1": [1, 4, 1, 4], "f2": [2, 5, 2, 5]}


def test_files_without_lines(capsys):
    parquet = pytest.importorskip("pyarrow.parquet")
    for name in ("empty.txt", "none.txt"):
        open(name, "w").close()
    load("empty.txt", "none.txt", "-o", "f.parquet", "--dtype", "f4", "--quiet", code=1)
    assert "empty.txt: the table has no columns" in capsys.readouterr().err
    load("empty.txt", "-o", "r.parquet", "--dtype", "a:i4,b:S3", "--quiet")
    assert parquet.read_table("r.parquet").to_pydict() == {"a": [], "b": []}
    np.savetxt("m.txt", np.arange(6).reshape(2, 3))
    np.savetxt("n.txt", np.arange(4).reshape(2, 2))
    load("m.txt", "n.txt", "-o", "m.parquet", "--dtype", "f4", "--quiet", code=1)
    assert "n.txt: a block has the columns" in capsys.readouterr().err
    load("empty.txt", "-o", "n.parquet", "--quiet", code=1)
    assert "empty.txt: there are no lines of data, so nothing says which columns there are: give --dtype" in (
        capsys.readouterr().err
    )


def test_a_zarr_store_has_a_group_for_each_file(capsys):
    pytest.importorskip("zarr")
    import xarray

    load("a.txt", "b.txt", "-o", "out.zarr", "--names", "chr,pos,pct", "--quiet", "--json")
    with xarray.open_zarr("out.zarr", group="b", consolidated=False) as found:
        assert found.attrs == {"source": "b.txt"}
        assert {name: found[name].values.tolist() for name in TABLE} == {key: x[3:] for key, x in TABLE.items()}
    assert json.loads(capsys.readouterr().out)["file_bytes"] > 0


@pytest.mark.parametrize("output", ["out.parquet", "out.arrow", "out.zarr"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--compression", "lzf"], "--compression is for HDF5 only"),
        (["--append"], "--append is for HDF5 only"),
        (["--resume"], "--resume is for HDF5 only"),
        (["--layout", "stack"], "--layout stack is for HDF5 only"),
        (["--chunks", "5"], "--chunks is for HDF5 only"),
        (["--fletcher32"], "--fletcher32 is for HDF5 only"),
        (["--no-shuffle"], "--shuffle is for HDF5 only"),
        (["--dtype", "S10,i4,i4"], "a.txt"),
    ],
)
def test_what_fails_leaves_nothing(capsys, output, options, words):
    pytest.importorskip("zarr" if output == "out.zarr" else "pyarrow")
    before = sorted(os.listdir())
    load("a.txt", "b.txt", "-o", output, "--quiet", *options, code=1)
    assert words in capsys.readouterr().err
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(("output", "package"), [("out.parquet", "pyarrow"), ("out.zarr", "zarr")])
def test_a_package_that_is_missing_is_named(capsys, monkeypatch, output, package):
    monkeypatch.setitem(sys.modules, package, None)
    load("a.txt", "-o", output, "--quiet", code=1)
    assert f"pip install {package}" in capsys.readouterr().err


def test_any_other_ending_is_hdf5():
    load("a.txt", "-o", "out.nc", "--names", "chr,pos,pct", "--quiet")
    assert oc.from_hdf5("out.nc", "a", fields="pos").tolist() == [100, 250, 7]
