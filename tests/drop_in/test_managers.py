"""Managers: without a server for what lies in shared memory, and with one for the rest."""

import array
import copy
import gc
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


def change(d: Any, items: Any, namespace: Any, value: Any, numbers: Any) -> None:
    d["x"] = [1]
    items.append(2)
    items[0].append("inner")
    namespace.lock = 3
    value.value = "any"
    numbers[0] = 5


def test_containers_and_values_need_no_server(context: Any) -> None:
    with context.Manager() as manager:
        d, items, namespace = manager.dict(a=0), manager.list([manager.list()]), manager.Namespace(z=1)
        value, numbers = manager.Value("i", 0), manager.Array("i", [1, 2, 3])
        process = context.Process(target=change, args=(d, items, namespace, value, numbers))
        process.start()
        process.join()
        assert process.exitcode == 0 and mp.active_children() == []
        assert str(d) == "{'a': 0, 'x': [1]}" and d.copy() == {"a": 0, "x": [1]}
        assert len(items) == 2 and items[0][:] == ["inner"] and isinstance(items[0], managers.ListProxy)
        assert str(namespace) == "Namespace(lock=3, z=1)" and namespace.lock == 3
        assert str(value) == "Value('i', 'any')" and value.get() == "any"
        assert str(numbers) == "array('i', [5, 2, 3])"


def test_an_inner_container_lives_in_the_outer_one() -> None:
    with mp.Manager() as manager:
        outer = manager.list()
        outer.append(manager.dict(a=manager.Lock()))
        outer.append(manager.Array("d", [1.5]))
        gc.collect()
        outer[0]["b"] = 1
        assert outer[0].keys() == ["a", "b"] and outer[1][0] == 1.5
        with outer[0]["a"]:
            assert not outer[0]["a"].acquire(False)


def test_dictionaries_are_as_in_the_standard_library() -> None:
    with mp.Manager() as manager:
        d = manager.dict({1: "a", 2: "b"})
        assert (d.keys(), d.values(), d.items(), list(d)) == ([1, 2], ["a", "b"], [(1, "a"), (2, "b")], [1, 2])
        assert repr(d).startswith("<DictProxy object, typeid 'dict' at 0x")
        assert copy.deepcopy(d) == {1: "a", 2: "b"} and 1 in d and d.get(3, 0) == 0
        keys = iter(d)
        d[3] = "c"
        with pytest.raises(RuntimeError, match="changed size"):
            next(keys)
        with pytest.raises(KeyError):
            d[4]


def test_namespaces_have_no_attributes_of_their_own() -> None:
    with mp.Manager() as manager:
        namespace = manager.Namespace()
        for name in ("lock", "copy", "keys"):
            assert not hasattr(namespace, name)
            setattr(namespace, name, name)
            assert getattr(namespace, name) == name
            delattr(namespace, name)
        with pytest.raises(AttributeError, match="'Namespace' object has no attribute 'copy'"):
            del namespace.copy


@pytest.mark.parametrize("typecode", [code for code in array.typecodes if code not in "uw"])
def test_arrays_hold_what_an_array_holds(typecode: str) -> None:
    with mp.Manager() as manager:
        numbers = manager.Array(typecode, [1, 2, 3])
        numbers[1:] = array.array(typecode, [4, 5])
        numbers[-3] = 6
        assert list(numbers) == [6, 4, 5] and len(numbers) == 3
        assert numbers[:2] == array.array(typecode, [6, 4])
        with pytest.raises(IndexError):
            numbers[3]
        with pytest.raises((OverflowError, TypeError)):
            numbers[0] = 1 << 70 if typecode not in "fd" else "x"
        with pytest.raises(TypeError, match=r"can only assign an array\.array"):
            numbers[1:] = [4, 5]
        with pytest.raises(ValueError):
            numbers[1:] = array.array(typecode, [4, 5, 6])


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
    # It has closed its pipe, and may not have ended yet.
    for server in mp.active_children():
        server.join(60)


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
