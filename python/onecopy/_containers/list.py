"""Lists in shared memory: the parts that need not be fast."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableSequence
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any

from onecopy import _native
from onecopy._containers.describing import describe
from onecopy._containers.lock import ContainerLock, Held
from onecopy._containers.travel import by_handle

if TYPE_CHECKING:
    from typing_extensions import Self


class List(_native.List):
    """A list for any number of processes and threads.

    It has the methods of `list`. Reading waits for nobody, and each change is done as a whole or not at all, also when
    the process that makes it is killed: `sort`, slices and `extend`, too. Values are copied in and out, but for arrays,
    locks, queues and other containers: these are the same for all.

    Parameters
    ----------
    values : iterable, optional
        What is in it at first.

    Notes
    -----
    A loop over the list goes from index to index, as one over a `list` that is changed meanwhile. `copy`, and each
    slice, gives what is in it at one moment. Items are replaced, and come and go at the end, at the same cost whatever
    the length; other changes write the whole order anew, eight bytes an item.

    Examples
    --------
    >>> import onecopy as oc
    >>> values = oc.List([3, 1])
    >>> values.append("two")
    >>> values[0], values[-1], values[:2]
    (3, 'two', [3, 1])
    >>> values.sort(key=str)
    >>> values
    List([1, 3, 'two'])
    """

    __slots__ = ()

    def __init_subclass__(cls, **options: Any) -> None:
        """Let classes made of this one travel as it does."""
        super().__init_subclass__(**options)
        ForkingPickler.register(cls, by_handle)

    def __init__(self, values: Iterable[Any] = (), /) -> None:
        self.extend(values)

    def lock(self) -> ContainerLock:
        """Return the lock of this list, for a `with` statement; see `Dict.lock`.

        Returns
        -------
        ContainerLock
            With the methods of `Lock`.
        """
        return ContainerLock(self)

    def copy(self) -> list[Any]:
        """Return a `list` of this process alone with what is in this one at one moment.

        Returns
        -------
        list
        """
        return self._snapshot()

    def index(self, value: Any, start: int = 0, stop: int | None = None, /) -> int:
        """Return the first index of a value.

        Parameters
        ----------
        value : object
            The value.
        start, stop : int, optional
            Where to look; everywhere by default.

        Returns
        -------
        int

        Raises
        ------
        ValueError
            The value is not there.
        """
        values = self._snapshot()
        return values.index(value, start, len(values) if stop is None else stop)

    def count(self, value: Any, /) -> int:
        """Return how often a value is in the list.

        Parameters
        ----------
        value : object
            The value.

        Returns
        -------
        int
        """
        return self._snapshot().count(value)

    def remove(self, value: Any, /) -> None:
        """Take the first item out that equals a value.

        Parameters
        ----------
        value : object
            The value.

        Raises
        ------
        ValueError
            The value is not there.
        """
        with Held(self):
            values = self._snapshot()
            if value not in values:
                raise ValueError("list.remove(x): x not in list")
            del self[values.index(value)]

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        """Sort the list, in one step; others wait with what they want to change.

        Parameters
        ----------
        key : callable, optional
            Gives what to compare for each item; the items themselves by default.
        reverse : bool, optional
            Whether the largest comes first.
        """
        with Held(self):
            values = self._snapshot()
            compared = values if key is None else [key(value) for value in values]
            self._permute(sorted(range(len(values)), key=compared.__getitem__, reverse=reverse))

    def __iter__(self) -> Iterator[Any]:
        """Go from index to index, up to the end that the list has then."""
        position = 0
        while True:
            try:
                value = self[position]
            except IndexError:
                return
            yield value
            position += 1

    def __reversed__(self) -> Iterator[Any]:
        """Iterate from the last to the first, as they are at one moment."""
        values: list[Any] = self._snapshot()
        return iter(values[::-1])

    def __contains__(self, value: object) -> bool:
        """Tell whether an item equals a value."""
        return value in self._snapshot()

    def __eq__(self, other: object) -> bool:
        """Compare with another list, item by item."""
        if not isinstance(other, (List, list)):
            return NotImplemented
        return self._snapshot() == _listed(other)

    def __lt__(self, other: List | list[Any]) -> bool:
        """Compare with another list, item by item."""
        return self._snapshot() < _listed(other) if isinstance(other, (List, list)) else NotImplemented

    def __le__(self, other: List | list[Any]) -> bool:
        """Compare with another list, item by item."""
        return self._snapshot() <= _listed(other) if isinstance(other, (List, list)) else NotImplemented

    def __gt__(self, other: List | list[Any]) -> bool:
        """Compare with another list, item by item."""
        return self._snapshot() > _listed(other) if isinstance(other, (List, list)) else NotImplemented

    def __ge__(self, other: List | list[Any]) -> bool:
        """Compare with another list, item by item."""
        return self._snapshot() >= _listed(other) if isinstance(other, (List, list)) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as that of a list

    def __repr__(self) -> str:
        """Describe what is in it at one moment."""
        return describe(type(self), self._name(), "[...]", lambda: repr(self._snapshot()))

    def __add__(self, other: List | list[Any]) -> list[Any]:
        """Return a `list` of this one's items and the other's."""
        return self._snapshot() + _listed(other) if isinstance(other, (List, list)) else NotImplemented

    def __radd__(self, other: list[Any]) -> list[Any]:
        """Return a `list` of the other's items and this one's."""
        return other + self._snapshot() if isinstance(other, list) else NotImplemented

    def __iadd__(self, values: Iterable[Any]) -> Self:
        """Put items behind the last."""
        self.extend(values)
        return self

    def __mul__(self, times: int) -> list[Any]:
        """Return a `list` of the items, several times."""
        return self._snapshot() * times

    __rmul__ = __mul__

    def __imul__(self, times: int) -> Self:
        """Have the items several times."""
        with Held(self):
            if times <= 0:
                self.clear()
            else:
                self.extend(self._snapshot() * (times - 1))
        return self

    def __class_getitem__(cls, _types: Any) -> Any:
        """Stand for a list of these types in annotations."""
        return cls


def _listed(values: List | list[Any]) -> list[Any]:
    return values._snapshot() if isinstance(values, List) else values


MutableSequence.register(List)
ForkingPickler.register(List, by_handle)
