"""Texts into a file: blocks that go there without Python in between, and those that cannot."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import onecopy as oc
from onecopy._hdf5.background import BackgroundWriter
from onecopy._text.iter_text import BlockIterator, _Reading

CALL = np.dtype([("chr", "S5"), ("pos", "<i4"), ("pct", "<f8")])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.h5"


def calls(path: Path, *, first: int = 0, rows: int) -> Path:
    path.write_text("".join(f"chr{n % 23}\t{n}\t{n / 7}\n" for n in range(first, first + rows)))
    return path


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of blocks that Python was given."""
    lengths: list[int] = []
    given = BlockIterator.__next__

    def counted(self: BlockIterator) -> Any:
        block = given(self)
        lengths.append(len(block))
        return block

    monkeypatch.setattr(BlockIterator, "__next__", counted)
    return lengths


@pytest.mark.parametrize("rows", [7, 300, 5000, None])
def test_python_sees_the_first_block_of_each_text(path: Path, taken: list[int], rows: int | None) -> None:
    texts = [calls(path.with_name(f"{n}.tsv"), first=n, rows=3000 + n) for n in range(3)]
    read = {"dtype": CALL, "delimiter": "\t"}
    data = {"all": oc.iter_text(texts, rows=rows, **read), "one": oc.iter_text(texts[1], rows=rows, **read)}
    oc.to_hdf5(path, data)
    firsts = [min(rows or 1 << 30, 3000 + n) for n in (0, 1, 2, 1)]
    assert taken == firsts
    arrays = [np.loadtxt(text, **read) for text in texts]
    assert np.array_equal(oc.from_hdf5(path, "all"), np.concatenate(arrays))
    assert np.array_equal(oc.from_hdf5(path, "one"), arrays[1])


@pytest.mark.parametrize(("rows", "asked"), [(None, {5, 7}), (1000, {5, 7}), (150_000, {3}), (200_000, {2})])
def test_more_blocks_are_on_their_way_when_a_text_has_been_read(
    path: Path, monkeypatch: pytest.MonkeyPatch, rows: int | None, asked: set[int]
) -> None:
    kept: list[int] = []
    submit = BackgroundWriter.submit_text

    def watched(self: BackgroundWriter, text: Any, position: int, room: int, keep: int) -> tuple[int, int, int | None]:
        kept.append(keep)
        return submit(self, text, position, room, keep)

    monkeypatch.setattr(BackgroundWriter, "submit_text", watched)
    text = calls(path.with_name("one.tsv"), rows=500_000)
    oc.to_hdf5(path, {"one": oc.iter_text(text, CALL, delimiter="\t", rows=rows)})
    assert kept == sorted(kept)
    assert set(kept) == asked
    assert np.array_equal(oc.from_hdf5(path, "one"), oc.loadtxt(text, CALL, delimiter="\t"))


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    counts=st.lists(st.integers(1, 3000), min_size=1, max_size=4),
    rows=st.integers(1, 4000),
    columns=st.integers(1, 5),
    threads=st.integers(1, 3),
)
def test_rows_of_texts_are_those_that_numpy_reads(
    tmp_path: Path, counts: list[int], rows: int, columns: int, threads: int
) -> None:
    texts, arrays = [], []
    for number, count in enumerate(counts):
        text = tmp_path / f"{number}.txt"
        array = np.random.default_rng([number, count]).standard_normal((count, columns))
        np.savetxt(text, array, fmt="%.17g")
        texts.append(text)
        arrays.append(array)
    path = tmp_path / "rows.h5"
    before = oc.stats()["blocks"]
    data = {"x": oc.iter_text(texts, rows=rows, threads=threads), "y": np.arange(3)}
    oc.to_hdf5(path, data, mode="w")
    assert oc.from_hdf5(path, "x").tobytes() == np.concatenate(arrays).tobytes()
    assert oc.from_hdf5(path, "y").tolist() == [0, 1, 2]
    assert oc.stats()["blocks"] == before


def test_rows_of_a_block_may_be_more_than_a_disk_has_room_for(path: Path) -> None:
    text = calls(path.with_name("calls.tsv"), rows=5000)
    oc.to_hdf5(path, {"calls": oc.iter_text(text, CALL, delimiter="\t", rows=1 << 45)})
    assert oc.from_hdf5(path, "calls")["pos"].tolist() == list(range(5000))


def test_large_blocks_on_pages_of_their_own(path: Path) -> None:
    text = calls(path.with_name("calls.tsv"), rows=700_000)
    oc.to_hdf5(path, {"calls": oc.iter_text(text, CALL, delimiter="\t")})
    assert np.array_equal(oc.from_hdf5(path, "calls"), oc.loadtxt(text, CALL, delimiter="\t"))


