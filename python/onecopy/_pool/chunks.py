"""How many items of a job go to a worker at once."""

from __future__ import annotations

#: Nanoseconds of work that a chunk is to be at most, and at least unless the user says otherwise.
MOST, LEAST = 4_000_000, 500_000
#: Chunks for each worker that are left for the end, so that all workers end at about the same time.
SHARES = 4


class Chunks:
    """Sizes of chunks: what the user said, or as large as makes the way there not matter.

    The first ones are single items, from which it is learnt how long an item takes.
    """

    def __init__(self, size: int | None) -> None:
        if size is not None and (not isinstance(size, int) or size < 1):
            raise ValueError(f"chunksize={size!r}: expected a whole number of at least 1, or None to have it chosen")
        self._size = size
        #: Nanoseconds for one item.
        self._pace: float | None = None

    def next_size(self, left: int | None, workers: int) -> int:
        """Return the size of the next chunk; `left` is how many items there are, if that is known."""
        if self._size is not None:
            return self._size
        if self._pace is None:
            return 1
        most = int(MOST / self._pace) or 1
        if left is None:
            return most
        share = max(left // (SHARES * workers), int(LEAST / self._pace), 1)
        return min(most, share)

    def learn(self, items: int, nanoseconds: int) -> None:
        """Take into account how long a chunk took."""
        if self._size is not None:
            return
        pace = max(nanoseconds, 1) / items
        self._pace = pace if self._pace is None else (self._pace + pace) / 2
