"""``onecopy ls``: the arenas of this user."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from onecopy._cli.arenas import add_parser, all_arenas, look_at_each, size, table

COLUMNS = ("arena", "processes", "blocks", "used_bytes", "warm_bytes", "limit", "name", "path")


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of this command."""
    parser = add_parser(
        commands,
        "ls",
        "list the arenas of this user",
        "List the arenas that processes of this user have open. Nothing is changed by looking, and no arena is joined.",
        "  onecopy ls\n  onecopy ls --json | jq '.[].used_bytes'",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print one line, or one object, for each arena."""
    found = look_at_each("ls", all_arenas())
    if args.json:
        print(json.dumps([{key: figures[key] for key in COLUMNS} for figures in found]))
    elif found:
        header = ["arena", "processes", "blocks", "used", "warm", "limit", "name or path"]
        print(table(header, map(_row, found)))
    else:
        print("onecopy ls: no process of this user has an arena now", file=sys.stderr)
    return 0


def _row(figures: dict[str, Any]) -> list[object]:
    sizes = [size(figures[key]) for key in ("used_bytes", "warm_bytes", "limit")]
    place = figures["name"] or figures["path"] or "-"
    return [figures["arena"], len(figures["processes"]), figures["blocks"], *sizes, place]
