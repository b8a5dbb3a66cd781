"""Tasks: pieces of work for one worker, as the dispatcher knows them."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from onecopy._pool.errors import Fault
from onecopy._pool.pace import Pace

if TYPE_CHECKING:
    from onecopy._pool.workers import Worker


class Function:
    """A function that each worker gets once, however often it is called there.

    What belongs to it (the variables of a closure, the object of a method) is what it is when a worker gets it.
    """

    __slots__ = ("__weakref__", "call", "item_pace", "number", "pace", "watched")

    _numbers = itertools.count(1)

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call
        self.number = next(self._numbers)
        #: Of single calls, and of items of jobs.
        self.pace, self.item_pace = Pace(), Pace()
        #: Whether somebody is told when nobody will call it any more.
        self.watched = False

    def when_gone(self, tell: Callable[[int], object]) -> None:
        """Have the number told when nobody will call it any more."""
        weakref.finalize(self, tell, self.number).atexit = False

    def describe(self) -> str:
        """Name it for messages."""
        name = getattr(self.call, "__qualname__", None)
        module = getattr(self.call, "__module__", None)
        return f"{module}.{name}" if name and module else name or repr(self.call)


class Task:
    """A piece of work for one worker."""

    __slots__ = (
        "attempts",
        "by_value",
        "function",
        "given",
        "lacks_memory_since",
        "number",
        "pace",
        "site",
        "what",
        "worker",
    )

    def __init__(self, what: int, function: Function, given: Any, pace: Pace, site: str | None) -> None:
        self.what = what
        self.function = function
        self.given = given
        #: What is known of tasks of its kind.
        self.pace = pace
        #: The line whose call it is part of, if somebody wants to know.
        self.site = site
        #: Whether code was sent along, and how often a worker has died of it.
        self.by_value = False
        self.attempts = 0
        self.number = -1
        self.worker: Worker | None = None
        self.lacks_memory_since: float | None = None

    def begin(self) -> bool:
        """Say whether it is still wanted, now that it is to be given out."""
        return True

    def describe(self) -> str:
        """Name it for messages."""
        return self.function.describe()

    def succeed(self, value: Any, nanoseconds: int) -> Callable[[], object] | None:
        """Take the result, and return what tells of it.

        That is called when nobody else has the result any more, so that its memory is free when the caller drops it.
        """
        raise NotImplementedError

    def fail(self, fault: Fault) -> None:
        """Learn why there is no result."""
        raise NotImplementedError


class Source(Protocol):
    """Where tasks come from, one by one."""

    def next_task(self, workers: int) -> Task | None:
        """Return the next task, or None if there are no more."""


class Single:
    """A source of one task."""

    __slots__ = ("_task",)

    def __init__(self, task: Task) -> None:
        self._task: Task | None = task

    def next_task(self, workers: int) -> Task | None:
        """Return it, the first time."""
        task, self._task = self._task, None
        return task


class Functions:
    """Functions that calls have in common: those that are nothing but a name."""

    #: How many are remembered.
    MOST = 256

    def __init__(self) -> None:
        self._known: dict[int, Function] = {}

    def get(self, call: Callable[..., Any]) -> Function:
        """Return the one for a function; a new one if anything belongs to it that may change between two calls."""
        known = self._known.get(id(call))
        if known is not None:
            return known
        made = Function(call)
        if _is_a_name(call):
            if len(self._known) >= self.MOST:
                self._known.pop(next(iter(self._known)), None)
            self._known[id(call)] = made
        return made


def _is_a_name(call: Callable[..., Any]) -> bool:
    if isinstance(call, FunctionType):
        return call.__closure__ is None and "<" not in call.__qualname__
    return isinstance(call, BuiltinFunctionType) and isinstance(call.__self__, (ModuleType, type(None)))
