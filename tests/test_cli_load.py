"""`onecopy load`."""

import bz2
import contextlib
import gzip
import hashlib
import json
import lzma
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

import onecopy as oc
from endless import ENDLESS, stopped
from onecopy import _text
from onecopy.__main__ import main
from onecopy._cli import interrupt
from onecopy._cli.datasets import dataset_names
from onecopy._cli.ordered import Stopped, in_order

COMMAND = [sys.executable, "-m", "onecopy", "load"]
CALLS = "chr1\t100\t87.5\nchr1\t250\t0.0\nchr10\t7\t12.25\n"
MORE = "chrX\t1\t1.5\nchr2_random\t-9\t100.0\n"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text(CALLS)
    Path("b.txt").write_text(MORE)
    return tmp_path


def fails(capsys, *args, code=1):
    """Run the command, which must fail without leaving anything; its message."""
    before = sorted(os.listdir())
    assert main(["load", *args]) == code
    assert sorted(os.listdir()) == before
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if "guessed" not in line]
    if code == 1:
        assert len(lines) == 1
        assert lines[0].startswith("onecopy load: ")
    return lines[-1]


def test_a_dataset_per_file(capsys):
    assert main(["load", "a.txt", "b.txt", "-o", "out.h5"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "a.txt: --dtype f0:S8,f1:i4,f2:f8 (guessed; delimiter '\\t')" in err
    assert "out.h5: 2 datasets, 5 rows" in err
    a = oc.from_hdf5("out.h5", "a")
    assert a.dtype == [("f0", "S8"), ("f1", "i4"), ("f2", "f8")]
    assert a.tolist() == [(b"chr1", 100, 87.5), (b"chr1", 250, 0.0), (b"chr10", 7, 12.25)]
    with h5py.File("out.h5") as file:
        attrs = dict(file["b"].attrs)
        changed = np.datetime64(attrs.pop("source_mtime").removesuffix("Z"))
        assert changed == np.datetime64(os.stat("b.txt").st_mtime_ns, "ns")
        size = len(MORE)
        assert attrs == {"source": "b.txt", "source_bytes": size, "rows": 2, "dtype": str(file["b"].dtype)}
        assert json.loads(file.attrs["options"])["--layout"] == "per-file"


def test_one_dataset_with_an_index_of_sources():
    Path("c.txt").write_text(CALLS)
    assert main(["load", "a.txt", "b.txt", "c.txt", "-o", "out.h5", "--layout", "concat", "--name", "calls"]) == 0
    found = oc.from_hdf5("out.h5")
    assert set(found) == {"calls", "calls_sources"}
    assert found["calls"].dtype == [("f0", "S16"), ("f1", "i4"), ("f2", "f8")]
    assert found["calls"]["f1"].tolist() == [100, 250, 7, 1, -9, 100, 250, 7]
    index = found["calls_sources"]
    assert index[["source", "first_row", "rows"]].tolist() == [("a.txt", 0, 3), ("b.txt", 3, 2), ("c.txt", 5, 3)]
    assert index["source_bytes"].tolist() == [len(CALLS), len(MORE), len(CALLS)]


@pytest.mark.parametrize("layout", ["per-file", "concat"])
@pytest.mark.parametrize("compression", ["none", "gzip", "gzip:9", "lzf"])
def test_compression(compression, layout):
    assert main(["load", "a.txt", "b.txt", "-o", "out.h5", "--compression", compression, "--layout", layout]) == 0
    found = oc.from_hdf5("out.h5")
    values = found["data"] if layout == "concat" else np.concatenate([found["a"], found["b"].astype(found["a"].dtype)])
    assert values["f1"].tolist() == [100, 250, 7, 1, -9]
    with h5py.File("out.h5") as file:
        dataset = file["data" if layout == "concat" else "a"]
        assert dataset.compression == (None if compression == "none" else compression.partition(":")[0])
        assert dataset.compression_opts == {"gzip": 4, "gzip:9": 9}.get(compression)
        assert dataset.shuffle == (compression != "none")


def test_filters_of_plug_ins():
    assert main(["load", "a.txt", "-o", "out.h5", "--compression", "zstd:5", "--fletcher32"]) == 0
    assert oc.from_hdf5("out.h5", "a")["f1"].tolist() == [100, 250, 7]
    with h5py.File("out.h5") as file:
        assert list(file["a"]._filters) == ["shuffle", "32015", "fletcher32"]
        assert file["a"]._filters["32015"] == (5,)
    pytest.importorskip("hdf5plugin")
    assert main(["load", "a.txt", "-o", "blosc2.h5", "--compression", "blosc2:3"]) == 0
    assert oc.from_hdf5("blosc2.h5", "a")["f1"].tolist() == [100, 250, 7]
    with h5py.File("blosc2.h5") as file:
        assert list(file["a"]._filters) == ["32026"]


def test_types_and_names():
    types = "chr:S10,pos:i8,pct:f4"
    assert main(["load", "a.txt", "-o", "1.h5", "--dtype", types, "--quiet"]) == 0
    assert oc.from_hdf5("1.h5", "a").dtype == [("chr", "S10"), ("pos", "i8"), ("pct", "f4")]
    assert main(["load", "a.txt", "-o", "2.h5", "--names", "chr,pos,pct", "--quiet"]) == 0
    assert oc.from_hdf5("2.h5", "a").dtype.names == ("chr", "pos", "pct")
    assert main(["load", "a.txt", "-o", "3.h5", "--columns", "2,0", "--quiet"]) == 0
    assert oc.from_hdf5("3.h5", "a").tolist()[0] == (87.5, b"chr1")
    assert main(["load", "a.txt", "-o", "4.h5", "--columns", "pct,chr", "--names", "chr,pos,pct", "--quiet"]) == 0
    assert oc.from_hdf5("4.h5", "a").dtype.names == ("pct", "chr")


def test_a_header_gives_the_names():
    Path("h.csv").write_text("# made by hand\nday,rain\n2020-01-01,1.5\n2020-01-02,NA\n")
    assert main(["load", "h.csv", "-o", "1.h5", "--dtype", "M8[D],f8", "--missing", "NA=nan"]) == 0
    table = oc.from_hdf5("1.h5", "h")
    assert table.dtype == [("day", "M8[D]"), ("rain", "f8")]
    assert table["day"].tolist() == np.array(["2020-01-01", "2020-01-02"], "M8[D]").tolist()
    assert np.isnan(table["rain"][1])
    assert main(["load", "h.csv", "-o", "2.h5", "--columns", "rain", "--max-rows", "1", "--dtype", "x:f8"]) == 0
    assert oc.from_hdf5("2.h5", "h").tolist() == [(1.5,)]


def test_a_table_of_numbers_is_a_plain_array():
    Path("grid.txt").write_text("1.5 2 3\n4.5 5 6\n")
    assert main(["load", "grid.txt", "-o", "1.h5", "--dtype", "f4"]) == 0
    assert oc.from_hdf5("1.h5", "grid").tolist() == [[1.5, 2, 3], [4.5, 5, 6]]
    Path("grid.txt").write_text("1.5 2.5\n4.5 5.5\n")
    assert main(["load", "grid.txt", "grid.txt", "-o", "2.h5", "--layout", "concat"]) == 0
    assert oc.from_hdf5("2.h5", "data").tolist() == [[1.5, 2.5], [4.5, 5.5]] * 2


def test_names_of_datasets_are_unique():
    Path("sub").mkdir()
    Path("sub/a.tsv.gz").write_bytes(gzip.compress(MORE.encode()))
    assert main(["load", "a.txt", "sub/a.tsv.gz", "a.txt", "-o", "out.h5"]) == 0
    with h5py.File("out.h5") as file:
        assert {name: dataset.attrs["source"] for name, dataset in file.items()} == {
            "a": "a.txt",
            "a_2": "sub/a.tsv.gz",
            "a_3": "a.txt",
        }


def test_names_of_many_files_of_one_name():
    paths = [f"{number}/calls.txt" for number in range(3000)] + ["a/calls_2.txt"]
    names = dataset_names(paths)
    assert names[:3] == ["calls", "calls_2", "calls_3"]
    assert names[-1] == "calls_2_2" and len(set(names)) == len(names)


def test_json_summary(capsys):
    assert main(["load", "a.txt", "b.txt", "-o", "out.h5", "--json", "--quiet"]) == 0
    out, err = capsys.readouterr()
    summary = json.loads(out)
    assert summary.pop("seconds") >= 0
    assert err == ""
    assert summary == {
        "output": "out.h5",
        "datasets": [
            {"name": "a", "sources": ["a.txt"], "rows": 3, "dtype": "f0:S8,f1:i4,f2:f8"},
            {"name": "b", "sources": ["b.txt"], "rows": 2, "dtype": "f0:S16,f1:i4,f2:f8"},
        ],
        "rows": 5,
        "text_bytes": len(CALLS + MORE),
        "resumed_files": 0,
        "file_bytes": os.path.getsize("out.h5"),
    }


def test_force_replaces_and_only_force(capsys):
    Path("out.h5").write_text("old")
    message = fails(capsys, "a.txt", "-o", "out.h5")
    assert "out.h5: exists already" in message
    assert "--force" in message
    assert Path("out.h5").read_text() == "old"
    assert main(["load", "a.txt", "-o", "out.h5", "--force"]) == 0
    assert len(oc.from_hdf5("out.h5", "a")) == 3


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["none.txt", "-o", "out.h5"], "none.txt: No such file"),
        (["a.txt", "none.txt", "-o", "out.h5"], "none.txt: No such file"),
        ([".", "-o", "out.h5"], ".: is a directory: name the files in it"),
        (["a.txt", "-o", "."], ".: is a directory: give the name"),
        (["a.txt", "-o", "none/out.h5"], "no such directory: create it first"),
        (["a.txt", "-o", "/sys/out.h5"], "/sys/out.h5: cannot be created"),
        (["a.txt", "-o", "/dev/null", "--force"], "not a regular file"),
        (["a.txt", "-o", "a.txt", "--force"], "a.txt is an input and the output"),
        (["a.txt", "-o", "out.h5", "--columns", "pos", "--no-header"], "a.txt: no header line"),
        (["a.txt", "-o", "out.h5", "--columns", "pos"], "no column 'pos' for --columns; there are chr1, 100, 87.5"),
        (
            ["a.txt", "-o", "out.h5", "--columns", "x", "--names", "a,b,c"],
            "no column 'x' for --columns; there are a, b, c",
        ),
        (["a.txt", "-o", "out.h5", "--names", "a,b"], "--names gives 2 names for 3 fields"),
        (["a.txt", "-o", "out.h5", "--dtype", "f4", "--names", "a"], "--names gives 1 names for 1 fields"),
        (["a.txt", "h.txt", "-o", "out.h5", "--layout", "concat"], "h.txt has the columns chr, pos, pct, but a.txt f0"),
        (["wide.csv", "-o", "out.h5"], "columns of one type can be one array instead"),
        (["a.txt", "-o", "out.h5", "--names", "a,b,c", "--columns", "5"], "no column 5 for --columns; there are a, b"),
        (["a.txt", "-o", "out.h5", "--checksum", "--layout", "stack"], "--checksum is for HDF5 with --layout per-file"),
        (["a.txt", "-o", "out.parquet", "--checksum"], "--checksum is for HDF5 with --layout per-file"),
        (["twice.txt", "-o", "out.h5"], "twice.txt: the header has 'x' more than once"),
        (["empty.txt", "-o", "out.h5"], "empty.txt: there are no lines of data"),
        ([os.fsdecode(b"\xff.txt"), "-o", "out.h5"], "its name is no UTF-8, which HDF5 asks for: rename it"),
        ([os.fsdecode(b"\xff.txt"), "-o", "out.h5", "--layout", "concat"], "rename it"),
        (["a.txt", "-o", "out.h5", "--layout", "concat", "--name", "a/"], "'a/' is no name for a dataset"),
        (["a.txt", "-o", "none/../out.h5"], "none/..: no such directory: create it first"),
    ],
)
def test_refused_before_anything_is_loaded(capsys, monkeypatch, args, words):
    Path("h.txt").write_text("chr\tpos\tpct\n" + CALLS)
    Path("empty.txt").write_text("# nothing\n")
    Path("twice.txt").write_text("x x\n1 2\n")
    Path(os.fsdecode(b"\xff.txt")).write_text(CALLS)
    Path("wide.csv").write_text(",".join(f"column_{i}" for i in range(3000)) + "\n" + ",".join(["1"] * 3000) + "\n")
    monkeypatch.setattr(_text, "load", lambda *args, **options: pytest.fail("loaded"))
    assert words in fails(capsys, *args)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "required"),
        (["a.txt"], "-o"),
        (["a.txt", "-o", "x.h5", "--dtype", "pos:i44"], "'i44' is no numpy type; give for example i4"),
        (["a.txt", "-o", "x.h5", "--dtype", "pos:"], "write name:type"),
        (["a.txt", "-o", "x.h5", "--dtype", "a:i4,a:i4"], "a"),
        (["a.txt", "-o", "x.h5", "--dtype", "a:O"], "no fixed size"),
        (["a.txt", "-o", "x.h5", "--dtype", "a:S"], "no fixed size"),
        (["a.txt", "-o", "x.h5", "--compression", "gzip:10"], "gzip level 10: give 0 (fastest) to 9"),
        (["a.txt", "-o", "x.h5", "--compression", "gzip:x"], "the level is a number"),
        (["a.txt", "-o", "x.h5", "--compression", "bzip2"], "give none, lzf"),
        (["a.txt", "-o", "x.h5", "--delimiter", "ab"], "give one character"),
        (["a.txt", "-o", "x.h5", "--missing", "NA"], "NA=nan"),
        (["a.txt", "-o", "x.h5", "--jobs", "0"], "at least 1"),
        (["a.txt", "-o", "x.h5", "--skip-rows", "-1"], "whole number"),
        (["a.txt", "-o", "x.h5", "--skip-rows", "9" * 19], "at most 18 digits"),
        (["a.txt", "-o", "x.h5", "--columns", "1,,2"], "0,2,-1"),
        (["a.txt", "-o", "x.h5", "--names", "a,a"], "different names"),
        (["a.txt", "-o", "x.h5", "--quote", "''"], "one character"),
        (["a.txt", "-o", "x.h5", "--layout", "rows"], "per-file"),
    ],
)
def test_wrong_usage(capsys, args, words):
    assert words in fails(capsys, *args, code=2)


