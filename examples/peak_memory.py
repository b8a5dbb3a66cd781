"""The memory of a whole tree of processes, in which shared pages count once."""

import threading

import psutil


def tree_memory(process: psutil.Process) -> int:
    """Sum of the proportional set sizes (bytes) of a process and all its descendants."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_full_info().pss
        except psutil.Error:  # it ended between the listing and the question
            continue
    return total


class PeakMemory:
    """Samples the memory of this process and its descendants while the block runs; ``bytes`` is the highest."""

    def __init__(self, interval: float = 0.02) -> None:
        self.bytes = 0
        self._interval = interval
        self._process = psutil.Process()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        finished = False
        while not finished:
            finished = self._stop.wait(self._interval)
            self.bytes = max(self.bytes, tree_memory(self._process))
