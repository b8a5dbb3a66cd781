"""Pipes in shared memory: the parts that need not be fast."""

from __future__ import annotations

from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any

import numpy as np

from onecopy import _locks, _native
from onecopy._native import Connection as Connection

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