@pytest.mark.parametrize("layout", ["per-file", "concat"])
def test_a_bad_field_leaves_no_output(capsys, layout):
    Path("bad.txt").write_text("chr1\t100\t87.5\n" * 200 + "chr1\tpos\t1.5\n")
    message = fails(
        capsys, "a.txt", "bad.txt", "b.txt", "-o", "out.h5", "--dtype", "c:S10,p:i4,m:f4", "--layout", layout
    )
    assert "bad.txt" in message
    assert "'pos'" in message


@pytest.mark.usefixtures("time_limit")
def test_a_pipe_is_read_once_and_whole():
    os.mkfifo("pipe")
    text = "".join(f"chr{n % 22}\t{n}\n" for n in range(200_000))
    feeder = threading.Thread(target=Path("pipe").write_text, args=(text,), daemon=True)
    feeder.start()
    assert main(["load", "pipe", "a.txt", "-o", "out.h5"]) == 0
    feeder.join()
    assert (oc.from_hdf5("out.h5", "pipe")["f1"] == np.arange(200_000)).all()
    with h5py.File("out.h5") as file:
        assert file["pipe"].attrs["source_bytes"] == len(text)


def test_check_sums_of_sources_are_stored():
    wanted = [hashlib.sha256(text.encode()).hexdigest() for text in (CALLS, MORE)]
    assert main(["load", "a.txt", "b.txt", "-o", "each.h5", "--checksum"]) == 0
    with h5py.File("each.h5") as file:
        assert [file[name].attrs["source_sha256"] for name in ("a", "b")] == wanted
    concat = ["--layout", "concat", "-o", "all.h5", "--append"]
    for more in ([], ["--checksum"], []):
        assert main(["load", "a.txt", "b.txt", *concat, *more]) == 0
    with h5py.File("all.h5") as file:
        index = file["data_sources"]
        assert [text.decode() for text in index["source_sha256"]] == ["", "", *wanted, "", ""]
        assert index["first_row"].tolist() == [0, 3, 5, 8, 10, 13]
        assert [text.decode() for text in index["source"]] == ["a.txt", "b.txt"] * 3


