"""Writing that can be taken up again: `to_hdf5(resume=True)`."""

import errno
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import onecopy as oc
from onecopy import _native
from onecopy._hdf5.arrays import _shared_options
from onecopy._hdf5.filters import Filters
from onecopy._hdf5.resumable import ResumableFile
from onecopy._hdf5.writer import Hdf5Writer


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def left():
    return sorted(name for name in os.listdir() if name.startswith("."))


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


def test_what_lies_behind_the_saved_state_does_not_count(here):
    with pytest.raises(ZeroDivisionError):
        oc.to_hdf5("out.h5", pairs([], until=2), resume=True)
    partial = Path(".out.h5.onecopy-partial")
    end = partial.stat().st_size
    with open(partial, "ab") as file:
        file.write(b"of a writer that was killed" * 10_000)
    with ResumableFile("out.h5", "x", _shared_options(Filters())) as file:
        assert partial.stat().st_size == file.image.end == end
        file.image.seek(end)
        assert file.image.read(1000) == bytes(1000)


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


def test_the_journal_of_the_next_run_is_left_alone(here, monkeypatch):
    """It may begin as soon as this one has given the file its name."""
    rename, options = _native.rename_noreplace, {"of": "the next"}
    begun = []

    def rename_and_begin(*args):
        rename(*args)
        begun.append(Hdf5Writer("out.h5", "w", Filters(), resume=options).__enter__())
        begun[0].write("kept", np.arange(3))
        begun[0].save({"name": "kept"})

    monkeypatch.setattr(_native, "rename_noreplace", rename_and_begin)
    oc.to_hdf5("out.h5", {"a": [1]}, resume=True)
    assert left() == [".out.h5.onecopy-journal", ".out.h5.onecopy-partial"]
    begun[0].__exit__(ZeroDivisionError, None, None)
    with Hdf5Writer("out.h5", "w", Filters(), resume=options) as writer:
        assert writer.saved == [{"name": "kept"}]
    assert oc.from_hdf5("out.h5", "kept").tolist() == [0, 1, 2]
    assert left() == []


# ---------------------------------------------------------------- a full disk

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
