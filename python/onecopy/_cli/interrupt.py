"""Ctrl-C and SIGTERM, which unwind the command so that it cleans up, and are never lost.

Python runs signal handlers between any two instructions of the main thread. An exception that one raises inside a
callback of a weak reference (h5py has many) or a finaliser is printed and dropped, and a handler whose signal comes
just before a sleep without end does not run until something else wakes the thread. So the handler also notes the
signal, and long work calls `check` now and then.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_received: list[signal.Signals] = []


class Interrupted(BaseException):
    """A signal asks the command to end.

    Attributes
    ----------
    signal : signal.Signals
        Which one.
    outcome : str
        What the command leaves.
    """

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number)
        self.signal = number
        self.outcome = "nothing was written"


def check() -> None:
    """Raise `Interrupted` when a signal has come."""
    if _received:
        raise Interrupted(_received[0])


@contextmanager
def unwinding_signals() -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM (which batch systems send before they kill) into `Interrupted`."""

    def unwind(number: int, frame: FrameType | None) -> None:
        _received.append(signal.Signals(number))
        check()

    before = {}
    try:
        for number in _SIGNALS:
            before[number] = signal.signal(number, unwind)
    except ValueError:
        # Not the main thread: signals are somebody else's.
        pass
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _received.clear()
