"""The arenas that a command line names, and how their figures are shown."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from onecopy import _native
from onecopy._errors import ArenaError

size = _native.format_size


@dataclass(frozen=True)
class Arena:
    """An arena that some process has open.

    Attributes
    ----------
    id : str
        Its name: 16 hexadecimal digits.
    hint : str
        Where it can be looked at or joined.
    pids : list of int
        The processes that have it open.
    """

    id: str
    hint: str
    pids: list[int]


def all_arenas() -> list[Arena]:
    """Return the arenas of this user, by id."""
    return [Arena(*found) for found in _native.arenas()]


def find(start: str) -> Arena:
    """Return the one arena whose id starts so."""
    arenas = all_arenas()
    matching = [arena for arena in arenas if arena.id.startswith(start)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise ValueError(
            f"{start!r} is the start of {len(matching)} arenas: give more digits of one of {ids(matching)}"
        )
    there = f"there are {ids(arenas)}" if arenas else "no process of this user has one now"
    raise ValueError(f"no arena starts with {start!r}: {there}")


def ids(arenas: Iterable[Arena]) -> str:
    """Return the ids as a list for a person."""
    return ", ".join(arena.id for arena in arenas)


def chosen(start: str | None) -> list[Arena]:
    """Return the arena that was named, or all of them."""
    return all_arenas() if start is None else [find(start)]


def look(arena: Arena) -> dict[str, Any] | None:
    """Return the figures of an arena, or None when its last process has ended meanwhile."""
    try:
        return _native.look(arena.hint)
    except ArenaError:
        if any(other.id == arena.id for other in all_arenas()):
            raise
        return None


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows in columns: numbers to the right, texts to the left.

    >>> print(table(["pid", "command"], [[7, "python"], [1234, "sh"]]))
     pid  command
       7  python
    1234  sh
    """
    lines = [list(map(str, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    right = [all(line[i][:1].isdigit() for line in lines) for i in range(len(header))]
    pads = [f"{{:{'>' if to_right else '<'}{width}}}" for to_right, width in zip(right, widths, strict=True)]
    return "\n".join("  ".join(pads).format(*line).rstrip() for line in [list(header), *lines])


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    description: str,
    examples: str,
) -> argparse.ArgumentParser:
    """Add the parser of a command that looks at arenas."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print JSON on standard output")
    return parser
