"""Rows added in place while others read: `swmr=True`."""

import fcntl
import os
import signal
import subprocess
import sys
import textwrap

import h5py
import numpy as np
import pytest

import onecopy as oc
from onecopy._hdf5.swmr import InPlaceFile, lookup3

# Adds rows for as long as it lives, and says so after the first ones.
WRITER = textwrap.dedent("""
    import sys
    import numpy as np
    import onecopy as oc

    path, compression, total, point = sys.argv[1], sys.argv[2] or None, int(sys.argv[3]), sys.argv[4]
    start = len(oc.from_hdf5(path, "x"))
    def parts():
        for first in range(start, start + total, 70):
            yield "x", np.arange(first, first + 70)
            if point == "inside" and first == start + 700:
                print("there", flush=True)
    if point == "inside":
        oc.to_hdf5(path, parts(), append=True, swmr=True)
    else:
        for number, part in enumerate(parts()):
            oc.to_hdf5(path, [part], append=True, swmr=True)
            if number == 3:
                print("there", flush=True)
""")
OPTIONS = [{}, {"compression": "gzip"}, {"compression": "zstd", "fletcher32": True}, {"compression": "szip"}]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.h5"


@pytest.fixture
def start(path):
    started = []

    def begin(compression, total, point):
        args = [sys.executable, "-c", WRITER, path, compression, str(total), point]
        writer = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(writer)
        assert writer.stdout.readline() == "there\n", writer.communicate()[1]
        return writer

    yield begin
    for writer in started:
        writer.kill()
        writer.communicate()


def complete_rows(path):
    with h5py.File(path, swmr=True) as file:
        rows = file["x"].attrs["rows"]
        values = file["x"][:rows]
    assert (values == np.arange(rows)).all()
    return rows


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_rows_are_added_in_place(path, options):
    pytest.importorskip("hdf5plugin")
    whole = np.arange(1000)
    oc.to_hdf5(path, {"x": whole[:30], "y": [1]}, append=True, swmr=True, chunks=64, **options)
    inode = path.stat().st_ino

    def add(*bounds):
        # libhdf5 does not open a file for writing that its own process reads.
        code = "import sys, numpy as np, onecopy as oc; bounds = list(map(int, sys.argv[2:]));"
        code += "parts = [('x', np.arange(a, b)) for a, b in zip(bounds, bounds[1:])];"
        code += "oc.to_hdf5(sys.argv[1], parts, append=True, swmr=True)"
        subprocess.run([sys.executable, "-c", code, path, *map(str, bounds)], check=True)

    with h5py.File(path, swmr=True) as reader:
        seen = reader["x"]
        add(30, 500, 777)
        seen.refresh()
        assert (seen[()] == whole[:777]).all()
        add(777, 1000)
        seen.refresh()
        assert (seen[()] == whole).all()
    assert path.stat().st_ino == inode
    assert oc.from_hdf5(path, "x").tolist() == whole.tolist()
    with h5py.File(path) as file:
        assert file["x"].attrs["rows"] == 1000


@pytest.mark.parametrize("compression", ["", "gzip"])
def test_a_reader_sees_complete_rows_at_any_time(path, start, compression):
    oc.to_hdf5(path, {"x": np.arange(30)}, append=True, swmr=True, chunks=64, compression=compression or None)
    writer = start(compression, 70 * 400, "inside")
    seen = [complete_rows(path)]
    while writer.poll() is None:
        seen.append(complete_rows(path))
    assert writer.returncode == 0, writer.communicate()
    assert seen == sorted(seen)
    assert complete_rows(path) == 30 + 70 * 400


@pytest.mark.parametrize("point", ["inside", "between"])
@pytest.mark.parametrize("compression", ["", "gzip"])
def test_a_killed_writer_leaves_a_file_to_which_rows_can_be_added(path, start, compression, point):
    oc.to_hdf5(path, {"x": np.arange(30)}, append=True, swmr=True, chunks=64, compression=compression or None)
    known = 30
    for _ in range(4):
        writer = start(compression, 70 * 100_000, point)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        rows = complete_rows(path)
        assert rows >= known
        if point == "between":
            assert rows >= known + 4 * 70
        # Rows that it had begun are taken back.
        oc.to_hdf5(path, {"x": np.arange(rows, rows + 1)}, append=True, swmr=True)
        known = rows + 1
        assert oc.from_hdf5(path, "x").tolist() == [*range(known)]
        assert complete_rows(path) == known


