"""Locks, events, conditions and barriers in tasks of event loops."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onecopy as oc
from loops import run, yields

pytestmark = pytest.mark.usefixtures("nothing_left", "time_limit")

LOCKS: dict[str, Callable[[], Any]] = {
    "Lock": oc.Lock,
    "Semaphore": oc.Semaphore,
    "BoundedSemaphore": oc.BoundedSemaphore,
    "RWLock.writer": lambda: oc.RWLock().writer,
}


# --- locks ---


@pytest.mark.parametrize("make", LOCKS.values(), ids=LOCKS)
def test_a_lock_excludes_tasks_and_lets_them_in_in_order(make: Callable[[], Any]) -> None:
    lock, inside, order = make(), [], []

    async def work(n: int) -> None:
        async with lock as held:
            assert held is True
            inside.append(n)
            assert inside == [n]
            await yields()
            inside.remove(n)
            order.append(n)

    async def main() -> None:
        await asyncio.gather(*map(work, range(30)))

    run(main())
    assert order == list(range(30))
    assert lock.acquire(False)
    lock.release()


@pytest.mark.parametrize("make", [*LOCKS.values(), oc.RLock], ids=[*LOCKS, "RLock"])
def test_a_lock_of_another_thread_is_waited_for(make: Callable[[], Any]) -> None:
    lock = make()
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            let_go.wait()

    async def main() -> None:
        assert await lock.aacquire(timeout=0) is False
        assert await lock.aacquire(timeout=0.01) is False
        task = asyncio.create_task(lock.aacquire())
        await yields()
        assert not task.done()
        let_go.set()
        assert await task is True
        lock.release()
        assert await lock.aacquire(timeout=-1) is True
        lock.release()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    run(main())
    holder.join()


def test_an_rlock_belongs_to_the_thread() -> None:
    lock = oc.RLock()

    async def main() -> None:
        async with lock, lock:
            assert await asyncio.create_task(lock.aacquire(timeout=0)) is True
            lock.release()

    run(main())
    assert not lock.locked()


def test_readers_share_and_a_task_that_waits_to_write_comes_before_later_readers() -> None:
    lock, order = oc.RWLock(), []

    async def write() -> None:
        async with lock.writer:
            order.append("writer")

    async def main() -> None:
        async with lock.reader, lock.reader:
            writer = asyncio.create_task(write())
            while lock.reader.acquire(False):
                lock.reader.release()
                await asyncio.sleep(0)
            assert await lock.reader.aacquire(timeout=0.01) is False
        async with lock.reader:
            order.append("reader")
        await writer

    run(main())
    assert order == ["writer", "reader"]


def take_and_die(lock: Any, ready: Any) -> None:
    lock.acquire()
    ready.send(1)
    signal.pause()


def test_the_death_of_a_holder_is_told_to_the_task() -> None:
    lock, (ready, readied) = oc.Lock(), oc.Pipe(False)
    process = multiprocessing.get_context("fork").Process(target=take_and_die, args=(lock, readied), daemon=True)
    process.start()
    ready.recv()

    async def main() -> None:
        task = asyncio.create_task(lock.aacquire())
        await yields()
        process.kill()
        with pytest.raises(oc.OwnerDiedError):
            await task
        assert await lock.aacquire(on_owner_died="take") is True
        lock.release()
        with pytest.raises(ValueError, match="panic"):
            await lock.aacquire(on_owner_died="panic")

    run(main())
    process.join()


def test_an_event_lets_all_go_also_if_it_is_set_for_a_moment() -> None:
    event = oc.Event()

    async def main() -> None:
        assert await event.await_(timeout=0.01) is False
        assert await event.await_(timeout=0) is False
        tasks = [asyncio.create_task(event.await_(timeout=30)) for _ in range(50)]
        await yields()
        event.set()
        event.clear()
        assert await asyncio.gather(*tasks) == [True] * 50
        event.set()
        assert await event.await_() is True
        assert await event.await_(-1) is True

    run(main())


# --- conditions and barriers ---


def test_notifications_reach_tasks_in_order() -> None:
    changed, woken = oc.Condition(oc.Lock()), []

    async def wait(n: int) -> None:
        async with changed:
            assert await changed.await_() is True
            woken.append(n)
            assert changed._lock.locked()

    async def main() -> None:
        tasks = [asyncio.create_task(wait(n)) for n in range(5)]
        while changed._waiting() < 5:
            await asyncio.sleep(0)
        for count in [1, 2]:
            async with changed:
                changed.notify(count)
        while len(woken) < 3:
            await asyncio.sleep(0)
        tasks[3].cancel()
        async with changed:
            changed.notify_all()
        with pytest.raises(asyncio.CancelledError):
            await tasks[3]
        await tasks[4]
        async with changed:
            assert await changed.await_(timeout=0) is False
            assert await changed.await_(timeout=0.01) is False
            assert await changed.await_for(lambda: woken, timeout=0.01) is woken
            assert await changed.await_for(lambda: 0, timeout=0.01) == 0
        with pytest.raises(AssertionError):
            await changed.await_()

    run(main())
    assert woken == [0, 1, 2, 4]
    assert not changed._lock.locked() and changed._waiting() == 0


def test_the_notification_of_a_cancelled_task_goes_to_the_next() -> None:
    changed, woken = oc.Condition(oc.Lock()), []

    async def wait(n: int) -> None:
        async with changed:
            await changed.await_()
            woken.append(n)

    async def main() -> None:
        tasks = [asyncio.create_task(wait(n)) for n in range(2)]
        while changed._waiting() < 2:
            await asyncio.sleep(0)
        async with changed:
            changed.notify()
            tasks[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        await tasks[1]

    run(main())
    assert woken == [1]
    assert not changed._lock.locked()


def test_a_task_and_a_thread_notify_each_other() -> None:
    changed, turns = oc.Condition(), []

    def other() -> None:
        for n in range(1, 40, 2):
            with changed:
                changed.wait_for(lambda n=n: len(turns) == n)
                turns.append(n)
                changed.notify_all()

    async def main() -> None:
        for n in range(0, 40, 2):
            async with changed:
                await changed.await_for(lambda n=n: len(turns) == n)
                turns.append(n)
                changed.notify_all()

    thread = threading.Thread(target=other)
    thread.start()
    run(main())
    thread.join()
    assert turns == list(range(40))


def test_a_barrier_for_tasks_and_a_thread() -> None:
    acts: list[int] = []
    barrier = oc.Barrier(4, action=lambda: acts.append(1))

    async def main() -> None:
        for n in range(20):
            indices = await asyncio.gather(*(barrier.await_() for _ in range(3)))
            assert len({*indices, others[n] if len(others) > n else -1}) >= 3
            assert len(acts) >= n + 1

    others: list[int] = []
    thread = threading.Thread(target=lambda: others.extend(barrier.wait() for _ in range(20)))
    thread.start()
    run(main())
    thread.join()
    assert (len(acts), barrier.n_waiting, barrier.broken) == (20, 0, False)


def test_a_task_that_is_cancelled_at_a_barrier_is_as_if_it_had_not_come() -> None:
    barrier = oc.Barrier(2)

    async def main() -> None:
        task = asyncio.create_task(barrier.await_())
        while barrier.n_waiting == 0:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (barrier.n_waiting, barrier.broken) == (0, False)
        assert sorted(await asyncio.gather(barrier.await_(), barrier.await_())) == [0, 1]

    run(main())


def test_a_late_task_breaks_a_barrier() -> None:
    barrier = oc.Barrier(3)

    async def main() -> None:
        waiting = asyncio.create_task(barrier.await_())
        await yields()
        for timeout in [0.01, 0]:
            with pytest.raises(threading.BrokenBarrierError):
                await barrier.await_(timeout)
        with pytest.raises(oc.BrokenBarrierError):
            await waiting
        barrier.reset()

        def fail() -> None:
            raise KeyError("x")

        failing = oc.Barrier(2, fail)
        results = await asyncio.gather(failing.await_(), failing.await_(), return_exceptions=True)
        assert {type(result) for result in results} == {KeyError, oc.BrokenBarrierError}

    run(main())
    assert not barrier.broken


# --- cancelling ---


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(LOCKS)), st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=30))
def test_cancelling_leaves_no_lock_held(name: str, steps: list[tuple[int, int]]) -> None:
    lock, inside = LOCKS[name](), []

    async def work(n: int) -> None:
        async with lock:
            inside.append(n)
            assert inside == [n]
            try:
                await asyncio.sleep(0)
            finally:
                inside.remove(n)

    async def main() -> None:
        tasks = [asyncio.create_task(work(n)) for n in range(10)]
        for which, pauses in steps:
            tasks[which].cancel()
            await asyncio.sleep(0.0003 * pauses)
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert result is None or isinstance(result, asyncio.CancelledError)

    asyncio.run(main())
    assert lock.acquire(False)
    lock.release()
