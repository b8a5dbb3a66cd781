"""What makes resuming safe: the overlay, the journal, and writers that die at every step."""

import os
import subprocess
import sys
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onecopy._hdf5 import overlay as overlays
from onecopy._hdf5.journal import Journal, Record, apply
from onecopy._hdf5.overlay import PAGE, Overlay


@settings(max_examples=200, deadline=None)
@given(
    end=st.integers(0, 3 * PAGE),
    writes=st.lists(st.tuples(st.integers(0, 4 * PAGE), st.binary(min_size=1, max_size=2 * PAGE)), max_size=12),
    at=st.integers(0, 5 * PAGE),
    size=st.integers(0, 3 * PAGE),
)
def test_an_overlay_reads_what_was_written_and_changes_nothing_before_the_end(tmp_path_factory, end, writes, at, size):
    path = tmp_path_factory.mktemp("overlay") / "file"
    before = os.urandom(end)
    path.write_bytes(before)
    model = bytearray(before)
    fd = os.open(path, os.O_RDWR)
    overlay = Overlay(fd, end)
    for position, data in writes:
        overlay.seek(position)
        assert overlay.write(data) == len(data)
        model.extend(bytes(max(0, position + len(data) - len(model))))
        model[position : position + len(data)] = data
    assert path.read_bytes()[:end] == before
    assert overlay.seek(0, os.SEEK_END) == len(model)
    overlay.seek(at)
    buffer = bytearray(b"?" * size)
    overlay.readinto(buffer)
    assert buffer == model[at : at + size].ljust(size, b"\0")
    apply(overlay.take_pages(), fd)
    os.close(fd)
    assert path.read_bytes() == model.rstrip(b"\0") or path.read_bytes().rstrip(b"\0") == model.rstrip(b"\0")


def test_a_torn_record_does_not_count(tmp_path):
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.append(Record({"n": 1}, 10, {0: b"first"}))
    whole = path.stat().st_size
    journal.append(Record({"n": 2}, 20, {3: b"second", 0: bytes(PAGE)}))
    journal.close()
    data = path.read_bytes()
    for cut in range(whole, len(data) + 1, 37):
        path.write_bytes(data[:cut])
        assert [record.note["n"] for record in Journal(path).records] == [1]
        assert path.stat().st_size == whole
    for damaged in (whole + 9, whole + 30, len(data) - 1):
        path.write_bytes(data[:damaged] + bytes([data[damaged] ^ 1]) + data[damaged + 1 :])
        assert [record.note["n"] for record in Journal(path).records] == [1]
    path.write_bytes(data)
    last = Journal(path).records[-1]
    assert (last.note, last.end, last.pages) == ({"n": 2}, 20, {3: b"second", 0: bytes(PAGE)})
    path.write_bytes(b"no journal at all")
    assert Journal(path).records == []


def test_a_file_that_is_read_in_pieces(tmp_path, monkeypatch):
    """One call reads as much as the system likes."""
    whole = os.urandom(3 * PAGE)
    (tmp_path / "file").write_bytes(whole)
    fd = os.open(tmp_path / "file", os.O_RDWR)
    read = os.preadv
    monkeypatch.setattr(overlays.os, "preadv", lambda fd, buffers, at: read(fd, [buffers[0][:1000]], at))
    overlay = Overlay(fd, len(whole))
    overlay.write_at(memoryview(b"x"), 5000)
    overlay.seek(10)
    assert overlay.read(3 * PAGE) == whole[10:5000] + b"x" + whole[5001:] + bytes(10)
    os.close(fd)


# ---------------------------------------------------------------- death at every step

