"""Failures of tasks: how they travel, and what the caller gets."""

from __future__ import annotations

import os
import pickle
import signal
import traceback
from collections.abc import Sequence
from multiprocessing.pool import MaybeEncodingError, RemoteTraceback  # type: ignore[attr-defined]
from types import TracebackType
from typing import Any, NamedTuple

from onecopy._errors import OnecopyError, WorkerDiedError
from onecopy._pool.pickling import dumps


class Failure(NamedTuple):
    """An exception in a worker, told so that nothing of it is lost if it does not survive the way."""

    traceback: str
    shown: str
    pickled: bytes
    #: What had been done of the task before it failed.
    done: list[Any]


class Fault(NamedTuple):
    """What becomes of a task that was not done."""

    error: BaseException
    #: Where it failed; None if no worker has said so.
    stage: int | None = None
    #: What had been done of it before.
    done: Sequence[Any] = ()
    #: What the error is about.
    shown: str = ""


def dumps_failure(about: Any) -> bytes:
    """Pickle an exception, what it is about, and what had been done before it, as a `Failure`."""
    error, shown, done = about
    text = "".join(traceback.format_exception(type(error), error, _users_part(error.__traceback__)))
    try:
        pickled = dumps(error)
    except Exception as refused:
        pickled = dumps(TypeError(f"{type(error).__name__}: {error} (which cannot be pickled: {refused})"))
    try:
        return dumps(Failure(text, repr(error) if shown is None else shown, pickled, done))
    except Exception:
        return dumps(Failure(text, type(error).__name__, pickled, []))


class UnsendableError(OnecopyError, MaybeEncodingError):  # type: ignore[misc]
    """A result or an exception of a worker cannot be pickled or unpickled.

    Attributes
    ----------
    exc : str
        What pickling or unpickling raised.
    value : str
        What could not be sent.
    """

    exc: str
    value: str

    def __init__(self, message: str = "", **attributes: Any) -> None:
        # Not the constructor of the standard library's class, which takes no message.
        Exception.__init__(self, message)
        self.__dict__.update(attributes)


def _users_part(frames: TracebackType | None) -> TracebackType | None:
    """Leave out the first frames, which are this package's, unless there are no others."""
    rest = frames
    while rest is not None and os.path.dirname(rest.tb_frame.f_code.co_filename) == os.path.dirname(__file__):
        rest = rest.tb_next
    return rest or frames


def error_of(failure: Failure) -> BaseException:
    """Make the exception again, with the traceback of the worker as its cause."""
    try:
        error: Any = pickle.loads(failure.pickled)
        if not isinstance(error, BaseException):
            raise TypeError(f"{error!r} is no exception")
    except Exception as refused:
        error = unsendable(f"{failure.shown} was raised, but cannot be unpickled: {refused!r}", refused, failure.shown)
    error.__cause__ = RemoteTraceback(f'\n"""\n{failure.traceback}"""')
    return error  # type: ignore[no-any-return]


def unsendable(message: str, error: BaseException, shown: str) -> OnecopyError:
    """Make the exception for what cannot be sent back from a worker."""
    return UnsendableError(message, exc=repr(error), value=shown)


def death(pid: int, exitcode: int | None, task: str | None) -> WorkerDiedError:
    """Make the exception for a worker that ended in the middle of a task, or before it could begin one."""
    name = _signal_name(exitcode)
    how = f"was ended by {name}" if name else f"ended with exit code {exitcode}"
    about = f"in the middle of {task}" if task else "while it had no task"
    advice = ""
    if name == "SIGKILL":
        advice = "; perhaps there was not enough memory (see dmesg). retries=n has such tasks tried again"
    elif name in ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE"):
        advice = "; compiled code crashed (python -X faulthandler shows where)"
    return WorkerDiedError(f"worker {pid} {how} {about}{advice}", pid=pid, exitcode=exitcode, signal=name, task=task)


def _signal_name(exitcode: int | None) -> str | None:
    if exitcode is None or exitcode >= 0:
        return None
    try:
        return signal.Signals(-exitcode).name
    except ValueError:
        return f"signal {-exitcode}"


def again(error: OnecopyError) -> OnecopyError:
    """Make an equal exception, for one more caller that raises it."""
    return type(error)(*error.args, **error.__dict__)
