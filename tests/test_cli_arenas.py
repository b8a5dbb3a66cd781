"""`onecopy ls`, `stat`, `reap` and `doctor`, on arenas of other processes."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import onecopy as oc
from onecopy import _native
from onecopy.__main__ import main

MIB = 1 << 20

# A program that holds two arrays, has sent one, and has a child that does the same.
PROGRAM = """
import subprocess, sys
import onecopy as oc
from onecopy import _native

large, small = oc.ones(5 << 20, "u1"), oc.share(oc.zeros(1000))
_native.encode(small)
if len(sys.argv) == 1:
    child = subprocess.Popen([sys.executable, "-c", sys.stdin.readline().encode().decode("unicode_escape"), "child"],
                             stdin=-1, stdout=-1)
    child.stdout.readline()
    print(oc.stats()["arena"], child.pid, flush=True)
    if sys.stdin.readline() == "kill\\n":
        child.kill()
        child.wait()
        print("killed", flush=True)
else:
    print("ready", flush=True)
sys.stdin.read()
"""


class Program:
    """A program with an arena of its own and a child in it."""

    def __init__(self) -> None:
        environment = {k: v for k, v in os.environ.items() if k != _native.SESSION_VARIABLE}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env=environment | {"ONECOPY_LIMIT": "64MiB"},
            stdin=-1,
            stdout=-1,
            text=True,
        )
        self.arena, child = self.say(PROGRAM.encode("unicode_escape").decode()).split()
        self.pid, self.child = self.process.pid, int(child)

    def say(self, line: str) -> str:
        """Tell it something and return its answer."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@pytest.fixture
def program() -> Iterator[Program]:
    running = Program()
    yield running
    running.process.communicate()


def command(*arguments: str, code: int | None = 0) -> tuple[str, str]:
    """Run the command as a program of its own, outside of any session; what it prints.

    What it says of the whole machine may be about arenas of others: its exit code is then not looked at (None).
    """
    environment = {k: v for k, v in os.environ.items() if k != _native.SESSION_VARIABLE}
    run = [sys.executable, "-W", "error", "-m", "onecopy", *arguments]
    out = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=60)
    assert out.returncode in ((0, 1) if code is None else (code,)), out
    return out.stdout, out.stderr


def as_json(*arguments: str, code: int | None = 0) -> Any:
    out, _ = command(*arguments, "--json", code=code)
    return json.loads(out)


def test_ls_shows_each_arena_once_with_its_figures(program: Program) -> None:
    (found,) = [arena for arena in as_json("ls") if arena["arena"] == program.arena]
    assert set(found) == {"arena", "processes", "blocks", "used_bytes", "warm_bytes", "limit", "name", "path"}
    assert (found["name"], found["path"]) == (None, None)
    assert (sorted(found["processes"]), found["blocks"]) == (sorted([program.pid, program.child]), 4)
    assert found["limit"] == 64 * MIB and found["used_bytes"] >= 10 * MIB
    out, err = command("ls")
    (line,) = [line.split() for line in out.splitlines() if line.startswith(program.arena)]
    # There may be others on this machine, also some that cannot be looked at.
    assert (line[1:3], line[-3:], program.arena in err) == (["2", "4"], ["64.0", "MiB", "-"], False)


def test_looking_changes_nothing_and_joins_nothing(program: Program) -> None:
    program.say("kill")
    figures = [as_json("stat", program.arena) for _ in range(2)]
    command("ls"), as_json("doctor", code=None)
    assert figures == [as_json("stat", program.arena)] * 2
    # The dead child is still there: whoever joins sweeps it.
    members = {member["pid"]: member for member in figures[0]["members"]}
    assert set(members) == {program.pid, program.child}
    assert (members[program.child]["alive"], members[program.child]["blocks"]) == (False, 2)
    assert members[program.child]["command"] is None
    assert members[program.pid]["alive"] and members[program.pid]["bytes"] >= 5 * MIB
    assert "-c" in members[program.pid]["command"]


def test_looking_does_not_make_the_living_look_dead(program: Program) -> None:
    """A second descriptor of the file with the liveness locks is closed by another process: that drops no lock."""
    for _ in range(3):
        command("stat", program.arena)
    (reaped,) = as_json("reap", program.arena)
    assert (reaped["processes"], reaped["blocks"]) == (0, 0)
    assert as_json("stat", program.arena)["blocks"] == 4


def test_stat_shows_the_largest_blocks_and_who_holds_them(program: Program) -> None:
    figures = as_json("stat", program.arena[:6])
    largest = figures["largest_blocks"]
    assert [block["bytes"] for block in largest] == [5 * MIB, 5 * MIB, 8000, 8000]
    assert sorted(block["holders"][0] for block in largest[:2]) == sorted([program.pid, program.child])
    assert [block["handles"] for block in largest] == [0, 0, 1, 1]
    assert (figures["handles_in_flight"], figures["handles_of_dead_senders"], figures["heap_lock"]) == (2, 0, None)
    assert figures["warm"]["bytes"] + figures["used_bytes"] >= 10 * MIB and figures["fresh"]["extents"] >= 1
    out, err = command("stat", program.arena)
    assert f"arena      {program.arena}" in out and "5.0 MiB" in out and str(program.child) in out and err == ""


