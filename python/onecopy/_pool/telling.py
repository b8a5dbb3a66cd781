"""Telling tasks what became of them; errors in what users have called then are reported, and the pool goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onecopy import _native
from onecopy._pool import letters
from onecopy._pool.errors import Fault
from onecopy._pool.tasks import Task


def deliver(task: Task, letter: _native.Letter) -> Callable[[], object] | None:
    """Have a task keep the result that is in a letter; return what tells of it."""
    try:
        value = letter.take()
    except BaseException as error:
        settle(task.fail, Fault(error, letters.OPENING))
        return None
    try:
        return task.succeed(value, letter.extra)
    except BaseException:
        report()
        return None


def settle(tell: Callable[..., object], *what: Any) -> None:
    """Tell a task what became of it; an error in a callback of the user's is reported, and the pool goes on."""
    try:
        tell(*what)
    except BaseException:
        report()


def report() -> None:
    """Report the exception that is being handled, as the interpreter does those of threads."""
    import sys

    sys.excepthook(*sys.exc_info())
