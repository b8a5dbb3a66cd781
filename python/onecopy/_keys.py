"""Keys of dictionaries that are neither strings nor bytes nor small numbers."""

from __future__ import annotations

import copyreg
import numbers
import pickle
import struct
from types import BuiltinFunctionType, FunctionType
from typing import Any

#: The kinds of `onecopy::KeyKind`.
_INT, _FLOAT, _STR, _BYTES, _BIG_INT, _OTHER = range(1, 7)

#: Asks objects for their parts in one way for all: another would make another key.
_PROTOCOL = 4


def form_of(key: Any) -> tuple[int, bytes, bytes]:
    """Return kind and bytes of the form in which equal keys are the same, and the key itself as a pickle.

    Hashes of Python differ from process to process, and pickles of equal objects may: they tell whether two parts are
    one object, and in which order a set is gone through. So the form is made here, part by part.
    """
    hash(key)  # raises what a dict raises for a key that has none
    kind, form = _form(key)
    return kind, form, pickle.dumps(key, pickle.HIGHEST_PROTOCOL)


def _form(key: Any) -> tuple[int, bytes]:
    if isinstance(key, str):
        return _STR, str.encode(key, "utf-8", "surrogatepass")
    if isinstance(key, bytes):
        return _BYTES, bytes(key)
    if isinstance(key, numbers.Number):
        number = _number(key)
        if number is not None:
            return number
    return _OTHER, _structure(key)


def _number(key: Any) -> tuple[int, bytes] | None:
    """Return the form of a number, which is the same for equal ones whatever their classes are."""
    if isinstance(key, complex) and key.imag != 0:
        return _OTHER, b"C" + _part(key.real) + _part(key.imag)
    try:
        real: Any = key.real if isinstance(key, complex) else key
        if real != real:
            return _FLOAT, struct.pack("<d", float(real))
        if float(real) == real and real in (float("inf"), float("-inf")):
            return _FLOAT, struct.pack("<d", float(real))
        numerator, denominator = _ratio(real)
    except (ArithmeticError, AttributeError, TypeError, ValueError):
        return None
    if denominator != 1:
        try:
            if numerator / denominator == real:
                return _FLOAT, struct.pack("<d", numerator / denominator)
        except OverflowError:
            pass
        return _OTHER, b"Q%d/%d" % (numerator, denominator)
    if -(1 << 63) <= numerator < 1 << 63:
        return _INT, numerator.to_bytes(8, "little", signed=True)
    return _BIG_INT, numerator.to_bytes((numerator.bit_length() + 8) // 8, "little", signed=True)


def _ratio(number: Any) -> tuple[int, int]:
    if isinstance(number, numbers.Rational):
        return int(number.numerator), int(number.denominator)
    numerator, denominator = number.as_integer_ratio()
    return int(numerator), int(denominator)


def _structure(key: Any) -> bytes:
    """Return the form of an object by that of its parts."""
    if isinstance(key, (type, FunctionType, BuiltinFunctionType)):
        return f"G{key.__module__}.{key.__qualname__}".encode()
    kind = type(key)
    if kind is tuple or kind is list:
        return b"(" + b"".join(_part(part) for part in key) + b")"
    if kind is frozenset or kind is set:
        return b"{" + b"".join(sorted(_part(part) for part in key)) + b"}"
    if kind is dict:
        return b"[" + b"".join(sorted(_part(name) + _part(part) for name, part in key.items())) + b"]"
    reduce = copyreg.dispatch_table.get(kind)
    reduced = key.__reduce_ex__(_PROTOCOL) if reduce is None else reduce(key)
    if isinstance(reduced, str):
        return f"G{kind.__module__}.{reduced}".encode()
    rest = [None if part is None else list(part) for part in reduced[3:5]]
    return b"R" + b"".join(_part(part) for part in [*reduced[:3], *rest])


def _part(part: Any) -> bytes:
    if part is None:
        return b"N"
    kind, form = _form(part)
    return b"%d:%d:%b" % (kind, len(form), form)
