"""Finds the part of an object that pickle refuses, for a message that helps. Only imported when one is needed."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from io import RawIOBase
from types import FunctionType, MethodType
from typing import Any

#: Deeper parts are not looked for: each level pickles what is below it once more.
_DEEPEST = 20

_FUNCTIONS = (FunctionType, MethodType, type)


class _Nowhere(RawIOBase):
    def write(self, data: Any) -> int:
        return len(data)


def explained(error: Exception, obj: Any, pickler: type[pickle.Pickler]) -> Exception:
    """Return the error with a message that also says where in the object its cause is, and what to do."""
    path, culprit = _culprit(obj, pickler)
    class_ = f"{type(culprit).__module__}.{type(culprit).__qualname__}".removeprefix("builtins.")
    if isinstance(culprit, _FUNCTIONS) and not _by_value(pickler):
        way_out = "define it at the top of a module, or install cloudpickle, with which functions travel by value"
    else:
        way_out = "leave it out, or give its class a __reduce__"
    message = f"{error}; it is {path}, of type {class_}: {way_out}"
    try:
        return type(error)(message)
    except TypeError:
        return error


def _by_value(pickler: type[pickle.Pickler]) -> bool:
    return any(base.__module__.startswith("cloudpickle") for base in pickler.__mro__)


def _culprit(obj: Any, pickler: type[pickle.Pickler]) -> tuple[str, Any]:
    path, seen = "obj", {id(obj)}
    for _ in range(_DEEPEST):
        for name, part in _parts(obj):
            if id(part) not in seen and not _pickles(part, pickler):
                path, obj = path + name, part
                seen.add(id(part))
                break
        else:
            break
    return path, obj


def _parts(obj: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(obj, Mapping):
        for key, value in obj.items():
            yield f" (key {key!r})", key
            yield f"[{key!r}]", value
    elif isinstance(obj, list | tuple):
        yield from ((f"[{index}]", item) for index, item in enumerate(obj))
    elif isinstance(obj, set | frozenset):
        yield from ((f" (item {item!r})", item) for item in obj)
    elif isinstance(obj, FunctionType):
        cells = zip(obj.__code__.co_freevars, obj.__closure__ or (), strict=True)
        yield from ((f" (its variable {name!r})", cell.cell_contents) for name, cell in cells)
    if not isinstance(obj, type):
        yield from ((f".{name}", value) for name, value in getattr(obj, "__dict__", {}).items())


def _pickles(obj: Any, pickler: type[pickle.Pickler]) -> bool:
    try:
        pickler(_Nowhere(), 5, buffer_callback=lambda _: False).dump(obj)
    except Exception:
        return False
    return True
