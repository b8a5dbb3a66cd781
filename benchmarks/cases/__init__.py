"""One module per question; each has ``TITLE`` and ``run(scale) -> Table``, and its peers beside onecopy."""

from benchmarks.cases import attach, compressed, fork, handover, locks, memory, pipeline, pool, put, queue, start, text

CASES = {
    "start": start,
    "attach": attach,
    "put": put,
    "handover": handover,
    "queue": queue,
    "pool": pool,
    "memory": memory,
    "fork": fork,
    "locks": locks,
    "text": text,
    "compressed": compressed,
    "pipeline": pipeline,
}
