"""Several text files at a time, in their order; while one is written, the next ones are parsed.

Small files become arrays, side by side. A large one, which would not fit beside others, comes block by block.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from operator import itemgetter
from typing import Any, Generic, TypeVar

from tqdm import tqdm

from onecopy import _native, _text
from onecopy._arrays import Array
from onecopy._cli import interrupt
from onecopy._cli.ordered import in_order
from onecopy._cli.plans import Plan
from onecopy._hdf5.storage import has_unicode
from onecopy._text import LoadedFile

#: Up to so many bytes of text, one core is done before others could help.
_SMALL = 4 << 20

Report = Callable[[int], None]


class StreamedFile:
    """A file as blocks of rows, which are parsed when they are asked for, and a few of them ahead.

    Parameters
    ----------
    plan : Plan
        The file.
    threads : int
        How many threads parse it.
    report : callable
        Called now and then with the bytes read since its last call; what it raises comes through.

    Attributes
    ----------
    dtype : numpy.dtype
        Of the blocks.
    bytes : int
        Bytes of text, decompressed; known when the last block has been taken.
    text : _native.TextBlocks or None
        What the next blocks come from: it may be asked for them, too.
    """

    def __init__(self, plan: Plan, threads: int, report: Report) -> None:
        self._plan = plan
        self._threads = threads
        self._report = report
        self.dtype = plan.dtype
        self.bytes = 0
        self.text: _native.TextBlocks | None = None

    def __iter__(self) -> Iterator[Array]:
        """Give the blocks, at least one; behind the last one, whether the file is still the same is known."""
        plan, options = self._plan, {"threads": self._threads, "progress": self._report, **self._plan.dialect}
        blocks = _text.load_blocks(plan.source.parts, plan.dtype, **options)
        first = next(blocks, None)
        if first is None:
            # No rows, but they have a shape.
            yield _text.load(plan.source.sample, plan.dtype, **options).array
        else:
            # Keeps no block, so that who gets one has it alone.
            parts = chain([first], blocks)
            del first
            self.text = blocks
            yield from map(itemgetter(0), parts)
            self.text = None
        self.bytes = blocks.text_bytes or 0
        plan.source.check_unchanged()


TextFile = LoadedFile | StreamedFile
File = TypeVar("File", bound=TextFile)


class Loading(Generic[File]):
    """The files as they come, and how many bytes of text they were so far."""

    def __init__(self, files: Iterator[File]) -> None:
        self._files = files
        self.text_bytes = 0

    def __iter__(self) -> Iterator[File]:
        for file in self._files:
            yield file
            self.text_bytes += file.bytes
            # Its memory is free for the next one.
            del file


@contextmanager
def loading(plans: Sequence[Plan], jobs: int, args: argparse.Namespace) -> Iterator[Loading[LoadedFile]]:
    """Load files as arrays, on `jobs` threads in all, with a progress bar."""
    workers = _workers(plans, jobs)
    with progress_bar(args, plans) as bar:

        def load(plan: Plan, stop: Callable[[], None]) -> LoadedFile:
            return _whole(plan, jobs // workers, stop, bar)

        with closing(in_order(plans, load, workers)) as loaded:
            yield Loading(loaded)


@contextmanager
def streaming(plans: Sequence[Plan], jobs: int, args: argparse.Namespace) -> Iterator[Loading[TextFile]]:
    """Load small files as arrays and large ones as blocks, on `jobs` threads in all, with a progress bar."""
    workers = _workers(plans, jobs)
    with progress_bar(args, plans) as bar:

        def report(size: int) -> None:
            interrupt.check()
            bar.update(size)

        def load(plan: Plan, stop: Callable[[], None]) -> TextFile:
            if _is_streamed(plan):
                return StreamedFile(plan, jobs, report)
            return _whole(plan, jobs // workers, stop, bar)

        with closing(in_order(plans, load, workers)) as loaded:
            yield Loading(loaded)


def _workers(plans: Sequence[Plan], jobs: int) -> int:
    return max(1, min(jobs, len(plans)))


def _whole(plan: Plan, threads: int, stop: Callable[[], None], bar: tqdm[Any]) -> LoadedFile:
    def report(size: int) -> None:
        stop()
        bar.update(size)

    file = _text.load(plan.source.text, plan.dtype, threads=threads, progress=report, **plan.dialect)
    plan.source.check_unchanged()
    return file


def _is_streamed(plan: Plan) -> bool:
    """Tell whether a file comes block by block."""
    if plan.source.held is not None or has_unicode(plan.dtype):
        # It is in memory already; or only all of it tells how long its text is in a file.
        return False
    return plan.source.pipe is not None or plan.source.source_bytes > _SMALL


def progress_bar(args: argparse.Namespace, plans: Sequence[Plan]) -> tqdm[Any]:
    """Show bytes read, their rate and the time left, on a terminal only."""
    is_known = all(plan.source.pipe is None for plan in plans)
    total = sum(plan.source.source_bytes for plan in plans) if is_known else None
    # `None` lets tqdm look whether standard error is a terminal.
    return tqdm(total=total, unit="B", unit_scale=True, disable=True if args.quiet else None, file=sys.stderr)
