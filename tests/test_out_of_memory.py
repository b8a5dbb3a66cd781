"""Running out is an error value, whatever runs out: each case is a process of its own under a real limit.

A process that is killed instead (SIGBUS, the OOM killer, an abort) fails its test by its exit code.
"""

import os
import pickle
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import onecopy as oc
from onecopy import _native

MIB = 1 << 20


def environment(**more: str) -> dict[str, str]:
    """Return the environment for a process that starts a session of its own."""
    return {k: v for k, v in os.environ.items() if k != _native.SESSION_VARIABLE} | more


def run(program: str, *arguments: object, prefix: tuple[str, ...] = (), **more: str) -> list[str]:
    """Run a program, which must end well and silently; the lines that it prints."""
    command = [*prefix, sys.executable, "-W", "error", "-c", program, *map(str, arguments)]
    out = subprocess.run(command, env=environment(**more), capture_output=True, text=True, timeout=100)
    assert (out.returncode, out.stderr) == (0, ""), out
    return out.stdout.splitlines()


# --- cgroups ---


def memory_group() -> Path | None:
    """Return the memory cgroup of this process that can have children with limits, of either version."""
    try:
        memberships = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
        mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    except OSError:
        return None
    for fields in mounts:
        kind, options = fields[fields.index("-") + 1], fields[-1].split(",")
        if kind == "cgroup" and "memory" in options:
            return Path(fields[4] + memberships.get("memory", "/"))
        if kind == "cgroup2":
            group = Path(fields[4] + memberships.get("", "/"))
            enabled = group / "cgroup.subtree_control"
            if enabled.exists() and "memory" in enabled.read_text().split():
                return group
    return None


def limit_memory(group: Path, limit: int) -> None:
    """Set the memory that the processes of a cgroup may have."""
    file = next(name for name in ("memory.max", "memory.limit_in_bytes") if (group / name).exists())
    (group / file).write_text(str(limit))


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A memory cgroup of 256 MiB for a child to move into."""
    parent = memory_group()
    if parent is None:
        pytest.skip("no memory cgroup is mounted here in which children can have limits")
    group = parent / f"onecopy-test-{uuid.uuid4()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"a memory cgroup cannot be made here: {error}")
    try:
        limit_memory(group, 256 * MIB)
        yield group
    finally:
        group.rmdir()


CONFINED = """
import os, sys
with open(sys.argv[1] + "/cgroup.procs", "w") as procs:
    procs.write(str(os.getpid()))
import numpy as np
import onecopy as oc

def refused(ask):
    try:
        ask()
    except oc.OutOfMemoryError as error:
        assert "cgroup limit" in error.bound and sys.argv[1] in error.bound, error
        assert error.limit == 256 << 20 and error.free < error.limit, vars(error)
        return error
    raise AssertionError("nothing ran out")

def usable():
    a = oc.ones(100 << 20, "u1")
    assert a[:: 1 << 20].sum() == 100
"""


@pytest.mark.parametrize(
    "ask",
    [
        "oc.zeros(400 << 20, 'u1')",
        "oc.empty(400 << 20, 'u1')",
        "oc.ones(50 << 20)",
        "oc.share(outside)",
        "oc.array(outside)",
        "ForkingPickler.dumps(outside)",
        "oc.loadtxt(sys.argv[2] + '/short.txt', dtype='S1000')",
        "oc.from_hdf5(sys.argv[2] + '/zeros.h5', 'zeros')",
    ],
)
def test_more_than_a_cgroup_has_is_an_error_and_the_process_lives(cgroup: Path, tmp_path: Path, ask: str) -> None:
    import h5py

    (tmp_path / "short.txt").write_text("a\n" * 400_000)
    with h5py.File(tmp_path / "zeros.h5", "w") as file:
        file.create_dataset("zeros", (400 * MIB,), "u1", chunks=(MIB,), compression="gzip", fillvalue=0)
    with open(tmp_path / "sparse", "wb") as sparse:
        sparse.truncate(400 * MIB)
    program = f"""{CONFINED}
from multiprocessing.reduction import ForkingPickler
outside = np.memmap(sys.argv[2] + "/sparse", "u1", "r")
error = refused(lambda: {ask})
assert oc.stats()["used_bytes"] == 0, oc.stats()
usable()
print(error)
"""
    (line,) = run(program, cgroup, tmp_path, ONECOPY_LIMIT="2GiB")
    assert re.match(
        r"out of memory: [\d.]+ (\wiB|bytes) asked for, [\d.]+( \wiB)? free within the cgroup limit /", line
    ), line


def test_most_of_a_cgroup_can_be_filled_in_one_piece(cgroup: Path, tmp_path: Path) -> None:
    """What has been written is not counted as promised any more: else each large array could have half at most."""
    with open(tmp_path / "sparse", "wb") as sparse:
        sparse.truncate(150 * MIB)
    program = f"""{CONFINED}
outside = np.memmap(sys.argv[2] + "/sparse", "u1", "r")
a = oc.share(outside)
oc.to_hdf5(sys.argv[2] + "/out.h5", {{"a": a[: 100 << 20]}}, compression="lzf")
assert oc.stats()["promised_bytes"] == 0
print(a.nbytes)
"""
    assert run(program, cgroup, tmp_path, ONECOPY_LIMIT="2GiB") == [str(150 * MIB)]


def test_the_default_limit_fits_the_cgroup(cgroup: Path) -> None:
    assert run(f"{CONFINED}\nprint(oc.stats()['limit'] == (256 << 20) // 5 * 4)", cgroup) == ["True"]


def test_warm_memory_is_given_back_for_a_cgroup(cgroup: Path) -> None:
    program = f"""{CONFINED}
