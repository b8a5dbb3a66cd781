"""Pipes in shared memory: the parts that need not be fast."""

from __future__ import annotations

import time
from collections.abc import Iterable
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any

import numpy as np

from onecopy import _locks, _native
from onecopy._native import Connection as Connection
from onecopy._native import Queue

if TYPE_CHECKING:
    import numpy.typing as npt
    from typing_extensions import Buffer

#: The examples of the native class are run as this module's.
__test__ = {"Connection": Connection.__doc__ or ""}


def Pipe(duplex: bool = True) -> tuple[Connection, Connection]:  # as in multiprocessing
    """Make a pipe in shared memory between two processes or threads.

    Parameters
    ----------
    duplex : bool, optional
        Whether both ends send and receive. If not, the first receives and the second sends.

    Returns
    -------
    Connection, Connection
        The two ends, with the methods of those of `multiprocessing.Pipe`. They travel to other processes as arguments,
        through queues and through pipes.

    Examples
    --------
    >>> import onecopy as oc
    >>> receiving, sending = oc.Pipe(duplex=False)
    >>> sending.send(oc.ones(3))
    >>> receiving.recv()
    array([1., 1., 1.])
    >>> sending.send_bytes(b"abc", 1)
    >>> receiving.recv_bytes()
    b'bc'
    """
    return _native.pipe(bool(duplex))


def wait(object_list: Iterable[Any], timeout: float | None = None) -> list[Any]:
    """Wait until something of many things is ready.

    Parameters
    ----------
    object_list : iterable
        Any mix of onecopy connections and queues, and of what has a file descriptor: connections of `multiprocessing`,
        sockets, pipes, numbers of descriptors such as `Process.sentinel`.
    timeout : float, optional
        Seconds to wait at most; for ever by default. Zero, or a negative number, is not at all.

    Returns
    -------
    list
        Those that are ready, in order: a connection from which `recv` would return at once or raise `EOFError`, a queue
        from which `get` would return at once or raise `ShutDownError`, a descriptor that is readable. It is empty where
        the time was up.

    Examples
    --------
    >>> import onecopy as oc
    >>> (a, b), queue = oc.Pipe(), oc.Queue()
    >>> oc.wait([b, queue], timeout=0.01)
    []
    >>> queue.put(1)
    >>> oc.wait([b, queue]) == [queue]
    True
    """
    import selectors

    things = list(object_list)
    own = [(index, thing) for index, thing in enumerate(things) if isinstance(thing, (Connection, Queue))]
    mailbox = _native.Mailbox()
    with selectors.PollSelector() as selector:
        for index, thing in enumerate(things):
            if not isinstance(thing, (Connection, Queue)):
                selector.register(thing, selectors.EVENT_READ, index)

        def ready(seconds: float | None) -> list[Any]:
            found = {key.data for key, _ in selector.select(seconds) if key.data is not None}
            found.update(index for index, thing in own if thing._ready())
            return [things[index] for index in sorted(found)]

        if (found := ready(0)) or (timeout is not None and timeout <= 0):
            return found
        end = None if timeout is None else time.monotonic() + timeout
        selector.register(mailbox.fileno(), selectors.EVENT_READ, None)
        watches: dict[int, _native.Watch] = {}
        try:
            while True:
                for index, thing in own:
                    if index not in watches:
                        what = "get" if isinstance(thing, Queue) else "recv"
                        watches[index] = thing._watch(mailbox, index, what)
                left = None if end is None else max(end - time.monotonic(), 0)
                found = ready(left)
                if found or left == 0:
                    return found
                # Somebody else was faster, or it is about to be ready no more.
                for index in mailbox.collect():
                    watches.pop(index)
        finally:
            for watch in watches.values():
                watch.cancel()


def _bytes_of(buf: Buffer, offset: int, size: int | None) -> npt.NDArray[np.uint8]:
    """Return some bytes of a buffer."""
    view = memoryview(buf)
    whole = np.frombuffer(view if view.contiguous else view.tobytes(), np.uint8) if view.nbytes else np.empty(0, "u1")
    if offset < 0:
        raise ValueError(f"offset is negative: {offset}")
    if whole.size < offset:
        raise ValueError(f"buffer length < offset: {whole.size} < {offset}")
    if size is None:
        size = whole.size - offset
    if size < 0:
        raise ValueError(f"size is negative: {size}")
    if offset + size > whole.size:
        raise ValueError(f"buffer length < offset + size: {whole.size} < {offset} + {size}")
    return whole[offset : offset + size]


def _room_of(buf: Buffer, offset: int) -> npt.NDArray[np.uint8]:
    """Return the bytes of a buffer that can be written to."""
    view = memoryview(buf)
    if offset < 0:
        raise ValueError(f"negative offset: {offset}")
    if offset > view.nbytes:
        raise ValueError(f"offset too large: {offset} of {view.nbytes}")
    return np.frombuffer(view, np.uint8)[offset:] if view.nbytes else np.empty(0, "u1")


def _pickle(obj: Any) -> bytes:
    return bytes(ForkingPickler.dumps(obj))


# Connections travel through whatever `multiprocessing` sends them by, as its own do.
ForkingPickler.register(Connection, _locks.by_handle)
