"""Connections between threads: the standard library's."""

import multiprocessing.dummy.connection as _std
from multiprocessing.dummy.connection import *  # noqa: F403
from typing import Any


def __getattr__(name: str) -> Any:
    return getattr(_std, name)
