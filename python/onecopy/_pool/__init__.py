"""Pools of worker processes whose arguments and results travel by handle.

`pool.py` and `executor.py` are what users see; `results.py` and `jobs.py` are what their calls become. Behind both is
one `dispatcher.py`, which gives tasks to the processes of `workers.py` and learns from `watch.py` when one of them
ends. `worker.py` is what runs in these. Design: ``docs/design/pool.md``.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onecopy._pool.executor import ProcessPoolExecutor as ProcessPoolExecutor
    from onecopy._pool.pool import Pool as Pool

#: Imported when they are asked for: a worker needs neither, and shall start quickly.
_LATE = {"Pool": "pool", "ProcessPoolExecutor": "executor"}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"onecopy._pool.{_LATE[name]}"), name)
