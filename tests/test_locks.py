"""What locks do, as `threading`, `multiprocessing` and onecopy have it: the suite is checked by the other two."""

import multiprocessing
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest

import onecopy as oc

#: What each raises when something is released or used that is not held.
NOT_HELD = {threading: RuntimeError, multiprocessing: (ValueError, AssertionError), oc: (ValueError, AssertionError)}
CLASSES = ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Barrier"]
EXCLUSIVE = ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition"]
LATE = 30  # seconds after which a test has failed

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture(params=[oc, multiprocessing, threading], ids=lambda library: library.__name__)
def library(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def threads() -> Iterator[Callable[..., Future[Any]]]:
    with ThreadPoolExecutor(8) as pool:
        yield pool.submit


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + LATE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.0005)


def result(future: Future[Any]) -> Any:
    return future.result(LATE)


# --- all that can be held ---


@pytest.mark.parametrize("name", EXCLUSIVE)
def test_it_is_held_once(library: Any, name: str, threads: Any) -> None:
    lock = getattr(library, name)()
    assert lock.acquire() is True
    assert result(threads(lock.acquire, False)) is False
    assert result(threads(lock.acquire, True, 0.01)) is False
    assert result(threads(lock.acquire, timeout=0.01)) is False
    lock.release()
    with lock as held:
        assert held is True
        assert result(threads(lock.acquire, False)) is False
    assert lock.acquire(timeout=LATE) is True
    lock.release()


@pytest.mark.parametrize("name", EXCLUSIVE)
def test_an_exception_releases_it(library: Any, name: str) -> None:
    lock = getattr(library, name)()
    with pytest.raises(KeyError), lock:
        raise KeyError("x")
    assert lock.acquire(False)
    lock.release()


@pytest.mark.parametrize("name", ["Lock", "RLock", "BoundedSemaphore", "Condition"])
def test_releasing_what_is_not_held(library: Any, name: str) -> None:
    lock = getattr(library, name)()
    with pytest.raises((*_classes(NOT_HELD[library]), ValueError)):
        lock.release()
    with lock:
        pass


def _classes(one_or_more: Any) -> tuple[Any, ...]:
    return one_or_more if isinstance(one_or_more, tuple) else (one_or_more,)


@pytest.mark.parametrize("name", ["Lock", "Semaphore", "BoundedSemaphore"])
def test_another_thread_releases_it(library: Any, name: str, threads: Any) -> None:
    lock = getattr(library, name)()
    lock.acquire()
    result(threads(lock.release))
    assert lock.acquire(False)
    lock.release()


@pytest.mark.parametrize("name", EXCLUSIVE)
def test_it_excludes(library: Any, name: str, threads: Any) -> None:
    lock, inside, seen = getattr(library, name)(), [], []

    def work() -> None:
        for _ in range(300):
            with lock:
                inside.append(1)
                seen.append(len(inside))
                inside.pop()

    for future in [threads(work) for _ in range(4)]:
        result(future)
    assert set(seen) == {1}
    assert len(seen) == 1200


# --- RLock ---


def test_a_thread_takes_an_rlock_again(library: Any, threads: Any) -> None:
    lock = library.RLock()
    with lock, lock:
        lock.acquire()
        lock.release()
        assert result(threads(lock.acquire, False)) is False
        with pytest.raises(NOT_HELD[library]):
            result(threads(lock.release))
    assert result(threads(lambda: lock.acquire(False) and lock.release() is None))


# --- semaphores ---


def test_a_semaphore_counts(library: Any) -> None:
    semaphore = library.Semaphore(2)
    assert [semaphore.acquire(False) for _ in range(3)] == [True, True, False]
    for _ in range(4):
        semaphore.release()
    assert [semaphore.acquire(False) for _ in range(5)] == [True] * 4 + [False]


def test_a_bounded_semaphore_has_a_bound(library: Any) -> None:
    semaphore = library.BoundedSemaphore(2)
    semaphore.acquire()
    semaphore.release()
    with pytest.raises(ValueError, match="released too many times"):
        semaphore.release()
    assert [semaphore.acquire(False) for _ in range(3)] == [True, True, False]


def test_a_semaphore_of_none_signals(library: Any, threads: Any) -> None:
    semaphore = library.Semaphore(0)
    waiting = [threads(semaphore.acquire, True, LATE) for _ in range(3)]
    for _ in range(3):
        semaphore.release()
    assert all(map(result, waiting))


# --- Event ---