oc.set_limit("2GiB", warm="2GiB")
for _ in range(3):
    oc.ones(100 << 20, "u1")
    oc.ones(140 << 20, "u1")
print("lives")
"""
    assert run(program, cgroup, ONECOPY_LIMIT="2GiB") == ["lives"]


ON_DISK = """
import os, sys, zlib
with open(sys.argv[1] + "/cgroup.procs", "w") as procs:
    procs.write(str(os.getpid()))
import numpy as np
import onecopy as oc

def filled(part):
    return np.arange(part << 17, (part + 1) << 17, dtype="u8")

expected = 0
with oc.arena(path=sys.argv[2], limit="1GiB") as arena:
    if sys.argv[3] == "write":
        a = arena.empty(400 << 17, "u8")
        for part in range(400):
            a[part << 17 : (part + 1) << 17] = filled(part)
        arena.publish("large", a)
    else:
        a = arena.attach("large")
    found = 0
    for part in range(400):
        expected = zlib.crc32(filled(part), expected)
        found = zlib.crc32(a[part << 17 : (part + 1) << 17], found)
    print(a.nbytes >> 20, found == expected)
"""


def on_disk(directory: Path) -> bool:
    """Return whether files there are on a disk, to which their pages can go."""
    out = subprocess.run(["stat", "-f", "-c", "%T", directory], capture_output=True, text=True, check=True)
    return out.stdout.strip() not in {"tmpfs", "ramfs"}


def test_an_arena_on_disk_may_be_larger_than_the_memory(cgroup: Path, tmp_path: Path) -> None:
    """400 MiB are written, published and read again, by two processes that may have 128 MiB."""
    if not on_disk(tmp_path):
        pytest.skip(f"{tmp_path} is in memory")
    limit_memory(cgroup, 128 * MIB)
    for step in ("write", "read"):
        assert run(ON_DISK, cgroup, tmp_path / "arena", step) == ["400 True"]
    # As large as it is, it was never there all at once.
    peak = next((p for p in (cgroup / "memory.peak", cgroup / "memory.max_usage_in_bytes") if p.exists()), None)
    if peak is not None:
        assert int(peak.read_text()) <= 128 * MIB


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


# --- who else has the memory ---

HOLDER = """
import sys, onecopy as oc
held = oc.ones({bytes}, "u1")
print("holding", flush=True)
sys.stdin.read()
"""


def test_memory_of_a_dead_process_is_used_before_anything_fails() -> None:
    program = f"""
import subprocess, sys
import onecopy as oc
child = subprocess.Popen([sys.executable, "-c", {HOLDER.format(bytes=48 << 20)!r}], stdin=-1, stdout=-1)
assert child.stdout.readline() == b"holding\\n"
try:
    oc.ones(32 << 20, "u1")
except oc.OutOfMemoryError as error:
    print(error.free == 16 << 20)
child.kill()
child.wait()
print(oc.ones(60 << 20, "u1").nbytes)
child.stdin.close(), child.stdout.close()
"""
    assert run(program, ONECOPY_LIMIT="64MiB") == ["True", str(60 << 20)]


RIVAL = """
import sys, onecopy as oc
oc.stats()
print("ready", flush=True)
sys.stdin.readline()
try:
    held = oc.empty(int(sys.argv[1]), "u1")
    print("got", flush=True)
except oc.OutOfMemoryError:
    print("none", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("kind", ["arena", "cgroup"])
def test_of_two_that_ask_at_once_for_most_of_it_one_gets_it(kind: str, request: pytest.FixtureRequest) -> None:
    """Within the arena's limit, and within a cgroup's, where only promises tell the one of the other."""
    confined, limit, ask = "", "64MiB", 38 << 20
    arguments: list[object] = []
    if kind == "cgroup":
        arguments = [request.getfixturevalue("cgroup")]
        confined, limit, ask = CONFINED, "2GiB", 110 << 20
    program = f"""{confined}
import subprocess, sys
import onecopy as oc
for _ in range(5):
    rivals = [
        subprocess.Popen([sys.executable, "-c", {RIVAL!r}, "{ask}"], stdin=-1, stdout=-1, bufsize=0) for _ in range(2)
    ]
    for rival in rivals:
        assert rival.stdout.readline() == b"ready\\n"
    for rival in rivals:
        rival.stdin.write(b"go\\n")
    print(*sorted(rival.stdout.readline().decode().strip() for rival in rivals))
    for rival in rivals:
        rival.communicate()
    oc.reap()
"""
    assert run(program, *arguments, ONECOPY_LIMIT=limit) == ["got none"] * 5


def test_the_error_says_it_in_units_and_keeps_the_bytes() -> None:
    with pytest.raises(oc.OutOfMemoryError, match=r"^out of memory: 32\.0 TiB asked for, .* free within ") as caught:
        oc.empty(1 << 45, "u1")
    error = caught.value
    assert error.asked == 1 << 45 and 0 < error.free <= error.limit
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), vars(again)) == (str(error), vars(error))
