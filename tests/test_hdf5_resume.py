"""Writing that can be taken up again: the overlay, the journal, and writers that die at every step."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onecopy as oc
from onecopy.__main__ import main
from onecopy._hdf5.journal import Journal, Record, apply
from onecopy._hdf5.overlay import PAGE, Overlay

TEXTS = {f"t{n}.txt": "".join(f"chr{n}\t{n * 1000 + row}\t{row / 4}\n" for row in range(40 + n)) for n in range(4)}
TYPES = ["--dtype", "chr:S8,pos:i4,pct:f8"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in TEXTS.items():
        Path(name).write_text(text)
    return tmp_path


def left(directory="."):
    return sorted(name for name in os.listdir(directory) if name.startswith("."))


# ---------------------------------------------------------------- overlay and journal


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


# ---------------------------------------------------------------- death at every step

# Runs itself again and again, killed at the first, second, third … call that changes a file, until it survives; after
# each death, resumes and compares.
DEATHS = textwrap.dedent("""
    import os, signal, sys, shutil
    import numpy as np
    import onecopy as oc
    from onecopy import _native

    how, kind, stride = sys.argv[1], sys.argv[2], int(sys.argv[3])
    options = {
        "plain": {},
        "gzip": {"compression": "gzip", "chunks": 700},
        "libhdf5": {"compression": "blosc2", "chunks": 700},
    }[kind]
    sizes = {"a": 3000, "group/b": 10, "c": 9_000, "group/d": 2000, "e": 1}
    rng = np.random.default_rng(7)
    arrays = {name: rng.integers(0, 50, size) for name, size in sizes.items()}

    def write(called, saved, **more):
        def pairs():
            for name in arrays:
                yield name, lambda name=name: (called(name), arrays[name])[1]
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
        _native.write_array = dying(_native.write_array, False)
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


# ---------------------------------------------------------------- to_hdf5


def pairs(made, until=None):
    for number in range(4):
        if number == until:
            raise ZeroDivisionError

        def make(number=number):
            made.append(number)
            return np.arange(number * 1000)

        yield f"x{number}", make


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}, {"chunks": lambda *_: 100}], ids=str)
def test_what_is_complete_is_not_made_again(here, options):
    made = []
    with pytest.raises(ZeroDivisionError):
        oc.to_hdf5("out.h5", pairs(made, until=2), resume=True, **options)
    assert (made, os.path.exists("out.h5")) == ([0, 1], False)
    assert left() == [".out.h5.onecopy-journal", ".out.h5.onecopy-partial"]
    with pytest.raises(ZeroDivisionError):
        oc.to_hdf5("out.h5", pairs(made, until=3), resume=True, **options)
    oc.to_hdf5("out.h5", pairs(made), resume=True, **options)
    assert made == [0, 1, 2, 3]
    assert left() == []
    assert [len(array) for array in oc.from_hdf5("out.h5").values()] == [0, 1000, 2000, 3000]


def test_functions_are_called_when_their_turn_has_come(here):
    made = []
    oc.to_hdf5("out.h5", dict(pairs(made)))
    assert made == [0, 1, 2, 3]
    assert len(oc.from_hdf5("out.h5", "x3")) == 3000


def test_nothing_is_kept_before_the_first_is_complete(here):
    with pytest.raises(ZeroDivisionError):
        oc.to_hdf5("out.h5", pairs([], until=0), resume=True)
    assert left() == []


def test_other_options_or_datasets_cannot_be_gone_on_with(here):
    with pytest.raises(ZeroDivisionError):
        oc.to_hdf5("out.h5", pairs([], until=2), resume=True, attrs={"x1": {"of": 1}})
    with pytest.raises(ValueError, match=r"compression was None and is 'gzip'.*deleting .*partial"):
        oc.to_hdf5("out.h5", pairs([]), resume=True, compression="gzip")
    with pytest.raises(ValueError, match=r"'x1' had the attrs \{'of': '1'\}, and they are \{'of': '2'\} now"):
        oc.to_hdf5("out.h5", pairs([]), resume=True, attrs={"x1": {"of": 2}})
    with pytest.raises(ValueError, match="'x0' was written where 'y' is now"):
        oc.to_hdf5("out.h5", {"y": [1]}, resume=True)
    with pytest.raises(ValueError, match="'x1' was written where 'no dataset' is now"):
        oc.to_hdf5("out.h5", {"x0": np.arange(0)}, resume=True)
    with pytest.raises(ValueError, match="mode 'a' cannot be resumed"):
        oc.to_hdf5("out.h5", pairs([]), resume=True, mode="a")
    oc.to_hdf5("out.h5", pairs([]), resume=True, attrs={"x1": {"of": 1}})
    with pytest.raises(FileExistsError):
        oc.to_hdf5("out.h5", pairs([]), resume=True)


