"""One copy of your data, every process.

Arrays made by `onecopy.empty`, `onecopy.zeros`, `onecopy.array`, `onecopy.share` or `onecopy.loadtxt` are plain numpy
arrays whose memory lies in an arena that all processes of a program share. They travel through `multiprocessing` as
handles, without a copy.
"""

from typing import TYPE_CHECKING, Any

from onecopy import _pickling as _pickling  # registers the reducers
from onecopy._arrays import (
    array,
    asarray,
    empty,
    empty_like,
    full,
    full_like,
    is_shared,
    ones,
    ones_like,
    share,
    zeros,
    zeros_like,
)
from onecopy._errors import (
    ArenaError,
    BrokenBarrierError,
    InvalidHandleError,
    NameTakenError,
    NameUnknownError,
    OnecopyError,
    OutOfMemoryError,
    OwnerDiedError,
    ParseError,
    ShutDownError,
    StaleHandleError,
)
from onecopy._locks import Barrier, BoundedSemaphore, Condition, RWLock
from onecopy._named import attach, publish, unpublish
from onecopy._native import Event, Lock, RLock, Semaphore, __version__
from onecopy._pipes import Connection, Pipe, wait
from onecopy._queues import JoinableQueue, Queue, SimpleQueue
from onecopy._session import reap, set_limit, stats
from onecopy._text import loadtxt

if TYPE_CHECKING:
    from onecopy._hdf5 import from_hdf5, to_hdf5

__all__ = [
    "ArenaError",
    "Barrier",
    "BoundedSemaphore",
    "BrokenBarrierError",
    "Condition",
    "Connection",
    "Event",
    "InvalidHandleError",
    "JoinableQueue",
    "Lock",
    "NameTakenError",
    "NameUnknownError",
    "OnecopyError",
    "OutOfMemoryError",
    "OwnerDiedError",
    "ParseError",
    "Pipe",
    "Queue",
    "RLock",
    "RWLock",
    "Semaphore",
    "ShutDownError",
    "SimpleQueue",
    "StaleHandleError",
    "__version__",
    "array",
    "asarray",
    "attach",
    "empty",
    "empty_like",
    "from_hdf5",
    "full",
    "full_like",
    "is_shared",
    "loadtxt",
    "ones",
    "ones_like",
    "publish",
    "reap",
    "set_limit",
    "share",
    "stats",
    "to_hdf5",
    "unpublish",
    "wait",
    "zeros",
    "zeros_like",
]

#: Names that come with h5py, which takes longer to import than all else: those who do not use it shall not wait for it.
_WITH_H5PY = frozenset({"from_hdf5", "to_hdf5"})


def __getattr__(name: str) -> Any:
    if name not in _WITH_H5PY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from onecopy import _hdf5

    globals()[name] = value = getattr(_hdf5, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_WITH_H5PY})
