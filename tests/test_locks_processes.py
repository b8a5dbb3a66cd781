"""Locks between processes: exclusion, start methods, Ctrl-C, and every way to be killed."""

import multiprocessing as mp
import os
import platform
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import onecopy as oc

LATE = 30  # seconds after which a test has failed
FORK = mp.get_context("fork")
#: How the system call that a lock waits in is shown in /proc.
FUTEX = {"x86_64": "202 ", "aarch64": "98 "}[platform.machine()]

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def context(request: pytest.FixtureRequest) -> Any:
    return mp.get_context(request.param)


class Child:
    """A forked process that does what it is told, and tells when it is done."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self.pipe, theirs = FORK.Pipe()
        self.process = FORK.Process(target=_run, args=(steps, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def go_on(self) -> Any:
        """Let it do its next step, and return what came of it."""
        self.pipe.send(None)
        assert self.pipe.poll(LATE), "the child is stuck"
        return self.pipe.recv()

    def begin(self) -> None:
        """Let it do its next step, which waits for something; return when it sleeps in the kernel."""
        self.pipe.send(None)
        self.until_asleep()

    def until_asleep(self) -> None:
        end = time.monotonic() + LATE
        # The pipe is read by read(2): a futex call is the wait.
        while not Path(f"/proc/{self.process.pid}/syscall").read_text().startswith(FUTEX):
            assert time.monotonic() < end
            time.sleep(0.0002)

    def result(self) -> Any:
        assert self.pipe.poll(LATE), "the child is stuck"
        return self.pipe.recv()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


def _run(steps: tuple[Callable[[], object], ...], pipe: Any) -> None:
    for step in steps:
        pipe.recv()
        try:
            pipe.send(step())
        except BaseException as error:
            pipe.send(error)
    pipe.recv()


@contextmanager
def child(*steps: Callable[[], object]) -> Iterator[Child]:
    made = Child(*steps)
    try:
        yield made
    finally:
        made.kill()


# --- exclusion and start methods ---


def _count(lock: Any, counter: Any, times: int) -> None:
    for _ in range(times):
        with lock:
            counter[0] += 1


@pytest.mark.parametrize("name", ["Lock", "RLock", "Semaphore", "Condition", "writer"])
def test_two_processes_count_without_losing_one(name: str) -> None:
    lock, counter = oc.RWLock().writer if name == "writer" else getattr(oc, name)(), oc.zeros(1, "i8")
    workers = [FORK.Process(target=_count, args=(lock, counter, 20_000)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(LATE)
    assert counter[0] == 40_000


def _use_everything(shared: dict[str, Any], results: Any) -> None:
    with shared["condition"]:
        shared["list"][0] = 1
        shared["condition"].notify()
    index = shared["barrier"].wait(LATE)
    held = [shared[name].acquire(timeout=0.01) for name in ("lock", "rlock", "semaphore")]
    results.send((index, held, shared["rwlock"].reader.acquire(False), shared["event"].wait(LATE)))
    shared["lock"].release()


def test_all_of_them_go_to_a_process_that_is_started(context: Any) -> None:
    shared = {
        "lock": oc.Lock(), "rlock": oc.RLock(), "semaphore": oc.BoundedSemaphore(1), "rwlock": oc.RWLock(),
        "condition": oc.Condition(oc.Lock()), "barrier": oc.Barrier(2), "event": oc.Event(), "list": oc.zeros(1),
    }  # fmt: skip
    mine, theirs = context.Pipe()
    for name in ("lock", "rlock", "semaphore"):
        shared[name].acquire()
    shared["rwlock"].reader.acquire()
    shared["event"].set()
    process = context.Process(target=_use_everything, args=(shared, theirs), daemon=True)
    process.start()
    with shared["condition"]:
        assert shared["condition"].wait_for(lambda: shared["list"][0], LATE)
    index = shared["barrier"].wait(LATE)
    assert mine.poll(LATE)
    assert mine.recv() == (1 - index, [False] * 3, True, True)
    process.join(LATE)
    assert shared["lock"].acquire(False), "the child released what its parent held"


def test_a_forked_child_does_not_hold_what_its_parent_holds() -> None:
    lock = oc.RLock()
    with lock, child(lambda: lock.acquire(False), lock.release) as other:
        assert other.go_on() is False
        assert isinstance(other.go_on(), AssertionError)
        assert repr(lock) == "<RLock(MainProcess, 1)>"


def test_who_holds_it_is_told_to_others() -> None:
    lock = oc.Lock()
    with child(lambda: lock.acquire()) as holder:
        holder.go_on()
        assert repr(lock) == f"<Lock(owner=process {holder.process.pid})>"


def test_the_counter_of_the_examples_counts_to_the_last_one() -> None:
    example = Path(__file__).parent.parent / "examples" / "counter.py"
    command = [sys.executable, "-W", "error", str(example), "50000"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=LATE)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("100,000 in ")


# --- Ctrl-C ---


def _held(lock: Any) -> Any:
    lock.acquire()
    return lock.acquire


def _waiting_condition() -> Callable[[], object]:
    condition = oc.Condition()

    def wait() -> object:
        with condition:
            return condition.wait()

    return wait


def _held_writer() -> Callable[[], object]:
    lock = oc.RWLock()
    lock.writer.acquire()
    return lock.reader.acquire


BLOCKING = {
    "Lock": lambda: _held(oc.Lock()),
    "RLock": lambda: _held(oc.RLock()),
    "Semaphore": lambda: oc.Semaphore(0).acquire,
    "RWLock": _held_writer,
    "Event": lambda: oc.Event().wait,
    "Condition": _waiting_condition,
    "Barrier": lambda: oc.Barrier(2).wait,
    "recover": lambda: _held(oc.Lock()).__self__.recover().__enter__,
}


@pytest.mark.parametrize("name", BLOCKING)
def test_ctrl_c_ends_a_wait(name: str) -> None:
    with child(BLOCKING[name]()) as waiter:
        waiter.begin()
        os.kill(waiter.process.pid, signal.SIGINT)
        assert isinstance(waiter.result(), KeyboardInterrupt)


def test_a_signal_handler_that_returns_does_not_end_a_wait() -> None:
    lock = oc.Lock()
    lock.acquire()

    def wait() -> list[object]:
        seen: list[object] = []
        signal.signal(signal.SIGUSR1, lambda *_: (seen.append("signal"), lock.release()))
        return [lock.acquire(), *seen]

    with child(wait) as waiter:
        waiter.begin()
        os.kill(waiter.process.pid, signal.SIGUSR1)
        assert waiter.result() == [True, "signal"]


# --- killed holders ---


@pytest.mark.parametrize("end", ["kill", "exit"])
@pytest.mark.parametrize("name", ["Lock", "RLock", "writer"])
def test_the_next_taker_is_told_of_a_dead_holder(name: str, end: str) -> None:
    lock = oc.RWLock().writer if name == "writer" else getattr(oc, name)()
    leave = (lambda: os._exit(0),) if end == "exit" else ()
    with child(lock.acquire, *leave) as holder, child(lock.acquire) as waiter:
        holder.go_on()
        waiter.begin()
        holder.kill() if end == "kill" else holder.pipe.send(None)
        assert isinstance(waiter.result(), oc.OwnerDiedError)
        # Each process is told once, until one of them takes the lock.
        with pytest.raises(oc.OwnerDiedError, match=r"recover\(\)"):
            lock.acquire(timeout=LATE)
        assert lock.acquire(timeout=LATE)
        lock.release()
        with lock:
            pass


def _kill_a_holder_of(lock: Any) -> None:
    with child(lock.acquire) as holder:
        holder.go_on()


def test_recovering_says_whether_a_repair_is_needed() -> None:
    lock = oc.Lock()
    with lock.recover() as somebody_died:
        assert somebody_died is False
    _kill_a_holder_of(lock)
    with pytest.raises(KeyError), lock.recover(timeout=LATE) as somebody_died:
        assert somebody_died is True
        raise KeyError("the repair failed")
    with pytest.raises(oc.OwnerDiedError):
        lock.acquire(False)
    with lock.recover() as somebody_died:
        assert somebody_died is True
    assert lock.acquire(False)
    with pytest.raises(TimeoutError, match="Lock"), lock.recover(timeout=0.01):
        pass


def test_a_condition_is_recovered_by_its_lock() -> None:
    condition = oc.Condition()
    _kill_a_holder_of(condition)
    with condition.recover(timeout=LATE) as somebody_died:
        assert somebody_died is True
        condition.notify()
    with condition:
        pass


def test_a_lock_can_be_taken_from_the_dead_without_an_error() -> None:
    lock = oc.RLock()
    _kill_a_holder_of(lock)
    assert lock.acquire(on_owner_died="take")
    lock.release()
    with lock:
        pass


def test_dead_readers_are_forgotten() -> None:
    lock = oc.RWLock()
    with child(lock.reader.acquire) as reader, child(lock.writer.acquire) as writer:
        reader.go_on()
        writer.begin()
        reader.kill()
        assert writer.result() is True


def test_a_dead_waiting_writer_holds_no_reader_back() -> None:
    lock = oc.RWLock()
    with lock.reader, child(lock.writer.acquire) as writer:
        writer.begin()
        writer.kill()
        assert lock.reader.acquire(timeout=LATE)
        lock.reader.release()


@pytest.mark.parametrize("name", ["Semaphore", "BoundedSemaphore"])
def test_the_permits_of_the_dead_come_back(name: str) -> None:
    semaphore = getattr(oc, name)(2)
    with child(semaphore.acquire, semaphore.acquire) as holder, child(semaphore.acquire) as waiter:
        holder.go_on(), holder.go_on()
        waiter.begin()
        holder.kill()
        assert waiter.result() is True
        assert semaphore.acquire(False) and not semaphore.acquire(False)


def test_what_was_signalled_is_not_taken_back() -> None:
    semaphore = oc.Semaphore(0)
    with child(lambda: semaphore.release(2), semaphore.acquire) as other:
        other.go_on(), other.go_on()
    assert [semaphore.acquire(False), semaphore.acquire(False)] == [True, False]


# --- killed waiters and notifiers ---


@pytest.mark.parametrize("name", ["Lock", "Semaphore", "writer"])
def test_a_killed_waiter_stops_nobody(name: str) -> None:
    lock = oc.RWLock().writer if name == "writer" else getattr(oc, name)()
    lock.acquire()
    with child(lock.acquire) as victim, child(lambda: lock.acquire() and lock.release()) as waiter:
        victim.begin()
        waiter.begin()
        victim.kill()
        lock.release()
        assert waiter.result() is None
    assert lock.acquire(timeout=LATE)
    lock.release()


def _wait_for(condition: Any) -> bool:
    with condition:
        return condition.wait(LATE)


def test_a_killed_waiter_gets_no_notification() -> None:
    condition = oc.Condition()
    with child(lambda: _wait_for(condition)) as victim, child(lambda: _wait_for(condition)) as waiter:
        victim.begin()
        waiter.begin()
        victim.kill()
        with condition:
            condition.notify()
        assert waiter.result() is True


def test_the_notification_of_a_killed_waiter_is_passed_on() -> None:
    condition = oc.Condition()
    with child(lambda: _wait_for(condition)) as victim, child(lambda: _wait_for(condition)) as waiter:
        victim.begin()
        waiter.begin()
        os.kill(victim.process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, victim.process.pid, os.WSTOPPED | os.WNOWAIT)
        with condition:
            condition.notify()  # of the one that came first, which cannot use it
        victim.kill()
        assert waiter.result() is True


def test_a_killed_notifier_leaves_the_lock_to_the_waiter() -> None:
    condition = oc.Condition()

    def wait() -> list[str]:
        with condition:
            try:
                condition.wait()
            except oc.OwnerDiedError:
                return ["told", repr(condition._lock)]
        return []

    def notify() -> None:
        condition.acquire()
        condition.notify()

    with child(wait) as waiter, child(notify) as notifier:
        waiter.begin()
        notifier.go_on()
        notifier.kill()
        told, lock = waiter.result()
        assert told == "told" and "Process" in lock, "the waiter holds the lock when it is told"


@pytest.mark.parametrize("victims", [1, 2])
def test_a_barrier_breaks_when_a_party_is_killed(victims: int) -> None:
    barrier = oc.Barrier(4)
    with child(barrier.wait) as one, child(barrier.wait) as two, child(barrier.wait) as waiter:
        for party in (one, two, waiter):
            party.begin()
        for victim in (one, two)[:victims]:
            victim.kill()
        assert isinstance(waiter.result(), threading.BrokenBarrierError)
    assert barrier.broken
    barrier.reset()
    assert (barrier.broken, barrier.n_waiting) == (False, 0)


def test_a_barrier_breaks_when_the_one_that_acts_is_killed() -> None:
    barrier = oc.Barrier(2, action=lambda: os.kill(os.getpid(), signal.SIGKILL))
    with child(barrier.wait) as waiter, child(barrier.wait) as actor:
        waiter.begin()
        actor.pipe.send(None)
        assert isinstance(waiter.result(), oc.BrokenBarrierError)


# --- at random ---


def _change_two(lock: Any, pair: Any, progress: Any) -> None:
    while True:
        try:
            with lock:
                pair[0] += 1
                pair[1] += 1
        except oc.OwnerDiedError:
            with lock.recover():
                pair[1] = pair[0]
        progress[0] += 1


@pytest.mark.parametrize("name", ["Lock", "RLock", "writer"])
def test_killed_at_random_nothing_is_seen_half_changed(name: str) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    lock = oc.RWLock().writer if name == "writer" else getattr(oc, name)()
    pair, progress = oc.zeros(2, "i8"), [oc.zeros(1, "i8") for _ in range(2)]
    workers = [FORK.Process(target=_change_two, args=(lock, pair, mine)) for mine in progress]
    for worker in workers:
        worker.start()
    for _ in range(25):
        victim = chance.randrange(2)
        _until_it_moves(progress)
        time.sleep(chance.random() / 500)  # where it is hit is up to chance
        workers[victim].kill()
        workers[victim].join()
        with lock.recover(timeout=LATE) as somebody_died:
            assert somebody_died or pair[0] == pair[1]
            pair[1] = pair[0]
        workers[victim] = FORK.Process(target=_change_two, args=(lock, pair, progress[victim]))
        workers[victim].start()
    for worker in workers:
        worker.kill()
        worker.join()


def _until_it_moves(progress: list[Any]) -> None:
    before, end = [mine[0] for mine in progress], time.monotonic() + LATE
    while any(mine[0] == was for mine, was in zip(progress, before, strict=True)):
        assert time.monotonic() < end, "the workers hang"
        time.sleep(0.0002)


def _come_and_go(semaphore: Any, progress: Any) -> None:
    while True:
        with semaphore:
            progress[0] += 1


def test_killed_at_random_no_permit_is_lost() -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    semaphore, progress = oc.BoundedSemaphore(2), [oc.zeros(1, "i8") for _ in range(3)]
    workers = [FORK.Process(target=_come_and_go, args=(semaphore, mine)) for mine in progress]
    for worker in workers:
        worker.start()
    for _ in range(25):
        victim = chance.randrange(3)
        _until_it_moves(progress)
        workers[victim].kill()
        workers[victim].join()
        workers[victim] = FORK.Process(target=_come_and_go, args=(semaphore, progress[victim]))
        workers[victim].start()
    for worker in workers:
        worker.kill()
        worker.join()
    assert [semaphore.acquire(timeout=LATE), semaphore.acquire(timeout=LATE)] == [True, True]
    assert semaphore.acquire(False) is False
