"""``onecopy stat``: one arena in detail."""

from __future__ import annotations

import argparse
import json
from typing import Any

from onecopy._cli.arenas import add_parser, find, look, size, table


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of this command."""
    parser = add_parser(
        commands,
        "stat",
        "show one arena in detail",
        "Show who holds how much of an arena, its largest blocks, what is free and who has its lock. Nothing is\n"
        "changed by looking, and the arena is not joined: figures need not belong to one moment.",
        "  onecopy stat 3f2a            # the first digits of an id of `onecopy ls`\n"
        "  onecopy stat 3f2a --json | jq .members",
    )
    parser.add_argument(
        "arena",
        metavar="ARENA",
        help="the id of the arena, or its first digits; its name; or the path of one on disk (with a /)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the figures of the arena."""
    arena = find(args.arena)
    figures = look(arena)
    if figures is None:
        raise ValueError(f"the last process of arena {arena.id} has just ended, and the arena with it")
    print(json.dumps(figures) if args.json else "\n\n".join(_sections(figures)))
    return 0


def _sections(figures: dict[str, Any]) -> list[str]:
    sections = [_summary(figures), table(["pid", "alive", "blocks", "bytes", "promised", "command"], _members(figures))]
    if figures["largest_blocks"]:
        sections.append(table(["block", "bytes", "handles", "read-only", "held by"], _largest(figures)))
    return sections


def _summary(figures: dict[str, Any]) -> str:
    capacity, lock = figures["capacity"], figures["heap_lock"]
    orphans = figures["handles_of_dead_senders"]
    holder = "free" if lock is None else f"held by {lock['pid']}" + ("" if lock["alive"] else ", which is dead")
    lines = [
        ("arena", figures["arena"]),
        *((key, figures[key]) for key in ("name", "path") if figures[key] is not None),
        ("limit", size(figures["limit"])),
        ("used", f"{size(figures['used_bytes'])} in {figures['blocks']:,} of {capacity['blocks']:,} blocks"),
        ("promised", f"{size(figures['promised_bytes'])} about to be used"),
        ("warm", f"{_free(figures['warm'])}, at most {size(figures['warm_budget'])}"),
        ("fresh", _free(figures["fresh"])),
        (
            "in flight",
            f"{figures['handles_in_flight']:,} of {capacity['handles_in_flight']:,} handles, {orphans:,} of the dead",
        ),
        ("heap lock", holder),
    ]
    return "\n".join(f"{name:<10} {text}" for name, text in lines)


def _free(space: dict[str, int]) -> str:
    pieces = f"{space['extents']:,} piece{'s' * (space['extents'] != 1)}"
    return f"{size(space['bytes'])} in {pieces}, the largest {size(space['largest'])}"


def _members(figures: dict[str, Any]) -> list[list[object]]:
    return [
        [
            member["pid"],
            "yes" if member["alive"] else "dead",
            member["blocks"],
            size(member["bytes"]),
            size(member["promised_bytes"]),
            member["command"] or "-",
        ]
        for member in figures["members"]
    ]


def _largest(figures: dict[str, Any]) -> list[list[object]]:
    return [
        [
            block["block"],
            size(block["bytes"]),
            block["handles"],
            "yes" if block["read_only"] else "no",
            ", ".join(map(str, block["holders"])) or "handles only",
        ]
        for block in figures["largest_blocks"]
    ]
