"""What the tests of `onecopy.multiprocessing` share."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

import onecopy.multiprocessing as mp
from onecopy import _segments
from own_namespace import IN_NAMESPACE, NAMESPACE

SEGMENTS = "/dev/shm"


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def context(request: pytest.FixtureRequest) -> Any:
    return mp.get_context(request.param)


@pytest.fixture
def no_segments_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that leaves a segment or an entry behind.

    Programs that have nothing to do with the test make and sweep segments in the same directory meanwhile. So it is,
    with the programs that it runs, in a pid namespace of its own as far as segments go: nobody else can judge these.
    """
    made: list[str] = []
    link = _segments._link

    def link_and_remember(fd: int, path: str) -> None:
        link(fd, path)
        made.append(path)

    monkeypatch.setattr(_segments, "_namespace", lambda: NAMESPACE)
    monkeypatch.setattr(_segments, "_link", link_and_remember)
    yield
    assert [path for path in made if os.path.exists(path)] == []
    program = _segments._program()
    assert [name for owner, name in entries() if owner == program or owner.endswith(f".{NAMESPACE}")] == []


def entries() -> Iterator[tuple[str, str]]:
    """Yield the owners and the names of all segments that have an entry."""
    for file in os.listdir(SEGMENTS):
        if file.startswith(".onecopy-"):
            with suppress(FileNotFoundError):
                owner, _, name = os.readlink(f"{SEGMENTS}/{file}").partition("/")
                yield owner, name


@pytest.fixture
def run() -> Callable[[str], str]:
    """Run a program that must end well and say nothing on stderr; return what it prints."""

    def run(program: str, *arguments: str) -> str:
        command = [sys.executable, "-W", "error", "-c", IN_NAMESPACE + program, *arguments]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (finished.returncode, finished.stderr) == (0, "")
        return finished.stdout.strip()

    return run
