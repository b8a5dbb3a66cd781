"""One module per question; each has ``TITLE`` and ``run(scale) -> Table``, and its peers beside onecopy."""

from benchmarks.cases import (
    attach,
    compressed,
    counter,
    fork,
    handover,
    locks,
    memory,
    objects,
    pipeline,
    pool,
    put,
    queue,
    start,
    text,
)

CASES = {
    "start": start,
    "attach": attach,
    "put": put,
    "handover": handover,
    "queue": queue,
    "pool": pool,
    "memory": memory,
    "objects": objects,
    "fork": fork,
    "locks": locks,
    "counter": counter,
    "text": text,
    "compressed": compressed,
    "pipeline": pipeline,
}
