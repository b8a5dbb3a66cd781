"""Named segments: used together with the standard library's, and removed with their program, however it ends."""

import multiprocessing.shared_memory as std
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

import onecopy as oc
from onecopy import _segments
from onecopy.multiprocessing import resource_tracker
from onecopy.multiprocessing.managers import SharedMemoryManager
from onecopy.multiprocessing.shared_memory import ShareableList, SharedMemory
from own_namespace import IN_NAMESPACE, NAMESPACE

pytestmark = pytest.mark.usefixtures("no_segments_left")

#: A program that makes a segment, says its name, and does as it is told.
MAKER = """
import os, sys
from onecopy.multiprocessing.shared_memory import SharedMemory
segment = SharedMemory(create=True, size=100)
segment.buf[:5] = b"hello"
print(segment.name, flush=True)
sys.stdin.readline()
"""


class Program:
    """A program that runs until it is told to end, or killed."""

    def __init__(self, text: str, *arguments: str) -> None:
        command = [sys.executable, "-c", IN_NAMESPACE + text, *arguments]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        self.said = self.line()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> str:
        """Let it end, and return what it complained of."""
        return self.process.communicate("\n", timeout=60)[1]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=60)


def exists(name: str) -> bool:
    return os.path.exists(f"/dev/shm/{name}")


# ---- with the standard library ---------------------------------------------------------------------------------------


def test_the_standard_library_reads_and_writes_ours() -> None:
    ours = SharedMemory(create=True, size=100)
    ours.buf[:5] = b"hello"
    theirs = std.SharedMemory(ours.name)
    assert bytes(theirs.buf[:5]) == b"hello" and theirs.size == ours.size == 100
    theirs.buf[0] = ord("j")
    assert bytes(ours.buf[:5]) == b"jello"
    theirs.close()
    theirs.unlink()  # which also tells its tracker
    ours.close()


def test_we_read_write_and_unlink_the_standard_librarys(run: Callable[..., str]) -> None:
    theirs = std.SharedMemory(create=True, size=100)
    program = """
import sys
from onecopy.multiprocessing.shared_memory import SharedMemory
segment = SharedMemory(sys.argv[1]); segment.buf[:5] = b"hello"; segment.close(); print(segment.name)
"""
    assert run(program, theirs.name) == theirs.name
    assert bytes(theirs.buf[:5]) == b"hello"  # and the end of that program has not taken it away
    SharedMemory(theirs.name).close()
    theirs.close()
    theirs.unlink()


def test_lists_are_the_same() -> None:
    ours = ShareableList(["howdy", b"bytes", 1.5, None, True, 42])
    theirs = std.ShareableList(name=ours.shm.name)
    assert list(theirs) == list(ours)
    theirs[0] = "hi"
    assert ours[0] == "hi" and ours.format == theirs.format
    theirs.shm.close()
    theirs.shm.unlink()
    ours.shm.close()


# ---- the faults of a tracker -----------------------------------------------------------------------------------------


def make(text: bytes) -> str:
    segment = SharedMemory(create=True, size=len(text))
    segment.buf[:] = text
    segment.close()
    return segment.name


def test_workers_make_segments_and_return_their_names(context: Any) -> None:
    with context.Pool(2) as pool:
        names = pool.map(make, [b"0", b"1", b"2", b"3"], chunksize=1)
    # The workers have been ended, by a signal at that.
    for index, name in enumerate(names):
        segment = SharedMemory(name)
        assert bytes(segment.buf) == str(index).encode()
        segment.close()
        segment.unlink()


def test_no_tracker_runs_and_nothing_is_said(run: Callable[..., str]) -> None:
    program = """
import os, sys
import onecopy.multiprocessing as mp
from multiprocessing import resource_tracker
from onecopy.multiprocessing.shared_memory import SharedMemory, ShareableList
def work(name):
    SharedMemory(name).buf[0] = 1
    SharedMemory(sys.argv[1], create=True, size=10)
segment, items = SharedMemory(create=True, size=10), ShareableList([1])
process = mp.get_context("fork").Process(target=work, args=(segment.name,))
process.start(); process.join()
print(segment.buf[0], process.exitcode, resource_tracker._resource_tracker._fd)
# Nothing is closed or unlinked.
"""
    left_by_the_child = f"oc-left-{os.getpid()}"
    assert run(program, left_by_the_child) == "1 0 None"
    assert not exists(left_by_the_child)


