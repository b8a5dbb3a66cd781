"""Running out is an error value, whatever runs out: each case is a process of its own under a real limit.

A process that is killed instead (SIGBUS, the OOM killer, an abort) fails its test by its exit code.
"""

import pickle
import shutil
import subprocess
from pathlib import Path

import pytest

import onecopy as oc
from onecopy import _native
from own_process import run

MIB = 1 << 20


# --- limits of a process ---

LIMITED = """
import resource, sys
def limit(name, value):
    kind = getattr(resource, "RLIMIT_" + name)
    resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))
def addresses():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[0]) * resource.getpagesize()
"""


@pytest.mark.parametrize("room", [0, 1 << 20, 8 << 20, 30 << 20])
def test_importing_works_without_addresses_and_the_first_use_says_what_is_missing(room: int) -> None:
    program = f"""{LIMITED}
import h5py, numpy, numpy.ma, tqdm, multiprocessing.reduction, concurrent.futures.thread
from ctypes import PyDLL
library = PyDLL(sys.argv[1])  # the code itself takes addresses
limit("AS", addresses() + {room} + (12 << 20))
import onecopy as oc
for _ in range(2):
    try:
        print(oc.zeros(3).sum())
    except oc.OutOfMemoryError as error:
        print(error.bound, error.limit, "ulimit -v" in str(error))
"""
    native = _native.__file__
    assert native is not None
    lines = run(program, native)
    assert len(lines) == 2 and all(line.startswith("this process's address space ") for line in lines), lines


def test_addresses_that_run_out_later_are_an_error(tmp_path: Path) -> None:
    """The arena is mapped already; what needs more addresses says so, and what needs none works."""
    (tmp_path / "numbers.txt").write_text("1 2 3\n" * 100_000)
    program = f"""{LIMITED}
import h5py, numpy as np, onecopy as oc
from onecopy import loadtxt, to_hdf5  # their code itself takes addresses
a = oc.ones(1 << 20, "u1")
outside = np.ones(64 << 20, "u1")
limit("AS", addresses() + (1 << 20))
assert oc.zeros(100 << 20, "u1").nbytes == oc.share(np.broadcast_to(a, a.shape)).nbytes * 100
assert oc.share(outside).sum(dtype="u1") == 0
views = []
try:
    while True:
        views.append(oc.share(a, mode="cow"))
except oc.OutOfMemoryError as error:
    print(error.bound, error.asked)
del views
assert oc.share(a, mode="cow")[0] == 1
folder = sys.argv[1]
loading = lambda: loadtxt(folder + "/numbers.txt")
writing = lambda: to_hdf5(folder + "/a.h5", {{"a": a}}, compression="gzip")
for ask in (loading, writing):
    try:
        ask()
    except MemoryError as error:
        assert isinstance(error, oc.OutOfMemoryError) and "address space" in error.bound, error
print("lives")
"""
    assert run(program, tmp_path) == [f"this process's address space {MIB}", "lives"]


@pytest.mark.parametrize(
    ("kind", "place", "compression"),
    [("AS", 0, None), ("AS", 0, "gzip"), ("AS", 0, "lzf"), ("AS", 0, "zstd"), ("DATA", 5, "gzip")],
)
def test_chunks_that_are_too_large_for_a_thread_are_an_error(
    kind: str, place: int, compression: str | None, tmp_path: Path
) -> None:
    """Chunks are written and read, perhaps by fewer threads, or it is said what is missing."""
    program = f"""{LIMITED}
import h5py, numpy as np, onecopy as oc
def used():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[{place}]) * resource.getpagesize()
size = 40 << 20  # a smaller one, the allocator may have kept
a = (np.arange(size // 2, dtype="u4") // 1000).reshape(2, -1)
options = dict(chunks=(1, a.shape[1]), compression={compression!r}, fletcher32=True, threads=2, mode="w")
write = lambda: oc.to_hdf5(sys.argv[1], a, **options)
read = lambda: np.array_equal(oc.from_hdf5(sys.argv[1], "data", threads=2)[:, ::100], a[:, ::100])
write(), read()
for work in (write, read):
    done, told = 0, []
    for room in range(20, 230, 30):
        limit("{kind}", used() + (room << 20))
        try:
            done += work() is not False
        except oc.OutOfMemoryError as error:
            assert "this process's" in error.bound and error.asked > 0 and error.limit > used(), error
            told.append(str(error))
        limit("{kind}", resource.getrlimit(resource.RLIMIT_{kind})[1])
    large = [text for text in told if "40.0 MiB asked for" in text and "make chunks smaller, use fewer threads" in text]
    print(done > 0, len(large) > 0, done + len(told) == 7)
"""
    assert run(program, tmp_path / "a.h5") == ["True True True"] * 2


