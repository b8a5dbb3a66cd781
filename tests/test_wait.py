"""`wait` over mixes of things, and the descriptors of queues and connections."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import queue
import selectors
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

import onecopy as oc

pytestmark = pytest.mark.usefixtures("nothing_left", "time_limit")


def later(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Timer(0.02, work)
    thread.start()
    return thread


def test_whatever_is_ready_is_returned_in_order() -> None:
    (a, b), (c, d), q, (near, far) = oc.Pipe(), multiprocessing.Pipe(), oc.Queue(), socket.socketpair()
    read, write = os.pipe()
    things = [b, near, q, read, d]
    with c, d, near, far:
        assert oc.wait(things, 0) == oc.wait(things, -1) == oc.wait(things, 0.01) == oc.wait([], 0) == []
        steps = [lambda: c.send(1), lambda: a.send(1), lambda: os.write(write, b"1"), lambda: q.put(1)]
        for count, step in enumerate([*steps, lambda: far.send(b"1")]):
            others = [thing for thing in things if thing not in oc.wait(things, 0)]
            thread = later(step)
            assert len(oc.wait(others)) == 1
            thread.join()
            assert len(oc.wait(things)) == count + 1
        assert oc.wait(iter(things)) == things
    os.close(read), os.close(write)


def test_an_end_and_a_shut_down_queue_are_ready() -> None:
    (a, b), q = oc.Pipe(), oc.Queue()
    thread = later(a.close)
    assert oc.wait([b, q]) == [b]
    thread.join()
    thread = later(q.shutdown)
    assert oc.wait([q]) == [q]
    thread.join()


def pause(end: Any) -> None:
    end.send("ready")
    signal.pause()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_killed_process_is_noticed_at_its_sentinel_and_at_its_end(method: str) -> None:
    here, there = oc.Pipe()
    process = multiprocessing.get_context(method).Process(target=pause, args=(there,), daemon=True)
    process.start()
    there.close()
    assert here.recv() == "ready"
    assert oc.wait([here, process.sentinel], 0.05) == []
    process.kill()
    left = {here, process.sentinel}
    while left:
        left -= set(oc.wait(left))
    process.join()


def test_what_another_takes_first_is_not_ready() -> None:
    q, stop = oc.Queue(), threading.Event()

    def tease() -> None:
        while not stop.is_set():
            q.put(1)
            q.get()

    teaser = threading.Thread(target=tease)
    teaser.start()
    for _ in range(20):
        oc.wait([q], 0.002)
    stop.set()
    teaser.join()
    assert oc.wait([q], 0) == []


def test_ctrl_c_ends_it() -> None:
    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    killer = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1))
    try:
        # Started where it is expected: on a busy machine it may come before the wait.
        with pytest.raises(KeyboardInterrupt):
            killer.start()
            oc.wait([oc.Queue()])
    finally:
        signal.signal(signal.SIGUSR1, before)
    killer.join()


# --- descriptors ---


def readable(thing: Any, seconds: float = 0) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(thing, selectors.EVENT_READ)
        return bool(selector.select(seconds))


def of_queue() -> tuple[Any, ...]:
    q = oc.Queue()
    return q, q.put, q.get, q.shutdown


def of_pipe() -> tuple[Any, ...]:
    receiving, sending = oc.Pipe(False)
    return receiving, sending.send, receiving.recv, sending.close


@pytest.mark.parametrize("make", [of_queue, of_pipe])
def test_a_descriptor_is_readable_while_there_is_something(make: Callable[[], Any]) -> None:
    thing, put, get, end = make()
    put(1)
    number = thing.fileno()  # asked for once: what it says must follow what is done
    assert readable(number) and thing.fileno() == number
    put(2)
    get()
    assert readable(number)
    get()
    assert not readable(number)
    for n in range(100):
        thread = threading.Thread(target=put, args=(n,))
        thread.start()
        assert readable(number, 60)
        assert get() == n
        thread.join()
        assert not readable(number)
    end()
    assert readable(number, 60)
    assert multiprocessing.connection.wait([thing]) == [thing]
    thing.close()
    with pytest.raises((OSError, ValueError), match="closed"):
        thing.fileno()


def test_a_descriptor_is_silent_again_when_nothing_was_found() -> None:
    q = oc.Queue()
    again = oc.Queue(handle=q._send())  # as another process has it
    number = q.fileno()
    assert not readable(number)
    q.put(1)
    assert readable(number, 60)
    assert again.get() == 1
    with pytest.raises(queue.Empty):
        q.get_nowait()
    assert not readable(number)
    q.put(2)
    assert readable(number, 60)


def answer_by_descriptor(questions: Any, answers: Any) -> None:
    while readable(questions, 60):
        try:
            answers.send(questions.recv())
        except EOFError:
            return


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_each_process_has_a_descriptor_of_its_own(method: str) -> None:
    (questions, ask), (answers, answer) = oc.Pipe(False), oc.Pipe(False)
    assert not readable(questions) and not readable(answers)
    context = multiprocessing.get_context(method)
    process = context.Process(target=answer_by_descriptor, args=(questions, answer), daemon=True)
    process.start()
    for n in range(50):
        ask.send(n)
        assert readable(answers, 60)
        assert answers.recv() == n
    process.kill()
    process.join()
