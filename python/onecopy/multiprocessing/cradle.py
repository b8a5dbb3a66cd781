"""Starting a process with arguments that travel by handle.

What is sent to a process that is being started is in flight until it has received it. Meanwhile it belongs to a
*cradle*, a queue that the object has which stands for the process here. So if the process dies before it has
received its arguments, or cannot be started, they go as soon as that is noticed: by `join`, `exitcode`, `is_alive`,
`active_children`, or because another process is started.
"""

from __future__ import annotations

import os
from functools import cache, partial
from multiprocessing import util
from typing import Any

from onecopy import _native


@cache
def with_cradle(popen: Any) -> Any:
    """Derive from a class of `multiprocessing` that starts processes one that owns what it sends to them."""

    class Popen(popen):
        _cradle: _native.Queue | None

        def __init__(self, process_obj: Any) -> None:
            self._cradle = cradle = _native.Queue()
            # A process that is forked from this one has nothing to do with it.
            util.register_after_fork(self, Popen._leave_cradle)
            cradle._owning(partial(super().__init__, process_obj))

        def poll(self, flag: int = os.WNOHANG) -> int | None:
            exitcode: int | None = super().poll(flag)
            if exitcode is not None:
                self._leave_cradle()
            return exitcode

        def _leave_cradle(self) -> None:
            self._cradle = None

    return Popen