@pytest.mark.parametrize(
    "how",
    [
        {"dtype": CALL, "names": None},
        {"dtype": "f8", "usecols": (1, 2), "converters": {2: lambda text: float(text) * 2}},
        {"dtype": None},
        {"dtype": [("chr", "S5"), ("pos", "M8[s]"), ("pct", "f8")]},
        {"dtype": "S25"},
        {"dtype": "f8", "usecols": (1, 2), "max_rows": 777},
    ],
    ids=str,
)
@pytest.mark.parametrize("supplied", [False, True])
def test_whatever_a_text_is_read_with(path: Path, how: dict[str, Any], supplied: bool) -> None:
    how = {"delimiter": "\t", **{key: value for key, value in how.items() if value is not None or key == "dtype"}}
    text = calls(path.with_name("calls.tsv"), rows=2000)
    source = iter(text.read_text().splitlines()) if supplied else text
    oc.to_hdf5(path, {"calls": oc.iter_text(source, rows=70, **how)})
    expected = np.concatenate(list(oc.iter_text(text, rows=70, **how)))
    found = oc.from_hdf5(path, "calls")
    assert found.dtype == expected.dtype
    assert found.tobytes() == expected.tobytes()


def test_columns_with_names_are_records(path: Path, taken: list[int]) -> None:
    text = path.with_name("names.txt")
    text.write_text("a b\n" + "".join(f"{n} {n * n}\n" for n in range(1000)))
    oc.to_hdf5(path, {"x": oc.iter_text(text, int, rows=100, names=True)})
    assert oc.from_hdf5(path, "x")["b"].tolist() == [n * n for n in range(1000)]
    assert taken == [100] * 10


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """In which order texts were begun, and first blocks were given to Python."""
    steps: list[str] = []
    begin, give = _Reading.begin_next, BlockIterator.__next__

    def begun(self: _Reading) -> None:
        was_begun = self._begun
        begin(self)
        if self._begun is not was_begun:
            steps.append(f"begin {Path(self.sources[self._taken]).stem}")

    def given(self: BlockIterator) -> Any:
        block = give(self)
        steps.append(f"take {block['pos'][0]}")
        return block

    monkeypatch.setattr(_Reading, "begin_next", begun)
    monkeypatch.setattr(BlockIterator, "__next__", given)
    return steps


@pytest.mark.parametrize("as_one", [False, True])
def test_a_text_is_begun_when_the_one_before_is_read(path: Path, begun: list[str], as_one: bool) -> None:
    texts = [calls(path.with_name(f"{n}.tsv"), first=n, rows=1000) for n in range(3)]
    read = {"dtype": CALL, "delimiter": "\t", "rows": 100}
    if as_one:
        oc.to_hdf5(path, {"all": oc.iter_text(texts, **read), "end": np.arange(3)})
        found = np.split(oc.from_hdf5(path, "all"), 3)
    else:
        oc.to_hdf5(path, {text.stem: oc.iter_text(text, **read) for text in texts})
        found = [oc.from_hdf5(path, text.stem) for text in texts]
    assert begun == ["take 0", "begin 1", "take 1", "begin 2", "take 2"]
    assert [array["pos"].tolist() for array in found] == [list(range(n, n + 1000)) for n in range(3)]


def test_what_is_wrong_with_a_text_that_is_begun_is_told_in_its_turn(path: Path) -> None:
    texts = [calls(path.with_name(f"{n}.tsv"), rows=1000) for n in range(2)]
    read = {"dtype": CALL, "delimiter": "\t", "rows": 100}
    missing = oc.iter_text(path.with_name("missing.tsv"), **read)
    after = oc.iter_text(texts[1], **read)
    with pytest.raises(FileNotFoundError, match=r"missing\.tsv"):
        oc.to_hdf5(path, {"a": oc.iter_text(texts[0], **read), "b": missing, "c": after})
    assert not path.exists()
    # It has lost nothing.
    assert sum(map(len, after)) == 1000


def test_a_text_that_cannot_be_begun_leaves_the_one_before_alone(path: Path) -> None:
    text, missing = calls(path.with_name("a.tsv"), rows=1000), path.with_name("missing.tsv")
    with pytest.raises(FileNotFoundError, match=r"missing\.tsv"):
        data = {"a": oc.iter_text(text, None, rows=100), "b": oc.iter_text(missing, None)}
        oc.to_hdf5(path, data, resume=True)
    oc.to_hdf5(path, {"a": lambda: pytest.fail("it is complete"), "b": np.arange(3)}, resume=True)
    assert oc.from_hdf5(path, "a")["f1"].tolist() == list(range(1000))


def test_a_text_that_was_begun_and_is_not_taken_gives_everything_back(path: Path) -> None:
    texts = [calls(path.with_name(f"{n}.tsv"), rows=1000) for n in range(2)]
    read = {"dtype": CALL, "delimiter": "\t", "rows": 100}
    before = oc.stats()["blocks"]
    first, second = (oc.iter_text(text, **read) for text in texts)

    def refused(size: int) -> None:
        raise RuntimeError("no more")

    for end in "close", "drop":
        with pytest.raises(RuntimeError, match="no more"):
            oc.to_hdf5(path, {"a": first, "b": second}, progress=refused)
        assert second.begin_next()
        if end == "close":
            first.close()
            second.close()
            assert not second.begin_next()
            assert oc.stats()["blocks"] == before
        first, second = (oc.iter_text(text, **read) for text in texts)
    del first, second
    assert oc.stats()["blocks"] == before