# Runs itself again and again, killed at the first, second, third … call that changes a file, until it survives; after
# each death, resumes and compares.
DEATHS = textwrap.dedent("""
    import os, signal, sys, shutil
    import numpy as np
    import onecopy as oc
    from onecopy import _native
    from onecopy._hdf5.background import BackgroundWriter

    how, kind, stride = sys.argv[1], sys.argv[2], int(sys.argv[3])
    options = {
        "plain": {},
        "gzip": {"compression": "gzip", "chunks": 700},
        "libhdf5": {"compression": "blosc2", "chunks": 700},
        "plain stream": {},
        "gzip stream": {"compression": "gzip", "chunks": 700},
    }[kind]
    sizes = {"a": 3000, "group/b": 10, "c": 9_000, "group/d": 2000, "e": 1}
    if kind == "plain stream":
        # What is that large has a place of its own.
        sizes["c"] = 200_000
    rng = np.random.default_rng(7)
    arrays = {name: rng.integers(0, 50, size) for name, size in sizes.items()}

    def rows(name):
        array = arrays[name]
        return iter(np.split(array, [len(array) // 3, len(array) // 2])) if "stream" in kind else array

    def write(called, saved, **more):
        def pairs():
            for name in arrays:
                yield name, lambda name=name: (called(name), rows(name))[1]
                # Asked for the next one: this one has been saved.
                saved(name)
        oc.to_hdf5("out.h5", pairs(), **options, **more)

    def child(point, report):
        calls = 0
        def dying(function, torn):
            def call(*args):
                nonlocal calls
                calls += 1
                if calls == point:
                    if torn and how == "torn":
                        fd, data, *rest = args
                        function(fd, bytes(memoryview(data).cast("B")[: memoryview(data).nbytes // 2]), *rest)
                    if how == "power":
                        lose()
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*args)
            return call
        synced = {}
        def syncing(function):
            def call(fd):
                function(fd)
                if os.path.isfile(f"/proc/self/fd/{fd}"):
                    name = os.readlink(f"/proc/self/fd/{fd}")
                    synced[name] = open(name, "rb").read()
            return call
        def lose():
            # What has not been synced is lost: of every file that still has its name.
            for name in [os.path.abspath(name) for name in os.listdir(".") if name.startswith(".")]:
                open(name, "r+b").truncate(0) if name not in synced else open(name, "wb").write(synced[name])
        os.fdatasync, os.fsync = syncing(os.fdatasync), syncing(os.fsync)
        for name in ("pwrite", "ftruncate", "fdatasync", "fsync", "unlink", "replace"):
            setattr(os, name, dying(getattr(os, name), name == "pwrite"))
        _native.rename_noreplace = dying(_native.rename_noreplace, False)
        BackgroundWriter.submit = dying(BackgroundWriter.submit, False)
        write(lambda name: None, lambda name: os.write(report, name.encode() + b"\\n"), resume=True)

    write(lambda name: None, lambda name: None)
    expected = oc.from_hdf5("out.h5")
    os.unlink("out.h5")
    point, deaths = 1, 0
    while True:
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                child(point, writer)
            finally:
                os._exit(0)
        os.close(writer)
        saved = set(open(reader).read().split())
        status = os.waitpid(pid, 0)[1]
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        deaths += 1
        called = []
        if os.path.exists("out.h5"):
            assert saved == set(arrays), "it has its name before it is complete"
        else:
            write(called.append, lambda name: None, resume=True)
        assert not saved & set(called), (point, saved, called)
        found = oc.from_hdf5("out.h5")
        assert list(found) == list(expected)
        assert all((found[name] == expected[name]).all() for name in expected), point
        os.unlink("out.h5")
        names = [name for name in os.listdir(".") if name != ".out.h5.onecopy-journal"]
        assert names == ["deaths.py"], names
        point += stride
    print(deaths)
""")


@pytest.mark.parametrize(
    ("how", "kind", "stride"),
    [
        ("clean", "plain", 1),
        ("clean", "gzip", 3),
        ("clean", "plain stream", 1),
        ("torn", "plain stream", 1),
        ("power", "plain stream", 1),
        ("clean", "gzip stream", 4),
        ("torn", "gzip", 3),
        ("torn", "libhdf5", 4),
        ("power", "plain", 1),
        ("power", "gzip", 3),
    ],
)
def test_a_death_at_any_step_loses_no_saved_dataset(tmp_path, how, kind, stride):
    script = tmp_path / "deaths.py"
    script.write_text(DEATHS)
    args = [sys.executable, script, how, kind, str(stride)]
    run = subprocess.run(args, cwd=tmp_path, capture_output=True, text=True, timeout=110)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 15