def test_reap_takes_the_dead_away_and_what_they_sent_only_when_asked(program: Program) -> None:
    program.say("kill")
    (reaped,) = as_json("reap", program.arena)
    # What the child sent may still be received.
    assert (reaped["processes"], reaped["blocks"], reaped["handles"]) == (1, 1, 0)
    assert reaped["freed_bytes"] == 5 * MIB
    assert as_json("stat", program.arena)["handles_of_dead_senders"] == 1
    out, _ = command("reap", "--in-flight", program.arena)
    assert out.startswith(f"{program.arena}: dead processes: 0, handles in flight: 1, blocks: 1, ")
    figures = as_json("stat", program.arena)
    assert (figures["blocks"], figures["handles_in_flight"], len(figures["members"])) == (2, 1, 1)


def test_reap_without_a_name_reaps_every_arena(program: Program) -> None:
    program.say("kill")
    assert [found["processes"] for found in as_json("reap") if found["arena"] == program.arena] == [1]


def test_doctor_finds_what_the_dead_left_and_verifies(program: Program) -> None:
    findings = as_json("doctor", "--verify", program.arena, code=None)
    about = [finding for finding in findings if not finding["topic"].startswith("arena ")]
    assert {finding["verdict"] for finding in about} <= {"ok", "advice"}
    assert all(bool(finding["way_out"]) == (finding["verdict"] != "ok") for finding in findings)
    assert [f["found"] for f in findings if f["topic"] == f"tables of arena {program.arena}"] == [
        "agree with each other"
    ]
    assert f"numpy {__import__('numpy').__version__}" in findings[0]["found"]
    program.say("kill")
    out, err = command("doctor", code=None)
    assert f"advice  arena {program.arena}: dead processes: 1" in out and f"onecopy reap {program.arena}" in out
    assert re.fullmatch(r"onecopy doctor: problems: \d+, advice: [1-9]\d*\n", err)


def test_doctor_says_that_an_inherited_session_is_stale() -> None:
    hint = "00000000000000ff:4194304:3:4:5"
    run = [sys.executable, "-m", "onecopy", "doctor", "--json"]
    out = subprocess.run(run, env=os.environ | {_native.SESSION_VARIABLE: hint}, capture_output=True, text=True)
    (found,) = [finding for finding in json.loads(out.stdout) if finding["topic"] == _native.SESSION_VARIABLE]
    assert found["verdict"] == "advice" and "unset it" in found["way_out"] and "00000000000000ff" in found["found"]


def test_doctor_fails_when_there_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [("kernel", "ok", "6.1", ""), ("memory", "problem", "none", "buy some")]
    monkeypatch.setattr(_native, "doctor", lambda: found)
    assert main(["doctor"]) == 1
    out, err = capsys.readouterr()
    assert out.endswith("problem memory: none\n        -> buy some\n") and "problems: 1, advice: 0" in err
    monkeypatch.setattr(_native, "doctor", lambda: found[:1])
    assert main(["doctor", "--json"]) == 0


def test_an_arena_that_is_not_there_is_an_error_with_the_way_out(program: Program) -> None:
    out, err = command("stat", "xyz", code=1)
    assert out == "" and err.startswith("onecopy stat: no arena starts with 'xyz': there are ") and program.arena in err
    second = Program()
    try:
        _, err = command("reap", "", code=1)
        assert program.arena in err and second.arena in err and "give more digits" in err
    finally:
        second.process.communicate()
    command("stat", code=2)


def test_without_arenas_there_is_no_output_and_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_native, "arenas", lambda: [])
    for arguments, printed in [(["ls"], ""), (["ls", "--json"], "[]\n"), (["reap"], ""), (["reap", "--json"], "[]\n")]:
        assert main(arguments) == 0
        assert capsys.readouterr().out == printed
    assert main(["stat", "1"]) == 1
    assert "no process of this user has one now" in capsys.readouterr().err


def test_an_arena_that_ends_meanwhile_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = ("00000000000000ff", "00000000000000ff:4194304:3:4:5", [4194304])
    seen = iter([[gone], []])
    monkeypatch.setattr(_native, "arenas", lambda: next(seen))
    assert main(["ls", "--json"]) == 0
    assert capsys.readouterr().out == "[]\n"


