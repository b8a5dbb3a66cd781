"""Namespaces in shared memory."""

from __future__ import annotations

from multiprocessing.context import assert_spawning
from multiprocessing.reduction import ForkingPickler
from typing import Any

from onecopy._containers.describing import describe
from onecopy._containers.dict import Dict
from onecopy._containers.lock import ContainerLock
from onecopy._containers.travel import attach


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

        def contents() -> str:
            attributes = sorted(self._attributes._snapshot().items())
            return ", ".join(f"{name}={value!r}" for name, value in attributes)

        return describe(type(self), self._attributes._name(), "...", contents)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle it as an argument of a process that is being started."""
        assert_spawning(self)
        return _by_handle(self)


def _by_handle(namespace: Namespace) -> tuple[Any, ...]:
    return _attach, (type(namespace), type(namespace._attributes), namespace._attributes._send())


def _attach(class_: type[Namespace], dict_: type[Dict], handle: bytes) -> Namespace:
    namespace = class_.__new__(class_)
    object.__setattr__(namespace, "_attributes", attach(dict_, handle))
    return namespace


ForkingPickler.register(Namespace, _by_handle)
