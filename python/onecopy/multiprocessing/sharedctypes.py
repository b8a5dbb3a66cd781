"""Shared ctypes objects."""

import multiprocessing.sharedctypes as _std
from multiprocessing.sharedctypes import *  # noqa: F403
from typing import Any


def __getattr__(name: str) -> Any:
    return getattr(_std, name)