def test_every_compression_is_read_and_no_part_of_the_name():
    for ending, pack in (("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)):
        Path(f"{ending}.tsv.{ending}").write_bytes(pack(CALLS.encode()))
    assert main(["load", "gz.tsv.gz", "bz2.tsv.bz2", "xz.tsv.xz", "-o", "out.h5"]) == 0
    assert [oc.from_hdf5("out.h5", name).shape for name in ("gz", "bz2", "xz")] == [(3,)] * 3


def test_delimiters_and_comments():
    Path("d.txt").write_text("% note\n1|2\n3|4\n")
    assert main(["load", "d.txt", "-o", "1.h5", "--delimiter", "|", "--comments", "%", "--dtype", "i4"]) == 0
    assert oc.from_hdf5("1.h5", "d").tolist() == [[1, 2], [3, 4]]
    assert main(["load", "a.txt", "-o", "2.h5", "--delimiter", "\\t"]) == 0
    assert main(["load", "a.txt", "-o", "3.h5", "--delimiter", "white space", "--no-header"]) == 0
    assert oc.from_hdf5("2.h5", "a").tolist() == oc.from_hdf5("3.h5", "a").tolist()


# ---------------------------------------------------------------- the process


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_while_loading_leaves_what_was_there(name, code):
    Path("out.h5").write_text("old")
    Path("endless.txt").write_text(CALLS)
    arguments = ["endless.txt", "a.txt", "endless.txt", "b.txt", "-o", "out.h5", "--force", "--quiet"]
    found, messages = stopped(ENDLESS, arguments, name)
    assert found == code
    assert messages[-1] == f"onecopy load: stopped by {name}: nothing was written"
    assert Path("out.h5").read_text() == "old"
    assert sorted(os.listdir()) == ["a.txt", "b.txt", "endless.txt", "out.h5"]


def test_a_progress_bar_on_a_terminal_only():
    terminal, inside = pty.openpty()
    termios.tcsetwinsize(inside, (25, 100)) if hasattr(termios, "tcsetwinsize") else pytest.skip("Python 3.11")
    subprocess.run([*COMMAND, "a.txt", "-o", "1.h5"], stderr=inside, check=True)
    os.close(inside)
    shown = b""
    try:
        while part := os.read(terminal, 4096):
            shown += part
    except OSError:
        # What a terminal without a program says.
        pass
    os.close(terminal)
    assert b"100%" in shown
    assert b"B/s" in shown
    quiet = subprocess.run([*COMMAND, "a.txt", "-o", "2.h5"], capture_output=True, text=True, check=True)
    assert "%|" not in quiet.stderr


def test_help_and_version(capsys):
    assert main(["--version"]) == 0
    assert main(["load", "--help"]) == 0
    assert "--layout {per-file,concat,stack}" in capsys.readouterr().out
    assert main([]) == 2


# ---------------------------------------------------------------- results in order


def test_in_order_keeps_order_and_few_alive():
    begun, used = [], []

    def work(task, stop):
        begun.append(task)
        return task * task

    for result in in_order(range(50), work, 3):
        used.append(result)
        assert len(begun) <= len(used) + 3
    assert used == [n * n for n in range(50)]


def test_in_order_stops_the_others_when_one_fails():
    stopped = []

    def work(task, stop):
        if task == 0:
            raise ZeroDivisionError
        try:
            while True:
                stop()
        except Stopped:
            stopped.append(task)
            raise

    with pytest.raises(ZeroDivisionError):
        list(in_order(range(100), work, 3))
    assert set(stopped) <= {1, 2}


def test_a_signal_that_a_callback_swallowed_is_not_lost():
    class Swallowing:
        def __del__(self):
            with contextlib.suppress(interrupt.Interrupted):
                signal.raise_signal(signal.SIGTERM)

    def work(task, stop):
        while True:
            stop()

    with pytest.raises(interrupt.Interrupted), interrupt.unwinding_signals():
        Swallowing()
        list(in_order([1], work, 1))
    interrupt.check()
