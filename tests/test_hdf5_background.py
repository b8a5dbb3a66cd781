"""Arrays that go to the file past libhdf5 and the page cache, and perhaps after `write` has returned."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

import onecopy as oc
from onecopy import _native
from onecopy._hdf5 import background

# Beyond a block of the writer, and no multiple of a page.
ROWS = (40 << 20) // 8 + 333


def numbers(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << 60, ROWS)


@pytest.fixture(params=["direct", "page cache"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "page cache":
        monkeypatch.setattr(background, "_open_direct", lambda fd: -1)


@pytest.mark.usefixtures("either_way")
def test_large_arrays_arrive_whole_from_any_memory(tmp_path: Path) -> None:
    private = numbers(1)
    arrays = {
        "shared": oc.array(numbers(0)),
        "private": private,
        "begins anywhere": private.view("u1")[3:-2],
        "strided": private[::3],
        "one byte more than a page": np.arange(4097, dtype="u1"),
    }
    oc.to_hdf5(tmp_path / "a.h5", arrays)
    with h5py.File(tmp_path / "a.h5") as file:
        for name, array in arrays.items():
            np.testing.assert_array_equal(file[name][()], array, err_msg=name)


@pytest.mark.usefixtures("either_way")
def test_arrays_that_nobody_else_has_are_written_while_the_next_is_made(tmp_path: Path) -> None:
    oc.to_hdf5(tmp_path / "a.h5", ((f"x{seed}", oc.array(numbers(seed))) for seed in range(3)))
    with h5py.File(tmp_path / "a.h5") as file:
        for seed in range(3):
            np.testing.assert_array_equal(file[f"x{seed}"][()], numbers(seed))


@pytest.mark.usefixtures("either_way")
def test_blocks_of_a_long_text_arrive_whole(tmp_path: Path) -> None:
    """They are in huge pages, where there are some, and are written from there; the last one is shorter."""
    rows = 9 * (8 << 20) // 8 + 12_345
    numbers = np.arange(10_000_000, 10_000_000 + rows)
    text = numbers.astype("S8").tobytes()
    lines = np.full((rows, 9), ord("\n"), "u1")
    lines[:, :8] = np.frombuffer(text, "u1").reshape(rows, 8)
    lines.tofile(tmp_path / "long.txt")
    oc.to_hdf5(tmp_path / "a.h5", {"x": oc.iter_text(tmp_path / "long.txt", dtype="i8")})
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["x"][:, 0], numbers)


@pytest.mark.parametrize("kind", ["the array", "a view", "another handle"])
def test_an_iterable_may_change_what_it_keeps(tmp_path: Path, kind: str) -> None:
    kept = oc.empty(ROWS, "i8")

    def steps():
        for step in range(4):
            kept[:] = step
            match kind:
                case "the array":
                    yield f"x{step}", kept
                case "a view":
                    yield f"x{step}", kept[:]
                case _:
                    yield f"x{step}", _native.decode(_native.encode(kept))

    oc.to_hdf5(tmp_path / "a.h5", steps())
    with h5py.File(tmp_path / "a.h5") as file:
        assert [np.unique(file[f"x{step}"]).tolist() for step in range(4)] == [[0], [1], [2], [3]]


def test_only_an_array_that_nobody_else_has_is_exclusive() -> None:
    array = oc.empty(10)
    assert _native.is_exclusive(array)
    other = array
    assert not _native.is_exclusive(array)
    del other
    view = array[:5]
    assert not _native.is_exclusive(view)
    assert not _native.is_exclusive(array)
    del view
    again = _native.decode(_native.encode(array))
    assert not _native.is_exclusive(array)
    assert not _native.is_exclusive(again)
    del again
    assert _native.is_exclusive(array)
    plain = np.empty(10)
    assert not _native.is_exclusive(plain)
    assert not _native.is_exclusive("text")


def test_what_goes_wrong_behind_the_scenes_is_raised_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = _native.write_array

    def fail_at_the_last(fd: int, direct: int, array: np.ndarray, *rest: object) -> None:
        if len(array) == 7:
            raise OSError(5, "the disk is gone")
        write(fd, direct, array, *rest)

    monkeypatch.setattr(_native, "write_array", fail_at_the_last)
    with pytest.raises(OSError, match="the disk is gone"):
        oc.to_hdf5(tmp_path / "a.h5", ((f"x{size}", oc.zeros(size)) for size in (9, 8, 7)))
    assert list(tmp_path.iterdir()) == []


def test_a_write_is_refused_where_it_cannot_be(tmp_path: Path) -> None:
    array, staging = oc.zeros(10), _native.Staging()
    with pytest.raises(OSError, match="Bad file descriptor"):
        _native.write_array(-1, -1, array, 0, staging)
    with open(tmp_path / "a", "wb") as file, pytest.raises(ValueError, match="not contiguous"):
        _native.write_array(file.fileno(), -1, array[::2], 0, staging)
    reader = os.open(tmp_path / "a", os.O_RDONLY)
    with pytest.raises(OSError, match="Bad file descriptor"):
        _native.write_array(reader, -1, array, 0, staging)
    os.close(reader)
