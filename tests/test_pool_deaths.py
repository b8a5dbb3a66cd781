"""Pools whose workers are killed, crash or leave, at every point of a task, and whose tasks fail in other ways."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import pickle
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.pool import MaybeEncodingError
from typing import Any

import numpy as np
import pytest

import onecopy as oc
from workloads import METHODS

#: Workers that are killed in each run of the test with random kills; 200 in the long mode.
KILLS = int(os.environ.get("ONECOPY_POOL_KILLS", "25"))


def kill_with(number: int) -> None:
    # The core dump and the report of a crash are no use here.
    import faulthandler
    import resource

    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
    os.kill(os.getpid(), number)


def raise_error() -> None:
    raise ValueError("as told")


class PicklesButDoesNotUnpickleError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__("told twice")


def raise_one_that_does_not_pickle() -> None:
    raise ValueError(threading.Lock())


def raise_one_that_does_not_unpickle() -> None:
    raise PicklesButDoesNotUnpickleError(1, 2)


CAUSES: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "SIGKILL": (kill_with, (signal.SIGKILL,)),
    "SIGSEGV": (kill_with, (signal.SIGSEGV,)),
    "os._exit": (os._exit, (3,)),
    "sys.exit": (sys.exit, (3,)),
    "exception": (raise_error, ()),
    "exception that does not pickle": (raise_one_that_does_not_pickle, ()),
    "exception that does not unpickle": (raise_one_that_does_not_unpickle, ()),
}


class WhenUnpickled:
    def __init__(self, cause: str) -> None:
        self.cause = cause

    def __reduce__(self) -> Any:
        return CAUSES[self.cause]


class WhenPickled:
    def __init__(self, cause: str) -> None:
        self.cause = cause

    def __reduce__(self) -> Any:
        function, arguments = CAUSES[self.cause]
        return function(*arguments)


def run(cause: str) -> None:
    function, arguments = CAUSES[cause]
    function(*arguments)


MOMENTS: dict[str, Callable[[str], tuple[Callable[..., Any], Any]]] = {
    "unpickling": lambda cause: (repr, WhenUnpickled(cause)),
    "running": lambda cause: (run, cause),
    "returning": lambda cause: (WhenPickled, cause),
}


def expected(cause: str, moment: str) -> type[BaseException] | tuple[type[BaseException], ...]:
    if cause in ("SIGKILL", "SIGSEGV", "os._exit", "sys.exit"):
        return oc.WorkerDiedError
    if moment == "returning" or cause.startswith("exception that"):
        return MaybeEncodingError
    return ValueError


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("cause", CAUSES)
def test_a_task_fails_alone_and_the_pool_goes_on(pool, cause, moment):
    function, given = MOMENTS[moment](cause)
    others = pool.map_async(abs, range(-50, 0), 1)
    failing = pool.apply_async(function, (given,))
    with pytest.raises(expected(cause, moment)) as caught:
        failing.get(60)
    if caught.type is oc.WorkerDiedError:
        error = caught.value
        code = {"SIGKILL": -9, "SIGSEGV": -11}.get(cause, 3)
        assert (error.exitcode, error.signal) == (code, cause if code < 0 else None)
        assert str(error.pid) in str(error) and error.task and error.task in str(error)
        again = pickle.loads(pickle.dumps(error))
        assert (again.pid, again.exitcode, str(again)) == (error.pid, error.exitcode, str(error))
    assert others.get(60) == list(range(50, 0, -1))
    assert pool.map(abs, range(-50, 0)) == list(range(50, 0, -1))


@pytest.mark.parametrize(("given", "error"), [(threading.Lock, TypeError), (lambda: open(os.devnull), TypeError)])  # noqa: SIM115
def test_what_cannot_be_pickled_fails_alone(pool, given, error):
    unpicklable = given()
    with pytest.raises(error, match="pickle"):
        pool.apply(repr, (unpicklable,))
    getattr(unpicklable, "close", int)()
    with pytest.raises(MaybeEncodingError, match="cannot be sent back"):
        pool.apply(threading.Lock)
    assert pool.apply(abs, (-1,)) == 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("cause", CAUSES)
def test_an_initializer_that_fails_breaks_the_pool(method, cause):
    pool = oc.Pool(2, run, (cause,), context=multiprocessing.get_context(method))
    try:
        with pytest.raises(oc.WorkerDiedError) as caught:
            # Broken now or later: in both cases it says so.
            pool.apply_async(abs, (-1,)).get(100)
        if cause.startswith("exception"):
            assert "initializer" in str(caught.value)
        with pytest.raises(oc.WorkerDiedError):
            pool.apply(abs, (-1,))
    finally:
        pool.terminate()
        pool.join()


def die_once(mark: str) -> str:
    with contextlib.suppress(FileExistsError):
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


@pytest.mark.parametrize("retries", [0, 1])
def test_a_task_is_tried_again_as_often_as_asked(tmp_path, retries):
    with oc.Pool(2, retries=retries) as pool:
        result = pool.apply_async(die_once, (str(tmp_path / "mark"),))
        if retries:
            assert result.get(60) == "done"
        else:
            with pytest.raises(oc.WorkerDiedError, match=r"die_once; perhaps there was not enough memory"):
                result.get(60)


@pytest.mark.usefixtures("nothing_left")
def test_an_idle_worker_that_dies_is_replaced():
    with oc.Pool(2) as pool:
        pids = {process.pid for process in pool._pool}
        assert set(pool.map(which_worker, range(2), 1)) <= pids
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        # A task may come to a worker just before the kill does.
        for _ in range(10):
            with contextlib.suppress(oc.WorkerDiedError):
                assert not pids & set(pool.map(which_worker, range(20), 1))
                break
        else:
            pytest.fail("dead workers are still given tasks")
    pool.join()


def which_worker(_: int) -> int:
    return os.getpid()


def test_an_executor_breaks_as_that_of_the_standard_library():
    with oc.ProcessPoolExecutor(2) as executor:
        others = [executor.submit(which_worker, 0) for _ in range(2)]
        assert all(other.result(60) for other in others)
        with pytest.raises(BrokenProcessPool, match="SIGKILL") as caught:
            executor.submit(run, "SIGKILL").result(60)
        assert isinstance(caught.value, oc.WorkerDiedError) and caught.value.signal == "SIGKILL"
        with pytest.raises(BrokenProcessPool):
            executor.submit(abs, -1)


@pytest.mark.parametrize("retries", [0, 2])
def test_an_executor_with_retries_goes_on(retries):
    with oc.ProcessPoolExecutor(2, retries=retries) as executor:
        failing = executor.submit(run, "os._exit")
        others = [executor.submit(abs, -n) for n in range(50)]
        with pytest.raises(BrokenProcessPool, match="exit code 3"):
            failing.result(60)
        assert [other.result(60) for other in others] == list(range(50))
        assert executor.submit(abs, -1).result(60) == 1


def scale(array: np.ndarray[Any, Any]) -> tuple[float, np.ndarray[Any, Any]]:
    result = oc.empty_like(array)
    for _ in range(100):
        np.multiply(array, 2, out=result)
    return float(array[0]), result if array[0] % 2 else np.array(result)


@pytest.mark.timeout(max(120, 5 * KILLS))
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.usefixtures("nothing_left")
def test_workers_killed_at_random_leave_nothing_and_every_task_ends(method, seed):
    """A long run: ``ONECOPY_POOL_KILLS=200``."""
    rng = random.Random(seed)
    pool = oc.Pool(3, context=multiprocessing.get_context(method))
    killed = 0
    ends, goes_on = threading.Event(), threading.Event()

    def kill(pool: oc.Pool) -> None:
        nonlocal killed
        while killed < KILLS:
            victim = rng.choice(pool._pool or [None])
            if victim is not None:
                # Its number cannot be another process's: nobody but the pool waits for it, which drops it then.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim.pid, signal.SIGKILL)
                    killed += 1
            # There is no end to it if workers are killed faster than they start.
            goes_on.clear()
            goes_on.wait(60)
            threading.Event().wait(rng.random() * 0.05)  # a random moment, not one to wait for
        ends.set()

    def items() -> Iterator[np.ndarray[Any, Any]]:
        number = 0
        while not ends.is_set():
            # Shared already, moved in on the way, and so small that it is copied.
            size, make = ((10_000, oc.full), (20_000, np.full), (10, np.full))[number % 3]
            yield make(size, float(number))
            number += 1

    killer = threading.Thread(target=kill, args=(pool,))
    killer.start()
    done = died = 0
    results = pool.imap(scale, items())
    while True:
        try:
            first, result = next(results)
        except StopIteration:
            break
        except oc.WorkerDiedError as error:
            assert error.signal == "SIGKILL" and "scale" in error.task
            died += 1
            done += 1
        else:
            assert first == done and (result == 2 * first).all()
            done += 1
            goes_on.set()
    killer.join()
    print(f"{method}: {killed} kills, {done} tasks, of which {died} failed")
    assert pool.map(abs, range(-20, 0)) == list(range(20, 0, -1))
    pool.close()
    pool.join()
    del pool, results, result
    gc.collect()
    oc.reap()


@pytest.fixture
def seed() -> int:
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}")
    return seed
