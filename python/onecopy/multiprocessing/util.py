"""Logging, finalizers and forks: the standard library's, since a program has one state of them."""

import multiprocessing.util as _std
from multiprocessing.util import *  # noqa: F403
from typing import Any


def __getattr__(name: str) -> Any:
    return getattr(_std, name)
