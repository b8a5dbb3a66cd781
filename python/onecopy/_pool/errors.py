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
    reason : BaseException
        What pickling raised; None if it was unpickling.
    """

    exc: str
    value: str
    reason: BaseException | None

    def __init__(self, message: str = "", **attributes: Any) -> None:
        # Not the constructor of the standard library's class, which takes no message.
        Exception.__init__(self, message)
        self.__dict__.update(attributes)


def error_of(failure: Failure) -> BaseException:
    """Make the exception again, with the traceback of the worker as its cause."""
    error: Any
    reason = None
    try:
        error = pickle.loads(failure.pickled)
        if not failure.is_itself:
            reason, error = error, f"cannot be pickled: {error!r}; give it arguments that can be"
    except Exception as refused:
        error = f"cannot be unpickled: {refused!r}; give it a __reduce__ that fits its constructor"
    if not isinstance(error, BaseException):
        told = f"{failure.shown} was raised, but {error}"
        error = UnsendableError(told, exc=error, value=failure.shown, reason=reason)
    error.__cause__ = RemoteTraceback(f'\n"""\n{failure.traceback}"""')
    return error  # type: ignore[no-any-return]


#: What picklers raise for what they cannot pickle; all take a text.
REFUSALS = (TypeError, AttributeError, pickle.PicklingError, RecursionError)


def explained(error: BaseException, told: str) -> BaseException:
    """Make an exception of the same type that says more, if it is one of those that picklers raise."""
    if type(error) not in REFUSALS:
        return error
    made = type(error)(told)
    made.__cause__ = error.__cause__ or error
    return made


def unsent(error: BaseException, task: str) -> BaseException:
    """Make what a caller is told whose task cannot be sent to a worker."""
    advice = "pass what can be pickled (locks and queues of onecopy can be)"
    return explained(error, f"{task} cannot be sent to a worker with its arguments: {error}; {advice}")


def death(pid: int, exitcode: int | None, task: str | None) -> WorkerDiedError:
    """Make the exception for a worker that ended in the middle of a task, or before it could begin one."""
    name = _signal_name(exitcode)
    how = f"was ended by {name}" if name else f"ended with exit code {exitcode}"
    about = f"in the middle of {task}" if task else "while it had no task"
    advice = ""
    if name is None and task:
        advice = "; the task, or what it calls, left by os._exit or sys.exit"
    elif name == "SIGKILL":
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
