"""Programs that the life-cycle tests start, watch and kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: No program of these tests takes longer than a few seconds, or on a busy machine a minute; one that does is hung.
PATIENCE = 110

PRELUDE = """
import atexit, ctypes, gc, multiprocessing as mp, os, pickle, signal, subprocess, sys, threading
import numpy as np
import onecopy as oc
from onecopy import _native
"""


class Program:
    """A Python program with lines in and out, which shares the session of the tests."""

    def __init__(self, source: str, *arguments: str, session: bool = True, **options: Any) -> None:
        environment = {**os.environ, **options.pop("env", {})}
        if not session:
            environment.pop("ONECOPY_SESSION", None)
        self.process = subprocess.Popen(
            [options.pop("python", sys.executable), "-W", "error", "-c", PRELUDE + textwrap.dedent(source), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            **options,
        )

    def hear(self) -> str:
        """Return the next line that the program says; the empty string when it has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def say(self, line: str = "") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Wait for the end; return the exit code, what else it said, and what it complained of."""
        output, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, output, errors


@contextmanager
def running(source: str, *arguments: str, **options: Any) -> Iterator[Program]:
    """Run a program, and kill it if the test leaves it alone."""
    program = Program(source, *arguments, **options)
    try:
        yield program
    finally:
        if program.process.poll() is None:
            program.process.kill()
        program.process.communicate()


def output_of(source: str, *arguments: str, **options: Any) -> str:
    """Run a program to its end, which has to be a good one without a word of complaint; return what it said."""
    with running(source, *arguments, **options) as program:
        code, output, errors = program.end()
    assert (code, errors) == (0, ""), f"exit code {code}\n{output}\n{errors}"
    return output
