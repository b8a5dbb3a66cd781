"""How long things take, from which it is decided how many are given out at once."""

from __future__ import annotations

#: Nanoseconds of work that a worker has before it: that long it can do without the pool.
AHEAD = 1_000_000
LEAST_AHEAD, MOST_AHEAD = 2, 64


class Pace:
    """How long tasks of one kind take, or items."""

    __slots__ = ("nanoseconds",)

    def __init__(self) -> None:
        self.nanoseconds: float | None = None

    def learn(self, nanoseconds: float) -> None:
        """Take into account how long one took."""
        known = self.nanoseconds
        self.nanoseconds = nanoseconds if known is None else (known + nanoseconds) / 2

    def learn_of_sending(self, nanoseconds: float) -> None:
        """Take into account how long it took to send a task: with large arguments that is longer than the work."""
        if self.nanoseconds is not None and nanoseconds > self.nanoseconds:
            self.nanoseconds = nanoseconds

    def ahead(self) -> int:
        """Return how many tasks a worker may have at once."""
        if self.nanoseconds is None:
            return LEAST_AHEAD
        return max(LEAST_AHEAD, min(MOST_AHEAD, int(AHEAD / (self.nanoseconds + 1))))
