"""Programs that tests run in a process of its own."""

import os
import subprocess
import sys

from onecopy import _native


def environment(**more: str) -> dict[str, str]:
    """Return the environment for a process that starts a session of its own."""
    return {k: v for k, v in os.environ.items() if k != _native.SESSION_VARIABLE} | more


def run(program: str, *arguments: object, prefix: tuple[str, ...] = (), **more: str) -> list[str]:
    """Run a program, which must end well and silently; the lines that it prints."""
    command = [*prefix, sys.executable, "-W", "error", "-c", program, *map(str, arguments)]
    out = subprocess.run(command, env=environment(**more), capture_output=True, text=True, timeout=100)
    assert (out.returncode, out.stderr) == (0, ""), out
    return out.stdout.splitlines()
