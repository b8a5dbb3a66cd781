"""Queues, as `multiprocessing.queues` names them.

Those of `onecopy`, which take a context that they have no use for.
"""

from __future__ import annotations

import sys
import traceback
import types
from queue import Empty, Full
from typing import TYPE_CHECKING, Any, NoReturn

import onecopy as _oc
from onecopy import _queues

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Empty", "Full", "JoinableQueue", "Queue", "SimpleQueue"]


class Queue(_oc.Queue):
    """A queue; see `onecopy.Queue`.

    As in `multiprocessing`, an object that cannot be pickled does not raise in `put`: the traceback goes to
    `sys.stderr`, and the object is not put.
    """

    def __new__(cls, maxsize: int = 0, *, ctx: Any = None, handle: bytes | None = None) -> Self:
        """Make the queue, or attach to the one that a handle names."""
        return super().__new__(cls, maxsize, handle=handle)

    def close(self) -> None:
        """Say that this process will not use the queue any more; see `onecopy.Queue`."""
        super().close()
        if self._has_put():
            vars(self)["empty"] = _refuse

    @staticmethod
    def _on_queue_feeder_error(e: BaseException, obj: object) -> None:
        """Say that an object was not put. The name is that of the standard library's hook, which others override."""
        traceback.print_exception(type(e), e, e.__traceback__, file=sys.stderr)

    __class_getitem__: Any = classmethod(types.GenericAlias)


class JoinableQueue(Queue, _oc.JoinableQueue):
    """A queue that counts what has been done; see `onecopy.JoinableQueue`."""


class SimpleQueue(_oc.SimpleQueue):
    """A queue without a bound; see `onecopy.SimpleQueue`."""

    def __new__(cls, *, ctx: Any = None, handle: bytes | None = None) -> Self:
        """Make the queue, or attach to the one that a handle names."""
        return super().__new__(cls, handle=handle)

    def close(self) -> None:
        """Say that this process will not use the queue any more: what it calls after that is an `OSError`."""
        super().close()
        vars(self).update(dict.fromkeys(("empty", "get", "put"), _refuse))

    __class_getitem__: Any = classmethod(types.GenericAlias)


def _refuse(*args: object, **kwds: object) -> NoReturn:
    raise OSError("the queue is closed: this process called close() on it")


for _class in (Queue, JoinableQueue, SimpleQueue):
    _queues.send_by_handle(_class)
