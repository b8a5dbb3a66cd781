"""Queues beside those of the standard library."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import signal
import threading
from collections.abc import Callable
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np
import pytest

import onecopy as oc
from onecopy import _native, _queues

pytestmark = pytest.mark.usefixtures("time_limit")
MIB = 1 << 20
KINDS = {"Queue": oc.Queue, "SimpleQueue": oc.SimpleQueue, "JoinableQueue": oc.JoinableQueue}


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def context(request: pytest.FixtureRequest) -> BaseContext:
    return multiprocessing.get_context(request.param)


def start(context: BaseContext, target: Callable[..., Any], *args: Any) -> Any:
    process = context.Process(target=target, args=args, daemon=True)  # type: ignore[attr-defined]
    process.start()
    return process


def ended(process: Any) -> int:
    process.join(30)
    return process.exitcode


OBJECTS = [
    None,
    True,
    False,
    0,
    -(2**63),
    2**63,
    2**200,
    1.5,
    float("inf"),
    "",
    "text",
    "\ud800",
    "x" * 100_000,
    b"",
    b"bytes",
    b"y" * 1_000_000,
    bytearray(b"z"),
    (1, [2, {"3": {4}}]),
    np.float32(2.5),
]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.usefixtures("nothing_left")
def test_objects_come_out_equal_and_of_their_class(kind):
    q = kind()
    for obj in OBJECTS:
        q.put(obj)
    assert q.qsize() == len(OBJECTS)
    for obj in OBJECTS:
        got = q.get()
        assert got == obj
        assert type(got) is type(obj)
    assert q.empty()


@pytest.mark.usefixtures("nothing_left")
def test_a_shared_array_stays_where_it_is():
    q, a = oc.Queue(), oc.zeros((3, 4))
    q.put(a[1:, ::2])
    q.put({"deep": [a.T]})
    b, c = q.get(), q.get()["deep"][0]
    a[:] = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(b, a[1:, ::2])
    np.testing.assert_array_equal(c, a.T)


@pytest.mark.usefixtures("nothing_left")
def test_a_queue_keeps_its_arrays_and_drops_them_with_itself():
    before = oc.stats()["blocks"]
    q = oc.Queue()
    q.put(oc.ones(10))
    q.put([np.ones(100_000), oc.ones(3)])
    assert oc.stats()["blocks"] == before + 4
    assert q.get().sum() == 10
    assert q.get()[0].sum() == 100_000
    q.put(oc.ones(10))
    del q
    assert oc.stats()["blocks"] == before


def test_many_at_once():
    q = oc.Queue()
    assert q.put_many(OBJECTS) == len(OBJECTS)
    assert q.get_many(3) == OBJECTS[:3]
    assert q.get_many() == OBJECTS[3:]
    assert q.put_many([]) == 0
    with pytest.raises(queue.Empty):
        q.get_many(block=False)
    with pytest.raises(ValueError, match="max_items=0"):
        q.get_many(0)


def test_a_full_queue():
    q = oc.Queue(maxsize=2)
    assert q.put_many([1, 2, 3], timeout=0.01) == 2
    assert q.full()
    for put in (q.put_nowait, lambda x: q.put(x, timeout=0.01), lambda x: q.put_many([x], False)):
        with pytest.raises(queue.Full):
            put(3)
    assert q.get() == 1
    q.put(3, timeout=-1)
    assert q.get_many() == [2, 3]


def test_an_empty_queue():
    q = oc.Queue()
    for get in (q.get_nowait, lambda: q.get(False), lambda: q.get(timeout=0.01), lambda: q.get(timeout=-1)):
        with pytest.raises(queue.Empty):
            get()


@pytest.mark.parametrize("put", [lambda q, x: q.put(x), lambda q, x: q.put_many([oc.ones(3), x])])
@pytest.mark.usefixtures("nothing_left")
def test_what_cannot_be_pickled_raises_in_put_and_leaves_nothing(put):
    q = oc.Queue()
    with pytest.raises((pickle.PicklingError, AttributeError)):
        put(q, [oc.ones(3), lambda: None])
    assert q.empty()
    q.put(1)
    assert q.get() == 1


def test_close_is_for_this_process_and_shutdown_for_all(context):
    q = oc.Queue()
    process = start(context, q.close)
    assert ended(process) == 0
    q.put_many([1, 2])
    q.shutdown()
    with pytest.raises(oc.ShutDownError):
        q.put(3)
    assert list(q) == [1, 2]
    with pytest.raises(oc.ShutDownError, match="closed"):
        q.get()
    q.close()
    for use in (q.get, lambda: q.put(1), q.get_many):
        with pytest.raises(ValueError, match="is closed"):
            use()
    q.join_thread()
    q.cancel_join_thread()


def test_tasks():
    q = oc.JoinableQueue()
    q.put_many([1, 2])
    q.get()
    q.task_done()
    waiter = threading.Thread(target=q.join)
    waiter.start()
    q.get()
    q.task_done()
    waiter.join()
    with pytest.raises(ValueError, match="too many times"):
        q.task_done()


def test_a_queue_is_pickled_only_for_processes_and_queues():
    q, lock, carrier = oc.Queue(), oc.Lock(), oc.Queue()
    with pytest.raises(RuntimeError):
        pickle.dumps(q)
    carrier.put((q, lock))
    there, same = carrier.get()
    there.put("through another queue")
    assert q.get() == "through another queue"
    with same:
        assert lock.locked()


def answer(questions: Any, answers: Any) -> None:
    for question in questions:
        answers.put((question, os.getpid()))


@pytest.mark.usefixtures("nothing_left")
def test_processes_of_every_kind_share_a_queue(context):
    questions, answers = oc.Queue(3), oc.SimpleQueue()
    workers = [start(context, answer, questions, answers) for _ in range(2)]
    for n in range(100):
        questions.put(oc.full(2, n) if n % 3 == 0 else n)
    questions.shutdown()
    got = [answers.get(timeout=30) for _ in range(100)]
    assert [ended(worker) for worker in workers] == [0, 0]
    assert sorted(int(np.max(question)) for question, _ in got) == list(range(100))


@pytest.mark.usefixtures("nothing_left")
def test_letters_are_opened_by_those_who_know_that_they_are_letters():
    q = oc.Queue()
    for obj in [*OBJECTS, oc.ones(3), [oc.ones(3), 1]]:
        q._post(7, -(2**63), 2**63 - 1, obj, _queues.dumps)
        (letter,) = q._fetch(9, None)
        assert (letter.topic, letter.number, letter.extra) == (7, -(2**63), 2**63 - 1)
        assert repr(letter.open()) == repr(letter.open()) == repr(obj)
        assert type(letter.open()) is type(obj)
    assert q._fetch(1, 0) == []
    q.put("no letter")
    with pytest.raises(ValueError, match="changed"):
        q._fetch(1, 0)
    q._post(7, 1, 2, "a letter", pickle.dumps)
    with pytest.raises(ValueError, match="letter"):
        q.get()
    del letter, obj


@pytest.mark.usefixtures("nothing_left")
def test_many_letters_at_once_all_or_as_many_as_there_is_memory_for():
    q, limit = oc.Queue(), oc.stats()["limit"]
    objects = [*OBJECTS, oc.ones(3), [oc.ones(3), 1]]
    assert q._post_many([(7, n, -n, obj) for n, obj in enumerate(objects)], _queues.dumps) == len(objects)
    got = q._fetch(1000, None)
    assert [(letter.topic, letter.number, letter.extra) for letter in got] == [(7, n, -n) for n in range(len(objects))]
    assert [repr(letter.open()) for letter in got] == [repr(obj) for obj in objects]
    assert q._post_many([], _queues.dumps) == 0
    with pytest.raises(TypeError, match="pickle"):
        q._post_many([(7, 0, 0, oc.ones(3)), (7, 1, 0, threading.Lock())], _queues.dumps)
    with pytest.raises(TypeError):
        q._post_many([(7, 0, 0, oc.ones(3)), (7, "one", 0, 1)], _queues.dumps)
    assert q.empty()
    # Each fits into a message, all of them fit into no segment that there is memory for.
    many = [(7, n, 0, b"x" * 10_000) for n in range(1000)]
    try:
        oc.set_limit(oc.stats()["used_bytes"] + MIB)
        put = q._post_many(many, _queues.dumps)
        with pytest.raises(oc.OutOfMemoryError):
            q._post_many(many, _queues.dumps)
    finally:
        oc.set_limit(limit)
    assert 0 < put < 1000
    assert [letter.number for letter in q._fetch(2000, 0)] == list(range(put))
    del got, objects, q


def test_handles_go_with_the_queue_that_owns_them():
    before, q, a = oc.stats()["handles_in_flight"], oc.Queue(), oc.ones(3)
    handle = q._owning(lambda: _native.encode(a))
    assert oc.stats()["handles_in_flight"] == before + 1
    assert _native.decode(handle).sum() == 3
    q._owning(lambda: _native.encode(a))
    del q
    assert oc.stats()["handles_in_flight"] == before


def test_ctrl_c_ends_a_wait():
    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    q, before = oc.Queue(1), signal.signal(signal.SIGUSR1, interrupt)
    q.put(1)
    try:
        for wait in (lambda: q.put(2), oc.Queue().get, lambda: oc.JoinableQueue().join() or q.put(3)):
            killer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
            # Started where it is expected: on a busy machine it may come before the wait.
            with pytest.raises(KeyboardInterrupt):
                killer.start()
                wait()
            killer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert q.get_many() == [1]


def test_an_array_with_metadata_is_moved_in_once_and_keeps_it():
    dtype = np.dtype("f8", metadata={"unit": "m"})
    queue, array, before = oc.Queue(), np.arange(20_000, dtype=dtype), oc.stats()
    queue.put(array)
    got = queue.get()
    assert dict(got.dtype.metadata) == {"unit": "m"} and (got == array).all()
    assert oc.stats()["arrays_moved_in"] == before["arrays_moved_in"] + 1
