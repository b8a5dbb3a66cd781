"""Values under names, between programs that are not each other's children in the session."""

import os
import subprocess
import sys
import uuid

import numpy as np
import pytest

import onecopy as oc

PUBLISHER = """
import sys, numpy as np, onecopy as oc
oc.publish(sys.argv[1], oc.array(np.arange(100_000)))
print("ready", flush=True)
sys.stdin.read()
"""
HOLDER = """
import os, sys
os.environ["ONECOPY_SESSION"] = sys.argv[1]
import onecopy as oc
a = oc.zeros(1000)
print("ready", flush=True)
sys.stdin.read()
"""
ATTACHER = """
import sys, onecopy as oc
a = oc.attach(sys.argv[1])
print(oc.is_shared(a), int(a.sum()), a.flags.writeable, flush=True)
"""


@pytest.fixture
def name():
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture(autouse=True)
def runtime_directory(tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "onecopy"


def start(code, *arguments):
    """Start a program that does not know this one's session."""
    environment = {key: value for key, value in os.environ.items() if key != "ONECOPY_SESSION"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment, **pipes)


def test_unrelated_program_attaches_what_is_published_here(name):
    oc.publish(name, oc.array(np.arange(1000)))
    output, _ = start(ATTACHER, name).communicate(timeout=60)
    assert output.split() == ["True", "499500", "True"]
    oc.unpublish(name)


def test_array_that_is_not_shared_is_published_read_only(name):
    oc.publish(name, np.arange(1000))
    output, _ = start(ATTACHER, name).communicate(timeout=60)
    assert output.split() == ["True", "499500", "False"]
    oc.unpublish(name)


def test_killed_publisher_leaves_nothing(name, runtime_directory):
    publisher = start(PUBLISHER, name)
    try:
        assert publisher.stdout.readline() == "ready\n"
        array = oc.attach(name)
        assert array.sum() == 4999950000
    finally:
        publisher.kill()
        publisher.communicate(timeout=60)
    oc.reap()
    assert len(list(runtime_directory.iterdir())) == 1, "this process attached it, and so keeps the name"
    assert array.sum() == 4999950000
    oc.unpublish(name)
    assert list(runtime_directory.iterdir()) == []


def test_entry_of_the_dead_is_swept(name, runtime_directory):
    publisher = start(PUBLISHER, name)
    assert publisher.stdout.readline() == "ready\n"
    publisher.kill()
    publisher.communicate(timeout=60)
    assert len(list(runtime_directory.iterdir())) == 1
    with pytest.raises(oc.NameUnknownError, match=name):
        oc.attach(name)
    assert list(runtime_directory.iterdir()) == []


SURVIVOR = """
import sys, onecopy as oc
first = oc.attach(sys.argv[1])
print("attached", flush=True)
sys.stdin.readline()
oc.reap(in_flight=True)
print(oc.is_shared(first), int(oc.attach(sys.argv[1]).sum()), flush=True)
"""


def test_what_is_published_is_no_handle_in_flight(name):
    """A session whose first process, which made the root of its names, is killed."""
    publisher = start(
        PUBLISHER.replace('print("ready"', 'print(os.environ["ONECOPY_SESSION"]').replace("import ", "import os, "),
        name,
    )
    session = publisher.stdout.readline().strip()
    survivor = start(f"import os; os.environ['ONECOPY_SESSION'] = {session!r}\n{SURVIVOR}", name)
    assert survivor.stdout.readline() == "attached\n"
    publisher.kill()
    publisher.communicate(timeout=60)
    output, _ = survivor.communicate("\n", timeout=60)
    assert output.split() == ["True", "4999950000"]


def test_taken_name_needs_replace(name):
    oc.publish(name, np.zeros(3))
    with pytest.raises(oc.NameTakenError, match="replace=True"):
        oc.publish(name, np.ones(3))
    oc.publish(name, np.ones(3), replace=True)
    assert oc.attach(name).sum() == 3
    oc.unpublish(name)


def test_objects_need_allow_pickle(name):
    shared = oc.zeros(10)
    oc.publish(name, {"a": shared, "b": [1, "two"]})
    with pytest.raises(ValueError, match="allow_pickle=True"):
        oc.attach(name)
    value = oc.attach(name, allow_pickle=True)
    shared[3] = 7
    assert (value["a"][3], value["b"]) == (7, [1, "two"])
    oc.unpublish(name)


def recarray(_path):
    return np.rec.fromarrays([np.arange(50_000), np.arange(50_000.0)], names="i,x")


def masked(_path):
    return np.ma.MaskedArray(np.arange(100_000), np.arange(100_000) % 3 == 0, fill_value=-1)


def memmap(path):
    mapped = np.memmap(path / "items", dtype="i8", mode="w+", shape=100_000)
    mapped[:] = np.arange(100_000)
    return mapped


@pytest.mark.parametrize("make", [recarray, masked, memmap])
def test_derived_arrays_inside_objects_are_not_in_the_pickle(name, make, tmp_path):
    array = make(tmp_path)
    oc.publish(name, {"a": array})
    payload, arrays = oc._native.attach(name)
    assert len(payload) < 2000
    assert sum(a.nbytes for a in arrays) >= array.nbytes
    received = oc.attach(name, allow_pickle=True)["a"]
    assert type(received) is (np.ndarray if make is memmap else type(array))
    assert received.dtype == array.dtype
    assert received.tolist() == array.tolist()
    oc.unpublish(name)


def garbage(entry):
    entry.write_bytes(b"\xff no hint")


def symlink(entry):
    entry.symlink_to("/etc/passwd")


@pytest.mark.parametrize("forge", [garbage, os.mkfifo, symlink])
def test_forged_entry_is_passed_over(name, runtime_directory, forge):
    publisher = start(PUBLISHER, name)
    try:
        assert publisher.stdout.readline() == "ready\n"
        (entry,) = runtime_directory.iterdir()
        process = entry.name.partition("~")[2]
        # Of a process that lives, so nobody sweeps it, and first in the order of names.
        forged = runtime_directory / f"value.{name}~{'0' + process}"
        forge(forged)
        assert sorted(runtime_directory.iterdir())[0] == forged
        assert oc.attach(name).sum() == 4999950000
    finally:
        publisher.kill()
        publisher.communicate(timeout=60)
    oc.unpublish(name)


def test_runtime_directory_that_is_a_link_is_refused(name, runtime_directory, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    runtime_directory.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(oc.ArenaError, match=str(runtime_directory)):
        oc.publish(name, np.zeros(1))
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_reap_warns_of_an_unusable_runtime_directory_and_keeps_its_figures(runtime_directory):
    holder = start(HOLDER, os.environ["ONECOPY_SESSION"])
    try:
        assert holder.stdout.readline() == "ready\n"
    finally:
        holder.kill()
        holder.communicate(timeout=60)
    runtime_directory.mkdir()
    runtime_directory.chmod(0o755)
    with pytest.warns(RuntimeWarning, match="chmod it to 700"):
        processes, blocks = oc.reap()
    assert (processes, blocks) == (1, 1)


@pytest.mark.parametrize("bad", ["", "../x", ".hidden", "a b", "x" * 101, "é"])
def test_name_must_be_portable(bad):
    with pytest.raises(ValueError, match="expected 1 to 100"):
        oc.publish(bad, np.zeros(1))


def test_runtime_directory_of_others_is_refused(name, runtime_directory):
    runtime_directory.mkdir()
    runtime_directory.chmod(0o755)
    with pytest.raises(oc.ArenaError, match="chmod it to 700"):
        oc.publish(name, np.zeros(1))