def test_a_partial_file_that_was_cut_is_refused(here):
    with pytest.raises(ZeroDivisionError):
        oc.to_hdf5("out.h5", pairs([], until=2), resume=True)
    os.truncate(".out.h5.onecopy-partial", 100)
    with pytest.raises(OSError, match="shorter than its journal says: delete it"):
        oc.to_hdf5("out.h5", pairs([]), resume=True)


def test_one_at_a_time(here):
    def both():
        yield "a", [1]
        with pytest.raises(OSError, match="being written by another process") as caught:
            oc.to_hdf5("out.h5", {"b": [2]}, resume=True)
        assert caught.value.errno == errno.EBUSY
        # One without resume has a file of its own, and leaves this one alone.
        oc.to_hdf5("out.h5", {"c": [3]}, mode="w")

    oc.to_hdf5("out.h5", both(), resume=True, mode="w")
    assert list(oc.from_hdf5("out.h5")) == ["a"]
    assert left() == []


def test_a_result_made_otherwise_takes_what_was_kept_away(here):
    with pytest.raises(ZeroDivisionError):
        oc.to_hdf5("out.h5", pairs([], until=2), resume=True)
    oc.to_hdf5("out.h5", {"c": [3]})
    assert left() == []


# ---------------------------------------------------------------- the command

LOAD = [sys.executable, "-m", "onecopy", "load"]


@pytest.fixture
def parsed(monkeypatch):
    """The files that are parsed."""
    from onecopy import _text

    names, load = [], _text.load

    def noting(path, *args, **options):
        names.append(path)
        return load(path, *args, **options)

    monkeypatch.setattr(_text, "load", noting)
    return names


def load(*args):
    return main(["load", *args, "-o", "out.h5", *TYPES, "--quiet", "--resume"])


@pytest.mark.parametrize("compression", ["none", "gzip:1"])
@pytest.mark.parametrize("layout", ["per-file", "concat"])
def test_a_file_that_is_mended_is_gone_on_with(here, parsed, capsys, layout, compression):
    options = ["--layout", layout, "--compression", compression, "--jobs", "1"]
    assert main(["load", *TEXTS, "-o", "whole.h5", *TYPES, *options]) == 0
    parsed.clear()
    Path("t2.txt").write_text(TEXTS["t2.txt"] + "chr1\tone\t1\n")
    capsys.readouterr()
    assert load(*TEXTS, *options) == 1
    messages = capsys.readouterr().err.splitlines()
    assert messages[0] == "onecopy load: 2 of 4 files are kept, and the same command goes on with the next"
    assert "t2.txt" in messages[1]
    assert "'one'" in messages[1]
    assert not os.path.exists("out.h5")
    Path("t2.txt").write_text(TEXTS["t2.txt"])
    parsed.clear()
    assert load(*TEXTS, *options) == 0
    assert parsed == ["t2.txt", "t3.txt"]
    assert left() == []
    expected, found = oc.from_hdf5("whole.h5"), oc.from_hdf5("out.h5")
    assert list(found) == list(expected)
    for name in expected:
        if name.endswith("_sources"):
            # Mended, so of another time.
            columns = ["source", "first_row", "rows", "source_bytes"]
            assert found[name][columns].tolist() == expected[name][columns].tolist()
        else:
            assert found[name].tolist() == expected[name].tolist()


