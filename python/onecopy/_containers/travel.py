"""How containers travel: as handles, to whoever shall have the same container."""

from __future__ import annotations

from multiprocessing.context import assert_spawning
from typing import Any

from onecopy import _native


def by_handle(container: Any) -> tuple[Any, ...]:
    """Reduce a container for a receiver that gets the same container: one handle, one receiver."""
    return attach, (type(container), container._send())


def attach(class_: Any, handle: bytes) -> Any:
    return class_.__new__(class_, _native.ContainerHandle(handle))


def reduce(container: Any) -> tuple[Any, ...]:
    """Reduce a container for `pickle`, which may only do so for a process that is being started."""
    assert_spawning(container)
    return by_handle(container)
