"""The interface of the standard library's resource tracker, for programs that talk to it about segments.

Segments of this package have no tracker: `unregister` lets one outlive its program, which is what those who call it
want. Anything else is for the standard library's.
"""

from __future__ import annotations

import multiprocessing.resource_tracker as _std
from multiprocessing.resource_tracker import ensure_running
from typing import Any

from onecopy import _segments

__all__ = ["ensure_running", "register", "unregister"]


def register(name: str, rtype: str) -> None:
    """Have a resource of another package tracked; segments of this one are looked after anyway."""
    if rtype != "shared_memory":
        _std.register(name, rtype)


def unregister(name: str, rtype: str) -> None:
    """Let a segment outlive its program; or have a resource of another package tracked no more."""
    if rtype != "shared_memory":
        _std.unregister(name, rtype)
    else:
        _segments.disown_named(name)


def __getattr__(name: str) -> Any:
    return getattr(_std, name)