@pytest.mark.parametrize("layout", ["per-file", "concat"])
def test_a_complete_result_is_left_as_it_is(here, parsed, capsys, layout):
    assert load(*TEXTS, "--layout", layout) == 0
    parsed.clear()
    before = Path("out.h5").stat()
    assert load(*TEXTS, "--layout", layout, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["resumed_files"], summary["text_bytes"], summary["rows"]) == (4, 0, 166)
    assert parsed == []
    assert Path("out.h5").stat() == before
    os.utime("t1.txt", ns=(1, 1))
    assert load(*TEXTS, "--layout", layout) == 1
    assert "out.h5: exists already" in capsys.readouterr().err
    assert load(*TEXTS, "--layout", layout, "--compression", "lzf") == 1


@pytest.mark.parametrize("layout", ["per-file", "concat"])
def test_what_differs_is_named(here, parsed, capsys, layout):
    Path("bad.txt").write_text("chr1\tone\t1\n")
    options = ["--layout", layout, "--jobs", "1"]

    def message(*args):
        capsys.readouterr()
        assert load(*args) == 1
        return capsys.readouterr().err.splitlines()[-1]

    assert "'one'" in message("t0.txt", "t1.txt", "bad.txt", *options)
    assert "--skip-rows was 0 and is 1" in message("t0.txt", "t1.txt", "bad.txt", *options, "--skip-rows", "1")
    assert "--compression was {} and is" in message("t0.txt", "t1.txt", "bad.txt", *options, "--compression", "lzf")
    assert "t1.txt is complete in it, and not among the files now" in message("t0.txt", *options)
    assert "file 1 has changed: it was t0.txt and is t1.txt" in message("t1.txt", "t0.txt", *options)
    os.utime("t1.txt", ns=(0, 10**9))
    assert "file 2 has changed: it was of 20" in message("t0.txt", "t1.txt", "bad.txt", *options)
    Path("t1.txt").write_text("chr1\t1\t1\n")
    assert "file 2 has changed: it had" in message("t0.txt", "t1.txt", "bad.txt", *options)
    Path("t1.txt").unlink()
    assert "t1.txt: No such file" in message("t0.txt", "t1.txt", "bad.txt", *options)
    assert set(parsed) <= {"t0.txt", "t1.txt", "bad.txt"}


def test_without_resume_one_is_told_of_what_was_kept(here, capsys):
    Path("bad.txt").write_text("chr1\tone\t1\n")
    assert load("t0.txt", "bad.txt", "--jobs", "1") == 1
    capsys.readouterr()
    assert main(["load", "t0.txt", "-o", "out.h5"]) == 0
    assert "--resume would go on with an earlier run" in capsys.readouterr().err
    assert left() == []


def test_a_file_that_changes_while_it_is_loaded_is_refused(here, monkeypatch, capsys):
    from onecopy import _text

    original = _text.load

    def load_and_change(path, *args, **options):
        result = original(path, *args, **options)
        with open(path, "a") as file:
            file.write("more\n")
        return result

    monkeypatch.setattr(_text, "load", load_and_change)
    assert load("t0.txt") == 1
    assert "t0.txt: was changed while it was loaded (it had" in capsys.readouterr().err
    assert left() == []


def test_a_complete_result_of_other_options_is_not_the_one(here, parsed):
    assert load("t0.txt", "--max-rows", "1") == 0
    parsed.clear()
    assert load("t0.txt", "--force") == 0
    assert parsed == ["t0.txt"]


