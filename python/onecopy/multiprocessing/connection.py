"""Connections, as `multiprocessing.connection` names them.

Pipes are those of `onecopy`; listeners, their clients and what they speak are the standard library's, on whose pickler
arrays travel as handles.
"""

from __future__ import annotations

import multiprocessing.connection
from multiprocessing.connection import Client, Listener
from typing import Any

import onecopy as _oc
from onecopy import Pipe, wait

_std: Any = multiprocessing.connection

__all__ = ["Client", "Connection", "Listener", "Pipe", "wait"]


class _AnyConnection(type):
    """Lets programs that ask for a connection find one in the end of a pipe, too."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, (_std.Connection, _oc.Connection))


class Connection(_std.Connection, metaclass=_AnyConnection):
    """A connection over a descriptor; an end of a pipe counts as one."""


def __getattr__(name: str) -> Any:
    return getattr(_std, name)
