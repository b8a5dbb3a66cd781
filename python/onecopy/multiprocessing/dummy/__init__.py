"""The same interface on threads: the standard library's."""

import multiprocessing.dummy as _std
from multiprocessing.dummy import *  # noqa: F403
from typing import Any


def __getattr__(name: str) -> Any:
    return getattr(_std, name)
