"""The arenas that a command line names, and how their figures are shown."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

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
    path : Path, optional
        The directory of one on disk.
    name : str, optional
        What it was opened by.
    """

    id: str
    hint: str
    pids: list[int]
    path: Path | None = None
    name: str | None = None


def all_arenas() -> list[Arena]:
    """Return the arenas of this user, by id."""
    return [Arena(*found) for found in _native.arenas()]


def find(start: str) -> Arena:
    """Return the one arena whose id starts so, which has this name, or which lies in this directory."""
    arenas = all_arenas()
    if os.sep in start:
        path = Path(start)
        here = _native.look_at_path(path)["arena"]
        return next((arena for arena in arenas if arena.id == here), Arena(here, "", [], path))
    named = [arena for arena in arenas if arena.name == start]
    if named:
        return named[0]
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
        figures = _native.look(arena.hint) if arena.hint else _native.look_at_path(cast(Path, arena.path))
        return figures | {"name": arena.name, "path": None if arena.path is None else str(arena.path)}
    except ArenaError:
        if any(other.id == arena.id for other in all_arenas()):
            raise
        return None


def look_at_each(command: str, arenas: Iterable[Arena]) -> list[dict[str, Any]]:
    """Return the figures of the arenas that can be looked at; of others, such as half-made ones, say why not."""
    found = []
    for arena in arenas:
        try:
            figures = look(arena)
        except ArenaError as error:
            print(f"onecopy {command}: arena {arena.id} is left out: {error}", file=sys.stderr)
            continue
        found += [figures] if figures is not None else []
    return found


@contextmanager
def joinable(arena: Arena) -> Iterator[str]:
    """Give the hint of an arena; one on disk that no process has open is open meanwhile."""
    if arena.hint:
        yield arena.hint
        return
    opened = _native.OpenArena(None, arena.path, None, None, False, False)
    try:
        yield opened.hint
    finally:
        opened.close()


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
