"""Iterators over the blocks of texts, as far as a file under construction knows of them."""

from __future__ import annotations

from typing import Protocol, TypeGuard

from onecopy import _native


class Texts(Protocol):
    """Gives the blocks of one or more texts."""

    @property
    def text(self) -> _native.TextBlocks | None:
        """What the next blocks come from, if they are given as they are: it may be asked for them, too."""

    def begin_next(self) -> bool:
        """Begin to read the next text, though nobody asks for its blocks yet; whether there is one."""


def text_of(blocks: object) -> _native.TextBlocks | None:
    """Return the text whose blocks an iterator gives next, as they are; None if it gives something else."""
    text = getattr(blocks, "text", None)
    return text if isinstance(text, _native.TextBlocks) else None


def begin_next(*iterators: object) -> None:
    """Have the first of some iterators that has a text left begin to read it."""
    any(blocks.begin_next() for blocks in iterators if _is_of_texts(blocks))


def _is_of_texts(blocks: object) -> TypeGuard[Texts]:
    return hasattr(blocks, "begin_next") and hasattr(blocks, "text")
