"""One copy of your data, every process.

Arrays made by `onecopy.empty`, `onecopy.zeros`, `onecopy.array`, `onecopy.share` or `onecopy.loadtxt` are plain numpy
arrays whose memory lies in an arena that all processes of a program share. They travel through `multiprocessing` as
handles, without a copy.
"""

from typing import TYPE_CHECKING, Any

from onecopy import _foreign as _foreign  # registers reducers
from onecopy import _pickling as _pickling  # registers reducers
from onecopy._arena import Arena, arena
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
    zeros,
    zeros_like,
)
from onecopy._containers import Dict, List, Namespace
from onecopy._errors import (
    ArenaError,
    BrokenBarrierError,
    DamagedArenaError,
    ForeignArenaError,
    InvalidHandleError,
    NameTakenError,
    NameUnknownError,
    OnecopyError,
    OutOfMemoryError,
    OwnerDiedError,
    ParseError,
    ShutDownError,
    StaleHandleError,
    WorkerDiedError,
)
from onecopy._locks import Barrier, BoundedSemaphore, Condition, RWLock
from onecopy._named import attach, publish, unpublish
from onecopy._native import Counter, Event, Lock, RLock, Semaphore, __version__
from onecopy._objects import Ref, get, put, share
from onecopy._pipes import Connection, Pipe, wait
from onecopy._queues import JoinableQueue, Queue, SimpleQueue
from onecopy._session import audit, reap, set_limit, stats
from onecopy._text import iter_text, loadtxt

if TYPE_CHECKING:
    from onecopy._export import to_ipc, to_parquet, to_zarr
    from onecopy._hdf5 import from_hdf5, join_hdf5, to_hdf5
    from onecopy._pool import Pool, ProcessPoolExecutor
    from onecopy._sharedctypes import Array, RawArray, RawValue, Value

__all__ = [
    "Arena",
    "ArenaError",
    "Array",
    "Barrier",
    "BoundedSemaphore",
    "BrokenBarrierError",
    "Condition",
    "Connection",
    "Counter",
    "DamagedArenaError",
    "Dict",
    "Event",
    "ForeignArenaError",
    "InvalidHandleError",
    "JoinableQueue",
    "List",
    "Lock",
    "NameTakenError",
    "NameUnknownError",
    "Namespace",
    "OnecopyError",
    "OutOfMemoryError",
    "OwnerDiedError",
    "ParseError",
    "Pipe",
    "Pool",
    "ProcessPoolExecutor",
    "Queue",
    "RLock",
    "RWLock",
    "RawArray",
    "RawValue",
    "Ref",
    "Semaphore",
    "ShutDownError",
    "SimpleQueue",
    "StaleHandleError",
    "Value",
    "WorkerDiedError",
    "__version__",
    "arena",
    "array",
    "asarray",
    "attach",
    "audit",
    "empty",
    "empty_like",
    "from_hdf5",
    "full",
    "full_like",
    "get",
    "is_shared",
    "iter_text",
    "join_hdf5",
    "loadtxt",
    "ones",
    "ones_like",
    "publish",
    "put",
    "reap",
    "set_limit",
    "share",
    "stats",
    "to_hdf5",
    "to_ipc",
    "to_parquet",
    "to_zarr",
    "unpublish",
    "wait",
    "zeros",
    "zeros_like",
]

#: Names whose modules need others (h5py, pyarrow, ctypes) that take long to import: those who do not use them shall not
#: wait.
_LATE = {
    "Array": "_sharedctypes",
    "Pool": "_pool",
    "ProcessPoolExecutor": "_pool",
    "RawArray": "_sharedctypes",
    "RawValue": "_sharedctypes",
    "Value": "_sharedctypes",
    "from_hdf5": "_hdf5",
    "join_hdf5": "_hdf5",
    "to_hdf5": "_hdf5",
    "to_ipc": "_export",
    "to_parquet": "_export",
    "to_zarr": "_export",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    globals()[name] = value = getattr(import_module(f"onecopy.{_LATE[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})