def test_an_event_lets_all_go(library: Any, threads: Any) -> None:
    event = library.Event()
    assert (event.is_set(), event.wait(0.01), event.wait(0)) == (False, False, False)
    waiting = [threads(event.wait, LATE) for _ in range(3)]
    event.set()
    assert all(map(result, waiting))
    assert event.is_set() and event.wait(0) and event.wait()
    event.clear()
    assert not event.is_set() and not event.wait(0)


# --- Condition ---


@pytest.mark.parametrize("lock", ["Lock", "RLock", None])
def test_notifications_reach_as_many_as_they_are_for(library: Any, threads: Any, lock: str | None) -> None:
    condition = library.Condition(getattr(library, lock)()) if lock else library.Condition()
    waiting, woken = [], []

    def wait() -> bool:
        with condition:
            waiting.append(1)
            came = condition.wait(LATE)
            woken.append(1)
            return came

    futures = [threads(wait) for _ in range(5)]
    # Who is counted here has released the lock by waiting.
    until(lambda: len(waiting) == 5 and condition.acquire(False))
    condition.release()
    for count, total in [(1, 1), (2, 3)]:
        with condition:
            condition.notify(count)
        until(lambda total=total: len(woken) == total)
    with condition:
        condition.notify_all()
    assert [result(future) for future in futures] == [True] * 5
    with condition:
        condition.notify(3)  # for nobody, and not kept
        assert condition.wait(0.01) is False


def test_a_condition_waits_for_a_predicate(library: Any, threads: Any) -> None:
    condition, number = library.Condition(), [0]

    def wait() -> int:
        with condition:
            return condition.wait_for(lambda: number[0] >= 3 and number[0], LATE)

    future = threads(wait)
    for _ in range(3):
        with condition:
            number[0] += 1
            condition.notify()
    assert result(future) == 3
    with condition:
        assert condition.wait_for(lambda: [], 0.01) == []
        assert condition.wait_for(lambda: "now", -1) == "now"


def test_a_condition_is_used_with_its_lock_held(library: Any) -> None:
    condition = library.Condition()
    for use in [condition.wait, condition.notify, condition.notify_all]:
        with pytest.raises(NOT_HELD[library]):
            use()


def test_a_condition_gives_an_rlock_back_as_deep_as_it_was(library: Any, threads: Any) -> None:
    condition = library.Condition()
    with condition, condition:
        assert condition.wait(0.01) is False
        condition.release()
        assert result(threads(condition.acquire, False)) is False
        condition.acquire()
    assert result(threads(lambda: condition.acquire(False) and condition.release() is None))


# --- Barrier ---


def test_a_barrier_numbers_its_parties_and_acts_once(library: Any, threads: Any) -> None:
    acts = library.Semaphore(0)
    barrier = library.Barrier(3, action=acts.release)
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (3, 0, False)
    for _ in range(20):
        assert sorted(result(future) for future in [threads(barrier.wait) for _ in range(3)]) == [0, 1, 2]
        assert [acts.acquire(False), acts.acquire(False)] == [True, False]
    assert (barrier.n_waiting, barrier.broken) == (0, False)


@pytest.mark.parametrize("break_it", ["abort", "reset", "late"])
def test_a_broken_barrier_lets_nobody_through(library: Any, threads: Any, break_it: str) -> None:
    barrier = library.Barrier(3)
    late = {"timeout": 0.05} if break_it == "late" else {}
    futures = [threads(barrier.wait, **late) for _ in range(2)]
    if break_it != "late":
        until(lambda: barrier.n_waiting == 2)
        getattr(barrier, break_it)()
    for future in futures:
        with pytest.raises(threading.BrokenBarrierError):
            result(future)
    assert barrier.broken == (break_it != "reset")
    if break_it != "reset":
        with pytest.raises(threading.BrokenBarrierError):
            barrier.wait()
        barrier.reset()
    assert sorted(result(future) for future in [threads(barrier.wait) for _ in range(3)]) == [0, 1, 2]


def test_an_action_that_fails_breaks_the_barrier(library: Any, threads: Any) -> None:
    def fail() -> None:
        raise KeyError("x")

    barrier = library.Barrier(2, fail)
    futures = [threads(barrier.wait) for _ in range(2)]
    assert {type(future.exception(LATE)) for future in futures} <= {KeyError, threading.BrokenBarrierError, *_BROKEN}
    assert barrier.broken


_BROKEN = (oc.BrokenBarrierError,)


def test_a_barrier_has_a_timeout_of_its_own(library: Any) -> None:
    with pytest.raises(threading.BrokenBarrierError):
        library.Barrier(2, timeout=0.01).wait()


# --- what onecopy and multiprocessing have in common ---


