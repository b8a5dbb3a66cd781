"""Progress bars."""

from __future__ import annotations

import threading
from typing import Any

#: What users may say: whether, a description, or what else `tqdm.tqdm` understands.
ProgressOption = bool | str | dict[str, Any] | None


class Progress:
    """How many of the things that are to be done are done, shown by tqdm; nothing is shown unless it is asked for."""

    def __init__(self, option: ProgressOption, total: int | None = None) -> None:
        self._bar: Any = None
        self._lock = threading.Lock()
        if option:
            from tqdm.auto import tqdm

            options = {"desc": option} if isinstance(option, str) else dict(option) if option is not True else {}
            self._bar = tqdm(**{"total": total, **options})

    @property
    def is_shown(self) -> bool:
        """Whether there is a bar."""
        return self._bar is not None

    def expect(self, count: int) -> None:
        """Count more to do."""
        if self._bar is not None:
            with self._lock:
                self._bar.total = (self._bar.total or 0) + count
                self._bar.refresh()

    def advance(self, count: int) -> None:
        """Count what was done."""
        if self._bar is not None:
            with self._lock:
                self._bar.update(count)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            with self._lock:
                self._bar.close()
