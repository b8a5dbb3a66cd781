"""Dictionaries in shared memory: the parts that need not be fast."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, MutableMapping, ValuesView
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any

from onecopy import _native
from onecopy._containers.describing import describe
from onecopy._containers.lock import ContainerLock
from onecopy._containers.travel import by_handle

if TYPE_CHECKING:
    from typing_extensions import Self


class Dict(_native.Dict):
    """A dictionary for any number of processes and threads.

    It has the methods of `dict`. Reading waits for nobody, and each change is done as a whole or not at all, also when
    the process that makes it is killed. Values are copied in and out, but for arrays, locks, queues and other
    containers: these are the same for all. So ``d[key].append(1)`` changes a copy, unless the value is an
    `onecopy.List`.

    Parameters
    ----------
    mapping : mapping or iterable of pairs, optional
        What is in it at first.
    **items : object
        More of it, under names.

    Notes
    -----
    Keys are anything that has a hash and can be pickled. As in a `dict`, numbers that are equal are one key, whatever
    their types, and tuples and frozen sets are compared by their parts. Objects of other classes are the same key if
    they have the same parts, not by their `__eq__`; an object that is a key of its own in a `dict`, such as
    ``float("nan")``, is the same key as its copies.

    A loop over the dictionary goes on while it is changed: what is in it all the time is met once; what comes or goes
    meanwhile may be met or not. `copy` gives what is in it at one moment.

    Each process that used the dictionary may keep the memory that it had then until it uses it again.

    Examples
    --------
    >>> import onecopy as oc
    >>> d = oc.Dict({"a": 1}, b=2)
    >>> d["c"] = oc.zeros(3)  # not copied when it is got
    >>> d.get("a"), len(d), "b" in d, list(d)
    (1, 3, True, ['a', 'b', 'c'])
    >>> with d.lock():
    ...     d["a"] += 1
    >>> d["a"]
    2
    """

    __slots__ = ()

    def __init_subclass__(cls, **options: Any) -> None:
        """Let classes made of this one travel as it does."""
        super().__init_subclass__(**options)
        ForkingPickler.register(cls, by_handle)

    def __init__(self, mapping: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = (), /, **items: Any) -> None:
        self.update(mapping, **items)

    @classmethod
    def fromkeys(cls, keys: Iterable[Any], value: Any = None, /) -> Self:
        """Make a dictionary in which all keys have the same value.

        Parameters
        ----------
        keys : iterable
            The keys.
        value : object, optional
            Their value.

        Returns
        -------
        Dict
        """
        return cls((key, value) for key in keys)

    def lock(self) -> ContainerLock:
        """Return the lock of this dictionary, for a `with` statement.

        While a thread holds it, what other threads and processes want to change waits; what they read is what the
        thread has changed so far. The thread may take it several times. When its holder dies, the next who takes it
        gets an `OwnerDiedError`, as with `Lock`: each single change is whole, but there may have been more to come.

        Returns
        -------
        ContainerLock
            With the methods of `Lock`.

        Examples
        --------
        >>> import onecopy as oc
        >>> counts = oc.Dict(hits=0)
        >>> with counts.lock():
        ...     counts["hits"] += 1
        >>> counts["hits"]
        1
        """
        return ContainerLock(self)

    def update(self, mapping: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = (), /, **items: Any) -> None:
        """Put items in, one after the other.

        Parameters
        ----------
        mapping : mapping or iterable of pairs, optional
            The items.
        **items : object
            More of them, under names.
        """
        if isinstance(mapping, Mapping):
            pairs: Iterable[tuple[Any, Any]] = mapping.items()
        elif hasattr(mapping, "keys"):
            like: Any = mapping
            pairs = ((key, like[key]) for key in like.keys())  # noqa: SIM118  # it may have no loop of its own
        else:
            pairs = mapping
        for number, pair in enumerate(pairs):
            try:
                key, value = pair
            except ValueError:
                raise ValueError(
                    f"dictionary update sequence element #{number} has length {len(pair)}; 2 is required"
                ) from None
            self[key] = value
        for name, value in items.items():
            self[name] = value

    def copy(self) -> dict[Any, Any]:
        """Return a `dict` of this process alone with what is in this one at one moment.

        Returns
        -------
        dict
        """
        return self._snapshot()

    def keys(self) -> KeysView[Any]:
        """Return a view of the keys."""
        return _Keys(self)

    def values(self) -> ValuesView[Any]:
        """Return a view of the values."""
        return _Values(self)

    def items(self) -> ItemsView[Any, Any]:
        """Return a view of the keys with their values."""
        return _Items(self)

    def __reversed__(self) -> Iterator[Any]:
        """Iterate over the keys from the last to the first, as they are at one moment."""
        keys: list[Any] = list(self._snapshot())
        return iter(keys[::-1])

    def __eq__(self, other: object) -> bool:
        """Compare with any mapping, key by key."""
        if not isinstance(other, Mapping):
            return NotImplemented
        return self._snapshot() == (other._snapshot() if isinstance(other, Dict) else dict(other))

    __hash__ = None  # type: ignore[assignment]  # as that of a dict

    def __repr__(self) -> str:
        """Describe what is in it at one moment."""
        return describe(type(self), self._name(), "{...}", lambda: repr(self._snapshot()))

    def __or__(self, other: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return a `dict` with the items of both."""
        return self._snapshot() | dict(other) if isinstance(other, Mapping) else NotImplemented

    def __ror__(self, other: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return a `dict` with the items of both."""
        return dict(other) | self._snapshot() if isinstance(other, Mapping) else NotImplemented

    def __ior__(self, other: Mapping[Any, Any] | Iterable[tuple[Any, Any]]) -> Self:
        """Put the items of another in."""
        self.update(other)
        return self

    def __class_getitem__(cls, _types: Any) -> Any:
        """Stand for a dictionary of these types in annotations."""
        return cls


class _Keys(KeysView[Any]):
    _mapping: Dict

    def __reversed__(self) -> Iterator[Any]:
        return reversed(self._mapping)

    def __repr__(self) -> str:
        return f"{type(self._mapping).__name__}.keys({list(self)!r})"


class _Values(ValuesView[Any]):
    _mapping: Dict

    def __iter__(self) -> Iterator[Any]:
        return self._mapping._values()

    def __reversed__(self) -> Iterator[Any]:
        return reversed(self._mapping._snapshot().values())

    def __contains__(self, value: object) -> bool:
        return any(own is value or own == value for own in self)

    def __repr__(self) -> str:
        return f"{type(self._mapping).__name__}.values({list(self)!r})"


class _Items(ItemsView[Any, Any]):
    _mapping: Dict

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self._mapping._items()

    def __reversed__(self) -> Iterator[tuple[Any, Any]]:
        return reversed(self._mapping._snapshot().items())

    def __repr__(self) -> str:
        return f"{type(self._mapping).__name__}.items({list(self)!r})"


MutableMapping.register(Dict)
ForkingPickler.register(Dict, by_handle)
