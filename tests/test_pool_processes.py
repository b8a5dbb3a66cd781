"""The processes of pools: what they begin with, how they are replaced and how they end."""

from __future__ import annotations

import contextlib
import gc
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

import onecopy as oc
from onecopy._pool import dispatcher
from workloads import METHODS, square, worker


def remember(value: Any) -> None:
    global remembered
    remembered = value


def recall(_: Any = None) -> Any:
    return remembered


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.usefixtures("nothing_left")
def test_initializer_and_what_only_a_starting_process_may_have(method):
    context = multiprocessing.get_context(method)
    lock = context.Lock()
    with oc.Pool(2, remember, ((lock, oc.ones(3)),), context=context) as pool:
        assert all(array.sum() == 3 for array in pool.map(lambda _: recall()[1], range(4), 1))
        with lock:
            assert pool.apply(lambda: recall()[0].acquire(False)) is False
    pool.join()


def be_late(begin: Any, started: Any, wanted: Any) -> None:
    assert begin.wait(60)
    if started.add(1) == 2:
        assert wanted.wait(60)


@pytest.mark.usefixtures("time_limit")
def test_a_worker_that_is_ready_takes_what_was_meant_for_one_that_is_starting(monkeypatch):
    # Not because it has waited for long.
    monkeypatch.setattr(dispatcher, "WAIT_BEHIND", 1000)
    begin, wanted = oc.Event(), oc.Event()
    with oc.Pool(2, be_late, (begin, oc.Counter(), wanted)) as pool:
        result = pool.map_async(worker, range(2), 1)
        begin.set()
        assert len(set(result.get(60))) == 1
        wanted.set()
        assert pool.map(square, range(20), 1) == [n * n for n in range(20)]
    pool.join()


@pytest.mark.parametrize("method", METHODS)
def test_workers_are_replaced_after_so_many_tasks(method):
    with oc.Pool(2, maxtasksperchild=3, context=multiprocessing.get_context(method)) as pool:
        pids = pool.map(worker, range(12), 1)
        assert max(pids.count(pid) for pid in set(pids)) <= 3
        assert pool.map(square, range(4)) == [n * n for n in range(4)]


def test_workers_end_with_the_program_that_is_killed():
    program = """
import os, time, onecopy as oc
pool = oc.Pool(2)
print(*pool.map(lambda _: (time.sleep(0.05), os.getpid())[1], range(4), 1), flush=True)
time.sleep(100)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = {int(pid) for pid in process.stdout.readline().split()}
        descriptors = [os.pidfd_open(pid) for pid in pids]
        process.kill()
    for descriptor in descriptors:
        assert ended(descriptor), "a worker goes on without its pool"
        os.close(descriptor)


def ended(descriptor: int) -> bool:
    import select

    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(60_000))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["Pool", "ProcessPoolExecutor"])
def test_ctrl_c_ends_a_program_and_its_workers(kind, method):
    """As a terminal sends it: to all processes."""
    program = f"""
import multiprocessing, os, time, onecopy as oc
def nap(x):
    os.write(1, b"asleep\\n")
    time.sleep(100)
if __name__ == "__main__":
    with oc.{kind}(2, mp_context=multiprocessing.get_context({method!r})) as pool:
        list(pool.map(nap, range(2)))
"""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["asleep\n"] * 2
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    # Nobody has the other end of the pipe any more, so all have ended.
    assert err.rstrip().endswith("KeyboardInterrupt")
    if method == "fork":
        # Other methods have processes of their own, for which nobody waits.
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)


# --- the end ---


def test_a_pool_that_was_ended():
    pool = oc.Pool(1)
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    result = pool.map_async(square, range(5))
    pool.close()
    with pytest.raises(ValueError, match=r"not running.*closed"):
        pool.map(square, [1])
    pool.join()
    assert result.get(0) == [0, 1, 4, 9, 16]
    pool.terminate()
    with pytest.raises(ValueError, match=r"not running.*terminated"):
        pool.apply(square, (1,))
    with pytest.raises(ValueError, match="not running"), pool:
        pass


def test_terminate_does_not_leave_anybody_waiting():
    pool = oc.Pool(2)
    results = [pool.apply_async(time.sleep, (100,)) for _ in range(5)]
    slow = pool.imap(time.sleep, itertools.repeat(100))
    pool.terminate()
    pool.join()
    for result in results:
        with pytest.raises(oc.ShutDownError, match="terminated"):
            result.get(60)
    with pytest.raises(oc.ShutDownError):
        slow.next(60)


def test_a_pool_that_nobody_ended_warns_and_ends():
    pool = oc.Pool(1)
    process = pool._pool[0]
    with pytest.warns(ResourceWarning, match="unclosed running"):
        del pool
        gc.collect()
    process.join(60)
    assert process.exitcode is not None


@pytest.mark.usefixtures("time_limit")
def test_ctrl_c_in_a_call_does_not_make_a_pool_deaf(monkeypatch):
    with oc.Pool(1) as pool:
        queue = pool._dispatcher._results

        class Interrupted:
            """The queue by which the pool is told of a call, and the user who does not wait for that."""

            def __getattr__(self, name: str) -> Any:
                return getattr(queue, name)

            def empty(self) -> bool:
                # What a worker has to say wakes the pool too, and then nobody else has to.
                return True

            def _post(self, *letter: Any) -> None:
                raise KeyboardInterrupt

        monkeypatch.setattr(pool._dispatcher, "_results", Interrupted())
        with pytest.raises(KeyboardInterrupt):
            pool.apply_async(square, (2,))
        monkeypatch.undo()
        assert pool.apply(square, (3,)) == 9
    pool.join()


@pytest.mark.usefixtures("time_limit")
def test_a_pool_ends_that_could_not_start_a_thread_for_items(monkeypatch):
    with oc.Pool(1) as pool:

        def refuse_to_start(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse_to_start)
            with pytest.raises(RuntimeError, match="new thread"):
                pool.imap(square, iter([1]))
        assert pool.map(square, [2]) == [4]
        pool.close()
        pool.join()


# --- processes that have children ---


def test_a_forked_child_does_not_use_it():
    with oc.Pool(1) as pool, oc.ProcessPoolExecutor(1) as executor:
        executor.submit(abs, 1).result(60)
        child = os.fork()
        if child == 0:
            code = 1
            with contextlib.suppress(ValueError):
                pool.apply_async(abs, (1,))
                code = 2
            with contextlib.suppress(RuntimeError):
                executor.submit(abs, 1)
                code = 2
            pool.terminate()
            executor.shutdown()
            os._exit(0 if code == 1 else code)
        assert os.waitpid(child, 0)[1] == 0
        assert pool.apply(abs, (-2,)) == executor.submit(abs, -2).result(60) == 2


def test_a_pool_in_a_worker(pool):
    with pytest.raises(AssertionError, match="ProcessPoolExecutor"):
        pool.apply(oc.Pool, (1,))
    with pytest.raises(NotImplementedError, match="cannot be passed"):
        pool.apply(repr, (pool,))


def nested(n: int) -> list[int]:
    with oc.Pool(1) as pool:
        return pool.map(square, range(n))


def test_a_pool_in_a_worker_of_an_executor(executor):
    assert executor.submit(nested, 3).result(60) == [0, 1, 4]
