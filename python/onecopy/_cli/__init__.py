"""The command line: one module per sub-command.

A sub-command's module has `register`, which adds its parser, and `run`, which returns the exit code. Data goes to
standard output and everything else to standard error.

Exit codes: 0 done, 1 failure (one line says what, and the way out), 2 wrong usage, 130 Ctrl-C or 143 SIGTERM (as shells
count them).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from onecopy import __version__
from onecopy._cli import doctor, load, ls, reap, stat
from onecopy._cli.interrupt import Interrupted, unwinding_signals

COMMANDS = (load, ls, stat, reap, doctor)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments without the program's name; by default those of the process.

    Examples
    --------
    >>> from onecopy.__main__ import main
    >>> main(["--version"])
    onecopy 0.1.0
    0
    """
    try:
        args = _parser().parse_args(argv)
    except SystemExit as stop:
        # argparse has printed what there is to say.
        return int(stop.code or 0)
    try:
        with unwinding_signals():
            return int(args.run(args))
    except Interrupted as interrupted:
        message = f"stopped by {interrupted.signal.name}: {interrupted.outcome}"
        return _fail(args.command, message, 128 + interrupted.signal)
    except (OSError, ValueError, TypeError, MemoryError, ImportError) as error:
        return _fail(args.command, _one_line(error), 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="onecopy", description="One copy of your data, every process.")
    parser.add_argument("--version", action="version", version=f"onecopy {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.register(commands)
    return parser


def _fail(command: str, message: str, code: int) -> int:
    print(f"onecopy {command}: {message}", file=sys.stderr)
    return code


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__
