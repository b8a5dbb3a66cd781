"""`onecopy load --resume`: what is gone on with, what is refused, and what the next run is told."""

import json
import os
from pathlib import Path

import pytest

import onecopy as oc
from endless import ENDLESS, stopped
from onecopy.__main__ import main

TEXTS = {f"t{n}.txt": "".join(f"chr{n}\t{n * 1000 + row}\t{row / 4}\n" for row in range(40 + n)) for n in range(4)}
TYPES = ["--dtype", "chr:S8,pos:i4,pct:f8"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in TEXTS.items():
        Path(name).write_text(text)
    return tmp_path


def left(directory="."):
    return sorted(name for name in os.listdir(directory) if name.startswith("."))


@pytest.fixture
def parsed(monkeypatch):
    """The files that are parsed."""
    from onecopy import _text

    names, load = [], _text.load

    def noting(path, *args, **options):
        names.append(path)
        return load(path, *args, **options)

    monkeypatch.setattr(_text, "load", noting)
    return names


def load(*args):
    return main(["load", *args, "-o", "out.h5", *TYPES, "--quiet", "--resume"])


@pytest.mark.parametrize("compression", ["none", "gzip:1"])
@pytest.mark.parametrize("layout", ["per-file", "concat"])
def test_a_file_that_is_mended_is_gone_on_with(here, parsed, capsys, layout, compression):
    options = ["--layout", layout, "--compression", compression, "--jobs", "1"]
    assert main(["load", *TEXTS, "-o", "whole.h5", *TYPES, *options]) == 0
    parsed.clear()
    Path("t2.txt").write_text(TEXTS["t2.txt"] + "chr1\tone\t1\n")
    capsys.readouterr()
    assert load(*TEXTS, *options) == 1
    messages = capsys.readouterr().err.splitlines()
    assert messages[0] == "onecopy load: 2 of 4 files are kept, and the same command goes on with the next"
    assert "t2.txt" in messages[1]
    assert "'one'" in messages[1]
    assert not os.path.exists("out.h5")
    Path("t2.txt").write_text(TEXTS["t2.txt"])
    parsed.clear()
    assert load(*TEXTS, *options) == 0
    assert parsed == ["t2.txt", "t3.txt"]
    assert left() == []
    expected, found = oc.from_hdf5("whole.h5"), oc.from_hdf5("out.h5")
    assert list(found) == list(expected)
    for name in expected:
        if name.endswith("_sources"):
            # Mended, so of another time.
            columns = ["source", "first_row", "rows", "source_bytes"]
            assert found[name][columns].tolist() == expected[name][columns].tolist()
        else:
            assert found[name].tolist() == expected[name].tolist()


@pytest.mark.parametrize("layout", ["per-file", "concat"])
def test_a_complete_result_is_left_as_it_is(here, parsed, capsys, layout):
    assert load(*TEXTS, "--layout", layout) == 0
    parsed.clear()
    before = Path("out.h5").stat()
    assert load(*TEXTS, "--layout", layout, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["resumed_files"], summary["text_bytes"], summary["rows"]) == (4, 0, 166)
    assert parsed == []
    assert Path("out.h5").stat() == before
    os.utime("t1.txt", ns=(1, 1))
    assert load(*TEXTS, "--layout", layout) == 1
    assert "out.h5: exists already" in capsys.readouterr().err
    assert load(*TEXTS, "--layout", layout, "--compression", "lzf") == 1


@pytest.mark.parametrize("layout", ["per-file", "concat"])
def test_what_differs_is_named(here, parsed, capsys, layout):
    Path("bad.txt").write_text("chr1\tone\t1\n")
    options = ["--layout", layout, "--jobs", "1"]

    def message(*args):
        capsys.readouterr()
        assert load(*args) == 1
        return capsys.readouterr().err.splitlines()[-1]

    assert "'one'" in message("t0.txt", "t1.txt", "bad.txt", *options)
    assert "--skip-rows was 0 and is 1" in message("t0.txt", "t1.txt", "bad.txt", *options, "--skip-rows", "1")
    assert "--compression was {} and is" in message("t0.txt", "t1.txt", "bad.txt", *options, "--compression", "lzf")
    assert "t1.txt is complete in it, and not among the files now" in message("t0.txt", *options)
    assert "file 1 has changed: it was t0.txt and is t1.txt" in message("t1.txt", "t0.txt", *options)
    os.utime("t1.txt", ns=(0, 10**9))
    assert "file 2 has changed: it was of 20" in message("t0.txt", "t1.txt", "bad.txt", *options)
    Path("t1.txt").write_text("chr1\t1\t1\n")
    assert "file 2 has changed: it had" in message("t0.txt", "t1.txt", "bad.txt", *options)
    Path("t1.txt").unlink()
    assert "t1.txt: No such file" in message("t0.txt", "t1.txt", "bad.txt", *options)
    assert set(parsed) <= {"t0.txt", "t1.txt", "bad.txt"}


def test_without_resume_one_is_told_of_what_was_kept(here, capsys):
    Path("bad.txt").write_text("chr1\tone\t1\n")
    assert load("t0.txt", "bad.txt", "--jobs", "1") == 1
    capsys.readouterr()
    assert main(["load", "t0.txt", "-o", "out.h5"]) == 0
    assert "--resume would go on with an earlier run" in capsys.readouterr().err
    assert left() == []


def test_a_file_that_changes_while_it_is_loaded_is_refused(here, monkeypatch, capsys):
    from onecopy import _text

    original = _text.load

    def load_and_change(path, *args, **options):
        result = original(path, *args, **options)
        with open(path, "a") as file:
            file.write("more\n")
        return result

    monkeypatch.setattr(_text, "load", load_and_change)
    assert load("t0.txt") == 1
    assert "t0.txt: was changed while it was loaded (it had" in capsys.readouterr().err
    assert left() == []


@pytest.mark.parametrize("layout", ["per-file", "concat"])
@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_a_command_that_is_stopped_is_gone_on_with(here, parsed, how, layout):
    assert main(["load", *TEXTS, "-o", "whole.h5", *TYPES, "--layout", layout]) == 0
    args = [*TEXTS, "-o", "out.h5", *TYPES, "--quiet", "--resume", "--layout", layout, "--jobs", "1"]
    _, messages = stopped(ENDLESS, ["t2.txt", *args], how)
    if how != "SIGKILL":
        expected = f"stopped by {how}: 1 of 4 files are kept, and the same command goes on with the next"
        assert messages[-1] in (f"onecopy load: {expected}", f"onecopy load: {expected.replace('1', '2')}")
    parsed.clear()
    assert main(["load", *args]) == 0
    # The second file may have been on its way.
    assert parsed[-2:] == ["t2.txt", "t3.txt"]
    assert "t0.txt" not in parsed
    assert left() == []
    expected, found = oc.from_hdf5("whole.h5"), oc.from_hdf5("out.h5")
    assert list(found) == list(expected)
    assert all(found[name].tolist() == expected[name].tolist() for name in expected)


def test_a_complete_result_of_other_options_is_not_the_one(here, parsed):
    assert load("t0.txt", "--max-rows", "1") == 0
    parsed.clear()
    assert load("t0.txt", "--force") == 0
    assert parsed == ["t0.txt"]


@pytest.mark.parametrize("layout", ["per-file", "concat"])
def test_a_check_sum_tells_what_size_and_time_do_not(here, parsed, capsys, layout):
    options = ["--layout", layout, "--checksum"]
    assert load(*TEXTS, *options) == 0
    parsed.clear()
    assert load(*TEXTS, *options) == 0
    assert parsed == [], "a complete result is left as it is"
    kept, content = os.stat("t0.txt"), Path("t0.txt").read_text()
    changed = content.replace("1", "2", 1)
    assert len(changed) == len(content) and changed != content
    Path("t0.txt").write_text(changed)
    os.utime("t0.txt", ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert load(*TEXTS, *options, "--force") == 0
    assert parsed[0] == "t0.txt", "it is made again"
    # The same while it is gone on with.
    os.remove("out.h5")
    Path("t2.txt").write_text("chr1\tone\t1\n")
    assert load(*TEXTS, *options) == 1
    Path("t0.txt").write_text(content)
    os.utime("t0.txt", ns=(kept.st_atime_ns, kept.st_mtime_ns))
    capsys.readouterr()
    assert load(*TEXTS, *options) == 1
    assert "file 1 has changed: its check sum is another one" in capsys.readouterr().err
