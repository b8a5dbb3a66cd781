"""A Rust program at the other end of a queue."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import onecopy as oc

LATE = 60  # seconds after which a test has failed
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def echo() -> str:
    """Build the example, if that has not been done, and return its path."""
    if shutil.which("cargo") is None:
        pytest.skip("there is no cargo to build the Rust program with")
    command = ["cargo", "build", "--package", "onecopy", "--example", "echo", "--locked", "--message-format", "json"]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    messages = [json.loads(line) for line in built.stdout.splitlines()]
    paths = [m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "echo"]
    return str(paths[0])


VALUES = [None, True, False, 0, -(2**63), 1.5, float("-inf"), "", "Grüße", "x" * 100_000, b"\0bytes", b"y" * 100_000]
PICKLED = [{"a": [1, 2]}, 2**100, (None, "tuple")]


@pytest.mark.timeout(900)  # the program may have to be built first
@pytest.mark.usefixtures("nothing_left")
def test_a_rust_process_and_a_python_process_talk_through_one_queue(echo: str) -> None:
    there, back = oc.Queue(maxsize=4), oc.Queue()
    program = subprocess.Popen([echo, there._send().hex(), back._send().hex()], stderr=subprocess.PIPE, text=True)
    try:
        for value in [*VALUES, *PICKLED]:
            there.put(value, timeout=LATE)
            got = back.get(timeout=LATE)
            assert (type(got), got) == (type(value), value)

        array = oc.array(np.arange(12.0).reshape(3, 4))
        for view in (array, array[1:, ::-2], array.T, array[0, :0]):
            there.put(view, timeout=LATE)
            got = back.get(timeout=LATE)
            assert (got.dtype, got.strides, oc.is_shared(got)) == (view.dtype, view.strides, True)
            np.testing.assert_array_equal(got, view)
            view += 1
            np.testing.assert_array_equal(got, view, "it is another memory")
        record = oc.zeros(2, [("name", "S5"), ("at", "M8[s]"), ("value", ">f4", (2,))])
        there.put(oc.share(record, mode="ro"), timeout=LATE)
        got = back.get(timeout=LATE)
        assert (got.dtype, got.flags.writeable) == (record.dtype, False)

        there.shutdown()
        counts = back.get(timeout=LATE)
        assert counts.tolist() == [1, 2, 2, 2, 3, 2, 5, 3]
        del array, view, record, got, counts
    finally:
        there.shutdown()
        _, errors = program.communicate(timeout=LATE)
    assert (program.returncode, errors) == (0, "")


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("nothing_left")
def test_a_killed_rust_process_takes_nothing_else_with_it(echo: str) -> None:
    there, back = oc.Queue(), oc.Queue()
    program = subprocess.Popen([echo, there._send().hex(), back._send().hex()])
    there.put_many(range(1000))
    assert back.get(timeout=LATE) == 0
    program.kill()
    program.wait()
    there.put("last")
    came_back = [*back.get_many(), None] if not back.empty() else [None]
    left = there.get_many()
    # The message that it had in hand is lost at most, and those behind it are there.
    last = max([0, *(n for n in came_back if n is not None)])
    assert left[-1] == "last"
    assert left[:-1] in (list(range(last + 1, 1000)), list(range(last + 2, 1000)))
