"""`onecopy load` of files that come block by block: the same results as of whole ones, in little memory."""

import gzip
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import onecopy as oc
from endless import stopped
from onecopy import _text
from onecopy.__main__ import main
from onecopy._cli import loading, sources

TYPES = ["--dtype", "chr:S8,pos:i4,pct:f8"]
#: Rows of a block, and of a file.
BLOCK, ROWS = 100, 1234


def lines(file: int, rows: int) -> str:
    return "".join(f"chr{file}\t{row * 3}\t{row / 4}\n" for row in range(rows))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text(lines(1, ROWS))
    Path("small.txt").write_text(lines(2, 7))
    Path("b.txt.gz").write_bytes(gzip.compress(lines(3, 2 * ROWS).encode()))
    Path("grid.txt").write_text("".join(f"{n} {n / 8} {n / 16}\n" for n in range(ROWS)))
    return tmp_path


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have files of more than 1,000 bytes streamed in short blocks; their names."""
    names: list[str] = []
    load_blocks = _text.load_blocks

    def noting(path: str, dtype: Any, **options: Any) -> Any:
        names.append(path)
        return load_blocks(path, dtype, rows=BLOCK, **options)

    monkeypatch.setattr(_text, "load_blocks", noting)
    monkeypatch.setattr(loading, "_SMALL", 1000)
    return names


def contents(path: str) -> dict[str, Any]:
    """All that one can see of a file."""
    with h5py.File(path) as file:
        return {"attrs": dict(file.attrs)} | {
            name: (dataset.dtype, dataset.shape, dataset[()].tobytes(), dict(dataset.attrs), dataset.chunks)
            for name, dataset in file.items()
        }


FILES = ["a.txt", "small.txt", "b.txt.gz"]


@pytest.mark.parametrize("options", [[], ["--resume"], ["--append"], ["--checksum", "--max-rows", "1000"]], ids=str)
@pytest.mark.parametrize(
    "filters", [[], ["--compression", "gzip"], ["--compression", "lzf", "--chunks", "70"]], ids=str
)
@pytest.mark.parametrize("layout", ["per-file", "concat"])
def test_the_result_is_that_of_whole_files(
    blocks: list[str], capsys: pytest.CaptureFixture[str], layout: str, filters: list[str], options: list[str]
) -> None:
    arguments = [*FILES, *TYPES, "--layout", layout, *filters, *options, "--json", "--quiet"]
    summaries = []
    for output, small in ("whole.h5", 1 << 30), ("blocks.h5", 1000):
        loading._SMALL = small  # the fixture puts it back
        assert blocks == []
        assert main(["load", *arguments, "-o", output]) == 0
        summaries.append(json.loads(capsys.readouterr().out))
    assert blocks == ["a.txt", "b.txt.gz"]
    for summary in summaries:
        for varying in ("output", "seconds", "file_bytes"):
            del summary[varying]
    assert summaries[0] == summaries[1]
    assert contents("blocks.h5") == contents("whole.h5")
    if "--append" in options and layout == "concat":
        assert main(["load", *arguments, "-o", "blocks.h5"]) == 0
        assert oc.from_hdf5("blocks.h5", "data").tobytes() == oc.from_hdf5("whole.h5", "data").tobytes() * 2


@pytest.mark.parametrize("arguments", [["--dtype", "f4"], [], ["--dtype", "f8", "--columns", "2,0"]], ids=str)
def test_tables_of_numbers(blocks: list[str], arguments: list[str]) -> None:
    assert main(["load", "grid.txt", "-o", "out.h5", *arguments]) == 0
    assert blocks == ["grid.txt"]
    expected = oc.loadtxt("grid.txt", "f8")
    found = oc.from_hdf5("out.h5", "grid")
    if found.dtype.names is not None:
        found = np.stack([found[name] for name in found.dtype.names], axis=1)
    assert np.array_equal(found, expected[:, [2, 0]] if "--columns" in arguments else expected)


def test_a_large_file_without_rows_has_columns_all_the_same(blocks: list[str]) -> None:
    Path("comments.txt").write_text("# nothing\n" * 1000)
    Path("header.txt").write_text("a\tb\n" + "# nothing\n" * 1000)
    for number, (file, *options) in enumerate([("comments.txt",), ("header.txt", "--header")]):
        shapes = []
        for small in (1 << 30, 1000):
            loading._SMALL = small  # the fixture puts it back
            output = f"{number}-{small}.h5"
            assert main(["load", file, "-o", output, "--dtype", "f4", *options]) == 0
            shapes.append(oc.from_hdf5(output, file[:-4]).shape)
        assert shapes[0] == shapes[1]
    assert len(blocks) == 2


def test_unicode_is_as_long_as_the_longest_of_all(blocks: list[str]) -> None:
    Path("text.txt").write_text(lines(1, ROWS) + "żółć\t1\t1\n")
    assert main(["load", "text.txt", "-o", "out.h5", "--dtype", "c:U10,p:i4,m:f8"]) == 0
    assert blocks == []
    with h5py.File("out.h5") as file:
        assert file["text"].dtype["c"].itemsize == len("żółć".encode())


def test_progress_counts_each_byte_once(blocks: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    class Bar:
        def __init__(self, *, total: int, **options: Any) -> None:
            self.total = total

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *exception: object) -> None:
            assert sum(seen) == self.total

        def update(self, size: int) -> None:
            seen.append(size)

    monkeypatch.setattr(loading, "tqdm", Bar)
    assert main(["load", *FILES, "-o", "out.h5", *TYPES]) == 0
    assert sum(seen) == sum(os.path.getsize(file) for file in FILES)


# ---------------------------------------------------------------- what goes wrong


def message(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Load, which must fail and leave nothing; what is said."""
    before = sorted(os.listdir())
    capsys.readouterr()
    assert main(["load", *arguments, "-o", "out.h5", *TYPES, "--quiet"]) == 1
    assert sorted(os.listdir()) == before
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()[-1]


