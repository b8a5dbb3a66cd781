"""A worker process that already runs and waits at the other end of a pipe."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any


@contextmanager
def waiting_worker(
    serve: Callable[..., None], *arguments: Any, module: str = "multiprocessing"
) -> Iterator[Connection]:
    """Start ``serve(connection, *arguments)`` in a spawned process and yield the other end; None tells it to end.

    Process and pipe are those of `module`: the standard library's, or the drop-in for it.
    """
    processes = import_module(module).get_context("spawn")
    here, there = processes.Pipe()
    worker = processes.Process(target=serve, args=(there, *arguments), daemon=True)
    worker.start()
    there.close()
    try:
        yield here
        here.send(None)
        worker.join()
    finally:
        worker.kill()


def messages(connection: Connection) -> Iterator[Any]:
    """What arrives until the None that ends the work."""
    while (message := connection.recv()) is not None:
        yield message
