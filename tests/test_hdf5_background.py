"""Arrays that go to the file past libhdf5 and the page cache, and perhaps after `write` has returned."""

import os
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
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
    done: list[int] = []
    done_before: list[int] = []

    def arrays() -> Iterator[tuple[str, np.ndarray]]:
        for seed in range(3):
            done_before.append(sum(done))
            yield f"x{seed}", oc.array(numbers(seed))

    oc.to_hdf5(tmp_path / "a.h5", arrays(), progress=done.append)
    # What has been written is told when the next one has come.
    assert done_before == [0, 0, 8 * ROWS]
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
    native = _native.BackgroundWriter

    class Failing:
        """A writer to which the disk is lost when the last array comes."""

        def __init__(self, *descriptors: int) -> None:
            self._writer = native(*descriptors)
            self._lost = False

        def submit(self, array: np.ndarray, position: int) -> None:
            self._lost = len(array) == 7
            self._writer.submit(array, position)

        def settle(self, keep: int) -> int:
            if self._lost:
                raise OSError(5, "the disk is gone")
            return self._writer.settle(keep)

        def close(self) -> None:
            self._writer.close()

    monkeypatch.setattr(_native, "BackgroundWriter", Failing)
    with pytest.raises(OSError, match="the disk is gone"):
        oc.to_hdf5(tmp_path / "a.h5", ((f"x{size}", oc.zeros(size)) for size in (9, 8, 7)))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def test_arrays_are_written_in_any_number_and_settled_in_order(file: int) -> None:
    writer = _native.BackgroundWriter(file, -1)
    arrays = [np.full(1000 + number, number, "u1") for number in range(50)]
    positions = np.cumsum([0, *map(len, arrays)])
    for array, position in zip(arrays, positions[:-1], strict=True):
        writer.submit(array, int(position))
    settled = writer.settle(20)
    assert sum(map(len, arrays[:30])) <= settled <= positions[-1]
    assert settled in positions
    assert settled + writer.settle(0) == positions[-1]
    assert writer.settle(0) == 0
    assert os.pread(file, int(positions[-1]) + 1, 0) == b"".join(array.tobytes() for array in arrays)


def test_an_array_is_kept_until_it_is_written_and_no_longer(file: int) -> None:
    writer = _native.BackgroundWriter(file, -1)
    array = np.zeros(1000)
    writer.submit(array, 0)
    writer.settle(0)
    gone = weakref.ref(array)
    del array
    assert gone() is None
    array = np.zeros(1000)
    writer.submit(array, 0)
    gone = weakref.ref(array)
    del array
    writer.close()
    assert gone() is None


def test_an_error_stays_until_the_writer_is_closed(file: int, tmp_path: Path) -> None:
    reader = os.open(tmp_path / "file", os.O_RDONLY)
    writer = _native.BackgroundWriter(reader, -1)
    os.close(reader)
    for _ in range(5):
        writer.submit(oc.zeros(10), 0)
    for _ in range(2):
        with pytest.raises(OSError, match="Bad file descriptor"):
            writer.settle(0)
    writer.close()
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.submit(oc.zeros(10), 0)


def test_what_cannot_be_written_is_refused(file: int) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        _native.BackgroundWriter(-1, -1)
    writer = _native.BackgroundWriter(file, -1)
    with pytest.raises(ValueError, match="not contiguous"):
        writer.submit(oc.zeros(10)[::2], 0)
    with pytest.raises(TypeError, match="expected a numpy array, got list"):
        writer.submit([1], 0)
    assert writer.settle(0) == 0


def test_a_child_is_told_that_its_parent_writes(file: int) -> None:
    writer = _native.BackgroundWriter(file, -1)
    writer.submit(oc.ones(10, "u1"), 0)
    pid = os.fork()
    if not pid:
        try:
            with pytest.raises(RuntimeError, match="by the parent"):
                writer.settle(0)
            with pytest.raises(RuntimeError, match="by the parent"):
                writer.submit(oc.ones(10), 0)
            writer.close()
            del writer
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    writer.settle(0)
    assert os.pread(file, 20, 0) == b"\1" * 10


NO_THREAD = """
import os, resource, sys
import numpy as np
import onecopy as oc
from onecopy import _native

arrays = [oc.array(np.full(1000, number, "u1")) for number in range(5)]
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
writer = _native.BackgroundWriter(fd, -1)
threads = len(os.listdir("/proc/self/task"))
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (1 << 20), -1))
for number, array in enumerate(arrays):
    writer.submit(array, 1000 * number)
assert len(os.listdir("/proc/self/task")) == threads, "a thread was started"
assert writer.settle(0) == 5000
assert os.pread(fd, 6000, 0) == b"".join(array.tobytes() for array in arrays)
"""


def test_where_there_is_no_thread_to_spare_the_caller_writes(tmp_path: Path) -> None:
    """Under `ulimit -v`, there is no memory for the stack of one."""
    subprocess.run([sys.executable, "-c", NO_THREAD, tmp_path / "file"], check=True, timeout=60)


def test_a_block_is_free_as_soon_as_it_is_written(file: int) -> None:
    writer = _native.BackgroundWriter(file, -1)
    before = oc.stats()["used_bytes"]
    array = oc.full(100_000, 7, "u1")
    assert oc.stats()["used_bytes"] > before
    writer.submit(array, 0)
    del array
    end = time.monotonic() + 60
    while oc.stats()["used_bytes"] > before:
        assert time.monotonic() < end, "it is kept until somebody settles"
    assert writer.settle(0) == 100_000
    assert os.pread(file, 100_001, 0) == b"\7" * 100_000


def test_of_a_private_view_its_own_memory_is_written(file: int) -> None:
    writer = _native.BackgroundWriter(file, -1)
    shared = oc.zeros(100_000, "u1")
    private = _native.decode(_native.encode(oc.share(shared, mode="cow")))
    private[:] = 7
    writer.submit(private, 0)
    del private
    writer.settle(0)
    assert os.pread(file, 100_001, 0) == b"\7" * 100_000
    assert not shared.any()
