"""What is left of a file when its writer fails, is interrupted, is killed, or meets a full disk."""

import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap

import h5py
import numpy as np
import pytest

import onecopy as oc
from onecopy._atomic import AtomicFile
from onecopy._temporaries import DIRECTORIES, FILES, SUFFIX

# A writer that stops at a named point, says so, and waits there until it is killed or told to go on.
WRITER = textwrap.dedent("""
    import os, select, sys
    import numpy as np
    import onecopy as oc

    path, mode, point, compression = sys.argv[1:]

    def stop(at):
        if at == point:
            print("there", flush=True)
            # Short sleeps: a signal that comes just before a long one would wait for its end.
            while not select.select([sys.stdin], [], [], 0.1)[0]:
                pass

    def arrays():
        yield "first", np.arange(500_000)
        stop("between datasets")
        yield "second", np.arange(500_000)
        stop("before closing")

    fsync = os.fsync
    def slow_fsync(fd):
        stop("before renaming")
        fsync(fd)
    os.fsync = slow_fsync

    oc.to_hdf5(path, arrays(), mode=mode, compression=compression or None, chunks=10_000 if compression else None,
               progress=lambda n: stop("inside a dataset"))
""")
POINTS = ["inside a dataset", "between datasets", "before closing", "before renaming"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.h5"


@pytest.fixture
def start(tmp_path):
    """Start a writer and wait until it is at its point."""
    script = tmp_path / "writer.py"
    script.write_text(WRITER)
    started = []

    def begin(path, mode, point, compression=""):
        args = [sys.executable, script, path, mode, point, compression]
        pipe = subprocess.PIPE
        writer = subprocess.Popen(args, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        started.append(writer)
        assert writer.stdout.readline() == "there\n", writer.communicate()[1]
        return writer

    yield begin
    for writer in started:
        writer.kill()
        writer.communicate()


def temporaries(path):
    return [entry for entry in path.parent.iterdir() if entry.name.endswith(SUFFIX)]


@pytest.mark.parametrize("compression", ["", "gzip"])
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("mode", ["x", "w", "a"])
@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_a_writer_that_dies_leaves_what_was_there(path, start, how, mode, point, compression):
    if mode != "x":
        oc.to_hdf5(path, {"old": np.arange(10)})
    before = path.read_bytes() if mode != "x" else None
    writer = start(path, mode, point, compression)
    assert len(temporaries(path)) == 1
    writer.send_signal(signal.Signals[how])
    _, messages = writer.communicate()
    assert writer.returncode == -signal.Signals[how], messages
    assert (path.read_bytes() if path.exists() else None) == before
    assert len(temporaries(path)) == (how == "SIGKILL")

    oc.to_hdf5(path, {"new": np.arange(3)}, mode=mode)
    assert temporaries(path) == []
    assert set(oc.from_hdf5(path)) == ({"old", "new"} if mode == "a" else {"new"})


def test_the_file_of_a_live_writer_is_left_alone(path, start):
    writer = start(path, "w", "between datasets")
    oc.to_hdf5(path, {"mine": np.arange(3)})
    assert len(temporaries(path)) == 1
    _, messages = writer.communicate("go on\n")
    assert writer.returncode == 0, messages
    assert set(oc.from_hdf5(path)) == {"first", "second"}
    assert temporaries(path) == []


def test_a_file_that_appears_meanwhile_is_not_replaced(path, start):
    writer = start(path, "x", "before renaming")
    path.write_text("somebody else's")
    _, messages = writer.communicate("go on\n")
    assert writer.returncode == 1
    assert "FileExistsError" in messages
    assert path.read_text() == "somebody else's"
    assert temporaries(path) == []


def test_nothing_that_was_added_meanwhile_is_lost(path, start):
    oc.to_hdf5(path, {"old": np.arange(3)})
    writer = start(path, "a", "before renaming")
    oc.to_hdf5(path, {"other": np.arange(4)}, mode="a")
    _, messages = writer.communicate("go on\n")
    assert writer.returncode == 1
    assert "changed by another process" in messages
    assert set(oc.from_hdf5(path)) == {"old", "other"}


def test_a_fork_of_the_writer_does_not_discard_the_file(path):
    with AtomicFile(path, "x") as file:
        child = os.fork()
        if child == 0:
            file.__exit__(None, None, None)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert temporaries(path) == [file.temporary]


@pytest.mark.parametrize("kind", [FILES, DIRECTORIES])
def test_a_temporary_that_is_swept_before_it_is_locked_is_made_again(path, kind):
    swept = []

    def lock(fd, wait):
        if not swept:
            swept.append(os.readlink(f"/proc/self/fd/{fd}"))
            kind.remove(swept[0])
        return kind.lock(fd, wait)

    temporary, fd = kind._replace(lock=lock).create(path)
    os.close(fd)
    assert temporaries(path) == [temporary] and str(temporary) != swept[0]
    kind.sweep(path)
    assert temporaries(path) == []


@pytest.mark.parametrize("mode", ["x", "w", "a"])
@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
def test_an_exception_leaves_what_was_there(path, mode, compression):
    if mode != "x":
        oc.to_hdf5(path, {"old": np.arange(10)})
    before = path.read_bytes() if mode != "x" else None

    def arrays():
        yield "first", np.arange(100_000)
        raise ZeroDivisionError

    def refuse(size):
        raise ZeroDivisionError

    for data, progress in [(arrays(), False), ({"x": np.arange(300_000)}, refuse)]:
        with pytest.raises(ZeroDivisionError):
            oc.to_hdf5(path, data, mode=mode, compression=compression, progress=progress)
        assert (path.read_bytes() if path.exists() else None) == before
        assert temporaries(path) == []


def test_adding(path):
    oc.to_hdf5(path, {"a": np.arange(3)}, mode="a")
    oc.to_hdf5(path, {"b": np.arange(4)}, mode="a", compression="gzip")
    with pytest.raises(ValueError, match=r"'a'.*already"):
        oc.to_hdf5(path, {"a": np.arange(5)}, mode="a")
    assert {name: len(array) for name, array in oc.from_hdf5(path).items()} == {"a": 3, "b": 4}
    path.write_text("no HDF5")
    with pytest.raises(OSError, match="not an HDF5 file"):
        oc.to_hdf5(path, {"a": np.arange(5)}, mode="a")
    assert path.read_text() == "no HDF5"


def test_adding_to_a_file_that_is_being_written(path):
    with h5py.File(path, "w", locking=True) as file:
        file["x"] = [1]
        file.flush()
        with pytest.raises(OSError, match="being written by another process"):
            oc.to_hdf5(path, {"a": np.arange(5)}, mode="a")


def test_permissions(path):
    before = os.umask(0o027)
    try:
        oc.to_hdf5(path, [1.0][0])
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        oc.to_hdf5(path, [1.0][0], mode="w")
        assert stat.S_IMODE(path.stat().st_mode) == 0o604
    finally:
        os.umask(before)


def test_a_symbolic_link_is_followed(path):
    target = path.with_name("target.h5")
    path.symlink_to(target)
    oc.to_hdf5(path, np.arange(3))
    oc.to_hdf5(path, np.arange(4), mode="w")
    assert path.is_symlink()
    assert len(oc.from_hdf5(target, "data")) == 4


def test_a_long_name(tmp_path):
    path = tmp_path / ("日" * 83 + ".h5")
    oc.to_hdf5(path, np.arange(3))
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_no_reserved_room_stays_behind_the_end(path):
    oc.to_hdf5(path, {"x": np.arange(10_000)}, compression="gzip")
    assert path.stat().st_size < 80_000
    assert path.stat().st_blocks * 512 < path.stat().st_size + (64 << 10)


def test_a_file_is_as_long_as_its_room_until_it_is_shortened(path):
    path.write_bytes(b"old")
    with AtomicFile(path, "a") as file:
        # What is copied is not longer than what it was copied from.
        assert os.fstat(file.fileno()).st_size == 3
        for room in (100 << 20, 200 << 20):
            file.write_at(b"new text", 0)
            assert file.reserve(room) >= room
            assert os.fstat(file.fileno()).st_size >= room
            file.shorten(8)
            assert os.fstat(file.fileno()).st_size == 8
        file.commit()
    assert path.read_bytes() == b"new text"


def test_outputs_that_cannot_be(path, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such directory"):
        oc.to_hdf5(tmp_path / "no" / "out.h5", np.arange(3))
    with pytest.raises(IsADirectoryError, match="is a directory"):
        oc.to_hdf5(tmp_path, np.arange(3), mode="w")
    with pytest.raises(OSError, match="not a regular file"):
        oc.to_hdf5("/dev/null", np.arange(3), mode="w")
    path.write_text("old")
    with pytest.raises(FileExistsError, match=r"exists already.*mode='w'.*--force"):
        oc.to_hdf5(path, np.arange(3))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_that_cannot_be_written_to():
    # Nobody, not even root, may create a file there.
    with pytest.raises(OSError, match=r"cannot be created in its directory: .*: '/sys/out.h5'") as caught:
        oc.to_hdf5("/sys/out.h5", np.arange(3))
    assert caught.value.errno in (errno.EACCES, errno.EPERM, errno.EROFS)


# ---------------------------------------------------------------- a full disk

FULL = textwrap.dedent("""
    import json, os, sys
    import numpy as np
    import onecopy as oc

    noise = np.random.default_rng(1).integers(0, 1 << 62, 2_000_000)
    oc.to_hdf5("old.h5", {"old": noise[:1000]})
    before = open("old.h5", "rb").read()
    cases = {
        "plain": ({"x": noise}, {}),
        "iterable": ([("a", noise[:200_000]), ("x", noise)], {}),
        "gzip": ({"x": noise}, {"compression": "gzip"}),
        "lzf": ([("x", noise)], {"compression": "lzf"}),
        "libhdf5's szip": ({"x": noise}, {"compression": "szip"}),
        "chunks": ({"x": noise}, {"chunks": 1000}),
    }
    for name, (data, options) in cases.items():
        try:
            oc.to_hdf5("old.h5", data, mode="w", **options)
        except OSError as error:
            same = open("old.h5", "rb").read() == before
            print(json.dumps([name, error.errno, error.strerror, error.filename, same, os.listdir(".")]), flush=True)
    # What fits is written, close to the limit.
    oc.to_hdf5("old.h5", {"x": noise[:900_000]}, mode="a", compression="gzip")
    assert (oc.from_hdf5("old.h5", "x") == noise[:900_000]).all()
""")


def test_a_full_disk(tmp_path):
    mount = f'mount -t tmpfs -o size=8m none "{tmp_path}" && cd "{tmp_path}" && exec "$0" -c "$1"'
    tool = shutil.which("unshare")
    if tool is None or subprocess.run([tool, "-m", "true"], capture_output=True).returncode:
        pytest.skip("needs the right to mount (unshare -m)")
    run = subprocess.run([tool, "-m", "sh", "-c", mount, sys.executable, FULL], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    results = [json.loads(line) for line in run.stdout.splitlines()]
    assert [name for name, *_ in results] == ["plain", "iterable", "gzip", "lzf", "libhdf5's szip", "chunks"]
    for name, number, text, filename, same, files in results:
        assert (number, filename, same, files) == (errno.ENOSPC, "old.h5", True, ["old.h5"]), name
        assert "bytes more are needed" in text
        assert "are free" in text