def test_what_is_stored_of_a_chunk_is_not_copied_to_be_written(tmp_path: Path) -> None:
    """There is room for the chunk and for what is stored of it, and for no third buffer."""
    program = f"""{LIMITED}
import h5py, numpy as np, onecopy as oc
a = np.arange(10 << 20, dtype="u4")
write = lambda: oc.to_hdf5(sys.argv[1], a, chunks=a.shape, fletcher32=True, threads=1, mode="w")
write()
limit("AS", addresses() + (100 << 20))
write()
limit("AS", resource.getrlimit(resource.RLIMIT_AS)[1])
print(np.array_equal(oc.from_hdf5(sys.argv[1], "data"), a))
"""
    assert run(program, tmp_path / "a.h5") == ["True"]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_file_size_limit_shrinks_the_arena_and_kills_nobody(moment: str) -> None:
    program = f"""{LIMITED}
import signal
import numpy as np
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
if "{moment}" == "before":
    limit("FSIZE", 100 << 20)
import onecopy as oc
# Where the next array begins lies beyond the limit.
before = oc.zeros(300 << 20, "u1") if "{moment}" == "after" else None
limit("FSIZE", 100 << 20)
a = oc.share(np.ones(20 << 20, "u1"))
b = oc.zeros(10 << 20, "u1")
b[:] = 7
print(a[-1] + b[-1], "{moment}" == "after" or oc.stats()["limit"] < 200 << 20)
"""
    assert run(program) == ["8 True"]


def test_a_limit_beyond_the_file_size_limit_names_it() -> None:
    program = f"""{LIMITED}
limit("FSIZE", 100 << 20)
import onecopy as oc
try:
    oc.zeros(3)
except oc.OutOfMemoryError as error:
    print(error.bound, error.limit == 100 << 20, "ulimit -f" in str(error))
"""
    assert run(program, ONECOPY_LIMIT="2GiB") == ["this process's file size limit True True"]


def test_without_descriptors_the_first_use_says_so_and_works_once_there_are_some() -> None:
    program = f"""{LIMITED}
import os
class Starve:
    '''Takes all descriptors just before the session starts.'''
    def find_spec(self, name, path=None, target=None):
        if name == "onecopy._session":
            limit("NOFILE", 64)
            spare = [os.open("/dev/null", os.O_RDONLY)]
            try:
                while True:
                    spare.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                os.close(spare.pop())  # for the module's own file
            held.extend(spare)
held = []
sys.meta_path.insert(0, Starve())
import onecopy as oc
assert held
try:
    oc.zeros(3)
except oc.OutOfMemoryError as error:
    print(error.bound, error.limit, "ulimit -n" in str(error))
for descriptor in held:
    os.close(descriptor)
print(oc.zeros(3).sum())
"""
    assert run(program) == ["this process's number of open files 64 True", "0.0"]


def test_too_many_private_mappings_are_an_error() -> None:
    most = int(Path("/proc/sys/vm/max_map_count").read_text())
    if most > 100_000:
        pytest.skip(f"vm.max_map_count={most} is too many to fill in a test")
    program = """
import onecopy as oc
a = oc.ones(3)
views = []
try:
    while True:
        views.append(oc.share(a, mode="cow"))
except oc.OutOfMemoryError as error:
    views.clear()
    print(error.bound, "vm.max_map_count" in str(error))
print(oc.share(a, mode="cow").sum())
"""
    assert run(program) == ["this process's number of memory mappings True", "3.0"]


