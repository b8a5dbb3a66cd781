"""What workers do in the tests of pools."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

import onecopy as oc

#: How processes are started.
METHODS = ("fork", "spawn", "forkserver")


def square(x: Any) -> Any:
    return x * x


def worker(_: Any = None) -> int:
    return os.getpid()


def refuse(x: int) -> int:
    if x == 5:
        raise ValueError(f"not {x}")
    return x


def event_wait(event: Any) -> bool:
    return event.wait(50)


def meet(barrier: Any) -> None:
    barrier.wait(60)


def event_set(event: Any) -> None:
    event.set()


def add_one_in_place(array: np.ndarray[Any, Any]) -> bool:
    array += 1
    return oc.is_shared(array)


def make(count: int, shared: bool) -> dict[str, Any]:
    return {"deep": [(oc.full if shared else np.full)(count, 3.0)]}
