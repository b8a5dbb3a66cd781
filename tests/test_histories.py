"""What comes out of queues and pipes while producers and consumers are killed.

Every consumer writes down what it gets into a pipe of the system, which outlives it. When all have ended, the histories
are checked: what each producer sent was got in order, and once, but for what a killed consumer had in hand.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import onecopy as oc

pytestmark = pytest.mark.usefixtures("time_limit", "nothing_left")
NUMBER, ROUNDS = 3, 12  # of producers, and of consumers
History = list[tuple[int, int]]


def messages(name: int) -> Iterator[tuple[int, int, Any]]:
    """Yield messages for ever. Some lie in the ring, some in blocks of their own, some refer to arrays."""
    for n in range(1 << 62):
        yield name, n, [b"", b"b" * 40_000, oc.full(100, n), [oc.full(3, n), n]][n % 4]


def check_message(message: tuple[int, int, Any]) -> None:
    name, n, body = message
    array = body[0] if n % 4 == 3 else body
    content = body if n % 4 < 2 else array.tolist()
    assert content == [b"", b"b" * 40_000, [n] * 100, [n] * 3][n % 4], f"message {n} of producer {name}"


def write_down(record: int, message: tuple[int, int, Any]) -> None:
    check_message(message)
    os.write(record, f"{message[0]} {message[1]}\n".encode())


def read(record: int, history: History) -> None:
    with os.fdopen(record) as lines:
        history.extend((int(name), int(n)) for name, n in map(str.split, lines) if n)


def kill_some(
    produce: Callable[..., None],
    consume: Callable[..., None],
    ends: Any,
    release: Callable[[], None],
    rng: random.Random,
) -> list[History]:
    """Kill all producers and a consumer at random moments; return what each consumer got."""
    ready = oc.SimpleQueue()
    context = multiprocessing.get_context("fork")

    def start(target: Callable[..., None], *args: Any) -> Any:
        process = context.Process(target=target, args=(ends, *args), daemon=True)
        process.start()
        return process

    reads, writes = zip(*(os.pipe() for _ in range(NUMBER)), strict=True)
    producers = [start(produce, ready, name) for name in range(NUMBER)]
    consumers = [start(consume, record) for record in writes]
    for record in writes:
        os.close(record)
    histories: list[History] = [[] for _ in reads]
    readers = [threading.Thread(target=read, args=pair) for pair in zip(reads, histories, strict=True)]
    for reader in readers:
        reader.start()
    for _ in producers:
        ready.get(timeout=30)
    victims = [*producers, consumers[0]]
    rng.shuffle(victims)
    for victim in victims:
        threading.Event().wait(rng.random() / 100)  # a random moment, not one to wait for
        victim.kill()
        victim.join()
    release()
    for consumer in consumers[1:]:
        consumer.join(30)
    assert [consumer.exitcode for consumer in consumers[1:]] == [0, 0]
    for reader in readers:
        reader.join()
    return histories


def check(histories: list[History]) -> None:
    missing = 0
    for name in range(NUMBER):
        each = [[n for who, n in history if who == name] for history in histories]
        assert all(got == sorted(got) for got in each)
        everything = sorted(n for got in each for n in got)
        assert len(everything) == len(set(everything))
        missing += max(everything, default=-1) + 1 - len(everything)
    # The killed consumer had at most one in hand, or one that it had not written down.
    assert missing <= 1


# --- queues ---


def put_for_ever(q: Any, ready: Any, name: int) -> None:
    ready.put(name)
    for message in messages(name):
        q.put(message)


def get_all(q: Any, record: int) -> None:
    for message in q:
        write_down(record, message)


@pytest.mark.parametrize("maxsize", [20, 2000])
def test_a_queue_loses_and_doubles_nothing(maxsize: int) -> None:
    rng = random.Random(7)
    for _ in range(ROUNDS):
        q = oc.Queue(maxsize)
        check(kill_some(put_for_ever, get_all, q, q.shutdown, rng))
        assert q.empty()
        del q


def do_all(q: Any, record: int) -> None:
    for message in q:
        write_down(record, message)
        q.task_done()


def test_a_joinable_queue_counts_all_but_what_the_killed_had_in_hand() -> None:
    rng = random.Random(8)
    for _ in range(ROUNDS):
        q = oc.JoinableQueue(50)
        check(kill_some(put_for_ever, do_all, q, q.shutdown, rng))
        # One consumer was killed, and had one task in hand or had just said that it is done.
        undone = q._unfinished()
        assert undone <= 1
        joiner = threading.Thread(target=q.join)
        joiner.start()
        for _ in range(undone):
            q.task_done()
        joiner.join(30)
        assert not joiner.is_alive()
        with pytest.raises(ValueError, match="task_done"):
            q.task_done()
        del q, joiner


# --- pipes ---


def send_for_ever(ends: tuple[Any, Any], ready: Any, name: int) -> None:
    receiving, sending = ends
    receiving.close()
    ready.put(name)
    for message in messages(name):
        sending.send(message)


def receive_all(ends: tuple[Any, Any], record: int) -> None:
    receiving, sending = ends
    sending.close()
    with pytest.raises(EOFError):
        while True:
            write_down(record, receiving.recv())


@pytest.mark.parametrize("duplex", [False, True])
def test_a_pipe_with_many_at_each_end_loses_and_doubles_nothing(duplex: bool) -> None:
    rng = random.Random(9)
    for _ in range(ROUNDS):
        ends = oc.Pipe(duplex)

        def close_both(ends: tuple[Any, Any] = ends) -> None:
            for end in ends:
                end.close()

        # The consumers come to the end of the file although nobody but the dead has closed the other end.
        check(kill_some(send_for_ever, receive_all, ends, close_both, rng))
        del ends, close_both
