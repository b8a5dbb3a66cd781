"""Sizes of a run, clocks, and rounds in which the contenders take turns."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from benchmarks.isolated import ContenderError

Result = TypeVar("Result")

#: Cores' worth of other programs above which a table says that it was disturbed.
QUIET = 0.2

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


def time_within(seconds: float, function: Callable[[], float], most: int = 5) -> list[float]:
    """What a function that times itself answers, as often as fits into so many seconds: once at least, and at most."""
    end, values = time.perf_counter() + seconds, [function()]
    while len(values) < most and time.perf_counter() < end:
        values.append(function())
    return values


def time_each(function: Callable[[Any], Any], arguments: list[Any]) -> float:
    """Seconds per call over all arguments, all results kept until the clock has stopped."""
    start = time.perf_counter()
    results = [function(argument) for argument in arguments]
    seconds = time.perf_counter() - start
    assert len(results) == len(arguments)
    return seconds / len(arguments)


class OtherLoad:
    """Tells how many cores other programs kept busy while the block ran: a figure taken beside them says little."""

    def __enter__(self) -> "OtherLoad":
        self._start = time.perf_counter(), _busy_seconds(), _own_seconds()
        return self

    def __exit__(self, *exception: object) -> None:
        elapsed, busy, own = (
            now - then
            for now, then in zip((time.perf_counter(), _busy_seconds(), _own_seconds()), self._start, strict=True)
        )
        self.cores = max(0.0, busy - own) / elapsed


def _busy_seconds() -> float:
    """Seconds that all cores together have worked since the machine started: no idle time, no waiting for disks."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _waiting, *interrupts = map(int, file.readline().split()[1:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    """Seconds that this process and the ended ones that it started have worked."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
