"""Several text files at a time, in their order; while one is written, the next ones are parsed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from tqdm import tqdm

from onecopy import _text
from onecopy._cli.ordered import in_order
from onecopy._cli.plans import Plan
from onecopy._text import LoadedFile


class Loading:
    """The files as they come, and how many bytes of text they were so far."""

    def __init__(self, files: Iterator[LoadedFile]) -> None:
        self._files = files
        self.text_bytes = 0

    def __iter__(self) -> Iterator[LoadedFile]:
        for file in self._files:
            self.text_bytes += file.bytes
            yield file


@contextmanager
def loading(plans: Sequence[Plan], jobs: int, args: argparse.Namespace) -> Iterator[Loading]:
    """Load files on `jobs` threads in all, with a progress bar."""
    workers = max(1, min(jobs, len(plans)))

    def load(plan: Plan, stop: Callable[[], None]) -> LoadedFile:
        def report(size: int) -> None:
            stop()
            bar.update(size)

        file = _text.load(plan.source.text, plan.dtype, threads=jobs // workers, progress=report, **plan.dialect)
        plan.source.check_unchanged()
        return file

    with progress_bar(args, plans) as bar, closing(in_order(plans, load, workers)) as loaded:
        yield Loading(loaded)


def progress_bar(args: argparse.Namespace, plans: Sequence[Plan]) -> tqdm[Any]:
    """Show bytes read, their rate and the time left, on a terminal only."""
    total = sum(plan.source.source_bytes for plan in plans)
    # `None` lets tqdm look whether standard error is a terminal.
    return tqdm(total=total, unit="B", unit_scale=True, disable=True if args.quiet else None, file=sys.stderr)
