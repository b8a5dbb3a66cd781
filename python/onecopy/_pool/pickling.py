"""How tasks and results are pickled: as for queues, and by value what cannot be found by its name."""

from __future__ import annotations

import pickle
from collections import ChainMap
from functools import cache
from io import BytesIO, TextIOWrapper
from multiprocessing.reduction import ForkingPickler
from typing import Any

from onecopy import _queues

#: What the standard pickler raises for lambdas, closures and functions of a notebook.
REFUSALS = (pickle.PicklingError, AttributeError, TypeError)


def dumps(obj: Any) -> bytes:
    """Pickle by name, or, if something in the object has no name by which it is found, by value."""
    try:
        return _queues.dumps(obj)
    except REFUSALS as refused:
        try:
            return dumps_by_value(obj)
        except Exception:
            # Neither could; the standard one says it in the words that users know.
            raise refused from None


def dumps_by_value(obj: Any) -> bytes:
    """Pickle functions and classes of ``__main__``, and those without a name, with their code."""
    buffer = BytesIO()
    _by_value()(buffer, pickle.HIGHEST_PROTOCOL).dump(obj)
    return buffer.getvalue()


@cache
def _by_value() -> Any:
    import cloudpickle

    code = dict(cloudpickle.Pickler.dispatch_table)
    # An open file would arrive as another kind of file with the same text; it is refused, as everywhere.
    del code[TextIOWrapper]

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        dispatch_table = ChainMap(_queues._Pickler.dispatch_table, code)  # noqa: RUF012  # as its base class has it

    return Pickler


class Portable:
    """An object that goes to a process that is being started, by value if it must."""

    def __init__(self, obj: Any) -> None:
        self.obj = obj

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle it while the process is being started, so that locks and pipes may go along."""
        try:
            pickled = bytes(ForkingPickler.dumps(self.obj))
        except REFUSALS as refused:
            try:
                pickled = dumps_by_value(self.obj)
            except Exception:
                raise refused from None
        return Pickled, (pickled,)


class Pickled:
    """An object that arrived and is made when it is asked for, where an error can be dealt with."""

    def __init__(self, pickled: bytes) -> None:
        self._pickled = pickled

    @property
    def obj(self) -> Any:
        return pickle.loads(self._pickled)
