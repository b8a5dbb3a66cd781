"""`Counter`: atomic, exact, and in every process."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import onecopy as oc

LATE = 30  # seconds after which a test has failed
LEAST, MOST = -(2**63), 2**63 - 1
NUMBERS = st.one_of(st.integers(LEAST, MOST), st.integers(-5, 5), st.sampled_from([LEAST, MOST, 2**62, -(2**62)]))

pytestmark = pytest.mark.usefixtures("nothing_left")

#: What each operation makes of the value and its argument; what it returns is the value before or after.
OPERATIONS: dict[str, tuple[Any, bool]] = {
    "add": (lambda value, n: value + n, True),
    "sub": (lambda value, n: value - n, True),
    "exchange": (lambda value, n: n, False),
    "fetch_max": (max, False),
    "fetch_min": (min, False),
    "fetch_and": (lambda value, n: value & n, False),
    "fetch_or": (lambda value, n: value | n, False),
    "fetch_xor": (lambda value, n: value ^ n, False),
}


@given(start=NUMBERS, steps=st.lists(st.tuples(st.sampled_from(sorted(OPERATIONS)), NUMBERS), max_size=20))
def test_operations_are_exact_or_refused(start: int, steps: list[tuple[str, int]]) -> None:
    counter, value = oc.Counter(start), start
    for name, n in steps:
        operation, answers_new = OPERATIONS[name]
        new = operation(value, n)
        if LEAST <= new <= MOST:
            assert getattr(counter, name)(n) == (new if answers_new else value)
            value = new
        else:
            with pytest.raises(OverflowError, match=f"the counter is at {value}"):
                getattr(counter, name)(n)
        assert counter.get() == counter.value == int(counter) == value


def test_it_is_exchanged_only_for_what_is_expected() -> None:
    counter = oc.Counter(5)
    assert counter.compare_exchange(5, 6) is True
    assert counter.compare_exchange(5, 7) is False
    assert counter.get() == 6
    counter.set(-1)
    assert repr(counter) == "<Counter(-1)>"


def test_the_value_is_to_be_read_only() -> None:
    counter = oc.Counter()
    with pytest.raises(AttributeError, match=r"use add\(n\), or set\(value\)"):
        counter.value += 1
    assert counter.value == 0


@pytest.mark.parametrize("wrong", [2**63, -(2**63) - 1])
def test_more_than_64_bits_are_an_overflow(wrong: int) -> None:
    counter = oc.Counter(3)
    for use in (oc.Counter, counter.add, counter.sub, counter.set, counter.fetch_max):
        with pytest.raises(OverflowError):
            use(wrong)
    assert counter.get() == 3


def test_only_integers_count() -> None:
    for wrong in (1.5, "1", None):
        with pytest.raises(TypeError):
            oc.Counter().add(wrong)  # type: ignore[arg-type]


def test_it_is_pickled_only_for_processes_and_queues() -> None:
    counter, q = oc.Counter(4), oc.Queue()
    with pytest.raises(RuntimeError):
        pickle.dumps(counter)
    q.put(counter)
    assert q.get().add() == counter.get() == 5


def test_threads_get_numbers_of_their_own() -> None:
    counter, got = oc.Counter(), [[], [], [], []]  # type: ignore[var-annotated]
    threads = [
        threading.Thread(target=lambda mine=mine: mine.extend(counter.add() for _ in range(2000))) for mine in got
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(n for mine in got for n in mine) == list(range(1, 8001))


def _count(counter: oc.Counter, times: int) -> None:
    for _ in range(times):
        counter.add()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_count_without_losing_one(method: str) -> None:
    context, counter = multiprocessing.get_context(method), oc.Counter(-10)
    workers = [context.Process(target=_count, args=(counter, 50_000)) for _ in range(2)]  # type: ignore[attr-defined]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(LATE)
    assert counter.get() == 99_990


def _count_and_tell(counter: oc.Counter, told: Any) -> None:
    while True:
        counter.add()
        told[0] += 1


def test_a_killed_process_has_counted_or_not() -> None:
    context = multiprocessing.get_context("fork")
    for _ in range(5):
        counter, told = oc.Counter(), oc.zeros(1, "i8")
        worker = context.Process(target=_count_and_tell, args=(counter, told), daemon=True)
        worker.start()
        while counter.get() < 100:
            pass
        worker.kill()
        worker.join()
        assert counter.get() - told[0] in (0, 1)
