"""Connections: the standard library's, on whose pickler arrays travel as handles."""

import multiprocessing.connection as _std
from multiprocessing.connection import *  # noqa: F403
from typing import Any


def __getattr__(name: str) -> Any:
    return getattr(_std, name)
