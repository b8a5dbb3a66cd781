"""`ProcessPoolExecutor`, as in the standard library, and what onecopy adds."""

from __future__ import annotations

import io
import multiprocessing
import pickle
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

import onecopy as oc
from workloads import METHODS, add_one_in_place, event_wait, make, refuse, square


def test_an_executor_maps(executor):
    assert list(executor.map(pow, range(5), [2] * 9)) == [0, 1, 4, 9, 16]
    for chunksize in (1, 2, 100, None):
        assert list(executor.map(square, range(50), chunksize=chunksize)) == [n * n for n in range(50)]
    with pytest.raises(ValueError, match="chunksize must be >= 1"):
        executor.map(square, [1], chunksize=0)
    got = []
    with pytest.raises(ValueError, match="not 5"):
        for result in executor.map(refuse, range(20), chunksize=10):
            got.append(result)
    assert got == [0, 1, 2, 3, 4]
    event = oc.Event()
    with pytest.raises(TimeoutError):
        list(executor.map(event_wait, [event], timeout=0.01))
    event.set()


def test_futures_are_cancelled():
    with oc.ProcessPoolExecutor(1) as executor:
        blocker = oc.Event()
        futures = [executor.submit(event_wait, blocker) for _ in range(20)]
        assert futures[-1].cancel()
        executor.shutdown(wait=False, cancel_futures=True)
        blocker.set()
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(abs, 1)
    assert futures[0].result(60) is True
    assert sum(future.cancelled() for future in futures) >= 15
    assert all(future.done() for future in futures)


def test_exit_in_a_task_of_an_executor_is_an_exception(executor):
    future = executor.submit(sys.exit, 3)
    with pytest.raises(SystemExit, match="3"):
        future.result(60)
    assert executor.submit(abs, -1).result(60) == 1


def test_an_executor_of_the_wrong_shape():
    with pytest.raises(ValueError, match="fork"):
        oc.ProcessPoolExecutor(1, multiprocessing.get_context("fork"), max_tasks_per_child=1)
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        oc.ProcessPoolExecutor(0)
    with pytest.raises(TypeError, match="retries"):
        oc.ProcessPoolExecutor(1, retries="once")
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(oc.ProcessPoolExecutor(1))


class SlowToSend:
    def __reduce__(self) -> Any:
        time.sleep(0.3)
        return int, ()


def say_and_fail(said: Any) -> None:
    said.put(SlowToSend())
    raise ValueError("as told")


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_whose_initializer_fails_may_say_its_last_words(method):
    # A thread of the queue's sends them at the end of the process, such as what logging has for a `QueueHandler`.
    context = multiprocessing.get_context(method)
    said = context.Queue()
    executor = oc.ProcessPoolExecutor(1, context, say_and_fail, (said,))
    with executor, pytest.raises(oc.WorkerDiedError, match="as told"):
        executor.submit(abs, -1).result(60)
    assert said.get(timeout=60) == 0
    said.close()
    said.join_thread()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.usefixtures("nothing_left")
def test_arguments_and_results_are_not_kept(method):
    threads = threading.active_count()
    for _ in range(2):
        with oc.ProcessPoolExecutor(1, multiprocessing.get_context(method)) as executor:
            executor.submit(abs, -1).result(60)
            before = oc.stats()["blocks"]
            futures = [executor.submit(add_one_in_place, oc.zeros(10)) for _ in range(3)]
            assert [future.result(60) for future in futures] == [True] * 3
            assert executor.submit(make, 10, True).result(60)["deep"][0].sum() == 30
            # The pool sees to the next task before it forgets the last.
            executor.submit(abs, -1).result(60)
            assert oc.stats()["blocks"] <= before
        del executor, futures
    assert threading.active_count() <= threads


def test_progress_of_an_executor():
    out = io.StringIO()
    with oc.ProcessPoolExecutor(1, progress={"file": out, "mininterval": 0}) as executor:
        executor.submit(square, 2).result(60)
        list(executor.map(square, range(4)))
        own = io.StringIO()
        options = {"file": own, "desc": "squares", "mininterval": 0}
        assert list(executor.map(square, range(10), chunksize=4, progress=options)) == [n * n for n in range(10)]
    assert "8/8" in out.getvalue()
    assert "squares: 100%" in own.getvalue() and "10/10" in own.getvalue()


def test_work_is_finished_before_the_program_ends():
    program = "import onecopy as oc; oc.ProcessPoolExecutor(1).submit(print, 'done', flush=True)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert (run.stdout, run.stderr) == ("done\n", "")
