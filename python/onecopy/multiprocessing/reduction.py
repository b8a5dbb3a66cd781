"""How objects travel: the standard library's, for whose pickler onecopy has registered its reducers."""

import multiprocessing.reduction as _std
from multiprocessing.reduction import *  # noqa: F403
from typing import Any


def __getattr__(name: str) -> Any:
    return getattr(_std, name)