def test_who_attaches_takes_nothing_away_not_even_killed() -> None:
    segment = SharedMemory(create=True, size=10)
    attach = "import sys; from onecopy.multiprocessing.shared_memory import SharedMemory as S; s = S(sys.argv[1])"
    user = Program(f"{attach}; print(s.size, flush=True); input()", segment.name)
    assert user.said == "10"
    user.kill()
    oc.reap()
    SharedMemory(segment.name).close()
    segment.unlink()


# ---- the end of a program --------------------------------------------------------------------------------------------


def test_the_end_of_a_program_removes_its_segments() -> None:
    maker = Program(MAKER)
    assert exists(maker.said)
    assert maker.end() == ""
    assert not exists(maker.said)


@pytest.mark.parametrize("look", ["attach", "create", "reap"])
def test_a_killed_programs_segments_are_gone_when_somebody_looks(look: str) -> None:
    maker = Program(MAKER)
    maker.kill()
    assert exists(maker.said)
    if look == "attach":
        with pytest.raises(FileNotFoundError):
            SharedMemory(maker.said)
    elif look == "create":
        SharedMemory(create=True, size=1).unlink()
    else:
        oc.reap()
    assert not exists(maker.said)


def test_a_segment_that_another_program_uses_outlives_its_own() -> None:
    maker = Program(MAKER)
    segment = SharedMemory(maker.said)
    maker.kill()
    oc.reap()
    again = SharedMemory(maker.said)
    again.close()
    oc.reap()
    assert bytes(segment.buf[:5]) == b"hello"
    segment.close()
    oc.reap()
    assert not exists(maker.said)


CHILD_MAKES = """
import os, signal, sys
import onecopy.multiprocessing as mp
def work(pipe):
    from onecopy.multiprocessing.shared_memory import SharedMemory
    pipe.send(SharedMemory(create=True, size=10).name)
    os.kill(os.getpid(), signal.SIGKILL)
if __name__ == "__main__":
    here, there = mp.Pipe()
    process = mp.get_context("fork").Process(target=work, args=(there,))
    process.start()
    print(here.recv(), flush=True)
    process.join()
    print(process.exitcode, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("ending", ["end", "kill"])
def test_what_a_killed_child_made_is_its_programs(ending: str) -> None:
    program = Program(CHILD_MAKES)
    assert program.line() == str(-signal.SIGKILL)
    oc.reap()
    assert exists(program.said)
    getattr(program, ending)()
    oc.reap()
    assert not exists(program.said)


def test_a_segment_that_is_not_tracked_stays(run: Callable[..., str]) -> None:
    program = """
