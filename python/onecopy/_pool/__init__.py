"""Pools of worker processes whose arguments and results travel by handle.

`pool.py` and `executor.py` are what users see; `results.py` and `jobs.py` are what their calls become. Behind both is
one `dispatcher.py`, which gives tasks to the processes of `workers.py` and learns from `watch.py` when one of them
ends. `worker.py` is what runs in these. Design: ``docs/design/pool.md``.
"""

from onecopy._pool.executor import ProcessPoolExecutor as ProcessPoolExecutor
from onecopy._pool.pool import Pool as Pool