@pytest.mark.parametrize("filters", [[], ["--compression", "gzip"]], ids=str)
@pytest.mark.parametrize("layout", ["per-file", "concat"])
def test_a_flaw_in_a_later_block_is_named_by_its_line(
    blocks: list[str], capsys: pytest.CaptureFixture[str], layout: str, filters: list[str]
) -> None:
    Path("bad.txt").write_text(lines(1, 6 * BLOCK + 5) + "chr1\tpos\t1\n" + lines(1, ROWS))
    said = message(capsys, "a.txt", "bad.txt", "small.txt", "--layout", layout, *filters)
    assert said.startswith(f"onecopy load: bad.txt:{6 * BLOCK + 6}:6: ")
    assert "'pos'" in said
    assert blocks == ["a.txt", "bad.txt"]


#: The file, the number of the block, and what is to happen before it.
Arrange = Callable[[str, int, Callable[[], object]], None]


@pytest.fixture
def before_block(
    monkeypatch: pytest.MonkeyPatch, blocks: list[str]
) -> Callable[[str, int, Callable[[], object]], None]:
    """Have something done when a block of a file is asked for."""

    def arrange(file: str, number: int, happen: Callable[[], object]) -> None:
        load_blocks = _text.load_blocks

        class Watched:
            def __init__(self, inner: Any) -> None:
                self.inner, self.number = inner, 0

            def __iter__(self) -> "Watched":
                return self

            def __next__(self) -> Any:
                if self.number == number:
                    happen()
                self.number += 1
                return next(self.inner)

            @property
            def text_bytes(self) -> int:
                size: int = self.inner.text_bytes
                return size

        def watched(path: str, dtype: Any, **options: Any) -> Any:
            found = load_blocks(path, dtype, **options)
            return Watched(found) if path == file else found

        monkeypatch.setattr(_text, "load_blocks", watched)

    return arrange


@pytest.mark.parametrize("layout", ["per-file", "concat"])
@pytest.mark.parametrize("size", [0, 1 << 20])
def test_a_file_that_shrinks_between_blocks_is_refused(
    before_block: Arrange, capsys: pytest.CaptureFixture[str], layout: str, size: int
) -> None:
    # More than is read ahead.
    Path("long.txt").write_text(lines(1, 200_000))
    before_block("long.txt", 3, lambda: os.truncate("long.txt", size))
    said = message(capsys, "a.txt", "long.txt", "--layout", layout)
    assert "long.txt" in said and "changed" in said