HALF_MADE = """
import ctypes, os, sys
for part, size in [("meta", 1 << 20), ("data-a", 1 << 20), ("data-b", 1 << 20)]:
    fd = os.memfd_create("onecopy-00000000000000aa-" + part, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.truncate(fd, size)
    if part == "meta" and len(sys.argv) > 1:
        os.pwrite(fd, b"onecopy\x01" + (99).to_bytes(4, "little"), 0)
    assert ctypes.CDLL(None).fcntl(fd, 1033, 7) == 0  # F_ADD_SEALS, as arenas have them
print("made", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("kind", "says"), [([], "being made"), (["version"], "version 99")])
def test_arenas_that_cannot_be_looked_at_are_told_of_and_left_out(program: Program, kind: list[str], says: str) -> None:
    other = subprocess.Popen([sys.executable, "-c", HALF_MADE, *kind], stdin=-1, stdout=-1, text=True)
    try:
        assert other.stdout is not None and other.stdout.readline() == "made\n"
        out, err = command("ls")
        assert program.arena in out and "00000000000000aa" not in out
        assert "arena 00000000000000aa is left out: the arena is " in err and says in err
        assert program.arena in command("reap", "--json")[0]
        findings = as_json("doctor", "--verify", code=None)
        topics = {f["topic"]: f for f in findings}
        assert topics["arena 00000000000000aa"]["verdict"] in ("ok", "advice")
        assert topics["tables of arena 00000000000000aa"]["verdict"] == "advice"
        assert topics[f"tables of arena {program.arena}"]["verdict"] == "ok"
        assert says in command("stat", "00000000000000aa", code=1)[1]
    finally:
        other.communicate()


def test_arenas_on_disk_and_with_names_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "arena"
    with oc.arena(path=path, limit="64MiB") as on_disk, oc.arena(name=f"test-{os.getpid()}") as named:
        on_disk.publish("x", on_disk.ones(10_000))
        found = {arena["arena"]: arena for arena in as_json("ls")}
        assert (found[on_disk.id]["path"], found[on_disk.id]["limit"]) == (str(path), 64 * MIB)
        assert (found[named.id]["name"], found[named.id]["path"]) == (f"test-{os.getpid()}", None)
        out, _ = command("stat", f"test-{os.getpid()}")
        assert f"name       test-{os.getpid()}\n" in out
        assert as_json("stat", str(path))["processes"] == [os.getpid()]
    # Now nobody has it open.
    figures = as_json("stat", str(path))
    assert (figures["path"], figures["processes"], figures["blocks"]) == (str(path), [], 3)
    assert f"path       {path}\n" in command("stat", str(path))[0]
    assert [found["blocks"] for found in as_json("reap", str(path))] == [0]
    findings = as_json("doctor", "--verify", str(path), code=None)
    assert [f["verdict"] for f in findings if f["topic"].startswith("tables of ")] == ["ok"]
    assert "no arena at" in command("stat", str(tmp_path / "nowhere"), code=1)[1]


@pytest.mark.parametrize("name", ["ls", "stat", "reap", "doctor"])
def test_help_shows_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"examples:\n  onecopy {name}" in capsys.readouterr().out


#: A program of its own: processes that other tests have started may share the session of this one.
COMMANDING = """
import io, os, sys
from contextlib import redirect_stdout
import onecopy as oc
from onecopy.__main__ import main
held = oc.ones(10)
with redirect_stdout(io.StringIO()) as out:
    assert main(["ls", "--json"]) == 0
    assert main(["reap", sys.argv[1]]) == 0
    main(["doctor", "--verify", sys.argv[1], "--json"])
assert sys.argv[1] in out.getvalue()
assert oc.stats()["arena"] not in out.getvalue().split("\\n")[0]
assert os.getpid() in oc.stats()["processes"] and held.sum() == 10
"""


def test_the_command_in_a_program_leaves_its_session_alone(program: Program) -> None:
    env = {name: value for name, value in os.environ.items() if name != "ONECOPY_SESSION"}
    command = [sys.executable, "-W", "error", "-c", COMMANDING, program.arena]
    subprocess.run(command, env=env, check=True, timeout=60)


def test_stats_say_who_holds_what() -> None:
    held = oc.ones(3 * MIB, "u1")
    stats = oc.stats()
    (me,) = [member for member in stats["members"] if member["pid"] == os.getpid()]
    assert me["alive"] and me["bytes"] >= held.nbytes and me["command"]
    assert stats["capacity"]["processes"] >= 64 and stats["capacity"]["blocks"] >= stats["blocks"]
    assert 0 < stats["headroom_bytes"] <= stats["limit"] and stats["headroom_bound"]
    assert stats["promised_bytes"] == 0


def test_handles_of_the_dead_are_dropped_on_request() -> None:
    program = """
import subprocess, sys
import onecopy as oc
child = "import sys, onecopy as oc; from onecopy import _native; sys.stdout.buffer.write(_native.encode(oc.ones(9)))"
handle = subprocess.run([sys.executable, "-c", child], stdout=-1, check=True).stdout
kept = subprocess.run([sys.executable, "-c", child], stdout=-1, check=True).stdout
from onecopy import _native
received = _native.decode(kept)
print(oc.reap(), oc.stats()["blocks"], oc.reap(in_flight=True), oc.stats()["blocks"], received.sum())
try:
    _native.decode(handle)
except oc.StaleHandleError:
    print("stale")
"""
    environment = {k: v for k, v in os.environ.items() if k != _native.SESSION_VARIABLE}
    out = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert out.stdout.splitlines() == ["(1, 0) 2 (0, 1) 1 9.0", "stale"]
