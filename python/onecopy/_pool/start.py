"""Before the first worker is started: what the user asked for is checked, and a quick start prepared."""

from __future__ import annotations

import operator
import os
from multiprocessing import process
from multiprocessing.context import BaseContext
from typing import Any


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) or 1


def prepare(context: BaseContext) -> None:
    """Have a forkserver that has not been started load onecopy, so that its children need not.

    What the program itself has asked for to be loaded stays as it is.
    """
    if context.get_start_method() != "forkserver":
        return
    from multiprocessing import forkserver

    server: Any = forkserver._forkserver
    untouched = server._preload_modules == ["__main__"] and server._forkserver_pid is None
    if untouched:
        server.set_forkserver_preload(["__main__", "onecopy._pool.worker"])


def check_context(context: Any) -> None:
    """Refuse what is no context, such as the name of a start method."""
    if not hasattr(context, "get_start_method"):
        name = context if isinstance(context, str) else "spawn"
        raise AttributeError(f"{context!r} is not a context: pass multiprocessing.get_context({name!r})")


def check_count(name: str, count: Any, least: int) -> int:
    """Return a number of something, or refuse it."""
    try:
        number = operator.index(count)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, not {count!r}") from None
    if number < least:
        raise ValueError(f"{name} must be greater than {least - 1}, not {number}")
    return number


def check_initializer(initializer: Any) -> None:
    """Refuse what cannot be called."""
    if initializer is not None and not callable(initializer):
        raise TypeError(f"initializer={initializer!r}: expected something that can be called")


def check_may_have_children() -> None:
    """Refuse to start workers in a worker of a `Pool`."""
    if process.current_process().daemon:
        raise AssertionError(
            "daemonic processes are not allowed to have children, and workers of a Pool are such. Use "
            "onecopy.ProcessPoolExecutor for the outer pool: its workers may start others"
        )
