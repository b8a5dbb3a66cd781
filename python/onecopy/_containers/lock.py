"""The lock of a container, for changes that belong together."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Literal

from onecopy._locks import _Recovery

if TYPE_CHECKING:
    from onecopy._containers.dict import Dict
    from onecopy._containers.list import List


class ContainerLock:
    """The lock of a container; see `Dict.lock`."""

    __slots__ = ("_container",)

    def __init__(self, container: Dict | List) -> None:
        self._container = container

    def __enter__(self) -> bool:
        """Take the lock."""
        return self.acquire()

    def __exit__(
        self, class_: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release the lock."""
        self._container._release()

    def __repr__(self) -> str:
        """Describe whose lock it is, and whether anybody has it."""
        return f"<lock of a {type(self._container).__name__}, {'held' if self.locked() else 'free'}>"

    def acquire(
        self, block: bool = True, timeout: float | None = None, *, on_owner_died: Literal["raise", "take"] = "raise"
    ) -> bool:
        """Take the lock.

        Parameters
        ----------
        block : bool, optional
            Whether to wait for a holder.
        timeout : float, optional
            Seconds to wait at most; for ever by default.
        on_owner_died : {'raise', 'take'}, optional
            What to do when a holder has died: raise `OwnerDiedError`, once in every process, or take the lock.

        Returns
        -------
        bool
            Whether the lock is held now.

        Raises
        ------
        OwnerDiedError
            A holder died, so what it was to change may be half changed. The lock is not held by the caller.
        """
        return self._container._acquire(timeout if block else 0.0, on_owner_died) is not None

    def release(self) -> None:
        """Release the lock once.

        Raises
        ------
        AssertionError
            The caller does not hold the lock.
        """
        self._container._release()

    def locked(self) -> bool:
        """Tell whether anybody holds the lock."""
        return self._container._is_locked()

    def recover(self, timeout: float | None = None) -> _Recovery:
        """Hold the lock for a `with` statement, also after a holder has died; see `Lock.recover`.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most; for ever by default.
        """
        return _Recovery(self, timeout)

    def _recover(self, timeout: float | None) -> bool | None:
        return self._container._acquire(timeout, "take")

    def _give_up(self) -> None:
        self._container._give_up()


class Held:
    """Keeps others from changing a container, whether or not a holder of its lock has died."""

    __slots__ = ("_container",)

    def __init__(self, container: Dict | List) -> None:
        self._container = container

    def __enter__(self) -> None:
        self._container._acquire(None, "hold")

    def __exit__(self, *_raised: object) -> None:
        self._container._release()
