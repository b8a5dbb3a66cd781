"""Huge pages behind arenas: where the kernel is asked for them, where it has to give them, and what is refused."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import onecopy as oc
from onecopy import _native

MIB = 1 << 20
SETTINGS = Path("/sys/kernel/mm/transparent_hugepage")
MODES = SETTINGS / "shmem_enabled"

pytestmark = pytest.mark.skipif(not MODES.exists(), reason="this kernel has no huge pages for shared memory")


def mapping_of(array):
    """Return flags and figures of the mapping in which an array lies, as smaps has them."""
    address = array.ctypes.data
    found = {}
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-", line):
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            inside = start <= address < end
        elif inside:
            key, value = line.split(":", 1)
            found[key] = value.split()
    return found


def advised(array):
    return "hg" in mapping_of(array)["VmFlags"]


def huge_bytes(array):
    return int(mapping_of(array)["ShmemPmdMapped"][0]) * 1024


def insisting(**options):
    try:
        return oc.arena(hugepages=True, limit="256MiB", **options)
    except oc.ArenaError as error:
        if "there are no huge pages" not in str(error):
            raise
        pytest.skip(str(error))


def test_new_arrays_have_huge_pages_where_that_is_insisted_on():
    with insisting() as arena, oc.arena(limit="256MiB", hugepages=False) as usual:
        made = {
            "empty": arena.empty(32 * MIB, "u1"),
            "zeros": arena.zeros(32 * MIB, "u1"),
            "shared": arena.share(np.ones(32 * MIB, "u1"), mode="rw"),
        }
        assert huge_bytes(usual.ones(32 * MIB, "u1")) == 0
        made["empty"][:] = 7
        assert {name: int(array.max()) for name, array in made.items()} == {"empty": 7, "zeros": 0, "shared": 1}
        assert {name: int(array.min()) for name, array in made.items()} == {"empty": 7, "zeros": 0, "shared": 1}
        # A mapping is larger than one array; the kernel may not have found memory for all of them.
        assert huge_bytes(made["empty"]) >= 2 * MIB
        arena.verify()


def test_they_are_given_back_as_small_pages_are():
    """Arrays of all sizes come and go; what others hold stays as it is, and no more is taken than is in use."""
    random = np.random.default_rng(20261125)
    with insisting() as arena:
        arena.set_limit("128MiB", warm=0)
        held = {}
        for turn in range(120):
            size = int(random.choice([5000, 70_000, 3 * MIB, 5 * MIB + 4096, 9 * MIB + 123]))
            while sum(array.nbytes for array in held.values()) + size > 100 * MIB:
                held.pop(int(random.choice(list(held))))
            held[turn] = arena.full(size, turn % 251, "u1")
            if turn % 3 == 0:
                held.pop(int(random.choice(list(held))))
        assert all((array == turn % 251).all() for turn, array in held.items())
        arena.verify()
        used = arena.stats()["used_bytes"]
        assert used <= sum(array.nbytes for array in held.values()) + 4096 * len(held)
        held.clear()
        assert arena.zeros(120 * MIB, "u1").max() == 0


def test_other_processes_see_the_same_bytes():
    with insisting() as arena:
        array = arena.zeros(MIB)
        child = os.fork()
        if child == 0:
            array[:] = np.arange(MIB)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert (array == np.arange(MIB)).all()


def elsewhere(prepare, program, *arguments):
    """Run a program where the kernel seems to have other settings; what it prints."""
    unshare = shutil.which("unshare")
    prefix = [str(unshare), "--mount", "--propagation", "private", "sh", "-c", f'{prepare} && exec "$@"', "sh"]
    if unshare is None or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("a mount namespace cannot be made here")
    environment = {k: v for k, v in os.environ.items() if k != _native.SESSION_VARIABLE}
    command = [*prefix, sys.executable, "-W", "error", "-c", program, *arguments]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert (out.returncode, out.stderr) == (0, ""), out
    return out.stdout.split()


ADVISED = """
import os, sys
sys.path.insert(0, sys.argv[1])
import onecopy as oc
from test_huge_pages import MIB, advised
for hugepages in (None, False):
    with oc.arena(limit="64MiB", hugepages=hugepages) as arena:
        print(advised(arena.zeros(4 * MIB, "u1")))
"""


@pytest.mark.parametrize("mode", ["always", "within_size", "advise", "never", "deny"])
def test_advice_is_given_where_it_is_heeded(tmp_path, mode):
    (tmp_path / "modes").write_text(f"others [{mode}] force\n")
    found = elsewhere(f"mount --bind {tmp_path / 'modes'} {MODES}", ADVISED, str(Path(__file__).parent))
    assert found == [str(mode in {"always", "within_size", "advise"}), "False"]


def test_an_arena_on_disk_has_none(tmp_path):
    with pytest.raises(ValueError, match="give a name instead of the path"):
        oc.arena(path=tmp_path / "arena", hugepages=True)
    assert not (tmp_path / "arena").exists()
    for hugepages in (None, False):
        with oc.arena(path=tmp_path / "arena", limit="64MiB", hugepages=hugepages) as arena:
            assert not advised(arena.zeros(4 * MIB, "u1"))


def test_a_kernel_without_them_is_an_error_that_says_so():
    program = """
import onecopy as oc
try:
    oc.arena(limit="64MiB", hugepages=True)
except oc.ArenaError as error:
    print("leave hugepages=True out" in str(error))
print(oc.arena(limit="64MiB").zeros(3).sum())
"""
    assert elsewhere(f"mount -t tmpfs tmpfs {SETTINGS}", program) == ["True", "0.0"]