def test_progress_of_texts_is_that_of_one_after_the_other(path: Path) -> None:
    texts = [calls(path.with_name(f"{n}.tsv"), rows=1000) for n in range(3)]
    sizes: dict[str, int] = dict.fromkeys("012", 0)

    def reader(text: Path) -> Iterator[Any]:
        def count(size: int) -> None:
            sizes[text.stem] += size

        return oc.iter_text(text, CALL, delimiter="\t", rows=100, progress=count)

    oc.to_hdf5(path, {text.stem: reader(text) for text in texts})
    assert sizes == {text.stem: text.stat().st_size for text in texts}


def test_what_has_been_taken_before_is_left_out(path: Path) -> None:
    blocks = oc.iter_text(calls(path.with_name("calls.tsv"), rows=1000), CALL, delimiter="\t", rows=300)
    assert len(next(blocks)) == 300
    oc.to_hdf5(path, {"calls": blocks})
    assert oc.from_hdf5(path, "calls")["pos"].tolist() == list(range(300, 1000))
    assert next(blocks, None) is None


def test_an_error_in_the_text_names_its_line_and_leaves_no_file(path: Path) -> None:
    text = calls(path.with_name("calls.tsv"), rows=5000)
    with text.open("a") as file:
        file.write("chr1\tx\t0\n")
    before = oc.stats()["blocks"]
    with pytest.raises(oc.ParseError, match=r"calls\.tsv:5001:6: could not convert string 'x' to int32"):
        oc.to_hdf5(path, {"calls": oc.iter_text(text, CALL, delimiter="\t", rows=100)})
    assert os.listdir(path.parent) == [text.name]
    assert oc.stats()["blocks"] == before


def test_texts_of_other_types_behind_the_first_are_refused_with_their_row(path: Path) -> None:
    for name, line in ("a", "1 2\n"), ("b", "1 2.5\n"):
        path.with_name(name).write_text(line * 2500)
    texts = [path.with_name("a"), path.with_name("b")]
    with pytest.raises(
        ValueError, match=r"'x': what comes behind row 2,500 has type .*, the rows before .*: use astype"
    ):
        oc.to_hdf5(path, {"x": oc.iter_text(texts, None, rows=100)})
    assert not path.exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_a_generator_raises_comes_through_and_nothing_is_left(path: Path, error: type[BaseException]) -> None:
    def lines() -> Iterator[str]:
        for n in range(100_000):
            if n == 90_000:
                raise error("enough")
            yield f"{n}"

    with pytest.raises(error, match="enough"):
        oc.to_hdf5(path, {"x": oc.iter_text(lines(), int, rows=100)})
    assert os.listdir(path.parent) == []


def test_a_file_that_becomes_too_long_is_an_error_with_figures(path: Path) -> None:
    text = calls(path.with_name("calls.tsv"), rows=300_000)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, old[1]))
    try:
        with pytest.raises(OSError, match=r"no file may be longer than 2,097,152 bytes"):
            oc.to_hdf5(path, {"calls": (blocks := oc.iter_text(text, CALL, delimiter="\t", rows=10_000))})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert os.listdir(path.parent) == [text.name]
    # The block for which there was no room is still there to take.
    positions = np.concatenate([block["pos"] for block in blocks])
    assert positions.tolist() == list(range(positions[0], 300_000)) and positions[0] % 10_000 == 0


def test_memory_is_bounded_and_progress_steady(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It is told whenever Python is asked for room.
    monkeypatch.setattr("onecopy._atomic._STEPS", (1 << 20, 1 << 20))
    text = calls(path.with_name("calls.tsv"), rows=400_000)
    used: list[int] = []
    sizes: list[int] = []
    before = oc.stats()["used_bytes"]

    def written(size: int) -> None:
        sizes.append(size)
        used.append(oc.stats()["used_bytes"] - before)

    oc.to_hdf5(path, {"calls": oc.iter_text(text, CALL, delimiter="\t", rows=10_000)}, progress=written)
    assert sum(sizes) == 400_000 * CALL.itemsize
    assert len(sizes) > 4
    assert max(used) < 400_000 * CALL.itemsize / 2


def test_a_closed_iterator_gives_everything_back(tmp_path: Path) -> None:
    before = oc.stats()["blocks"]
    blocks = oc.iter_text(calls(tmp_path / "calls.tsv", rows=5000), CALL, delimiter="\t", rows=100)
    next(blocks)
    blocks.close()
    assert oc.stats()["blocks"] == before
    assert blocks.text is None
    assert next(blocks, None) is None
