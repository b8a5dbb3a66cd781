"""Arenas in memory that unrelated programs find by a name."""

import os
import subprocess
import sys
import uuid

import numpy as np
import pytest

import onecopy as oc
from onecopy import _native

OPENER = """
import os, sys, onecopy as oc
arena = oc.arena(name=sys.argv[1], limit="64MiB")
arena.publish("x", arena.full(1000, 3), replace=True)
if sys.argv[2:] == ["fork"] and os.fork():
    os._exit(0)
print(arena.id, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def runtime_directory(tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "onecopy"


@pytest.fixture
def name():
    return f"test-{uuid.uuid4().hex}"


def start(*arguments):
    environment = {k: v for k, v in os.environ.items() if k != _native.SESSION_VARIABLE}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", OPENER, *arguments], env=environment, **pipes)


def test_it_lives_as_long_as_anybody_has_it_open(name):
    opener = start(name)
    assert opener.stdout.readline()
    with pytest.raises(oc.NameTakenError, match="create=True"):
        oc.arena(name=name, create=True)
    with oc.arena(name=name, create=False) as arena:
        opener.kill()
        opener.communicate(timeout=60)
        assert arena.attach("x").sum() == 3000
        assert (arena.name, arena.path) == (name, None)
    with pytest.raises(oc.NameUnknownError, match=name):
        oc.arena(name=name, create=False)


def test_a_forked_child_keeps_the_name_of_its_dead_parent(name):
    opener = start(name, "fork")
    arena_id = opener.stdout.readline().strip()
    opener.wait(timeout=60)
    oc.reap()
    with oc.arena(name=name, create=False) as arena:
        assert arena.id == arena_id
        assert arena.attach("x").sum() == 3000
    opener.communicate(timeout=60)


def test_the_last_one_takes_what_is_published_along(name):
    with oc.arena(name=name) as arena:
        arena.publish("x", np.ones(3))
        first = arena.id
    with oc.arena(name=name) as arena:
        assert arena.names() == []
        assert arena.id != first


@pytest.mark.parametrize("open_it", [lambda n: oc.arena(name=n), lambda n: oc.attach(n)])
def test_a_directory_among_the_entries_is_passed_over(name, runtime_directory, open_it):
    oc.publish(name, np.ones(3))
    with oc.arena(name=name):
        for entry in list(runtime_directory.iterdir()):
            kind, _, process = entry.name.partition("~")
            (runtime_directory / f"{kind}~0{process}").mkdir()
        open_it(name)
    oc.unpublish(name)


def test_a_name_of_another_version_is_not_free(name, runtime_directory):
    opener = start(name)
    assert opener.stdout.readline()
    try:
        (entry,) = runtime_directory.iterdir()
        fd = int(entry.read_text().split(":")[2])
        with open(f"/proc/{opener.pid}/fd/{fd}", "r+b") as meta:
            meta.seek(8)
            meta.write((99).to_bytes(4, sys.byteorder))
        with pytest.raises(oc.ForeignArenaError, match=r"version 99.*choose another name"):
            oc.arena(name=name)
    finally:
        opener.kill()
        opener.communicate(timeout=60)
