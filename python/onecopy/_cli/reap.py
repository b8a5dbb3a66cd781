"""``onecopy reap``: takes away what dead processes left."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass

from onecopy import _native
from onecopy._cli.arenas import Arena, add_parser, chosen, joinable, look, size
from onecopy._errors import ArenaError


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of this command."""
    parser = add_parser(
        commands,
        "reap",
        "take away what dead processes left",
        "Take away what processes held that have been killed. It happens by itself whenever an arena needs memory or\n"
        "a process joins; this has it done now.",
        "  onecopy reap                 # all arenas of this user\n"
        "  onecopy reap 3f2a\n"
        "  onecopy reap --in-flight 3f2a",
    )
    parser.add_argument(
        "arena",
        nargs="?",
        metavar="ARENA",
        help="the arena, by the first digits of its id, its name, or its path (default: all that are open)",
    )
    parser.add_argument(
        "--in-flight",
        action="store_true",
        help="also drop arrays that were sent by processes that have ended and that nobody has received; whoever would "
        "still have received one gets a StaleHandleError",
    )
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class Reaped:
    """What was taken away of one arena.

    Attributes
    ----------
    arena : str
        Its id.
    processes, blocks, handles : int
        How many dead processes there were, how many blocks were freed, and how many handles in flight were dropped.
    freed_bytes : int
        Bytes of those blocks.
    """

    arena: str
    processes: int
    blocks: int
    handles: int
    freed_bytes: int


def run(args: argparse.Namespace) -> int:
    """Reap, and say what was freed."""
    reaped = [found for arena in chosen(args.arena) if (found := _reap_or_say(arena, args)) is not None]
    if args.json:
        print(json.dumps([asdict(found) for found in reaped]))
        return 0
    for found in reaped:
        handles = f", handles in flight: {found.handles}" if args.in_flight else ""
        freed = f"blocks: {found.blocks}, {size(found.freed_bytes)}"
        print(f"{found.arena}: dead processes: {found.processes}{handles}, {freed}")
    return 0


def _reap_or_say(arena: Arena, args: argparse.Namespace) -> Reaped | None:
    try:
        return _reap(arena, args.in_flight)
    except ArenaError as error:  # of another version, or not to be reached
        if args.arena is not None:
            raise
        print(f"onecopy reap: arena {arena.id} is left out: {error}", file=sys.stderr)
        return None


def _reap(arena: Arena, in_flight: bool) -> Reaped | None:
    before = look(arena)
    if before is None:
        return None
    try:
        with joinable(arena) as hint:
            processes, blocks, handles = _native.reap_arena(hint, in_flight)
    except ArenaError:
        # Ended between the look and now: with its last process went all that it held.
        if look(arena) is None:
            return None
        raise
    after = look(arena) or {"used_bytes": 0}
    # Others go on meanwhile.
    freed = max(before["used_bytes"] - after["used_bytes"], 0)
    return Reaped(arena.id, processes, blocks, handles, freed)
