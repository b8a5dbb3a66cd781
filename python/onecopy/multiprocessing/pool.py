"""Pools of workers, as `multiprocessing.pool` names them."""

from __future__ import annotations

import multiprocessing.pool as _std
from collections.abc import Callable, Iterable
from multiprocessing.pool import AsyncResult, MapResult
from typing import Any

__all__ = ["AsyncResult", "MapResult", "Pool", "ThreadPool"]


class Pool(_std.Pool):
    """A pool of worker processes; see `multiprocessing.pool.Pool`."""

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
    ) -> None:
        from multiprocessing import get_context

        # The standard library's pool reaches into the queues of its own contexts.
        method = None if context is None else context.get_start_method()
        super().__init__(processes, initializer, initargs, maxtasksperchild, get_context(method))


class ThreadPool(_std.ThreadPool):
    """A pool of worker threads; see `multiprocessing.pool.ThreadPool`."""


def __getattr__(name: str) -> Any:
    return getattr(_std, name)
