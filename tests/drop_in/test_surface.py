"""The names of `onecopy.multiprocessing` are those of the running Python's `multiprocessing`."""

import importlib
import inspect
import multiprocessing as std
import subprocess
import sys
from typing import Any

import pytest

import onecopy as oc
import onecopy.multiprocessing as mp

#: Exceptions that programs catch by either name, and processes, of which a program has one state.
THE_SAME = {"AuthenticationError", "BufferTooShort", "ProcessError", "TimeoutError"}
THE_SAME |= {"active_children", "current_process", "parent_process"}

SUBMODULES = [
    "connection",
    "context",
    "dummy",
    "dummy.connection",
    "managers",
    "pool",
    "process",
    "queues",
    "reduction",
]
SUBMODULES += ["resource_tracker", "shared_memory", "sharedctypes", "synchronize", "util"]

#: Not there: the base of the standard library's locks, which ours are not derived from.
WITHOUT = {"synchronize": {"SemLock"}}


def test_all_is_the_standard_librarys() -> None:
    assert sorted(mp.__all__) == sorted(std.__all__)
    for name in mp.__all__:
        assert getattr(mp, name) is not None


def test_only_what_must_be_one_is_the_standard_librarys_own() -> None:
    assert {name for name in mp.__all__ if getattr(mp, name) is getattr(std, name)} == THE_SAME


@pytest.mark.parametrize("name", SUBMODULES)
def test_submodules_have_all_public_names(name: str) -> None:
    theirs = importlib.import_module(f"multiprocessing.{name}")
    ours = importlib.import_module(f"onecopy.multiprocessing.{name}")
    made_there = {key for key, value in vars(theirs).items() if getattr(value, "__module__", None) == theirs.__name__}
    public = {key for key in made_there if not key.startswith("_")} | set(getattr(theirs, "__all__", ()))
    assert {key for key in public if not hasattr(ours, key)} == WITHOUT.get(name, set())
    assert set(getattr(theirs, "__all__", ())) <= set(getattr(ours, "__all__", dir(ours)))


@pytest.mark.parametrize("name", sorted(set(mp.__all__) - THE_SAME - {"Process", "reducer"}))
def test_functions_take_the_same_arguments(name: str) -> None:
    def shape(function: Any) -> list[tuple[str, Any, Any]]:
        return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]

    assert shape(getattr(mp, name)) == shape(getattr(std, name))


def test_importing_onecopy_does_not_import_it() -> None:
    program = "import sys, onecopy; print(sorted(m for m in sys.modules if m.startswith('onecopy.multiprocessing')))"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"


def test_importing_it_brings_in_no_more_than_the_standard_librarys() -> None:
    program = "import sys, onecopy.multiprocessing; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    slow = {f"multiprocessing.{name}" for name in ("managers", "pool", "queues", "shared_memory", "sharedctypes")}
    assert set(out.stdout.split()) & (slow | {"logging", "concurrent.futures"}) == set()


def test_objects_are_of_the_classes_that_programs_ask_for() -> None:
    from onecopy.multiprocessing import managers, pool, process, queues, shared_memory, synchronize

    for name in ("Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event"):
        assert isinstance(getattr(mp, name)(), getattr(synchronize, name))
        assert isinstance(getattr(mp, name)(), getattr(oc, name))
    assert isinstance(mp.BoundedSemaphore(), synchronize.Semaphore)
    assert isinstance(mp.Barrier(1), synchronize.Barrier)
    assert isinstance(mp.JoinableQueue(), queues.Queue)
    assert isinstance(mp.SimpleQueue(), queues.SimpleQueue)
    assert issubclass(mp.Process, process.BaseProcess) and issubclass(mp.Process, std.Process)
    assert issubclass(managers.SyncManager, managers.BaseManager)
    assert issubclass(managers.SyncManager, std.managers.SyncManager)  # type: ignore[attr-defined]
    assert issubclass(shared_memory.SharedMemory, std.shared_memory.SharedMemory)  # type: ignore[attr-defined]
    assert issubclass(pool.ThreadPool, std.pool.ThreadPool)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Queue"])
def test_classes_take_a_context(name: str) -> None:
    module = "queues" if name == "Queue" else "synchronize"
    class_ = getattr(importlib.import_module(f"onecopy.multiprocessing.{module}"), name)
    assert type(class_(ctx=mp.get_context("spawn"))) is class_
