"""What the tests of `onecopy.multiprocessing` share."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import onecopy.multiprocessing as mp

SEGMENTS = "/dev/shm"


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def context(request: pytest.FixtureRequest) -> Any:
    return mp.get_context(request.param)


@pytest.fixture
def no_segments_left() -> Iterator[None]:
    """Fail a test that leaves a segment or an entry behind."""
    before = set(os.listdir(SEGMENTS))
    yield
    assert {
        name for name in set(os.listdir(SEGMENTS)) - before if name.startswith((".onecopy", "psm_", "oc-"))
    } == set()


@pytest.fixture
def run() -> Callable[[str], str]:
    """Run a program that must end well and say nothing on stderr; return what it prints."""

    def run(program: str, *arguments: str) -> str:
        command = [sys.executable, "-W", "error", "-c", program, *arguments]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (finished.returncode, finished.stderr) == (0, "")
        return finished.stdout.strip()

    return run
