"""Queues and pipes in tasks of event loops, and what is many of: tasks, loops, threads, processes.

Locks: `test_tasks_locks.py`.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import queue
import subprocess
import sys
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onecopy as oc
from loops import run, yields

pytestmark = pytest.mark.usefixtures("nothing_left", "time_limit")

# --- queues and pipes ---


def test_a_queue_between_tasks() -> None:
    q, done = oc.JoinableQueue(3), []

    async def produce() -> None:
        for n in range(100):
            await q.aput(n)
        await q.ajoin()
        q.shutdown()

    async def consume() -> None:
        async for n in q:
            done.append(n)
            q.task_done()

    async def main() -> None:
        await asyncio.gather(produce(), consume(), consume())
        with pytest.raises(oc.ShutDownError):
            await q.aget()
        with pytest.raises(oc.ShutDownError):
            await q.aput(1)

    run(main())
    assert sorted(done) == list(range(100))


def test_times() -> None:
    q = oc.Queue(1)

    async def main() -> None:
        for timeout in [0, -1, 0.01]:
            with pytest.raises(queue.Empty):
                await q.aget(timeout)
        await q.aput(1, timeout=0)
        for timeout in [0, -1, 0.01]:
            with pytest.raises(queue.Full):
                await q.aput(2, timeout=timeout)
        assert await q.aget(timeout=0) == 1
        with pytest.raises(ValueError, match="nan"):
            await q.aget(float("nan"))
        q.close()
        with pytest.raises(ValueError, match="closed"):
            await q.aget()

    run(main())


def echo(connection: Any) -> None:
    while True:
        connection.send(connection.recv())


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pipe_to_another_process(method: str) -> None:
    here, there = oc.Pipe()
    process = multiprocessing.get_context(method).Process(target=echo, args=(there,), daemon=True)
    process.start()
    there.close()

    async def main() -> None:
        for n in range(100):
            await here.asend(oc.full(3, n))
            assert (await here.arecv()).tolist() == [n] * 3
        await here.asend(b"bytes")
        assert b"bytes" in await here.arecv_bytes()
        task = asyncio.create_task(here.arecv())
        await yields()
        process.kill()
        with pytest.raises(EOFError):
            await task

    run(main())
    process.join()


def test_a_task_waits_for_room_in_a_pipe() -> None:
    a, b = oc.Pipe()

    async def main() -> None:
        sent = 0
        while True:
            task = asyncio.create_task(a.asend(sent))
            await yields()
            if not task.done():
                break
            sent += 1
        assert b.recv() == 0
        await task
        assert [b.recv() for _ in range(sent)] == list(range(1, sent + 1))

    run(main())


# --- cancelling ---


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["cancel", "put", "step", "get"])), max_size=40),
    st.booleans(),
)
def test_cancelling_loses_no_message(steps: list[tuple[int, str]], bounded: bool) -> None:
    q, put, got = oc.Queue(2 if bounded else 0), [], []

    async def get() -> None:
        got.append(await q.aget())

    async def put_one(n: int) -> None:
        await q.aput(n)
        put.append(n)

    async def main() -> None:
        tasks = [asyncio.create_task(get()) for _ in range(3)]
        for n, (which, step) in enumerate(steps):
            if step == "cancel" and tasks:
                tasks[which % len(tasks)].cancel()
            elif step == "put":
                tasks.append(asyncio.create_task(put_one(n)))
            elif step == "get":
                tasks.append(asyncio.create_task(get()))
            else:
                await asyncio.sleep(0.0005 * which)
        # Whoever is left gets what is left, and puts what it can.
        while any(not task.done() for task in tasks):
            for task in tasks:
                if not task.done() and task.get_coro().__name__ == "get" and q.empty():
                    task.cancel()
            await asyncio.sleep(0)
            if bounded and q.full() and all(task.done() or task.get_coro().__name__ != "get" for task in tasks):
                got.extend(q.get_many())
        await asyncio.gather(*tasks, return_exceptions=True)
        if not q.empty():
            got.extend(q.get_many())

    asyncio.run(main())
    assert sorted(got) == sorted(put)


# --- many, loops, threads, processes ---


def threads_of_this_process() -> int:
    return len(os.listdir("/proc/self/task"))


def test_a_thousand_tasks_need_one_thread() -> None:
    q, locks, event = oc.Queue(), [oc.Lock() for _ in range(300)], oc.Event()
    for lock in locks:
        lock.acquire()

    async def main() -> None:
        before = threads_of_this_process()
        getting = [asyncio.create_task(q.aget()) for _ in range(400)]
        locking = [asyncio.create_task(lock.aacquire()) for lock in locks]
        waiting = [asyncio.create_task(event.await_()) for _ in range(300)]
        await asyncio.sleep(0.02)
        assert threads_of_this_process() <= before + 1
        q.put_many(range(400))
        for lock in locks:
            lock.release()
        event.set()
        assert sorted(await asyncio.gather(*getting)) == list(range(400))
        assert all(await asyncio.gather(*locking, *waiting))
        assert threads_of_this_process() <= before + 1

    run(main())


def test_loops_in_several_threads() -> None:
    q, total = oc.Queue(4), []

    async def produce() -> None:
        for n in range(50):
            await q.aput(n)

    async def consume() -> None:
        for _ in range(50):
            total.append(await q.aget())

    threads = [threading.Thread(target=asyncio.run, args=(work(),)) for work in [produce, consume] * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(total) == sorted(list(range(50)) * 4)


def test_a_loop_that_is_closed_while_its_tasks_wait() -> None:
    q = oc.Queue()
    loop = asyncio.new_event_loop()
    task = loop.create_task(q.aget())
    loop.run_until_complete(asyncio.sleep(0.005))
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    q.put(1)
    del task, loop
    gc.collect()
    assert q.get() == 1


def child(q: Any, answers: Any) -> None:
    async def main() -> None:
        answers.put(await q.aget())

    asyncio.run(main())


def test_a_forked_child_has_a_reactor_of_its_own() -> None:
    q, answers = oc.Queue(), oc.Queue()

    async def main() -> None:
        mine = asyncio.create_task(q.aget())
        await yields()
        process = multiprocessing.get_context("fork").Process(target=child, args=(q, answers), daemon=True)
        process.start()
        await asyncio.sleep(0.05)
        q.put_many([1, 2])
        assert {await mine, await answers.aget(30)} == {1, 2}
        process.join()

    run(main())


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "os._exit(3)", "raise KeyboardInterrupt"])
def test_the_end_of_the_program_is_quiet(end: str) -> None:
    program = f"""
import asyncio, os, sys
import onecopy as oc
q, (a, b), lock = oc.Queue(), oc.Pipe(), oc.Lock()
lock.acquire()
q.fileno(), b.fileno()
async def main():
    waiting = [asyncio.ensure_future(work) for work in (q.aget(), b.arecv(), lock.aacquire())]
    await asyncio.sleep(0.01)
    {end or "pass"}
try:
    asyncio.run(main())
except KeyboardInterrupt:
    pass
"""
    finished = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program], capture_output=True, text=True, timeout=50
    )
    assert (finished.returncode, finished.stderr) == (3 if "3" in end else 0, "")


def test_importing_onecopy_does_not_import_asyncio() -> None:
    program = "import sys, onecopy as oc; oc.Lock(), oc.Queue(), oc.Pipe(); print('asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"