def test_a_file_that_another_one_writes_is_left_alone(path):
    oc.to_hdf5(path, {"x": np.arange(30)}, append=True, swmr=True)
    writer = h5py.File(path, "r+", libver="latest")
    writer.swmr_mode = True
    before = path.read_bytes()
    code = "import sys, onecopy as oc; oc.to_hdf5(sys.argv[1], {'x': [30]}, append=True, swmr=True)"
    run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert "being written by another process" in run.stderr
    assert path.read_bytes() == before
    writer.close()
    with h5py.File(path, "r+", locking=True):
        run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
        assert "being written by another process" in run.stderr
    run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert run.stderr == ""
    assert complete_rows(path) == 31


def test_locks_of_others_are_kept_out_before_anything_is_marked(path):
    oc.to_hdf5(path, {"x": np.arange(30)}, append=True, swmr=True)
    with InPlaceFile(path), pytest.raises(OSError, match="being written by another process"):
        InPlaceFile(path).__enter__()
    # As libhdf5 locks a file that it writes.
    with open(path, "r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="being written by another process"):
            InPlaceFile(path).__enter__()
    with InPlaceFile(path):
        pass


def test_no_reserved_room_stays_behind_the_end(path):
    oc.to_hdf5(path, {"x": np.arange(30)}, append=True, swmr=True, chunks=64)
    for _ in range(2):
        oc.to_hdf5(path, {"x": np.arange(30)}, append=True, swmr=True)
    with pytest.raises(ZeroDivisionError):
        oc.to_hdf5(path, (("x", np.arange(1 // (3 - n))) for n in range(9)), append=True, swmr=True)
    assert path.stat().st_blocks * 512 < path.stat().st_size + (64 << 10)
    # Nor is the file longer while it is written to: who is killed leaves it as it is.
    size = path.stat().st_size
    with InPlaceFile(path) as file:
        file.reserve(100 << 20)
        assert path.stat().st_size == size


def test_what_cannot_be_done_in_place(path):
    oc.to_hdf5(path, {"x": np.arange(3)})
    with pytest.raises(OSError, match="was not made with swmr=True"):
        oc.to_hdf5(path, {"x": [1]}, append=True, swmr=True)
    oc.to_hdf5(path, {"x": np.arange(3)}, append=True, swmr=True, mode="w")
    for data, options, words in [
        ({"y": [1]}, {}, "'y' is not in .*cannot be made in place"),
        ({"x": [1]}, {"attrs": {"x": {"of": 1}}}, "attrs cannot be given in place"),
        ({"x": [1.5]}, {}, "has the type int64"),
        ({"x": [1]}, {"resume": True}, "cannot be resumed"),
        ({"x": [1]}, {"append": False}, "give append=True"),
    ]:
        with pytest.raises(ValueError, match=words):
            oc.to_hdf5(path, data, **{"append": True, "swmr": True, **options})
    assert oc.from_hdf5(path, "x").tolist() == [0, 1, 2]
    # Others may be added on a copy.
    oc.to_hdf5(path, {"y": [1]}, append=True)
    assert set(oc.from_hdf5(path)) == {"x", "y"}
    assert os.listdir(path.parent) == ["out.h5"]


def test_a_damaged_superblock_is_not_mended(path):
    oc.to_hdf5(path, {"x": np.arange(3)}, append=True, swmr=True)
    data = bytearray(path.read_bytes())
    data[11] = 5
    path.write_bytes(data)
    with pytest.raises(OSError, match="damaged superblock"):
        oc.to_hdf5(path, {"x": [3]}, append=True, swmr=True)
    assert path.read_bytes() == data


def test_the_check_sum_of_metadata(path):
    assert lookup3(b"") == 0xDEADBEEF
    assert lookup3(b"Four score and seven years ago") == 0x17770551
    oc.to_hdf5(path, {"x": np.arange(3)}, append=True, swmr=True)
    head = path.read_bytes()[:48]
    assert lookup3(head[:44]).to_bytes(4, "little") == head[44:]


def test_rows_are_flushed_before_they_are_counted(path):
    oc.to_hdf5(path, {"x": np.arange(30), "y": np.arange(5)}, append=True, swmr=True, chunks=64, compression="gzip")
    # Dies just before it counts the rows of x.
    code = """if True:
        import os, signal, sys
        import h5py, numpy as np, onecopy as oc
        h5py.AttributeManager.modify = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
        oc.to_hdf5(sys.argv[1], {"x": np.arange(30, 200)}, append=True, swmr=True)
    """
    died = subprocess.run([sys.executable, "-c", code, path])
    assert died.returncode == -signal.SIGKILL
    assert complete_rows(path) == 30
    with h5py.File(path, swmr=True) as file:
        assert (file["x"][()] == np.arange(200)).all()
    oc.to_hdf5(path, {"y": [5]}, append=True, swmr=True)
    assert oc.from_hdf5(path, "x").tolist() == [*range(30)]
    assert oc.from_hdf5(path, "y").tolist() == [*range(6)]
