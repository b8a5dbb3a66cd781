"""Pipes, as `multiprocessing` and onecopy have them: the suite is checked by the other."""

from __future__ import annotations

import array
import errno
import gc
import itertools
import multiprocessing
import os
import pickle
import random
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import BaseContext
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import pytest

import onecopy as oc

pytestmark = pytest.mark.usefixtures("nothing_left", "time_limit")
LIBRARIES = {"onecopy": oc.Pipe, "multiprocessing": multiprocessing.Pipe}


@pytest.fixture(params=LIBRARIES.values(), ids=LIBRARIES)
def pipe(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def context(request: pytest.FixtureRequest) -> BaseContext:
    return multiprocessing.get_context(request.param)


def start(context: BaseContext, target: Callable[..., Any], *args: Any) -> Any:
    process = context.Process(target=target, args=args, daemon=True)  # type: ignore[attr-defined]
    process.start()
    return process


OBJECTS = [None, True, 0, 2**200, 1.5, "", "text", "\ud800", "x" * 100_000, b"", b"y" * 1_000_000, (1, [2, {"3": {4}}])]


# --- messages ---


def test_objects_come_out_equal_and_of_their_class(pipe: Any) -> None:
    a, b = pipe()
    with a, b:
        for sending, receiving in [(a, b), (b, a)]:
            for obj in OBJECTS:
                sender = threading.Thread(target=sending.send, args=(obj,))
                sender.start()
                got = receiving.recv()
                sender.join()
                assert got == obj and type(got) is type(obj)
            assert not receiving.poll()


def test_one_way(pipe: Any) -> None:
    receiving, sending = pipe(False)
    with receiving, sending:
        assert (receiving.readable, receiving.writable) == (True, False)
        assert (sending.readable, sending.writable) == (False, True)
        for use in [lambda: receiving.send(1), lambda: receiving.send_bytes(b"1")]:
            with pytest.raises(OSError, match="read-only"):
                use()
        for use in [sending.recv, sending.recv_bytes, sending.poll, lambda: sending.recv_bytes_into(bytearray(1))]:
            with pytest.raises(OSError, match="write-only"):
                use()
        sending.send(1)
        assert receiving.recv() == 1


BUFFERS: list[Any] = [
    b"",
    b"some bytes",
    bytearray(b"more"),
    memoryview(b"a view")[2:],
    array.array("i", range(5)),
    np.arange(12, dtype="<f8").reshape(3, 4),
    b"large" * 100_000,
]


@pytest.mark.parametrize("buffer", BUFFERS, ids=lambda buffer: type(buffer).__name__)
def test_bytes_are_a_message(pipe: Any, buffer: Any) -> None:
    a, b = pipe()
    whole = memoryview(buffer).tobytes()
    with a, b, ThreadPoolExecutor(1) as threads:
        sent = threads.submit(a.send_bytes, buffer)
        got = b.recv_bytes()
        assert (got, type(got), sent.result()) == (whole, bytes, None)
        into = bytearray(len(whole) + 5)
        threads.submit(a.send_bytes, buffer)
        assert b.recv_bytes_into(into, 3) == len(whole)
        assert into == b"\0" * 3 + whole + b"\0" * 2


def test_parts_of_a_buffer(pipe: Any) -> None:
    a, b = pipe()
    with a, b:
        for arguments, expected in [((0,), b"abcde"), ((2,), b"cde"), ((5,), b""), ((1, 3), b"bcd"), ((1, 0), b"")]:
            a.send_bytes(b"abcde", *arguments)
            assert b.recv_bytes() == expected
        for arguments in [(-1,), (6,), (0, -1), (0, 6), (3, 3)]:
            with pytest.raises(ValueError, match=r"offset|size"):
                a.send_bytes(b"abcde", *arguments)
        with pytest.raises(TypeError):
            a.send_bytes("text")
        numbers = array.array("H", [1, 2, 3])
        a.send_bytes(numbers, 2, 2)
        assert b.recv_bytes() == numbers.tobytes()[2:4]


def test_objects_and_bytes_are_the_same_stream(pipe: Any) -> None:
    a, b = pipe()
    with a, b:
        for obj in OBJECTS[:8]:
            a.send(obj)
            assert pickle.loads(b.recv_bytes()) == obj
            a.send_bytes(pickle.dumps(obj))
            assert b.recv() == obj


def test_a_buffer_that_is_too_short_loses_nothing(pipe: Any) -> None:
    a, b = pipe()
    with a, b:
        a.send_bytes(b"0123456789")
        a.send_bytes(b"next")
        into = bytearray(12)
        with pytest.raises(multiprocessing.BufferTooShort) as error:
            b.recv_bytes_into(into, 4)
        assert error.value.args == (b"0123456789",)
        assert b.recv_bytes_into(into) == 4
        for offset in [-1, 13]:
            with pytest.raises(ValueError, match="offset"):
                b.recv_bytes_into(into, offset)
        numbers = array.array("i", [0] * 4)
        a.send_bytes(array.array("i", [7, 8]))
        assert b.recv_bytes_into(numbers, numbers.itemsize) == 8
        assert numbers.tolist() == [0, 7, 8, 0]


def test_a_buffer_that_cannot_be_written_to() -> None:
    a, b = oc.Pipe()
    a.send_bytes(b"kept")
    with pytest.raises(TypeError, match="written"):
        b.recv_bytes_into(b"constant")
    assert b.recv_bytes() == b"kept"


@pytest.mark.parametrize("duplex", [True, False])
def test_a_message_that_is_too_long_ends_the_receiving(pipe: Any, duplex: bool) -> None:
    b, a = pipe(duplex)
    with a, b:
        a.send_bytes(b"abc")
        assert b.recv_bytes(3) == b"abc"
        with pytest.raises(ValueError, match="negative maxlength"):
            b.recv_bytes(-1)
        a.send_bytes(b"abcd")
        with pytest.raises(OSError, match="bad message length"):
            b.recv_bytes(3)
        assert b.closed != duplex
        with pytest.raises(OSError, match="write-only" if duplex else "closed"):
            b.recv()


def test_poll(pipe: Any) -> None:
    a, b = pipe()
    with a, b:
        assert (b.poll(), b.poll(0), b.poll(0.01), b.poll(-1)) == (False,) * 4
        a.send(1)
        assert (b.poll(), b.poll(60), b.poll(None), b.poll(timeout=0)) == (True,) * 4
        assert b.recv() == 1
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(b.poll, None)
            a.send(2)
            assert waiting.result()


def test_arrays_stay_where_they_are() -> None:
    a, b = oc.Pipe()
    shared = oc.zeros((3, 4))
    a.send(shared[1:, ::2])
    a.send({"deep": [shared.T]})
    part, deep = b.recv(), b.recv()["deep"][0]
    shared[:] = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(part, shared[1:, ::2])
    np.testing.assert_array_equal(deep, shared.T)


def test_what_cannot_be_pickled_leaves_the_pipe_as_it_was(pipe: Any) -> None:
    a, b = pipe()
    with a, b:
        with pytest.raises((pickle.PicklingError, AttributeError)):
            # (A connection of the standard library would leave the handle in flight.)
            a.send([oc.ones(3) if pipe is oc.Pipe else 3, lambda: None])
        assert not b.poll()
        a.send(1)
        assert b.recv() == 1


def test_what_is_on_its_way_goes_with_the_pipe() -> None:
    a, b = oc.Pipe()
    a.send([oc.ones(1000), b"x" * 100_000])
    b.send_bytes(b"x" * 100_000)


# --- ends ---


def test_the_end_of_the_file(pipe: Any) -> None:
    a, b = pipe()
    a.send(1)
    a.close()
    assert (a.closed, a.readable if pipe is oc.Pipe else False) == (True, False)
    with pytest.raises(BrokenPipeError) as error:
        b.send(2)
    assert error.value.errno == errno.EPIPE
    assert b.poll(60) and b.recv() == 1
    assert b.poll() and b.poll(60)
    for use in [b.recv, b.recv_bytes, lambda: b.recv_bytes_into(bytearray(1))]:
        with pytest.raises(EOFError):
            use()
    a.close()
    b.close()
    for use in [
        b.recv,
        b.recv_bytes,
        b.poll,
        lambda: b.send(1),
        lambda: b.send_bytes(b""),
        lambda: ForkingPickler.dumps(b),
    ]:
        with pytest.raises(OSError, match="closed"):
            use()


def test_a_connection_that_nobody_refers_to_is_closed(pipe: Any) -> None:
    a, b = pipe()
    del a
    gc.collect()
    with pytest.raises(EOFError):
        b.recv()
    b.close()


@pytest.mark.parametrize("use", [lambda end: end.recv(), lambda end: end.poll(None)], ids=["recv", "poll"])
def test_closing_ends_the_wait_of_another_thread(use: Callable[[Any], object]) -> None:
    a, b = oc.Pipe()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(use, b)  # it waits by then or not: either way it is told
        b.close()
        with pytest.raises(OSError, match="closed"):
            waiting.result()
    assert a.poll()


def echo(connection: Any) -> None:
    while (message := connection.recv()) is not None:
        connection.send((message, os.getpid()))


def test_processes_of_every_kind_share_a_pipe(pipe: Any, context: BaseContext) -> None:
    here, there = pipe()
    process = start(context, echo, there)
    there.close()
    for n in range(100):
        here.send(n)
        assert here.recv() == (n, process.pid)
    here.send(None)
    with pytest.raises(EOFError):
        here.recv()
    process.join()
    with pytest.raises(BrokenPipeError):
        here.send(1)
    assert process.exitcode == 0
    here.close()


def open_and_wait(connection: Any, ready: Any) -> None:
    ready.send("ready")
    signal.pause()


def test_a_killed_process_has_no_end_any_more(pipe: Any, context: BaseContext) -> None:
    (here, there), (ready, readied) = pipe(), pipe(False)
    process = start(context, open_and_wait, there, readied)
    there.close()
    readied.close()
    assert ready.recv() == "ready"
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(here.recv)
        process.kill()
        with pytest.raises(EOFError):
            waiting.result()
    process.join()
    assert here.poll()
    with pytest.raises(BrokenPipeError):
        here.send(1)
    with pytest.raises(EOFError):
        ready.recv()
    here.close(), ready.close()


def test_a_killed_receiver_ends_the_wait_of_a_sender(pipe: Any) -> None:
    (there, here), (ready, readied) = pipe(False), pipe(False)
    process = start(multiprocessing.get_context("fork"), open_and_wait, there, readied)
    there.close()
    ready.recv()

    def fill() -> None:
        while True:
            here.send_bytes(b"x" * 100)

    with ThreadPoolExecutor(1) as threads:
        filling = threads.submit(fill)
        threading.Timer(0.1, process.kill).start()
        with pytest.raises(BrokenPipeError):
            filling.result()
    process.join()
    for connection in [here, ready, readied]:
        connection.close()


def test_an_end_is_open_while_anybody_has_it(context: BaseContext) -> None:
    receiving, sending = oc.Pipe(False)
    ready, readied = oc.Pipe(False)
    processes = [start(context, open_and_wait, sending, readied) for _ in range(2)]
    sending.close()
    assert [ready.recv(), ready.recv()] == ["ready", "ready"]
    processes[0].kill()
    processes[0].join()
    assert not receiving.poll(0.05)
    processes[1].kill()
    with pytest.raises(EOFError):
        receiving.recv()
    processes[1].join()


CARRIERS: dict[str, Callable[[], Any]] = {
    "Pipe": oc.Pipe,
    "multiprocessing.Pipe": multiprocessing.Pipe,
    "Queue": oc.Queue,
    "multiprocessing.SimpleQueue": multiprocessing.SimpleQueue,
}


@pytest.mark.parametrize("carrier", CARRIERS.values(), ids=CARRIERS)
def test_ends_travel_through_queues_and_pipes(carrier: Callable[[], Any]) -> None:
    receiving, sending = oc.Pipe(False)
    carried = carrier()
    (there, here) = carried if isinstance(carried, tuple) else (carried, carried)
    (there.send if isinstance(carried, tuple) else there.put)(sending)
    sending.close()
    assert not receiving.poll(0.02), "an end that travels is open"
    again = (here.recv if isinstance(carried, tuple) else here.get)()
    again.send("it is the same pipe")
    assert receiving.recv() == "it is the same pipe"
    again.close()
    with pytest.raises(EOFError):
        receiving.recv()
    here.close(), there.close()


def test_a_connection_is_pickled_only_for_processes_and_channels() -> None:
    a, b = oc.Pipe()
    with pytest.raises(RuntimeError, match="inheritance"):
        pickle.dumps(a)
    again = ForkingPickler.loads(ForkingPickler.dumps(a))
    again.send(1)
    assert b.recv() == 1
    with pytest.raises(oc.InvalidHandleError):
        oc.Connection(handle=b"nonsense")
    with pytest.raises(TypeError):
        oc.Connection()


def test_it_says_what_it_is() -> None:
    a, b = oc.Pipe(False)
    assert (repr(a), repr(b)) == ("<onecopy.Connection, read-only>", "<onecopy.Connection, write-only>")
    b.close()
    assert (repr(oc.Pipe()[0]), repr(b)) == ("<onecopy.Connection, duplex>", "<onecopy.Connection, closed>")


def test_ctrl_c_ends_a_wait() -> None:
    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    def fill() -> None:
        for n in itertools.count():
            a.send(n)

    (a, b), before = oc.Pipe(), signal.signal(signal.SIGUSR1, interrupt)
    try:
        for wait, seconds in [(a.recv, 0.05), (lambda: a.poll(None), 0.05), (fill, 0.2)]:
            killer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGUSR1))
            # Started where it is expected: on a busy machine it may come before the wait.
            with pytest.raises(KeyboardInterrupt):
                killer.start()
                wait()
            killer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    # What has been sent is whole and in order, and it goes on.
    a.close()
    received = []
    with pytest.raises(EOFError):
        while True:
            received.append(b.recv())
    assert received and received == list(range(len(received)))


# --- killed at any time ---


def chatter(connection: Any, seed: int) -> None:
    rng = random.Random(seed)
    for n in range(1 << 62):
        body = [b"", b"b" * 40_000, oc.full(100, n), [oc.full(3, n), n]][rng.randrange(4)]
        connection.send((n, body))
        while connection.poll():
            connection.recv()


def test_killed_at_random_a_peer_leaves_whole_messages_and_an_end() -> None:
    rng = random.Random(11)
    for seed in range(25):
        here, there = oc.Pipe()
        process = start(multiprocessing.get_context("fork"), chatter, there, seed)
        there.close()
        assert here.recv()[0] == 0
        killer = threading.Timer(rng.random() / 50, process.kill)
        killer.start()
        expected = 1
        with pytest.raises((EOFError, BrokenPipeError)):
            while True:
                n, body = here.recv()
                assert n == expected
                if isinstance(body, np.ndarray):
                    assert body.tolist() == [n] * 100
                expected += 1
                here.send(oc.full(10, n))
        with pytest.raises(EOFError):
            while True:
                here.recv()
        killer.join()
        process.join()
        here.close()