# --- the machine ---


def test_a_small_dev_shm_does_not_matter() -> None:
    unshare = shutil.which("unshare")
    mount = 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"'
    prefix = (str(unshare), "--mount", "--propagation", "private", "sh", "-c", mount, "sh")
    if unshare is None or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("a mount namespace cannot be made here")
    program = """
import os, onecopy as oc
assert os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize == 64 << 20
print(oc.ones(200 << 20, "u1")[:: 1 << 20].sum(), os.listdir("/dev/shm"))
"""
    assert run(program, prefix=prefix) == ["200 []"]


@pytest.mark.parametrize("ask", [oc.zeros, oc.empty, oc.ones])
@pytest.mark.parametrize("size", [1 << 47, (1 << 47) + 1, 1 << 48, 1 << 62, (1 << 63) - 1])
def test_more_than_can_be_addressed_is_out_of_memory(ask, size: int) -> None:
    with pytest.raises(oc.OutOfMemoryError, match="asked for") as caught:
        ask(size, "u1")
    error = caught.value
    assert error.asked == size and 0 < error.free <= error.limit < 1 << 47


# --- tables ---


def test_too_many_handles_in_flight_are_an_error_with_figures() -> None:
    program = """
import pickle, onecopy as oc
from onecopy import _native
a = oc.ones(3)
try:
    while True:
        _native.encode(a)
except oc.OutOfMemoryError as error:
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and vars(again) == vars(error)
    print(error.bound, error.asked, error.free, error.limit == oc.stats()["handles_in_flight"])
print(oc.zeros(3).sum())
"""
    assert run(program, ONECOPY_LIMIT="16MiB") == ["the arena's table of handles in flight 1 0 True", "0.0"]


def test_too_many_blocks_are_an_error_with_figures() -> None:
    program = """
import onecopy as oc
held = []
try:
    while True:
        held.append(oc.empty(1, "u1"))
except oc.OutOfMemoryError as error:
    print(error.bound, error.limit >= len(held) > error.limit // 2, error.free)
held.clear()
print(oc.zeros(3).sum())
"""
    assert run(program, ONECOPY_LIMIT="64MiB") == ["the arena's table of blocks True 0", "0.0"]


def test_too_many_processes_are_an_error_and_those_that_are_in_go_on() -> None:
    program = """
import os
import onecopy as oc
a = oc.ones(3)
tried, said = os.pipe()
end, close = os.pipe()
children = []
def child():
    os.close(close)
    try:
        os.write(said, f"{oc.ones(3).sum()}\\n".encode())
    except oc.OutOfMemoryError as error:
        os.write(said, f"{error.bound}, {error.limit}\\n".encode())
    os.read(end, 1)
    os._exit(0)
for _ in range(oc.stats()["capacity"]["processes"] + 1):
    children.append(os.fork())
    if children[-1] == 0:
        child()
os.close(said)
with open(tried) as answers:
    answers = [next(answers).strip() for _ in children]
print(answers.count("3.0"), *sorted(set(answers) - {"3.0"}), oc.ones(3).sum())
os.close(close)
for pid in children:
    os.waitpid(pid, 0)
if os.fork() == 0:
    os._exit(int(oc.ones(3).sum()))
print(os.waitstatus_to_exitcode(os.wait()[1]), len(oc.stats()["processes"]))
"""
    assert run(program) == ["510 the arena's table of processes, 511 3.0", "3 1"]


def test_the_error_says_it_in_units_and_keeps_the_bytes() -> None:
    with pytest.raises(oc.OutOfMemoryError, match=r"^out of memory: 32\.0 TiB asked for, .* free within ") as caught:
        oc.empty(1 << 45, "u1")
    error = caught.value
    assert error.asked == 1 << 45 and 0 < error.free <= error.limit
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), vars(again)) == (str(error), vars(error))