from onecopy.multiprocessing import resource_tracker
from onecopy.multiprocessing.shared_memory import SharedMemory
segment = SharedMemory(create=True, size=10)
resource_tracker.unregister(segment._name, "shared_memory")
print(SharedMemory(create=True, size=10, track=False).name, segment.name)
"""
    for name in run(program).split():
        SharedMemory(name).unlink()


def test_a_process_of_another_container_cannot_be_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    maker = Program(MAKER)
    maker.kill()
    with monkeypatch.context() as patch:
        patch.setattr(_segments, "_namespace", lambda: "another")
        assert _segments.sweep() == 0
    assert _segments.sweep() == 1


@pytest.mark.parametrize(
    "target", ["", "/", "x", "1.2/name", "a.b.c/name", "ENDED/../etc/passwd", "ENDED/oc-innocent", "ENDED/"]
)
def test_entries_that_are_not_ours_do_no_harm(target: str) -> None:
    innocent = SharedMemory(f"oc-innocent-{NAMESPACE}", create=True, size=10)
    innocent.close()
    # Of a program of this pid namespace that has ended, and of an inode that is nobody's.
    target = target.replace("ENDED", f"999999999.1.{NAMESPACE}").replace("oc-innocent", innocent.name)
    entry = f"/dev/shm/.onecopy-99999{NAMESPACE}"
    with suppress(FileNotFoundError):  # an empty target is none
        os.symlink(target, entry)
    _segments.sweep()
    assert exists(innocent.name) and os.path.exists("/etc/passwd")
    innocent.unlink()
    with suppress(FileNotFoundError):
        os.unlink(entry)


# ---- live arrays -----------------------------------------------------------------------------------------------------


def test_an_array_outlives_the_segment_it_lies_in() -> None:
    def local() -> Any:
        segment = SharedMemory(create=True, size=8000)
        array: Any = np.ndarray(1000, buffer=segment.buf)
        array[:] = 1
        segment.close()
        segment.unlink()
        return array

    assert local().sum() == 1000


def test_an_array_outlives_a_segment_that_is_forgotten() -> None:
    name = f"oc-{os.getpid()}"
    array: Any = np.ndarray(1000, buffer=SharedMemory(name, create=True, size=8000).buf)
    array[:] = 2
    other = SharedMemory(name)
    assert array.sum() == 2000 and other.buf[7] == 64
    other.close()
    other.unlink()


@pytest.mark.parametrize("use", [np.frombuffer, lambda buf: buf[1:3], memoryview])
def test_a_segment_whose_bytes_are_exported_refuses_to_close(use: Callable[[Any], Any]) -> None:
    segment = SharedMemory(create=True, size=80)
    view = use(segment.buf)
    with pytest.raises(BufferError, match="delete them first"):
        segment.close()
    segment.buf[0] = 7
    del view
    segment.close()
    segment.close()
    assert segment.buf is None
    segment.unlink()


# ---- names and sizes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "a/b", "x" * 300, "oc-missing"])
def test_bad_names_raise_as_in_the_standard_library(name: str) -> None:
    for create in (False, True):
        if create and name == "oc-missing":
            continue
        with pytest.raises((OSError, ValueError)) as theirs:
            std.SharedMemory(name, create=create, size=10)
        with pytest.raises(theirs.type):
            SharedMemory(name, create=create, size=10)


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize(("name", "error"), [("..", OSError), (".", OSError), ("nul\0", ValueError)])
def test_names_that_cannot_be_are_refused(name: str, error: type[Exception], create: bool) -> None:
    with pytest.raises(error):
        SharedMemory(name, create=create, size=10)


@pytest.mark.parametrize("arguments", [{"create": True}, {"create": True, "size": -1}, {}, {"size": 3}])
def test_bad_sizes_raise(arguments: Any) -> None:
    with pytest.raises(ValueError, match=r"'size'|'name'"):
        SharedMemory(**arguments)


def test_a_name_is_taken_once() -> None:
    first = SharedMemory(f"oc-taken-{NAMESPACE}", create=True, size=10)
    with pytest.raises(FileExistsError):
        SharedMemory(f"oc-taken-{NAMESPACE}", create=True, size=10)
    first.unlink()
    with pytest.raises(FileNotFoundError):
        first.unlink()


def test_too_much_is_a_memory_error_with_figures() -> None:
    with pytest.raises(oc.OutOfMemoryError) as raised:
        SharedMemory(create=True, size=1 << 44)
    assert raised.value.asked == 1 << 44 and raised.value.free < 1 << 44


def test_resources_of_others_are_the_trackers() -> None:
    assert resource_tracker.getfd is __import__("multiprocessing.resource_tracker").resource_tracker.getfd


# ---- managers --------------------------------------------------------------------------------------------------------


def test_a_manager_removes_what_it_made_also_when_its_program_is_killed() -> None:
    with SharedMemoryManager() as manager:
        segment, items = manager.SharedMemory(size=10), manager.ShareableList([1, 2])
        assert list(ShareableList(name=items.shm.name)) == [1, 2]
    assert not exists(segment.name) and not exists(items.shm.name)
    program = Program(
        """
import sys
from onecopy.multiprocessing.managers import SharedMemoryManager
if __name__ == "__main__":
    manager = SharedMemoryManager(); manager.start()
    print(manager.SharedMemory(10).name, manager._process.pid, flush=True)
    sys.stdin.readline()
"""
    )
    name, server = program.said.split()
    pidfd = os.pidfd_open(int(server))
    program.kill()
    assert select.select([pidfd], [], [], 60)[0] == [pidfd]  # the server has ended by itself
    os.close(pidfd)
    oc.reap()
    assert not exists(name)