def test_a_file_that_is_written_to_behind_its_last_block_is_refused(
    before_block: Arrange, capsys: pytest.CaptureFixture[str]
) -> None:
    def add() -> None:
        with Path("a.txt").open("a") as file:
            file.write("chr1\t1\t1\n")

    before_block("a.txt", -(-ROWS // BLOCK), add)
    assert "a.txt: was changed while it was loaded (it had" in message(capsys, "a.txt", "small.txt")


@pytest.mark.parametrize("layout", ["per-file", "concat"])
def test_a_check_sum_tells_of_a_change_that_size_and_time_do_not(
    before_block: Arrange, capsys: pytest.CaptureFixture[str], layout: str
) -> None:
    def change() -> None:
        kept, text = os.stat("a.txt"), Path("a.txt").read_text()
        Path("a.txt").write_text(text.replace("chr1", "chr9"))
        os.utime("a.txt", ns=(kept.st_atime_ns, kept.st_mtime_ns))

    before_block("a.txt", -(-ROWS // BLOCK), change)
    assert "its check sum is another one" in message(capsys, "a.txt", "--checksum", "--layout", layout)


@pytest.mark.parametrize("filters", [[], ["--compression", "lzf"]], ids=str)
@pytest.mark.parametrize("layout", ["per-file", "concat"])
def test_a_full_disk_keeps_the_files_before(
    blocks: list[str], capsys: pytest.CaptureFixture[str], layout: str, filters: list[str]
) -> None:
    rng = np.random.default_rng(1)
    noise = "".join(f"{rng.integers(1 << 40)}\t{n}\t{rng.random()}\n" for n in range(150_000))
    Path("noise.txt").write_text(noise)
    arguments = ["load", "a.txt", "noise.txt", "-o", "out.h5", "--dtype", "chr:S16,pos:i4,pct:f8", "--layout", layout]
    arguments += [*filters, "--resume", "--jobs", "1", "--quiet"]
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_600_000, old[1]))
    try:
        assert main(arguments) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "onecopy load: 1 of 2 files are kept, and the same command goes on with the next"
    assert "out.h5" in said[1] and "longer than 1,600,000 bytes" in said[1]
    assert not Path("out.h5").exists()
    blocks.clear()
    assert main(arguments) == 0
    assert blocks == ["noise.txt"]
    found = oc.from_hdf5("out.h5")
    total = len(found["data"]) if layout == "concat" else len(found["a"]) + len(found["noise"])
    assert total == ROWS + 150_000


# The command, which says "there" before a block of a file and then goes on for ever.
WAITING = textwrap.dedent("""
    import sys, threading
    from onecopy import _text
    from onecopy.__main__ import main
    from onecopy._cli import loading, sources

    load_blocks, (_, name, number, *arguments) = _text.load_blocks, sys.argv

    def waiting(blocks, path, progress):
        for block, found in enumerate(blocks):
            if path == name and block == int(number):
                print("there", flush=True)
                while True:
                    progress(0)
                    threading.Event().wait(0.001)
            yield found

    def watched(path, dtype, *, progress, **options):
        return waiting(load_blocks(path, dtype, rows=100, progress=progress, **options), path, progress)

    class Blocks:
        def __init__(self, *arguments, **options):
            self.blocks, self.text_bytes = watched(*arguments, **options), 0
        def __iter__(self):
            return self.blocks
        def __next__(self):
            return next(self.blocks)

    _text.load_blocks, loading._SMALL = Blocks, 1000
    sys.exit(main(["load", *arguments]))
""")


@pytest.mark.parametrize("filters", [[], ["--compression", "gzip", "--chunks", "70"]], ids=str)
@pytest.mark.parametrize("layout", ["per-file", "concat"])
@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_a_command_that_is_stopped_within_a_file_is_gone_on_with(
    blocks: list[str], how: str, layout: str, filters: list[str]
) -> None:
    options = [*TYPES, "--quiet", "--layout", layout, *filters]
    assert main(["load", *FILES, "-o", "whole.h5", *options]) == 0
    arguments = [*FILES, "-o", "out.h5", *options, "--resume"]
    code, messages = stopped(WAITING, ["b.txt.gz", "9", *arguments], how)
    if how == "SIGKILL":
        assert code == -signal.SIGKILL
    else:
        kept = f"stopped by {how}: 2 of 3 files are kept, and the same command goes on with the next"
        assert messages[-1] == f"onecopy load: {kept}"
    assert not Path("out.h5").exists()
    blocks.clear()
    assert main(["load", *arguments]) == 0
    assert blocks == ["b.txt.gz"]
    assert sorted(name for name in os.listdir() if name.startswith(".")) == []
    whole, found = contents("whole.h5"), contents("out.h5")
    assert found == whole


# ---------------------------------------------------------------- pipes


def fed(path: str, content: bytes) -> threading.Thread:
    """A pipe, and who feeds it."""
    os.mkfifo(path)
    feeder = threading.Thread(target=Path(path).write_bytes, args=(content,), daemon=True)
    feeder.start()
    return feeder


@pytest.mark.usefixtures("time_limit", "blocks")
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("layout", ["per-file", "concat"])
def test_a_long_pipe_is_read_as_it_comes(
    monkeypatch: pytest.MonkeyPatch, layout: str, pack: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(sources, "_HEAD", 1000)
    content = pack(lines(1, ROWS).encode())
    feeder = fed("pipe", content)
    assert main(["load", "small.txt", "pipe", "b.txt.gz", "-o", "out.h5", "--layout", layout, "--checksum"]) == 0
    feeder.join()
    expected = oc.loadtxt("a.txt", "S8,i4,f8")
    with h5py.File("out.h5") as file:
        if layout == "concat":
            index = file["data_sources"][1]
            found, attrs = file["data"][7 : 7 + ROWS], {name: index[name] for name in index.dtype.names}
            attrs["source_sha256"] = attrs["source_sha256"].decode()
        else:
            found, attrs = file["pipe"][:], file["pipe"].attrs
        assert all((found[name] == expected[name]).all() for name in ("f0", "f1", "f2"))
        assert attrs["source_bytes"] == len(content)
        assert attrs["source_sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.usefixtures("time_limit", "blocks")
def test_several_pipes_may_be_fed_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_HEAD", 1000)
    for name in ("one", "two"):
        os.mkfifo(name)
    # More than a pipe holds.
    text = lines(1, 20_000).encode()

    def feed() -> None:
        for name in ("one", "two"):
            Path(name).write_bytes(text)

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    assert main(["load", "one", "two", "-o", "out.h5"]) == 0
    feeder.join()
    assert [len(array) for array in oc.from_hdf5("out.h5").values()] == [20_000, 20_000]


@pytest.mark.usefixtures("time_limit", "blocks")
@pytest.mark.parametrize("option", [[], ["--resume"], ["--dtype", "c:U8,p:i4,m:f8"], ["--layout", "stack"]], ids=str)
def test_a_pipe_that_ends_with_a_flaw(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: list[str]
) -> None:
    monkeypatch.setattr(sources, "_HEAD", 1000)
    text = "".join(f"1\t{n}\t0\n" for n in range(ROWS)) + "1\tx\t0\n"
    feeder = fed("pipe", text.encode())
    assert (
        main(["load", "pipe", "-o", "out.h5", "--dtype", "f8" if "stack" in option else "c:S8,p:i4,m:f8", *option]) == 1
    )
    feeder.join()
    assert f"pipe:{ROWS + 1}:3: " in capsys.readouterr().err
    assert not [name for name in os.listdir() if "out.h5" in name]


# ---------------------------------------------------------------- memory

# Loads with an arena of 64 MiB, and says how much memory the process had at most, and how much of it before.
BOUNDED = textwrap.dedent("""
    import sys
    import h5py, tqdm, onecopy
    from onecopy.__main__ import main

    def most():
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))

    before = most()
    code = main(["load", *sys.argv[1:]])
    print(before, most())
    sys.exit(code)
""")


@pytest.mark.parametrize("filters", [[], ["--compression", "gzip:1"]], ids=str)
@pytest.mark.parametrize("layout", ["per-file", "concat"])
def test_memory_is_bounded_however_large_a_file_is(tmp_path: Path, layout: str, filters: list[str]) -> None:
    rows, bound = 1 << 20, 64 << 20
    part = "".join(f"{n % 7} {n % 11} 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n" for n in range(77 * 64)).encode()
    with Path("large.txt").open("wb") as file:
        for _ in range(-(-rows // (77 * 64))):
            file.write(part)
    rows = -(-rows // (77 * 64)) * 77 * 64
    options = ["--dtype", "f8", "--layout", layout, *filters, "--jobs", "2", "--quiet"]
    run = subprocess.run(
        [sys.executable, "-c", BOUNDED, "large.txt", "-o", "out.h5", *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ONECOPY_LIMIT": str(bound)},
    )
    assert (run.returncode, run.stderr) == (0, "")
    before, most = map(int, run.stdout.split())
    array = rows * 16 * 8
    assert array > 2 * bound
    # What is not in the arena: buffers of threads, and chunks on their way.
    assert most - before < bound + (64 << 20)
    with h5py.File("out.h5") as written:
        dataset = written["data" if layout == "concat" else "large"]
        assert dataset.shape == (rows, 16)
        assert dataset[-3:, :3].tolist() == [[n % 7, n % 11, 0] for n in range(rows - 3, rows)]
