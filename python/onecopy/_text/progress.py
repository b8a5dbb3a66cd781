"""How far the reading has come, for those who look."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def showing(progress: bool | Callable[[int], None], sources: Sequence[Any]) -> Iterator[Callable[[int], None] | None]:
    """Give what is to be called with the bytes that were read; for True that is a progress bar."""
    if not isinstance(progress, bool):
        yield progress
    elif not progress:
        yield None
    else:
        from tqdm.auto import tqdm

        with tqdm(total=_size(sources), unit="B", unit_scale=True) as bar:
            yield lambda size: _advance(bar, size)


def _advance(bar: Any, size: int) -> None:
    bar.update(size)


def _size(sources: Sequence[Any]) -> int | None:
    """Bytes of all sources, as far as that is known."""
    if not all(isinstance(source, (tuple, str, os.PathLike)) for source in sources):
        return None
    try:
        return sum(len(source[1]) if isinstance(source, tuple) else os.path.getsize(source) for source in sources)
    except OSError:
        return None  # the reader says what is wrong
