"""What the callers of a pool get instead of a result."""

from __future__ import annotations

import pickle
import signal
from collections.abc import Sequence
from multiprocessing.pool import MaybeEncodingError, RemoteTraceback  # type: ignore[attr-defined]
from typing import Any, NamedTuple

from onecopy._errors import OnecopyError, WorkerDiedError
from onecopy._pool.failures import Failure


class Fault(NamedTuple):
    """What becomes of a task that was not done."""

    error: BaseException
    #: Where it failed; None if no worker has said so.
    stage: int | None = None
    #: What had been done of it before.
    done: Sequence[Any] = ()
    #: What the error is about.
    shown: str = ""


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


def error_of(failure: Failure) -> BaseException:
    """Make the exception again, with the traceback of the worker as its cause."""
    try:
        error: Any = pickle.loads(failure.pickled)
    except Exception as refused:
        error = f"cannot be unpickled: {refused!r}"
    if not isinstance(error, BaseException):
        error = UnsendableError(f"{failure.shown} was raised, but {error}", exc=str(error), value=failure.shown)
    error.__cause__ = RemoteTraceback(f'\n"""\n{failure.traceback}"""')
    return error  # type: ignore[no-any-return]


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
