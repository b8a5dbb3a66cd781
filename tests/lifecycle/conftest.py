"""What every life-cycle test has to leave behind: nothing."""

import os
from collections.abc import Iterator

import pytest

from onecopy import _segments

SEGMENTS = "/dev/shm"


def _files() -> set[str]:
    """Return the files with a name but those of programs that go on, which have nothing to do with the tests."""
    names = {name for name in os.listdir(SEGMENTS) if "onecopy" in name} if os.path.isdir(SEGMENTS) else set()
    return {name for name in names if not _is_a_strangers(name.removeprefix(_segments._ENTRY))}


def _is_a_strangers(inode: str) -> bool:
    owner = _segments._read(int(inode))[0] if inode.isdecimal() else None
    return owner is not None and owner != _segments._program() and not _segments._has_ended(owner)


@pytest.fixture(autouse=True)
def nothing_left_anywhere(
    nothing_left: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Fail a test that leaves blocks, handles in flight or files with a name behind."""
    names = tmp_path_factory.mktemp("names")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(names))
    before = _files()
    yield
    assert _files() - before == set()
    assert [entry for directory in names.glob("onecopy*") for entry in directory.iterdir()] == []
