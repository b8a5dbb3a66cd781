"""One module per question; each has ``TITLE`` and ``run(scale) -> Table``, and its peers beside onecopy."""

from benchmarks.cases import (
    attach,
    compressed,
    containers,
    fork,
    handover,
    locks,
    memory,
    pipeline,
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
    "containers": containers,
    "memory": memory,
    "fork": fork,
    "locks": locks,
    "text": text,
    "compressed": compressed,
    "pipeline": pipeline,
}
