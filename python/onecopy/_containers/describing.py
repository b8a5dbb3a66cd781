"""Texts of containers, which may lie in themselves."""

from __future__ import annotations

import threading
from collections.abc import Callable

_described = threading.local()


def describe(class_: type, name: int, inner: str, contents: Callable[[], str]) -> str:
    """Describe a container by its contents; by `inner` where it lies in itself, as another object of Python.

    `name` is that of the shared container.
    """
    names: set[int] = _described.__dict__.setdefault("names", set())
    if name in names:
        return f"{class_.__name__}({inner})"
    names.add(name)
    try:
        return f"{class_.__name__}({contents()})"
    finally:
        names.discard(name)
