"""Arenas in a directory: they survive all processes, whole, and refuse what is none."""

import hashlib
import multiprocessing
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import onecopy as oc
from onecopy import _native

MIB = 1 << 20
FILES = ["data-a", "data-b", "meta"]


def outside(**more):
    """Return an environment for a program with a session of its own."""
    return {k: v for k, v in os.environ.items() if k != _native.SESSION_VARIABLE} | more


def start(program, *arguments):
    command = [sys.executable, "-W", "error", "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, env=outside(), stdin=-1, stdout=-1, text=True)


def run(program, *arguments):
    process = start(program, *arguments)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    return out


@pytest.fixture
def path(tmp_path):
    return tmp_path / "arena"


def small(path, create=None):
    return oc.arena(path=path, limit="64MiB", create=create)


def damaged(path, position, value):
    """Write a value into the metadata, as damage would."""
    with open(path / "meta", "r+b") as file:
        file.seek(position)
        file.write(value)


# --- surviving ---


def test_what_is_published_survives_its_processes(path):
    out = run(
        "import sys, numpy as np, onecopy as oc\n"
        "with oc.arena(path=sys.argv[1], limit='64MiB') as arena:\n"
        "    arena.publish('a', arena.array(np.arange(1000)))\n"
        "    arena.publish('b', {'x': arena.full((300, 300), 7), 'y': 'text'})\n"
        "    kept = arena.ones(100_000)\n"
        "    print(arena.id)\n",
        path,
    )
    assert sorted(p.name for p in path.iterdir()) == FILES
    with small(path, create=False) as arena:
        assert arena.id == out.strip()
        assert arena.names() == ["a", "b"]
        assert "a" in arena and "c" not in arena
        assert (arena.attach("a") == np.arange(1000)).all()
        value = arena.attach("b", allow_pickle=True)
        assert (value["x"] == 7).all() and value["y"] == "text"
        arena.verify()
        # Root, two records, two arrays: what the process only held is gone.
        assert arena.stats()["blocks"] == 5
        arena.unpublish("b")
        with pytest.raises(oc.NameUnknownError, match=r'\["a"\]'):
            arena.attach("b")


WRITER = """
import hashlib, sys, numpy as np, onecopy as oc
arena = oc.arena(path=sys.argv[1], limit="64MiB")
random = np.random.default_rng(int(sys.argv[2]))
print("open", flush=True)
for turn in range(10_000):
    items = random.integers(0, 255, random.integers(1, 300_000), dtype="u1")
    digest = hashlib.sha256(items).hexdigest()
    name = f"n{turn % 5}"
    arena.publish(name, {"items": arena.array(items), "digest": digest}, replace=True)
    print(name, digest, flush=True)
    in_flight = arena.zeros(50_000)
    oc._native.encode(in_flight)
"""


@pytest.mark.parametrize("seed", range(6))
def test_a_killed_writer_loses_nothing_that_it_published(path, seed):
    published = {}
    for life in range(3):
        with start(WRITER, path, 10 * seed + life) as writer:
            assert writer.stdout.readline() == "open\n"
            for _ in range(3 * seed + life):
                name, digest = writer.stdout.readline().split()
                published[name] = digest
            writer.kill()
            # By the file from which lines were read: what it has read ahead would be lost to `communicate`.
            out = writer.stdout.read()
        lines = [line.split() for line in out.splitlines(keepends=True) if line.endswith("\n")]
        published.update(line for line in lines if len(line) == 2)
        with small(path, create=False) as arena:
            arena.verify()
            values = {name: arena.attach(name, allow_pickle=True) for name in arena.names()}
            found = {name: hashlib.sha256(value["items"]).hexdigest() for name, value in values.items()}
            assert found == {name: value["digest"] for name, value in values.items()}
            # The last one may have been replaced by a value of which the writer had not told yet.
            differing = [name for name, digest in published.items() if found.get(name) != digest]
            assert len(differing) <= 1, differing
            published = found
            # Root, and for each name a record and an array. Nothing is left of what was in flight.
            assert arena.stats()["blocks"] == 1 + 2 * len(found) or not found
            assert arena.stats()["handles_in_flight"] == arena.stats()["blocks"]
            del values
        assert sorted(p.name for p in path.parent.iterdir()) == ["arena"]


HOLDER = """
import os, sys, onecopy as oc
arena = oc.arena(path=sys.argv[1], limit="64MiB")
held = arena.full(1000, 5)
if len(sys.argv) > 2 and os.fork() == 0:
    own = arena.full(2000, 6)
    print("child", os.getpid(), flush=True)
    sys.stdin.readline()
    print(held.sum(), own.sum(), flush=True)
    os._exit(0)
if len(sys.argv) == 2:
    # Whatever this very process does with the files: it stays a member.
    for name in os.listdir(sys.argv[1]):
        open(os.path.join(sys.argv[1], name), "rb").read(100)
    print("read", flush=True)
    sys.stdin.readline()
    print(held.sum(), flush=True)
sys.stdin.read()
"""


def test_reading_the_files_in_a_member_does_not_make_it_look_dead(path):
    holder = start(HOLDER, path)
    assert holder.stdout.readline() == "read\n"
    with small(path, create=False) as arena:
        assert holder.pid in arena.stats()["processes"]
        assert subprocess.run([sys.executable, "-m", "onecopy", "reap", arena.id[:8]], env=outside()).returncode == 0
        new = arena.zeros(100_000)
        new[:] = 1
        out, _ = holder.communicate("\n", timeout=60)
    assert out == "5000\n"


def test_a_forked_child_does_not_keep_its_dead_parent_alive(path):
    parent = start(HOLDER, path, "fork")
    child = int(parent.stdout.readline().split()[1])
    with small(path, create=False) as arena:
        assert {parent.pid, child} <= set(arena.stats()["processes"])
        parent.kill()
        parent.wait()
        members = {member["pid"]: member["alive"] for member in arena.stats()["members"]}
        assert (members[parent.pid], members[child]) == (False, True)
        arena.ones(1 << 18)  # more than there is warm: sweeps the dead
        # What the child inherited it has still, for itself.
        out, _ = parent.communicate("\n", timeout=60)
        assert out == "5000 12000\n"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_arrays_and_the_arena_itself_travel(path, method):
    context = multiprocessing.get_context(method)
    with small(path) as arena, context.Pool(1) as pool:
        array = arena.zeros(1000)
        pool.apply(np.put, (array, 3, 9.0))
        assert array[3] == 9
        assert pool.apply(type(arena).__repr__, (arena,)) == repr(arena)
        pool.apply(type(arena).publish, (arena, "from-child", np.arange(10)))
        assert (arena.attach("from-child") == np.arange(10)).all()


def test_one_path_is_one_arena_in_a_process_and_a_copy_is_another(path, tmp_path):
    with small(path) as first, small(path, create=False) as second:
        assert first.id == second.id
        first.publish("x", np.zeros(3))
        assert second.names() == ["x"]
    shutil.copytree(path, tmp_path / "copy")
    with small(path) as original, small(tmp_path / "copy") as copy:
        assert original.id != copy.id
        copy.publish("x", np.ones(3), replace=True)
        assert (original.attach("x").sum(), copy.attach("x").sum()) == (0, 3)
    shutil.rmtree(path)
    with small(path, create=None) as again:
        assert again.names() == []


def test_arrays_outlive_closing(path):
    arena = small(path)
    array = arena.full(1000, 3)
    arena.close()
    arena.close()
    assert arena.closed and "closed" in repr(arena)
    with pytest.raises(ValueError, match="closed"):
        arena.zeros(1)
    looker = (
        f"import onecopy as oc; a = oc.arena(path={str(path)!r}); print(a.stats()['processes'], a.stats()['blocks'])"
    )
    assert str(os.getpid()) in run(looker)
    assert array.sum() == 3000
    del array
    assert str(os.getpid()) not in run(looker)


def test_create_says_what_there_must_be(path):
    with pytest.raises(oc.NameUnknownError, match=r"no arena at .*create=False"):
        small(path, create=False)
    assert not path.exists()
    small(path, create=True).close()
    with pytest.raises(oc.NameTakenError, match="create=True"):
        small(path, create=True)
    with pytest.raises(ValueError, match="not both"):
        oc.arena(name="x", path=path)
    with pytest.raises(oc.ArenaError, match="No such file"):
        small(path.parent / "nowhere" / "arena")


def test_an_empty_directory_becomes_an_arena(path):
    path.mkdir(mode=0o700)
    with small(path) as arena:
        arena.flush()
        assert arena.path == path
    assert sorted(p.name for p in path.iterdir()) == FILES
    assert {p.stat().st_mode & 0o777 for p in path.iterdir()} == {0o600}


# --- running out ---

FILL = """
import os, sys, onecopy as oc
assert sys.argv[2] == "tmpfs" or os.system(f"mkfs.ext4 -q -F -b 1024 {sys.argv[1]}.img 64M") == 0
kind = "-t tmpfs -o size=64m tmpfs" if sys.argv[2] == "tmpfs" else f"-o loop {sys.argv[1]}.img"
assert os.system(f"mount {kind} {sys.argv[1]}") == 0
arena = oc.arena(path=sys.argv[1] + "/arena", limit="1GiB")
held, refused = [], None
for size in (20 << 20, 3 << 20, 200_000, 5000):
    try:
        for turn in range(10_000):
            held.append(arena.empty(size, "u1"))
            held[-1][:] = len(held) % 251
    except oc.OutOfMemoryError as error:
        refused = error
        assert "the file system of " + sys.argv[1] in error.bound, error
        assert error.free < max(size, 1 << 20) + 1 and error.limit < 70 << 20, vars(error)
assert refused is not None and len(held) > 3
assert all((a == (i + 1) % 251).all() for i, a in enumerate(held))
source = oc._native.put(__import__("numpy").ones(8 << 20, "u1"), False)
try:
    arena.array(source)
    raise AssertionError("that does not fit")
except oc.OutOfMemoryError:
    pass
held[0][:] = 77
del held[1:10]
arena.publish("kept", held[0])
assert arena.ones(2 << 20, "u1").sum() == 2 << 20
arena.verify()
arena.flush()
print(refused)
"""


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_full_disk_is_an_error_and_no_signal(tmp_path, kind):
    """Blocks of 1 KiB in the ext4 file system: pages are not all there because a part of them is."""
    unshare = shutil.which("unshare")
    prefix = [str(unshare), "--mount", "--propagation", "private"]
    if unshare is None or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("a mount namespace cannot be made here")
    if kind == "ext4" and (shutil.which("mkfs.ext4") is None or not Path("/dev/loop-control").exists()):
        pytest.skip("no ext4 file system can be made here")
    (tmp_path / "disk").mkdir()
    command = [*prefix, sys.executable, "-W", "error", "-c", FILL, tmp_path / "disk", kind]
    out = subprocess.run(command, env=outside(), capture_output=True, text=True, timeout=100)
    assert (out.returncode, out.stderr) == (0, ""), out
    assert "free some space there" in out.stdout


def test_more_than_the_limit_is_refused(path):
    with small(path) as arena:
        with pytest.raises(oc.OutOfMemoryError, match=r"the arena's limit of 64\.0 MiB"):
            arena.zeros(65 * MIB, "u1")
        arena.set_limit("100MiB")
        assert arena.limit == 100 * MIB
        assert arena.zeros(65 * MIB, "u1").nbytes == 65 * MIB


# --- what is refused ---


def make(path):
    with small(path) as arena:
        arena.publish("x", np.arange(100_000))


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Return the path of an arena that this process has not opened."""
    path = tmp_path_factory.mktemp("sound") / "arena"
    program = "import sys, numpy as np, onecopy as oc; oc.arena(path=sys.argv[1], limit='64MiB')"
    run(program + ".publish('x', np.arange(100_000))", path)
    return path


@pytest.fixture(params=["opened before", "new to this process"])
def made(request, path, sound):
    if request.param == "opened before":
        make(path)
    else:
        shutil.copytree(sound, path)
    return path


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda p: damaged(p, 0, b"\0" * 8), oc.ForeignArenaError, "died over it"),
        (lambda p: damaged(p, 0, b"notonecp"), oc.ForeignArenaError, "magic number"),
        (lambda p: damaged(p, 0, b"\x01ypoceno"), oc.ForeignArenaError, "other byte order"),
        (lambda p: damaged(p, 8, struct.pack("=I", 99)), oc.ForeignArenaError, "version 99"),
        (lambda p: damaged(p, 12, struct.pack("=I", 0x04030201)), oc.ForeignArenaError, "byte order"),
        (lambda p: damaged(p, 24, struct.pack("=I", 1 << 31)), oc.ForeignArenaError, "impossible geometry"),
        (lambda p: os.truncate(p / "meta", 100), oc.ForeignArenaError, "too few"),
        (lambda p: os.truncate(p / "meta", 8192), oc.ForeignArenaError, "impossible geometry"),
        (lambda p: os.truncate(p / "data-b", 4096), oc.ForeignArenaError, "another size"),
        (lambda p: (p / "data-a").unlink(), oc.ForeignArenaError, "data-a"),
        (lambda p: (p / "meta").unlink(), oc.ForeignArenaError, "not an onecopy arena"),
        (lambda p: (p / "meta").chmod(0o644), oc.ArenaError, "chmod it to 600"),
        (lambda p: p.chmod(0o750), oc.ArenaError, "chmod it to 700"),
        (lambda p: linked(p / "data-a"), oc.ArenaError, "symbolic link"),
        (lambda p: linked(p), oc.ArenaError, "symbolic link"),
        (lambda p: fifo(p / "meta"), oc.ArenaError, "no plain file"),
    ],
)
def test_what_is_no_sound_arena_is_refused(made, damage, error, message):
    damage(made)
    for _ in range(2):
        with pytest.raises(error, match=message) as raised:
            small(made)
        assert str(made) in str(raised.value)


def linked(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def fifo(path):
    path.unlink()
    os.mkfifo(path, 0o600)


def test_other_directories_and_files_are_refused_and_left_alone(path):
    path.mkdir(mode=0o700)
    (path / "notes.txt").write_text("mine")
    with pytest.raises(oc.ForeignArenaError, match="choose another path"):
        small(path)
    assert [p.name for p in path.iterdir()] == ["notes.txt"]
    with pytest.raises(oc.ArenaError, match="no directory"):
        small(path / "notes.txt")
    assert (path / "notes.txt").read_text() == "mine"
    assert sorted(p.name for p in path.parent.iterdir()) == ["arena"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("victim", [".", "meta", "data-b"])
def test_files_of_another_user_are_refused(made, victim):
    os.chown(made / victim, 12345, 12345)
    with pytest.raises(oc.ArenaError, match="user 12345"):
        small(made)


def test_a_pointer_to_nowhere_in_the_tables_is_damage(made):
    directory = 4096 + 64 * 512
    # The offset of each used block, far beyond the data.
    for entry in range(3):
        damaged(made, directory + 64 * entry + 8, struct.pack("=Q", 1 << 40))
    with pytest.raises(oc.DamagedArenaError, match="restore the directory from a copy"):
        small(made)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    changes=st.lists(
        st.tuples(
            # Superblock, slots, directory, and the rest of the tables.
            st.one_of(
                st.integers(0, 4000),
                st.integers(4096, 4096 + 640),
                st.integers(36864, 36864 + 640),
                st.integers(0, 600_000),
            ),
            st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 70), st.integers(2**32 - 3, 2**32)),
            st.sampled_from([1, 4, 8]),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_any_damage_is_refused_or_harmless(sound, tmp_path_factory, changes):
    path = tmp_path_factory.mktemp("damaged") / "arena"
    shutil.copytree(sound, path)
    for position, value, width in changes:
        damaged(path, position, value.to_bytes(8, "little")[:width])
    try:
        arena = small(path, create=False)
    except (oc.ArenaError, oc.OutOfMemoryError):
        return
    finally:
        for name in FILES:
            (path / name).unlink()
    with arena:
        try:
            arena.verify()
            for name in arena.names():
                arena.attach(name, allow_pickle=False).sum()
            arena.zeros(1000)
        except (oc.OnecopyError, ValueError, TypeError):
            pass
