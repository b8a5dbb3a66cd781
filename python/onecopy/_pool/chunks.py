"""How many items of a job go to a worker at once."""

from __future__ import annotations

from onecopy._pool.pace import Pace

#: Nanoseconds of work that a chunk is to be at most, and at least unless the user says otherwise.
MOST, LEAST = 4_000_000, 200_000
#: Chunks for each worker that are left for the end, so that all workers end at about the same time.
SHARES = 4


class Chunks:
    """Sizes of chunks: what the user said, or as large as makes the way there not matter.

    If nothing is known of the function, the first ones are single items, from which it is learnt how long one takes.
    What was learnt in other jobs only decides together with the number of items, as these may take longer.
    """

    def __init__(self, size: int | None, pace: Pace) -> None:
        if size is not None and (not isinstance(size, int) or size < 1):
            raise ValueError(f"chunksize={size!r}: expected a whole number of at least 1, or None to have it chosen")
        self._size = size
        #: Of items of the function.
        self._pace = pace
        #: Whether anything of this job has been done.
        self._learnt = False

    def next_size(self, left: int | None, workers: int) -> int:
        """Return the size of the next chunk; `left` is how many items there are, if that is known."""
        if self._size is not None:
            return self._size
        pace = self._pace.nanoseconds
        if pace is None or (left is None and not self._learnt):
            return 1
        most = int(MOST / pace) or 1
        if left is None:
            return most
        least = int(LEAST / pace) if self._learnt else 1
        return min(most, max(left // (SHARES * workers), least, 1))

    def learn(self, items: int, nanoseconds: int) -> None:
        """Take into account how long a chunk took."""
        if self._size is None:
            self._learnt = True
            self._pace.learn(max(nanoseconds, 1) / items)
