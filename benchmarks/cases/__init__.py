"""One module per question; each has ``TITLE`` and ``run(scale) -> Table``, and its peers beside onecopy."""

from benchmarks.cases import (
    attach,
    compressed,
    containers,
    counter,
    fork,
    handover,
    locks,
    memory,
    objects,
    pipe,
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
    "pipe": pipe,
    "containers": containers,
    "memory": memory,
    "objects": objects,
    "fork": fork,
    "locks": locks,
    "counter": counter,
    "text": text,
    "compressed": compressed,
    "pipeline": pipeline,
}
