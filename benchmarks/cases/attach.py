"""Attach: from the received bytes of a handle to a usable array, in a process that has attached before."""

import pickle
from functools import partial
from multiprocessing import shared_memory
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler

import numpy as np

from benchmarks.isolated import isolated
from benchmarks.measure import GIB, KIB, Scale, take_turns, time_each
from benchmarks.report import Table
from benchmarks.waiting import messages, waiting_worker

TITLE = "Attach: received bytes of a handle to a usable array"

HANDLES = 200
PICKLE, NATIVE = "onecopy, pickle", "onecopy, native codec"
SHARED_MEMORY = "SharedMemory(name)"


def run(scale: Scale) -> Table:
    table = Table(TITLE)
    for label, nbytes in [("1 KiB", KIB), ("8 GiB", 8 * GIB)]:
        size = max(scale.size(nbytes), KIB)
        contenders = {
            PICKLE: partial(isolated, attach_onecopy, "pickle", size),
            NATIVE: partial(isolated, attach_onecopy, "native", size),
            SHARED_MEMORY: partial(isolated, attach_shared_memory, size),
        }
        results, notes = take_turns(contenders, scale.rounds)
        for name, seconds in results.items():
            table.add(label, name, seconds, "s")
        table.notes += notes
        table.claim_limit(label, 3e-6, ours=PICKLE, peer=SHARED_MEMORY)
        table.claim_limit(label, 1e-6, ours=NATIVE, peer=SHARED_MEMORY)
    return table


def attach_onecopy(codec: str, nbytes: int) -> float:
    """Seconds per attach; every handle is another one, as a handle may be received only once."""
    import onecopy
    from onecopy import _native

    array = onecopy.empty(nbytes // 8)
    array[-1] = 1.5
    encode = _native.encode if codec == "native" else _pickle_as_connections_do
    with waiting_worker(_attach_handles, codec) as worker:
        for _ in range(2):  # the worker joins the arena with the first lot, the second is measured
            worker.send([encode(array) for _ in range(HANDLES)])
            seconds, last = worker.recv()
    assert last == 1.5
    return seconds


def attach_shared_memory(nbytes: int) -> float:
    """Seconds per attach of the standard library's segments, by name."""
    memory = shared_memory.SharedMemory(create=True, size=nbytes)
    try:
        array = np.ndarray(nbytes // 8, buffer=memory.buf)
        array[-1] = 1.5
        with waiting_worker(_attach_names) as worker:
            for _ in range(2):
                worker.send((memory.name, nbytes))
                seconds, last = worker.recv()
        assert last == 1.5
        del array
    finally:
        memory.close()
        memory.unlink()
    return seconds


def _pickle_as_connections_do(array: np.ndarray) -> bytes:
    return bytes(ForkingPickler.dumps(array))


def _attach_handles(connection: Connection, codec: str) -> None:
    from onecopy import _native

    decode = _native.decode if codec == "native" else pickle.loads
    for handles in messages(connection):
        seconds = time_each(decode, handles[1:])
        connection.send((seconds, float(decode(handles[0])[-1])))


def _attach_names(connection: Connection) -> None:
    for name, nbytes in messages(connection):
        segments = []

        def attach(name: str, shape: int = nbytes // 8, segments: list = segments) -> np.ndarray:
            segments.append(shared_memory.SharedMemory(name=name))
            return np.ndarray(shape, buffer=segments[-1].buf)

        seconds = time_each(attach, [name] * HANDLES)
        last = float(attach(name)[-1])
        for segment in segments:
            segment.close()
        connection.send((seconds, last))
