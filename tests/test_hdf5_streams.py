"""Iterators of arrays as datasets, whose length nobody knows beforehand."""

import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onecopy as oc
from onecopy._hdf5.background import BackgroundWriter
from onecopy._hdf5.filters import Filters
from onecopy._hdf5.writer import Hdf5Writer
from own_process import run

RECORD = np.dtype([("chr", "S10"), ("pos", "<i4"), ("pct", ">f8")])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.h5"


def numbers(shape: int | tuple[int, ...], dtype: Any = float) -> np.ndarray:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(np.arange(size, dtype="u4").tobytes()[:size], dtype).reshape(shape)


def pieces(array: np.ndarray, *rows: int) -> Iterator[np.ndarray]:
    """The rows of an array in blocks of so many, the last ones of as many as are left."""
    first = 0
    for size in rows:
        yield array[first : first + size]
        first += size
    yield array[first:]


@pytest.mark.parametrize("dtype", ["f8", "S7", "M8[s]", "?", RECORD], ids=str)
@pytest.mark.parametrize(("rows", "cuts"), [(0, [0]), (10, [3, 0, 2]), (300_000, [1, 100_000, 7]), (400_000, [])])
def test_rows_of_blocks_become_one_contiguous_dataset(path: Path, dtype: Any, rows: int, cuts: list[int]) -> None:
    array = numbers(rows, "u1").astype("?") if dtype == "?" else numbers(rows, dtype)
    oc.to_hdf5(path, {"before": [1, 2], "rows": pieces(array, *cuts), "after": [3]}, attrs={"rows": {"source": "x"}})
    read = oc.from_hdf5(path, "rows")
    assert read.dtype == array.dtype
    assert read.tobytes() == array.tobytes()
    assert oc.from_hdf5(path, "before").tolist() == [1, 2]
    assert oc.from_hdf5(path, "after").tolist() == [3]
    with h5py.File(path) as file:
        assert file["rows"].chunks is None
        assert file["rows"].attrs["rows"] == rows
        assert file["rows"].attrs["source"] == "x"
    assert path.stat().st_size < array.nbytes + 100_000