@pytest.mark.parametrize("library", [oc, multiprocessing], ids=lambda library: library.__name__)
@pytest.mark.parametrize("name", CLASSES)
def test_pickling_is_for_starting_processes(library: Any, name: str) -> None:
    lock = getattr(library, name)(*[2] * (name == "Barrier"))
    for pickler in [pickle, ForkingPickler]:
        with pytest.raises(RuntimeError, match="should only be shared between processes through inheritance"):
            pickler.dumps(lock)


@pytest.mark.parametrize("library", [oc, multiprocessing], ids=lambda library: library.__name__)
def test_a_negative_timeout_is_none_at_all(library: Any) -> None:
    lock = library.Lock()
    assert lock.acquire(timeout=-1)
    assert lock.acquire(True, -5) is False
    assert lock.acquire(False, 5) is False


@pytest.mark.parametrize("library", [oc, multiprocessing], ids=lambda library: library.__name__)
def test_a_lock_says_who_holds_it(library: Any, threads: Any) -> None:
    lock = library.Lock()
    assert repr(lock) == "<Lock(owner=None)>"
    with lock:
        assert repr(lock) == "<Lock(owner=MainProcess)>"
    lock = library.RLock()
    assert repr(lock) == "<RLock(None, 0)>"
    with lock, lock:
        assert repr(lock) == "<RLock(MainProcess, 2)>"


@pytest.mark.parametrize("library", [oc, multiprocessing], ids=lambda library: library.__name__)
def test_semaphores_tell_their_value(library: Any) -> None:
    semaphore, bounded = library.Semaphore(3), library.BoundedSemaphore(2)
    semaphore.acquire()
    assert (semaphore.get_value(), bounded.get_value()) == (2, 2)
    assert repr(semaphore) == "<Semaphore(value=2)>"
    assert repr(bounded) == "<BoundedSemaphore(value=2, maxvalue=2)>"


# --- onecopy alone ---


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: oc.Semaphore(-1), ValueError),
        (lambda: oc.Semaphore(1 << 31), ValueError),
        (lambda: oc.Barrier(0), ValueError),
        (lambda: oc.Barrier(-1), ValueError),
        (lambda: oc.Condition(threading.Lock()), TypeError),
        (lambda: oc.Event().wait(float("nan")), ValueError),
        (lambda: oc.Lock().acquire(timeout="soon"), TypeError),
        (lambda: oc.Lock().acquire(on_owner_died="panic"), ValueError),
        (lambda: oc.Semaphore().release(0), ValueError),
        (lambda: oc.Lock(handle=b"nonsense"), oc.InvalidHandleError),
    ],
)
def test_bad_input_is_named(make: Callable[[], object], error: type[Exception]) -> None:
    with pytest.raises(error, match=r"\w"):
        make()


@pytest.mark.parametrize("method", ["threading", "multiprocessing"])
def test_both_names_of_the_argument_work(method: str) -> None:
    lock = oc.Lock()
    lock.acquire()
    assert (lock.acquire(blocking=False) if method == "threading" else lock.acquire(block=False)) is False
    assert lock.locked()
    lock.release()
    assert not lock.locked()


def test_many_permits_are_released_at_once() -> None:
    semaphore = oc.Semaphore(0)
    semaphore.release(3)
    assert semaphore.get_value() == 3 and not semaphore.locked()


def test_a_readers_writer_lock_lets_readers_share(threads: Any) -> None:
    lock = oc.RWLock()
    with lock.reader:
        assert result(threads(lock.reader.acquire, False))
        assert not result(threads(lock.writer.acquire, timeout=0.01))
        assert repr(lock) == "<RWLock(writer=None, readers=2)>"
        lock.reader.release()
        assert lock.reader.locked() and not lock.writer.locked()
    with lock.writer:
        assert not result(threads(lock.reader.acquire, False))
        assert lock.writer.locked()
    for side in [lock.reader, lock.writer]:
        with pytest.raises(ValueError, match="too many times"):
            side.release()


def test_a_waiting_writer_comes_before_later_readers(threads: Any) -> None:
    lock, order = oc.RWLock(), []

    def write() -> None:
        with lock.writer:
            order.append("writer")

    def read() -> None:
        with lock.reader:
            order.append("reader")

    with lock.reader:
        writer = threads(write)
        until(lambda: not lock.reader.acquire(False) or lock.reader.release())
        reader = threads(read)
        assert not order
    result(writer), result(reader)
    assert order == ["writer", "reader"]


def test_what_another_thread_holds_is_waited_for_without_the_gil(threads: Any) -> None:
    lock = oc.Lock()
    lock.acquire()
    waiting = threads(lock.acquire)
    lock.release()  # runs only if the waiter has let go of the GIL
    assert result(waiting)
    lock.release()
