"""Start: how much longer a program takes that imports onecopy, which makes its arena at once."""

import os
import subprocess
import sys
import time
from functools import partial

from benchmarks.measure import Scale, take_turns
from benchmarks.report import Table

TITLE = "Start of a program"

IMPORT = "interpreter and import"
#: Of the time of `import numpy`, without which no program has arrays.
MOST = 1.3
ROUNDS = 25


def run(scale: Scale) -> Table:
    table = Table(TITLE)
    statements = {"onecopy": "import onecopy", "numpy": "import numpy", "nothing": "pass"}
    contenders = {name: partial(seconds_of, statement) for name, statement in statements.items()}
    results, notes = take_turns(contenders, 2 if scale.quick else ROUNDS)
    for name, seconds in results.items():
        table.add(IMPORT, name, seconds, "s")
    table.claim_ratio(IMPORT, 1 / MOST, peers=["numpy"])
    table.notes += notes
    return table


def seconds_of(statement: str) -> float:
    """Seconds of a fresh interpreter that runs a statement, in an arena of its own."""
    # An installed package has its byte code.
    left_out = {"ONECOPY_SESSION", "PYTHONDONTWRITEBYTECODE"}
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], env=environment, check=True)
    return time.perf_counter() - start
