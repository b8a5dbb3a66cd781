"""What pools tell `onecopy.audit`: to which line of a program tasks and results belong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from onecopy import _auditor, _native
from onecopy._pool.tasks import Function, Task

Dumps = Callable[[Any], bytes]


def site() -> str | None:
    """Return the user's line that makes a call."""
    if _auditor.note is None:
        return None
    from onecopy import _audit

    return _audit.site()


def for_callers(tasks: Sequence[Task], dumps: Dumps) -> Dumps:
    """Return a function that pickles what goes with tasks, and their functions, on behalf of those who called."""
    if _auditor.note is None:
        return dumps
    from onecopy import _audit

    # Known by identity: they are kept by their tasks meanwhile.
    senders = {id(obj): task.site for task in tasks for obj in (task.given, task.function.call)}

    def dumps_for_caller(obj: Any) -> bytes:
        sender = senders.get(id(obj))
        return dumps(obj) if sender is None else _audit.on_behalf_of(sender, dumps, obj)

    return dumps_for_caller


def for_function(function: Callable[..., Any], dumps: Dumps) -> Dumps:
    """Return a function that pickles, in a worker, what a function has returned."""
    if _auditor.note is None:
        return dumps
    from onecopy import _audit

    code = getattr(function, "__code__", None)
    sender = f"{code.co_filename}:{code.co_firstlineno}" if code else Function(function).describe()
    return lambda obj: _audit.on_behalf_of(sender, dumps, obj)


def note_result(task: Task, letter: _native.Letter) -> None:
    """Note what came back from a worker."""
    if _auditor.note is None:
        return
    from onecopy import _audit

    in_letter, by_handle = letter.sizes()
    sender, what = task.site or _audit.site(), f"result of {task.function.describe()}"
    if by_handle:
        _audit.note_at(sender, "handle", what, "it lies in shared memory", by_handle)
    if in_letter:
        _audit.note_at(sender, "copied", what, "a worker has pickled it", in_letter)
