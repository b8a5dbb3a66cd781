"""Running out of the memory of a cgroup, or of what other processes have left, is an error value.

Each case is a process of its own; one that is killed instead (SIGBUS, the OOM killer) fails its test by its exit code.
"""

import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from own_process import run

MIB = 1 << 20


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
