"""Sizes of a run, clocks, and rounds in which the contenders take turns."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from benchmarks.isolated import ContenderError

Result = TypeVar("Result")

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True)
class Scale:
    """How large and how often; a quick run shows that everything works and keeps no figures."""

    quick: bool
    rounds: int
    repeats: int

    def size(self, nbytes: int) -> int:
        """Bytes to use where a full run uses ``nbytes``."""
        return max(nbytes // 32, KIB) if self.quick else nbytes

    def rows(self, count: int) -> int:
        """Lines to use where a full run uses ``count``."""
        return count // 20 if self.quick else count


FULL = Scale(quick=False, rounds=5, repeats=3)
QUICK = Scale(quick=True, rounds=1, repeats=3)


def take_turns(
    contenders: Mapping[str, Callable[[], Result]], rounds: int
) -> tuple[dict[str, list[Result]], list[str]]:
    """Measure everyone once per round, so that a busy minute of the machine hits all of them alike.

    Returns the results of each contender, and a note for each that could not be measured.
    """
    results: dict[str, list[Result]] = {name: [] for name in contenders}
    failed: dict[str, str] = {}
    for number in range(rounds):
        for name, measure in contenders.items():
            if name in failed:
                continue
            _progress(f"round {number + 1} of {rounds}: {name}")
            try:
                results[name].append(measure())
            except ContenderError as error:
                failed[name] = f"{name}: not measured: {error}"
    _progress("")
    return {name: values for name, values in results.items() if name not in failed}, list(failed.values())


def time_calls(function: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each call; what a call returns is dropped outside of the measured time."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
        del result
    return seconds


def time_each(function: Callable[[Any], Any], arguments: list[Any]) -> float:
    """Seconds per call over all arguments, all results kept until the clock has stopped."""
    start = time.perf_counter()
    results = [function(argument) for argument in arguments]
    seconds = time.perf_counter() - start
    assert len(results) == len(arguments)
    return seconds / len(arguments)


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
