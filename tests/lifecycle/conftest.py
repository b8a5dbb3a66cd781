"""What every life-cycle test has to leave behind: nothing."""

import os
from collections.abc import Iterator

import pytest

DIRECTORIES = ["/dev/shm", os.environ.get("XDG_RUNTIME_DIR", "/run/onecopy")]


def _files() -> set[str]:
    return {f"{path}/{name}" for path in DIRECTORIES if os.path.isdir(path) for name in os.listdir(path)}


@pytest.fixture(autouse=True)
def nothing_left_anywhere(nothing_left: None) -> Iterator[None]:
    """Fail a test that leaves blocks, handles in flight or files with a name behind."""
    before = _files()
    yield
    assert {path for path in _files() - before if "onecopy" in path} == set()
