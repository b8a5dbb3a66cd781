"""``onecopy doctor``: what of this machine helps or hinders, and what to change."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from onecopy import __version__, _native
from onecopy._cli.arenas import add_parser, all_arenas, chosen, joinable, look
from onecopy._errors import ArenaError, ForeignArenaError


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    topic : str
        What was looked at.
    verdict : {'ok', 'advice', 'problem'}
        How it is.
    found : str
        What was found.
    way_out : str
        What to change; empty where nothing is to be changed.
    """

    topic: str
    verdict: Literal["ok", "advice", "problem"]
    found: str
    way_out: str = ""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of this command."""
    parser = add_parser(
        commands,
        "doctor",
        "check this machine and the arenas on it",
        "Check the kernel, its settings, the limits on this process and the arenas of this user. For each: ok, advice\n"
        "or problem, and what to change. The exit code is 1 when there is a problem.",
        "  onecopy doctor\n"
        "  onecopy doctor --verify      # also check every table of every arena\n"
        "  onecopy doctor --json | jq '.[] | select(.verdict != \"ok\")'",
    )
    parser.add_argument(
        "--verify",
        nargs="?",
        const="",
        metavar="ARENA",
        help="check all tables of this arena, or of all, against each other; its processes wait meanwhile",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the findings."""
    findings = [_versions(), *(Finding(*found) for found in _native.doctor())]
    if args.verify is not None:
        findings += _verified(args.verify or None)
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings]))
    else:
        _show(findings)
    return 1 if any(finding.verdict == "problem" for finding in findings) else 0


def _versions() -> Finding:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return Finding("versions", "ok", f"onecopy {__version__}, {python}, numpy {np.__version__}")


def _verified(start: str | None) -> Iterator[Finding]:
    for arena in chosen(start):
        topic = f"tables of arena {arena.id}"
        try:
            if look(arena) is None:
                continue  # its last process has just ended
            with joinable(arena) as hint:
                _native.verify_arena(hint)
            yield Finding(topic, "ok", "agree with each other")
        except ForeignArenaError as error:
            # Being made just now, or of another version.
            yield Finding(topic, "advice", str(error), "try again, with the version of onecopy that made it")
        except ArenaError as error:
            if start is not None or any(other.id == arena.id for other in all_arenas()):
                yield Finding(topic, "problem", str(error), "end the processes of this arena")


def _show(findings: list[Finding]) -> None:
    for finding in findings:
        print(f"{finding.verdict:<8}{finding.topic}: {finding.found}")
        if finding.way_out:
            print(f"{'':<8}-> {finding.way_out}")
    problems, advice = (sum(f.verdict == verdict for f in findings) for verdict in ("problem", "advice"))
    print(f"onecopy doctor: problems: {problems}, advice: {advice}", file=sys.stderr)
