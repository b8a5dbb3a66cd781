"""The public surface, listed once: a name that comes or goes must be meant."""

import inspect
import subprocess
import sys

import pytest

import onecopy

SURFACE = {
    "Arena",
    "ArenaError",
    "Array",
    "Barrier",
    "BoundedSemaphore",
    "BrokenBarrierError",
    "Condition",
    "Connection",
    "Counter",
    "DamagedArenaError",
    "Dict",
    "Event",
    "ForeignArenaError",
    "InvalidHandleError",
    "JoinableQueue",
    "List",
    "Lock",
    "NameTakenError",
    "NameUnknownError",
    "Namespace",
    "OnecopyError",
    "OutOfMemoryError",
    "OwnerDiedError",
    "ParseError",
    "Pipe",
    "Pool",
    "ProcessPoolExecutor",
    "Queue",
    "RLock",
    "RWLock",
    "RawArray",
    "RawValue",
    "Ref",
    "Semaphore",
    "ShutDownError",
    "SimpleQueue",
    "StaleHandleError",
    "Value",
    "WorkerDiedError",
    "__version__",
    "arena",
    "array",
    "asarray",
    "attach",
    "audit",
    "empty",
    "empty_like",
    "from_hdf5",
    "full",
    "full_like",
    "get",
    "is_shared",
    "iter_text",
    "join_hdf5",
    "loadtxt",
    "ones",
    "ones_like",
    "publish",
    "put",
    "reap",
    "set_limit",
    "share",
    "stats",
    "to_hdf5",
    "to_ipc",
    "to_parquet",
    "to_zarr",
    "unpublish",
    "wait",
    "zeros",
    "zeros_like",
}
DOCUMENTED = sorted(name for name in onecopy.__all__ if not name.startswith("__"))
FUNCTIONS = [name for name in DOCUMENTED if not inspect.isclass(getattr(onecopy, name))]


def test_all_is_the_surface_in_order():
    assert set(onecopy.__all__) == SURFACE
    assert onecopy.__all__ == sorted(onecopy.__all__)


def test_nothing_else_is_public():
    names = {name for name in dir(onecopy) if not name.startswith("_") and name not in ("TYPE_CHECKING", "Any")}
    public = {name for name in names if not inspect.ismodule(getattr(onecopy, name))}
    assert public == set(DOCUMENTED)


def test_importing_it_brings_in_little_else():
    """What takes long to import is imported by those who use it."""
    program = "import sys, numpy; before = set(sys.modules); import onecopy; print(*sorted(set(sys.modules) - before))"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    brought = set(out.stdout.split())
    assert "onecopy._native" in brought and "multiprocessing.reduction" in brought
    slow = {
        "h5py",
        "pyarrow",
        "zarr",
        "argparse",
        "tqdm",
        "json",
        "ctypes",
        "concurrent.futures",
        "asyncio",
        "inspect",
        "dataclasses",
    }
    slow |= {
        "logging",
        "multiprocessing.pool",
        "multiprocessing.queues",
        "multiprocessing.managers",
        "onecopy._cli",
        "onecopy._audit",
        "onecopy._export",
        "onecopy._pool",
    }
    assert brought & slow == set()


def test_what_comes_with_h5py_is_there_when_asked_for():
    assert {"to_hdf5", "from_hdf5", "to_parquet"} <= set(dir(onecopy))
    with pytest.raises(AttributeError, match="no attribute 'to_hdf6'"):
        onecopy.to_hdf6  # noqa: B018


@pytest.mark.parametrize("name", DOCUMENTED)
def test_name_is_documented(name):
    summary = (inspect.getdoc(getattr(onecopy, name)) or "").partition("\n")[0]
    assert summary.endswith(".")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_shows_an_example(name):
    assert "Examples\n--------" in inspect.getdoc(getattr(onecopy, name))