@pytest.mark.parametrize("layout", ["per-file", "concat"])
def test_a_check_sum_tells_what_size_and_time_do_not(here, parsed, capsys, layout):
    options = ["--layout", layout, "--checksum"]
    assert load(*TEXTS, *options) == 0
    parsed.clear()
    assert load(*TEXTS, *options) == 0
    assert parsed == [], "a complete result is left as it is"
    kept, content = os.stat("t0.txt"), Path("t0.txt").read_text()
    changed = content.replace("1", "2", 1)
    assert len(changed) == len(content) and changed != content
    Path("t0.txt").write_text(changed)
    os.utime("t0.txt", ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert load(*TEXTS, *options, "--force") == 0
    assert parsed[0] == "t0.txt", "it is made again"
    # The same while it is gone on with.
    os.remove("out.h5")
    Path("t2.txt").write_text("chr1\tone\t1\n")
    assert load(*TEXTS, *options) == 1
    Path("t0.txt").write_text(content)
    os.utime("t0.txt", ns=(kept.st_atime_ns, kept.st_mtime_ns))
    capsys.readouterr()
    assert load(*TEXTS, *options) == 1
    assert "file 1 has changed: its check sum is another one" in capsys.readouterr().err


# The command, in which the third file never ends.
ENDLESS = """
import sys, threading
from onecopy import _text
from onecopy.__main__ import main

load = _text.load

def endless(path, dtype, *, progress, **options):
    if path == "t2.txt":
        print("there", flush=True)
        while True:
            progress(0)
            threading.Event().wait(0.001)
    return load(path, dtype, progress=progress, **options)

_text.load = endless
sys.exit(main(["load", *sys.argv[1:]]))
"""


@pytest.mark.parametrize("layout", ["per-file", "concat"])
@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_a_command_that_is_stopped_is_gone_on_with(here, parsed, how, layout):
    assert main(["load", *TEXTS, "-o", "whole.h5", *TYPES, "--layout", layout]) == 0
    args = [*TEXTS, "-o", "out.h5", *TYPES, "--quiet", "--resume", "--layout", layout, "--jobs", "1"]
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", ENDLESS, *args], stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout.readline() == "there\n"
            process.send_signal(signal.Signals[how])
            _, messages = process.communicate()
        finally:
            process.kill()
    if how != "SIGKILL":
        expected = f"stopped by {how}: 1 of 4 files are kept, and the same command goes on with the next"
        assert messages.splitlines()[-1] in (f"onecopy load: {expected}", f"onecopy load: {expected.replace('1', '2')}")
    parsed.clear()
    assert main(["load", *args]) == 0
    # The second file may have been on its way.
    assert parsed[-2:] == ["t2.txt", "t3.txt"]
    assert "t0.txt" not in parsed
    assert left() == []
    expected, found = oc.from_hdf5("whole.h5"), oc.from_hdf5("out.h5")
    assert list(found) == list(expected)
    assert all(found[name].tolist() == expected[name].tolist() for name in expected)


FULL = textwrap.dedent("""
    import os, sys
    import numpy as np
    import onecopy as oc

    noise = np.random.default_rng(1).integers(0, 1 << 62, 400_000)
    options = {"plain": {}, "gzip": {"compression": "gzip"}, "libhdf5": {"compression": "szip"}}
    for name, more in options.items():
        for attempt in range(2):
            try:
                oc.to_hdf5("out.h5", {f"x{n}": noise[n:] for n in range(4)}, resume=True, **more)
            except OSError as error:
                files = sorted(os.listdir("."))
                size = os.stat(".out.h5.onecopy-partial").st_blocks * 512
                print(name, error.errno, "bytes more are needed" in error.strerror, len(files), size // (1 << 20))
        os.system("mount -o remount,size=40m .")
        oc.to_hdf5("out.h5", {f"x{n}": noise[n:] for n in range(4)}, resume=True, **more)
        assert all((oc.from_hdf5("out.h5", f"x{n}") == noise[n:]).all() for n in range(4))
        os.unlink("out.h5")
        os.system("mount -o remount,size=8m .")
""")


def test_a_full_disk_keeps_what_is_complete(tmp_path):
    mount = f'mount -t tmpfs -o size=8m none "{tmp_path}" && cd "{tmp_path}" && exec "$0" -c "$1"'
    tool = shutil.which("unshare")
    if tool is None or subprocess.run([tool, "-m", "true"], capture_output=True).returncode:
        pytest.skip("needs the right to mount (unshare -m)")
    run = subprocess.run([tool, "-m", "sh", "-c", mount, sys.executable, FULL], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    lines = [line.split() for line in run.stdout.splitlines()]
    assert [line[0] for line in lines] == ["plain"] * 2 + ["gzip"] * 2 + ["libhdf5"] * 2
    for name, number, text, files, size in lines:
        # Both files, and no more room than what is complete takes: two datasets of at most 3.2 MB.
        assert (int(number), text, files) == (errno.ENOSPC, "True", "2"), name
        assert 2 <= int(size) <= 6, name
