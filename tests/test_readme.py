"""Every Python block of the README runs as a program of its own, every ``$ onecopy`` line as a command."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^\$ onecopy (.*)$", README, re.MULTILINE)

CALLS = "chr1\t100\t50.0\t2\t2\nchr1\t160\t25.0\t1\t3\n"


@pytest.fixture
def folder(tmp_path):
    """A folder with the files that the README speaks of."""
    for name in ["control", "tumour"]:
        (tmp_path / f"{name}.tsv").write_text(CALLS)
    return tmp_path


def run(arguments, folder):
    finished = subprocess.run([sys.executable, "-W", "error", *arguments], cwd=folder, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return finished


def test_the_readme_has_programs_and_commands():
    assert PROGRAMS
    assert COMMANDS


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_program_runs(program, folder):
    (folder / "program.py").write_text(program)
    run(["program.py"], folder)


def test_first_program_does_what_it_says(folder):
    (folder / "program.py").write_text(PROGRAMS[0])
    assert run(["program.py"], folder).stdout.count("0.375") == 2
    with h5py.File(folder / "samples.h5") as file:
        assert sorted(name for name in file if file[name].shape == (2,)) == ["control", "tumour"]


@pytest.mark.parametrize("command", COMMANDS)
def test_command_runs(command, folder):
    run(["-m", "onecopy", *shlex.split(command)], folder)
    with h5py.File(folder / "samples.h5") as file:
        assert len(file) == 2
