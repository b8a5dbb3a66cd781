"""Contexts, start methods and what travels to processes."""

import gc
import multiprocessing as std
import os
import pickle
import queue
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import onecopy as oc
import onecopy.multiprocessing as mp
from onecopy.multiprocessing import synchronize

LATE = 30  # seconds after which a test has failed


def double(array: Any, results: Any, event: Any) -> None:
    array *= 2
    event.set()
    results.put((oc.is_shared(array), os.getpid(), mp.current_process().name, mp.parent_process() is not None))


def test_arrays_locks_and_queues_travel_under_every_start_method(context: Any) -> None:
    array, results, event = oc.ones(1000), context.Queue(), context.Event()
    process = context.Process(target=double, args=(array, results, event), name="worker")
    process.start()
    assert event.wait(LATE)
    assert results.get(timeout=LATE) == (True, process.pid, "worker", True)
    process.join()
    assert process.exitcode == 0 and array.sum() == 2000


class EndsWhoeverUnpicklesIt:
    def __reduce__(self) -> Any:
        return os._exit, (3,)


class CannotBeSent:
    def __reduce__(self) -> Any:
        raise ValueError("as told")


def held() -> dict[str, int]:
    gc.collect()
    oc.reap()
    stats = oc.stats()
    return {figure: stats[figure] for figure in ("blocks", "handles_in_flight")}


@pytest.mark.parametrize("end", ["killed at once", "ended by an argument"])
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_what_a_process_dies_without_having_received_goes_with_it(method: str, end: str) -> None:
    context, before = mp.get_context(method), held()
    near, far = context.Pipe()
    first = EndsWhoeverUnpicklesIt() if end == "ended by an argument" else None
    arguments = (first, oc.ones(1000), np.ones(100_000), context.Lock(), context.Queue(), far)
    process = context.Process(target=print, args=arguments)
    process.start()
    if first is None:
        process.kill()
    del arguments
    far.close()
    process.join(LATE)
    assert process.exitcode == (3 if first else -signal.SIGKILL)
    # Nobody has the other end any more.
    with pytest.raises(EOFError):
        assert near.poll(LATE)
        near.recv()
    near.close()
    del near, far
    # Though the object that stands for the process is still there.
    assert {figure: count for figure, count in held().items() if count > before[figure]} == {}


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_process_that_cannot_be_started_keeps_nothing(method: str) -> None:
    context, before = mp.get_context(method), held()
    process = context.Process(target=print, args=(oc.ones(1000), CannotBeSent()))
    with pytest.raises(ValueError, match="as told"):
        process.start()
    del process
    assert {figure: count for figure, count in held().items() if count > before[figure]} == {}


def hold_on(go: Any) -> None:
    go.wait(LATE)


def test_a_forked_process_does_not_keep_what_another_has_not_received() -> None:
    context, before = mp.get_context("spawn"), held()
    array = oc.ones(1000)
    process = context.Process(target=print, args=(EndsWhoeverUnpicklesIt(), array))
    process.start()
    go = mp.Event()
    forked = mp.get_context("fork").Process(target=hold_on, args=(go,))
    forked.start()
    process.join(LATE)
    assert held()["handles_in_flight"] <= before["handles_in_flight"]
    go.set()
    forked.join(LATE)
    assert (process.exitcode, forked.exitcode, array.sum()) == (3, 0, 1000)


def test_contexts_know_their_names_and_each_other(context: Any) -> None:
    assert context is mp.get_context(context.get_start_method())
    assert context.get_context("spawn") is mp.get_context("spawn")
    with pytest.raises(ValueError, match="cannot find context for 'thread': expected one of 'fork', 'spawn', 'forkse"):
        context.get_context("thread")
    with pytest.raises(ValueError, match="cannot set start method of concrete context"):
        context.set_start_method("fork")


def test_the_start_method_is_one_setting_of_the_program(run: Callable[..., str]) -> None:
    program = """
import multiprocessing as std, onecopy.multiprocessing as mp
print(mp.get_start_method(allow_none=True))
mp.set_start_method("spawn")
print(std.get_start_method(), type(mp.get_context()).__module__, mp.get_context().get_start_method())
std.set_start_method("forkserver", force=True)
print(mp.get_start_method())
try:
    mp.set_start_method("fork")
except RuntimeError as error:
    print(error)
"""
    assert run(program).splitlines() == [
        "None",
        "spawn onecopy.multiprocessing.context spawn",
        "forkserver",
        "context has already been set",
    ]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [("", "['__main__', 'onecopy._pool.worker']"), ("mp.set_forkserver_preload(['json'])", "['json']")],
)
def test_a_fork_server_has_imported_onecopy_unless_told_otherwise(
    setting: str, expected: str, run: Callable[..., str]
) -> None:
    program = f"""
import onecopy.multiprocessing as mp, multiprocessing.forkserver, os
{setting}
process = mp.get_context("forkserver").Process(target=os.getpid)
process.start(); process.join()
print(multiprocessing.forkserver._forkserver._preload_modules, process.exitcode)
"""
    assert run(program) == f"{expected} 0"


