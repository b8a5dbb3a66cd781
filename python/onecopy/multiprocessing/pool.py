"""Pools of workers, as `multiprocessing.pool` names them."""

from __future__ import annotations

import multiprocessing.pool
from collections.abc import Callable, Iterable
from typing import Any

import onecopy as _oc
from onecopy._pool.results import AsyncResult, MapResult

_std: Any = multiprocessing.pool

__all__ = ["AsyncResult", "MapResult", "Pool", "ThreadPool"]


class Pool(_oc.Pool):
    """A pool of worker processes; see `onecopy.Pool`, whose further arguments it takes by name."""

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
        **options: Any,
    ) -> None:
        from onecopy.multiprocessing import get_context

        super().__init__(processes, initializer, initargs, maxtasksperchild, context or get_context(), **options)


class ThreadPool(_std.ThreadPool):
    """A pool of worker threads; see `multiprocessing.pool.ThreadPool`."""


def __getattr__(name: str) -> Any:
    return getattr(_std, name)
