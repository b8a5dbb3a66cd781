"""How the failure of a task travels."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any, NamedTuple

from onecopy._pool.pickling import dumps


class Failure(NamedTuple):
    """An exception in a worker, told so that nothing of it is lost if it does not survive the way."""

    traceback: str
    shown: str
    #: The exception, or what was raised when that should be pickled.
    pickled: bytes
    is_itself: bool
    #: What had been done of the task before it failed.
    done: list[Any]


def dumps_failure(about: Any) -> bytes:
    """Pickle an exception, what it is about, and what had been done before it, as a `Failure`."""
    # Imported by those who need it: a worker shall start quickly.
    import traceback

    error, shown, done = about
    text = "".join(traceback.format_exception(type(error), error, _users_part(error.__traceback__)))
    pickled, is_itself = _pickled(error)
    try:
        return dumps(Failure(text, repr(error) if shown is None else shown, pickled, is_itself, done))
    except Exception:
        return dumps(Failure(text, type(error).__name__, pickled, is_itself, []))


def _pickled(error: BaseException) -> tuple[bytes, bool]:
    try:
        return dumps(error), True
    except Exception as refused:
        try:
            return dumps(refused), False
        except Exception:
            return dumps(TypeError(str(refused))), False


def _users_part(frames: TracebackType | None) -> TracebackType | None:
    """Leave out the first frames, which are this package's, unless there are no others."""
    rest = frames
    while rest is not None and os.path.dirname(rest.tb_frame.f_code.co_filename) == os.path.dirname(__file__):
        rest = rest.tb_next
    return rest or frames