@pytest.mark.parametrize("make", [mp.Lock, mp.RLock, mp.Semaphore, mp.Condition, mp.Event, mp.Queue, mp.SimpleQueue])
def test_only_started_processes_and_onecopys_channels_get_a_lock(make: Callable[[], Any]) -> None:
    with pytest.raises(RuntimeError, match="should only be shared between processes through inheritance"):
        pickle.dumps(make())
    channel = mp.Queue()
    channel.put(make())
    assert type(channel.get()) is type(make())


def test_a_condition_that_travels_keeps_its_lock_and_class() -> None:
    lock, channel = mp.Lock(), mp.Queue()
    channel.put(mp.Condition(lock))
    condition = channel.get()
    assert type(condition) is synchronize.Condition
    with condition:
        assert lock.locked()


class Unpicklable:
    def __reduce__(self) -> Any:
        raise ValueError("not me")


@pytest.mark.parametrize("make", [mp.Queue, mp.JoinableQueue])
def test_an_object_that_cannot_be_pickled_is_reported_and_left_out(
    make: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    channel = make()
    channel.put(Unpicklable())
    channel.put(1)
    assert channel.get(timeout=LATE) == 1 and channel.empty()
    assert "ValueError: not me" in capsys.readouterr().err
    with pytest.raises(ValueError, match="not me"):
        mp.SimpleQueue().put(Unpicklable())
    with pytest.raises(ValueError, match="not me"):
        oc.Queue().put(Unpicklable())


def test_what_a_full_or_closed_queue_says_is_not_taken_for_a_pickling_error() -> None:
    channel = mp.Queue(1)
    channel.put(1)
    with pytest.raises(queue.Full):
        channel.put(2, timeout=0)
    channel.close()
    with pytest.raises(ValueError, match="is closed"):
        channel.put(3)
    with pytest.raises(OSError, match="is closed"):
        channel.empty()


def test_exceptions_are_those_that_programs_catch() -> None:
    assert mp.TimeoutError is std.TimeoutError and mp.ProcessError is std.ProcessError


def whoami(array: Any) -> Any:
    array += 1
    return os.getpid(), array


def test_pools_send_handles_both_ways_and_say_who_died(context: Any) -> None:
    from onecopy.multiprocessing import pool

    array = oc.zeros(1000)
    with context.Pool(1) as workers:
        assert isinstance(workers, pool.Pool) and isinstance(workers, oc.Pool)
        pid, same = workers.apply(whoami, (array,))
        assert pid != os.getpid() and array.sum() == 1000
        same += 1
        assert array.sum() == 2000
        with pytest.raises(oc.WorkerDiedError):
            workers.apply(os._exit, (3,))
        assert workers.apply(abs, (-1,)) == 1


def send_array(connection: Any) -> None:
    connection.send(oc.ones(1000))
    connection.close()


def test_listener_and_client_send_handles() -> None:
    from onecopy.multiprocessing.connection import Client, Listener, wait

    with Listener() as listener:
        process = mp.get_context("fork").Process(target=lambda: send_array(Client(listener.address)))
        process.start()
        with listener.accept() as connection:
            assert wait([connection], LATE) == [connection]
            array = connection.recv()
        process.join()
    assert oc.is_shared(array) and np.array_equal(array, np.ones(1000))


def test_dummy_has_threads() -> None:
    from onecopy.multiprocessing.dummy import Pool

    with Pool(2) as pool:
        assert pool.map(abs, [-1, 2]) == [1, 2]


def test_logging_is_the_standard_librarys() -> None:
    from multiprocessing import util as std_util

    from onecopy.multiprocessing import util

    assert mp.get_logger() is std.get_logger() is util.get_logger()
    assert util.Finalize is std_util.Finalize


def echo(connection: Any) -> None:
    while (received := connection.recv()) is not None:
        connection.send(received)


def test_pipes_are_onecopys_and_count_as_connections(context: Any) -> None:
    from onecopy.multiprocessing import connection

    here, there = context.Pipe()
    assert isinstance(here, oc.Connection) and isinstance(here, connection.Connection)
    assert not isinstance("no", connection.Connection)
    process = context.Process(target=echo, args=(there,))
    process.start()
    there.close()
    array = oc.ones(10)
    here.send(array)
    assert connection.wait([here, process.sentinel], LATE) == [here]
    here.recv()[:] = 2
    assert array.sum() == 20
    here.send(None)  # a forked child has this end, too, so that closing it tells it nothing
    assert connection.wait([process.sentinel], LATE) == [process.sentinel]
    process.join()
    assert process.exitcode == 0