@given(
    sizes=st.lists(st.sampled_from([1, 5000, 200_000, 400_000]), min_size=1, max_size=5),
    fields=st.integers(1, 300),
    block=st.sampled_from([1000, 65_536, 300_000]),
    add=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_many_streams_lie_beside_other_datasets(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], fields: int, block: int, add: bool
) -> None:
    path = tmp_path_factory.mktemp("streams") / "rows.h5"
    wide = numbers(20, [(f"field{i}", "f4") for i in range(fields)])
    arrays = {f"group{i % 2}/rows{i}": numbers(size, RECORD) for i, size in enumerate(sizes)}

    def streams() -> Iterator[tuple[str, Any]]:
        for name, array in arrays.items():
            yield name, pieces(array, *[block] * (len(array) // block))
            yield f"wide of {name[-1]}", iter([wide, wide])

    if add:
        oc.to_hdf5(path, {"old": numbers(200_000)})
    oc.to_hdf5(path, streams(), mode="a" if add else "w")
    for name, array in arrays.items():
        assert oc.from_hdf5(path, name).tobytes() == array.tobytes()
        assert oc.from_hdf5(path, f"wide of {name[-1]}").tobytes() == wide.tobytes() * 2
    if add:
        assert oc.from_hdf5(path, "old").tobytes() == numbers(200_000).tobytes()


def test_rows_are_moved_where_libhdf5_has_another_place(path: Path) -> None:
    array = numbers(1_500_000)
    with Hdf5Writer(path, "w", Filters(None, None, None, None, False)) as writer:
        writer.write("large", numbers(2_000_000))
        writer.write("small", numbers(10))
        hole = writer._h5["large"].id.get_offset()
        writer.remove("large")
        # It fits into what has become free, before the rows that are on their way.
        writer.write_blocks("rows", pieces(array, 400_000, 400_000, 5))
        assert writer._h5["rows"].id.get_offset() == hole
        writer.write_blocks("more", pieces(array[::-1], 400_000))
    assert oc.from_hdf5(path, "rows").tobytes() == array.tobytes()
    assert oc.from_hdf5(path, "more").tobytes() == array[::-1].tobytes()


@pytest.mark.parametrize(
    "options",
    [{"compression": "gzip"}, {"chunks": 1000}, {"fletcher32": True}, {"append": True}],
    ids=str,
)
def test_blocks_go_through_chunks_where_these_are_asked_for(path: Path, options: dict[str, Any]) -> None:
    array = numbers((30_000, 2))
    oc.to_hdf5(path, {"rows": pieces(array, 1234, 1), "x": [1]}, attrs={"rows": {"source": "x"}}, **options)
    assert oc.from_hdf5(path, "rows").tobytes() == array.tobytes()
    with h5py.File(path) as file:
        assert file["rows"].chunks
        assert dict(file["rows"].attrs)["source"] == "x"
        assert file["rows"].attrs["rows"] == len(array)
    if "append" in options:
        oc.to_hdf5(path, {"rows": iter([array])}, append=True)
        assert oc.from_hdf5(path, "rows").tobytes() == array.tobytes() * 2


@pytest.mark.parametrize("dtype", ["f8", ">i2", "S7", "V3", "M8[s]", "?", "c16", RECORD], ids=str)
@pytest.mark.parametrize(("shape", "chunks"), [((25_001,), 1000), ((501, 4, 3), 64), ((501, 4, 3), (64, 2, 3))])
def test_chunks_without_filters_hold_the_bytes_of_their_rows(
    path: Path, dtype: Any, shape: tuple[int, ...], chunks: Any
) -> None:
    array = numbers(shape, "u1").astype("?") if dtype == "?" else numbers(shape, dtype)
    oc.to_hdf5(path, {"whole": array, "blocks": pieces(array, 70, 1, 200)}, chunks=chunks)
    with h5py.File(path) as file:
        for dataset in file.values():
            sides = dataset.chunks
            for place in np.ndindex(*(-(-size // side) for size, side in zip(shape, sides, strict=True))):
                begin = tuple(index * side for index, side in zip(place, sides, strict=True))
                rows = array[tuple(slice(first, first + side) for first, side in zip(begin, sides, strict=True))]
                whole = np.zeros(sides, array.dtype)
                whole[tuple(map(slice, rows.shape))] = rows
                assert dataset.id.read_direct_chunk(begin) == (0, whole.tobytes())
    for name in ("whole", "blocks"):
        assert oc.from_hdf5(path, name).tobytes() == array.tobytes()


@pytest.mark.parametrize("rows", [0, 10, 30_000, 400_000])
def test_rows_of_blocks_are_kept_as_those_of_arrays_are(path: Path, rows: int) -> None:
    first, second = numbers(rows, RECORD), numbers((rows, 2), "f4")

    def data() -> Iterator[tuple[str, Any]]:
        yield "first", pieces(first, rows // 3, rows // 2)
        yield "second", pieces(second, rows // 2)
        raise KeyError("lost")

    for _ in range(2):
        with pytest.raises(KeyError, match="lost"):
            oc.to_hdf5(path, data(), resume=True)
        assert not path.exists()
    kept = [lambda: pytest.fail("made again")] * 2
    oc.to_hdf5(path, {"first": kept[0], "second": kept[1], "third": iter([first])}, resume=True)
    assert oc.from_hdf5(path, "first").tobytes() == oc.from_hdf5(path, "third").tobytes() == first.tobytes()
    assert oc.from_hdf5(path, "second").tobytes() == second.tobytes()
    with h5py.File(path) as file:
        assert [dataset.chunks for dataset in file.values()] == [None] * 3


def test_a_saved_state_does_not_change_where_rows_find_room_in_it(path: Path) -> None:
    """Room that has become free in it lies before its end."""
    options = {"a": "1"}
    large = numbers(300_000)
    for rows in (numbers(10_000), large):
        with Hdf5Writer(path, "w", Filters(), resume=options) as writer:
            writer.write("large", np.concatenate([large, large]))
            writer.write("small", numbers(10))
            writer.remove("large")
            writer.save({})
            before = writer._file.temporary.read_bytes()[: writer._file.saved_end]
            writer.write_blocks("rows", iter([rows, rows, rows[:5]]))
            assert writer._file.temporary.read_bytes()[: writer._file.saved_end] == before
        assert oc.from_hdf5(path, "rows").tobytes() == rows.tobytes() * 2 + rows[:5].tobytes()
        assert oc.from_hdf5(path, "small").tobytes() == numbers(10).tobytes()


def test_a_saved_state_does_not_change_where_its_end_has_become_free(path: Path) -> None:
    large = numbers(300_000)
    with Hdf5Writer(path, "w", Filters(), resume={"a": "1"}) as writer:
        writer.write("small", numbers(10))
        writer.write("large", large)
        writer.save({})
        before = writer._file.temporary.read_bytes()[: writer._file.saved_end]
        writer.remove("large")
        writer.write_blocks("rows", iter([large[::-1], large[:5]]))
        assert writer._file.temporary.read_bytes()[: writer._file.saved_end] == before
    assert oc.from_hdf5(path, "rows").tobytes() == large[::-1].tobytes() + large[:5].tobytes()
    assert oc.from_hdf5(path, "small").tobytes() == numbers(10).tobytes()


def test_what_is_complete_is_not_written_again(path: Path) -> None:
    seen: list[int] = []
    arrays = {name: numbers(10_001) for name in "abc"}
    oc.to_hdf5(
        path,
        {name: pieces(array, 5000) for name, array in arrays.items()},
        chunks=1000,
        compression="lzf",
        resume=True,
        progress=seen.append,
    )
    # In chunks, the last one of which is not full.
    assert sum(seen) == sum(array.nbytes for array in arrays.values())


@pytest.mark.parametrize("chunks", [10_000, 1 << 40])
def test_no_chunk_is_longer_than_its_dataset(path: Path, chunks: int) -> None:
    array = numbers(1000, RECORD)
    oc.to_hdf5(path, {"rows": pieces(array, 300, 300)}, chunks=chunks, attrs={"rows": {"source": "x"}})
    with h5py.File(path) as file:
        assert file["rows"].chunks == (1000,)
        assert file["rows"].attrs["source"] == "x"
    assert oc.from_hdf5(path, "rows").tobytes() == array.tobytes()


def test_blocks_are_compressed_as_one_array_is(path: Path) -> None:
    size, rows = 5_000_000, np.arange(40) * 130_000
    array = np.empty(size, [("id", "<i4"), ("noise", "<i4")])
    array["id"] = np.arange(size) // 7
    array["noise"] = np.random.default_rng(1).integers(0, 1 << 30, size)
    oc.to_hdf5(path, {"whole": array, "blocks": iter(np.split(array, rows[1:]))}, compression="gzip")
    with h5py.File(path) as file:
        whole, blocks = file["whole"].id, file["blocks"].id
        same = [
            whole.read_direct_chunk(whole.get_chunk_info(n).chunk_offset)
            == blocks.read_direct_chunk(blocks.get_chunk_info(n).chunk_offset)
            for n in range(whole.get_num_chunks())
        ]
        # Of the last group, nobody knows that it is the last.
        assert all(same[:-8]) and len(same) > 32


@pytest.mark.parametrize("options", [{}, {"compression": "lzf", "chunks": 100}], ids=str)
def test_blocks_of_text_go_to_the_file_one_by_one(path: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    texts = [tmp_path / f"{name}.txt" for name in "ab"]
    for text in texts:
        text.write_text("".join(f"{n}\t{n * n}\n" for n in range(100_000)))
    alive: list[int] = []

    def watched(blocks: Iterator[Any]) -> Iterator[Any]:
        for block in blocks:
            alive.append(oc.stats()["blocks"])
            yield block

    blocks = {text.stem: watched(oc.iter_text(text, int, rows=500)) for text in texts}
    oc.to_hdf5(path, blocks, dims=["row", "column"], coords={"column": ["n", "square"]}, **options)
    for text in texts:
        assert np.array_equal(oc.from_hdf5(path, text.stem), np.loadtxt(text, int))
    assert max(alive) - min(alive) < 64 + 10
    with h5py.File(path) as file:
        assert [axis[0].name for axis in file["b"].dims] == ["/row", "/column"]


@pytest.mark.parametrize("options", [{}, {"compression": "lzf"}, {"chunks": True}], ids=str)
def test_an_array_may_be_used_again_for_the_next_rows(path: Path, options: dict[str, Any]) -> None:
    def reused() -> Iterator[np.ndarray]:
        block = oc.empty(500_000)
        for value in range(10):
            block[...] = value
            yield block

    oc.to_hdf5(path, {"rows": reused()}, **options)
    assert np.array_equal(oc.from_hdf5(path, "rows"), np.repeat(np.arange(10.0), 500_000))


@pytest.mark.parametrize(("count", "most"), [(1000, 5), (250_000, 4), (1 << 20, 2), (0, 5)])
def test_fewer_large_arrays_than_small_ones_are_on_their_way(
    path: Path, monkeypatch: pytest.MonkeyPatch, count: int, most: int
) -> None:
    asked: list[int] = []
    settle = BackgroundWriter.settle

    def watched(self: BackgroundWriter, keep: int = 0) -> None:
        asked.append(keep)
        settle(self, keep)

    monkeypatch.setattr(BackgroundWriter, "settle", watched)
    oc.to_hdf5(path, {"rows": (oc.full(count, 7.0) for _ in range(4))})
    assert max(asked) == most
    assert np.array_equal(oc.from_hdf5(path, "rows"), np.full(4 * count, 7.0))


@pytest.mark.parametrize("kept", [True, False])
def test_a_block_that_nobody_else_has_is_compressed_while_the_next_is_made(path: Path, kept: bool) -> None:
    stored: list[int] = []
    begun: list[int] = []
    held: list[np.ndarray] = []

    def blocks() -> Iterator[np.ndarray]:
        for number in range(6):
            begun.append(sum(stored) // 8000)
            if kept:
                held.append(oc.full(2000, float(number)))
                yield held[-1]
            else:
                yield oc.full(2000, float(number))

    oc.to_hdf5(path, {"rows": blocks()}, compression="gzip", chunks=1000, threads=1, progress=stored.append)
    # Of the first block, a chunk is taken before there is a dataset. Three chunks may be under way.
    assert begun == ([0, 0, 4, 6, 8, 10] if kept else [0, 0, 1, 3, 5, 7])
    assert sum(stored) == 6 * 2000 * 8
    assert np.array_equal(oc.from_hdf5(path, "rows"), np.repeat(np.arange(6.0), 2000))


def test_rows_in_one_piece_wait_for_chunks_that_are_under_way(path: Path) -> None:
    """They hold the end of the file, behind which nothing may be put."""

    def fresh(size: int) -> Iterator[np.ndarray]:
        return (oc.full((size, 2), float(number)) for number in range(5))

    stored: list[int] = []

    def late() -> Iterator[np.ndarray]:
        for block in fresh(10):
            yield block
            # There is a place for these by now.
            assert sum(stored) >= 5 * 3000 * 16

    data = {"tiles": fresh(3000), "rows": late(), "more": fresh(3000), "end": fresh(200_000)}
    oc.to_hdf5(path, data, chunks={"tiles": (1000, 1), "more": (1000, 1)}, progress=stored.append)
    for name, size in {"tiles": 3000, "rows": 10, "more": 3000, "end": 200_000}.items():
        assert np.array_equal(oc.from_hdf5(path, name)[:, 1], np.repeat(np.arange(5.0), size))


def test_progress_counts_bytes_of_blocks(path: Path) -> None:
    seen: list[int] = []
    oc.to_hdf5(path, {"rows": pieces(numbers(1000), 400)}, progress=seen.append)
    assert seen == [3200, 4800]


def bad(*blocks: Any) -> Callable[[], Iterator[Any]]:
    return lambda: iter(blocks)


@pytest.mark.parametrize(
    ("blocks", "error", "message"),
    [
        (bad(), ValueError, "'rows': the iterator had no array, and so no type"),
        (
            bad(numbers(3), numbers(3, "f4")),
            ValueError,
            "what comes behind row 3 has type float32 and shape (), the rows before",
        ),
        (bad(numbers((3, 2)), numbers((3, 3))), ValueError, "what comes behind row 3 has type float64 and shape (3,)"),
        (bad(numbers(3), 5.0), ValueError, "what comes behind row 3 is a single value, give arrays of rows"),
        (bad(5.0), ValueError, "what comes behind row 0 is a single value, give arrays of rows"),
        (bad(np.array(["text"])), TypeError, "type <U4 has no fixed size in a file; use S instead"),
        (bad(np.array([object()])), TypeError, "type object has no fixed size in a file"),
        (bad(np.ma.masked_array([1], [True])), TypeError, "masked array"),
    ],
)
def test_what_is_no_row_of_blocks_is_refused(path: Path, blocks: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        oc.to_hdf5(path, {"rows": blocks()})
    assert message in str(caught.value)
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}, {"chunks": True}], ids=str)
def test_what_an_iterator_raises_comes_through_and_nothing_is_left(path: Path, options: dict[str, Any]) -> None:
    def failing() -> Iterator[np.ndarray]:
        yield from (oc.zeros(500_000) for _ in range(3))
        raise KeyError("lost")

    before = oc.stats()["blocks"]
    with pytest.raises(KeyError, match="lost") as caught:
        oc.to_hdf5(path, {"before": [1], "rows": failing()}, **options)
    assert os.listdir(path.parent) == []
    # Also while the exception holds all that it went through.
    assert they_end()
    del caught
    assert oc.stats()["blocks"] == before


def threads_that_compress() -> set[str]:
    found = set()
    for task in Path("/proc/self/task").iterdir():
        # One that has ended may be listed for a moment.
        with suppress(OSError):
            if (task / "comm").read_text().strip() == "onecopy-chunks":
                found.add(task.name)
    return found


def they_end() -> bool:
    end = time.monotonic() + 30
    while threads_that_compress() and time.monotonic() < end:
        time.sleep(0.001)
    return not threads_that_compress()


def test_threads_that_compress_are_there_as_long_as_the_file_is_written(path: Path) -> None:
    seen: set[str] = set()

    def blocks() -> Iterator[np.ndarray]:
        for _ in range(30):
            yield oc.zeros(3000)
            seen.update(threads_that_compress())

    oc.to_hdf5(path, {"a": blocks(), "b": blocks()}, compression="gzip", chunks=1000, threads=2)
    assert 1 <= len(seen) <= 2
    assert they_end()


def test_a_forked_child_does_not_wait_for_threads_that_it_does_not_have(path: Path) -> None:
    program = """
import os, sys, warnings
import numpy as np, onecopy as oc
warnings.simplefilter("ignore", DeprecationWarning)  # of a fork with threads

def blocks():
    for number in range(20):
        if number == 10:
            if not (child := os.fork()):
                sys.exit(7)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        yield oc.full(3000, float(number))

oc.to_hdf5(sys.argv[1], {"rows": blocks()}, compression="gzip", chunks=1000, threads=2)
print(oc.from_hdf5(sys.argv[1], "rows").sum())
"""
    assert run(program, path) == ["7", f"{sum(range(20)) * 3000.0}"]
    assert os.listdir(path.parent) == [path.name]


def test_a_full_disk_is_an_error_with_figures(path: Path) -> None:
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20 << 20, old[1]))
    try:
        with pytest.raises(OSError, match=r"no file may be longer|disk is full"):
            oc.to_hdf5(path, {"rows": (numbers(100_000) for _ in count())})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert os.listdir(path.parent) == []


def test_texts_one_behind_the_other(path: Path) -> None:
    texts = {}
    for number in range(3):
        text = path.with_name(f"{number}.txt")
        text.write_text("".join(f"{n}\n" for n in range(number, 4000)))
        texts[f"text{number}"] = oc.iter_text(text, int, rows=1000)
    between = (block for block in [np.arange(5)])
    oc.to_hdf5(path, {**texts, "between": between, "last": oc.iter_text(["1", "2"], int)})
    for number in range(3):
        assert oc.from_hdf5(path, f"text{number}")[:, 0].tolist() == list(range(number, 4000))
    assert oc.from_hdf5(path, "between").tolist() == [0, 1, 2, 3, 4]
    assert oc.from_hdf5(path, "last").tolist() == [[1], [2]]


def test_a_refused_file_takes_nothing_from_a_text(path: Path) -> None:
    path.with_suffix(".txt").write_text("".join(f"{n}\n" for n in range(5000)))
    path.write_text("not to be lost")
    text = oc.iter_text(path.with_suffix(".txt"), int, rows=1000)
    with pytest.raises(FileExistsError):
        oc.to_hdf5(path, {"x": text})
    oc.to_hdf5(path, {"x": text}, mode="w")
    assert oc.from_hdf5(path, "x")[:, 0].tolist() == list(range(5000))
