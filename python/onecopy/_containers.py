"""Dictionaries, lists and namespaces in shared memory: the parts that need not be fast."""

from __future__ import annotations

import threading
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    MutableMapping,
    MutableSequence,
    ValuesView,
)
from multiprocessing.context import assert_spawning
from multiprocessing.reduction import ForkingPickler
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from onecopy import _native
from onecopy._locks import _Recovery

if TYPE_CHECKING:
    from typing_extensions import Self


def _by_handle(container: Any) -> tuple[Any, ...]:
    """Reduce a container for a receiver that gets the same container: one handle, one receiver."""
    return _attach, (type(container), container._send())


def _attach(class_: Any, handle: bytes) -> Any:
    return class_.__new__(class_, _native.ContainerHandle(handle))


def _reduce(container: Any) -> tuple[Any, ...]:
    """Reduce a container for `pickle`, which may only do so for a process that is being started."""
    assert_spawning(container)
    return _by_handle(container)


_described = threading.local()


def _describe(container: Dict | List | Namespace, inner: str, describe: Callable[[], str]) -> str:
    """Describe a container; where it lies in itself, which then is another object of Python, by `inner`."""
    names: set[int] = _described.__dict__.setdefault("names", set())
    name = (container._attributes if isinstance(container, Namespace) else container)._name()
    if name in names:
        return f"{type(container).__name__}({inner})"
    names.add(name)
    try:
        return f"{type(container).__name__}({describe()})"
    finally:
        names.discard(name)


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


class _Held:
    """Keeps others from changing a container, whether or not a holder of its lock has died."""

    __slots__ = ("_container",)

    def __init__(self, container: Dict | List) -> None:
        self._container = container

    def __enter__(self) -> None:
        self._container._acquire(None, "hold")

    def __exit__(self, *_raised: object) -> None:
        self._container._release()


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
        ForkingPickler.register(cls, _by_handle)

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
        return _describe(self, "{...}", lambda: repr(self._snapshot()))

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
        ForkingPickler.register(cls, _by_handle)

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
        with _Held(self):
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
        with _Held(self):
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
        return _describe(self, "[...]", lambda: repr(self._snapshot()))

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
        with _Held(self):
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


class Namespace:
    """Attributes for any number of processes and threads.

    Parameters
    ----------
    **attributes : object
        What it has at first.

    Notes
    -----
    Attributes are the items of an `onecopy.Dict`, and whatever is said of those is true of them. Names that begin with
    an underscore cannot be attributes.

    Examples
    --------
    >>> import onecopy as oc
    >>> state = oc.Namespace(step=0)
    >>> state.rate = 0.5
    >>> with state.lock():
    ...     state.step += 1
    >>> state
    Namespace(rate=0.5, step=1)
    """

    __slots__ = ("__weakref__", "_attributes")
    _attributes: Dict

    def __init__(self, /, **attributes: Any) -> None:
        object.__setattr__(self, "_attributes", Dict())
        for name, value in attributes.items():
            setattr(self, name, value)

    def lock(self) -> ContainerLock:
        """Return the lock of this namespace, for a `with` statement; see `Dict.lock`.

        Returns
        -------
        ContainerLock
            With the methods of `Lock`.
        """
        return self._attributes.lock()

    def __getattr__(self, name: str) -> Any:
        """Return an attribute."""
        if not name.startswith("_"):
            try:
                return self._attributes[name]
            except KeyError:
                pass
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def __setattr__(self, name: str, value: Any) -> None:
        """Give an attribute a value."""
        if name.startswith("_") or hasattr(type(self), name):
            raise AttributeError(f"{name!r} cannot be an attribute of a {type(self).__name__}", name=name, obj=self)
        self._attributes[name] = value

    def __delattr__(self, name: str) -> None:
        """Take an attribute away."""
        try:
            del self._attributes[name]
        except KeyError:
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self
            ) from None

    def __dir__(self) -> list[str]:
        """List the attributes and methods."""
        return sorted({*super().__dir__(), *self._attributes})

    def __eq__(self, other: object) -> bool:
        """Compare with another namespace, attribute by attribute."""
        return self._attributes == other._attributes if isinstance(other, Namespace) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as that of a `types.SimpleNamespace`

    def __repr__(self) -> str:
        """Describe the attributes that there are at one moment."""

        def describe() -> str:
            attributes = sorted(self._attributes._snapshot().items())
            return ", ".join(f"{name}={value!r}" for name, value in attributes)

        return _describe(self, "...", describe)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle it as an argument of a process that is being started."""
        assert_spawning(self)
        return _namespace_by_handle(self)


def _namespace_by_handle(namespace: Namespace) -> tuple[Any, ...]:
    return _attach_namespace, (type(namespace), type(namespace._attributes), namespace._attributes._send())


def _attach_namespace(class_: type[Namespace], dict_: type[Dict], handle: bytes) -> Namespace:
    namespace = class_.__new__(class_)
    object.__setattr__(namespace, "_attributes", _attach(dict_, handle))
    return namespace


MutableMapping.register(Dict)
MutableSequence.register(List)
ForkingPickler.register(Dict, _by_handle)
ForkingPickler.register(List, _by_handle)
ForkingPickler.register(Namespace, _namespace_by_handle)
