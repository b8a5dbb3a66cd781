"""Managers: without a server for what lies in shared memory, and with one for the rest."""

import os
import pickle
import select
import signal
import subprocess
import sys
from typing import Any

import pytest

import onecopy.multiprocessing as mp
from onecopy.multiprocessing import managers

LATE = 30  # seconds after which a test has failed


def take_part(lock: Any, condition: Any, event: Any, queue: Any, barrier: Any) -> None:
    with lock:
        queue.put("hello")
    with condition:
        event.set()
        condition.notify()
    barrier.wait(LATE)


def test_locks_and_queues_work_across_processes_without_a_server(context: Any) -> None:
    with context.Manager() as manager:
        made = manager.Lock(), manager.Condition(), manager.Event(), manager.Queue(), manager.Barrier(2)
        _, condition, event, queue, barrier = made
        assert mp.active_children() == []
        with condition:
            process = context.Process(target=take_part, args=made)
            process.start()
            assert condition.wait(LATE)
        assert event.is_set() and queue.get(timeout=LATE) == "hello"
        barrier.wait(LATE)
        process.join()
        assert process.exitcode == 0 and barrier.parties == 2 and not barrier.broken


def test_proxies_pickle_anywhere_and_outlive_the_manager() -> None:
    with mp.Manager() as manager:
        queue, condition = manager.Queue(), manager.Condition(manager.RLock())
        again = pickle.loads(pickle.dumps(queue))
    again.put([1])
    assert queue.get() == [1] and queue.empty()
    same: Any = pickle.loads(pickle.dumps(condition))
    with same:
        assert not condition.acquire(blocking=False) or condition.release() is None
    with pytest.raises(AssertionError, match="not yet started"):
        manager.Queue()


def test_exceptions_are_those_of_threading() -> None:
    with mp.Manager() as manager:
        for lock in (manager.Lock(), manager.RLock()):
            with pytest.raises(RuntimeError):
                lock.release()
        with pytest.raises(RuntimeError):
            manager.Condition().notify()
        with pytest.raises(ValueError, match="too many times"):
            manager.BoundedSemaphore(1).release()


def test_proxies_are_described_and_are_of_the_known_classes() -> None:
    with mp.Manager() as manager:
        lock = manager.Lock()
        assert repr(lock).startswith("<AcquirerProxy object, typeid 'Lock' at 0x")
        assert str(lock) == "<Lock(owner=None)>"
        assert isinstance(lock, managers.AcquirerProxy) and isinstance(lock, managers.BaseProxy)


class Tally:
    def __init__(self) -> None:
        self.count = 0

    def add(self, by: int) -> int:
        self.count += by
        return os.getpid()


class TallyManager(managers.SyncManager):
    pass


TallyManager.register("Tally", Tally)


def test_a_registered_class_starts_a_server_and_the_rest_stays_without(context: Any) -> None:
    with TallyManager(ctx=context) as manager:
        event = manager.Event()
        assert mp.active_children() == []
        tally: Any = manager.Tally()  # type: ignore[attr-defined]
        server = tally.add(1)
        assert [child.pid for child in mp.active_children()] == [server]
        event.set()
        assert tally.add(1) == server and event.is_set()
    assert mp.active_children() == []


def fail() -> None:
    raise SystemExit(3)


def test_an_initializer_runs_in_the_server() -> None:
    manager = managers.SyncManager()
    with pytest.raises(TypeError):
        manager.start(1)  # type: ignore[arg-type]
    with pytest.raises(EOFError):
        manager.start(fail)


def test_a_manager_with_an_address_serves_others(tmp_path: Any) -> None:
    address = str(tmp_path / "socket")
    with TallyManager(address=address, authkey=b"key") as manager:
        queue = manager.Queue()
        queue.put(1)
        client = TallyManager(address=address, authkey=b"key")
        client.connect()
        assert client.address == manager.address == address
        assert client.dict(a=1)["a"] == 1 and client.Tally().add(1) != os.getpid()  # type: ignore[attr-defined]


def test_states_are_those_of_the_standard_library() -> None:
    manager = mp.Manager()
    with pytest.raises(mp.ProcessError, match="Already started"):
        manager.start()
    manager.shutdown()
    with pytest.raises(mp.ProcessError, match="shut down"):
        manager.start()


def test_a_server_ends_with_the_process_that_started_it() -> None:
    program = """
import sys
from onecopy.multiprocessing.managers import BaseManager
class Manager(BaseManager):
    pass
Manager.register("list", list)
if __name__ == "__main__":
    manager = Manager(); manager.start()
    print(manager._process.pid, flush=True)
    sys.stdin.readline()
"""
    pipe = subprocess.PIPE
    started = subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, text=True)
    assert started.stdout is not None
    pidfd = os.pidfd_open(int(started.stdout.readline()))
    started.send_signal(signal.SIGKILL)
    started.communicate(timeout=60)
    assert select.select([pidfd], [], [], 60)[0] == [pidfd]
    os.close(pidfd)
