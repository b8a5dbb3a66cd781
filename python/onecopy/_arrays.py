"""Shared arrays: numpy's constructors, with the memory in the arena."""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, TypeGuard, cast

import numpy as np

from onecopy import _native

if TYPE_CHECKING:
    import numpy.typing as npt

Array = np.ndarray[Any, np.dtype[Any]]
Shape = SupportsIndex | Sequence[SupportsIndex]
Order = Literal["C", "F"]
AnyOrder = Literal["C", "F", "A", "K"]
Mode = Literal["ro", "rw", "cow"]


def is_masked(array: Any) -> TypeGuard[np.ma.MaskedArray[Any, Any]]:
    """Tell whether an array is masked, without importing the module that only those who have masked arrays need."""
    return "numpy.ma" in sys.modules and isinstance(array, np.ma.MaskedArray)


def _dimensions(shape: Shape) -> tuple[int, ...]:
    several = shape if isinstance(shape, Iterable) else (shape,)
    dimensions = tuple(operator.index(n) for n in several)
    if any(n < 0 for n in dimensions):
        raise ValueError(f"negative dimensions are not allowed: shape={shape!r}")
    return dimensions


#: Where arrays are made: an open arena, or None for the session's.
Place = _native.OpenArena | None


def _new(shape: Shape, dtype: npt.DTypeLike, order: str, zero: bool, place: Place = None) -> Array:
    if order not in ("C", "F"):
        raise ValueError(f"order={order!r}: expected 'C' or 'F'")
    dimensions, item = _dimensions(shape), np.dtype(dtype)
    if item.subdtype is not None:
        item, inner = item.subdtype
        dimensions += inner
    if item.itemsize == 0 and item.char in "SU":
        item = np.dtype(item.str[:-1] + "1")  # as numpy does for a string type without a length
    return _native.empty(dimensions, item, order == "F", zero, place)


def empty(shape: Shape, dtype: npt.DTypeLike = float, order: Order = "C") -> Array:
    """Return a new shared array without setting its items.

    Parameters
    ----------
    shape : int or sequence of int
        Items along each dimension.
    dtype : dtype-like, optional
        Type of the items; any type without Python objects inside.
    order : {'C', 'F'}, optional
        Whether the last or the first index changes fastest in memory.

    Returns
    -------
    numpy.ndarray
        A plain array whose memory lies in the arena. It, and any view of it, travels to other processes as a handle,
        without a copy; all of them see what is written. The memory is recycled when the last process has dropped the
        last view.

    Raises
    ------
    OutOfMemoryError
        The arena, the machine or a cgroup has not so much memory.
    TypeError
        The dtype has Python objects inside.

    See Also
    --------
    numpy.empty, onecopy.zeros, onecopy.share

    Examples
    --------
    >>> import onecopy as oc
    >>> a = oc.empty((2, 3), dtype="f4")
    >>> a.shape, a.dtype, oc.is_shared(a)
    ((2, 3), dtype('float32'), True)
    """
    return _new(shape, dtype, order, False)


def zeros(shape: Shape, dtype: npt.DTypeLike = float, order: Order = "C") -> Array:
    """Return a new shared array of zeros; parameters and errors as for `onecopy.empty`.

    Examples
    --------
    >>> import onecopy as oc
    >>> oc.zeros(3, dtype=int)
    array([0, 0, 0])
    """
    return _new(shape, dtype, order, True)


def full(shape: Shape, fill_value: Any, dtype: npt.DTypeLike | None = None, order: Order = "C") -> Array:
    """Return a new shared array filled with one value.

    Parameters
    ----------
    shape : int or sequence of int
        Items along each dimension.
    fill_value : scalar or array-like
        The value, broadcast to the shape.
    dtype : dtype-like, optional
        Type of the items; that of the value by default.
    order : {'C', 'F'}, optional
        Whether the last or the first index changes fastest in memory.

    Returns
    -------
    numpy.ndarray
        As from `onecopy.empty`, which also tells the errors.

    Examples
    --------
    >>> import onecopy as oc
    >>> oc.full(2, 7)
    array([7, 7])
    """
    return _filled(shape, fill_value, dtype, order)


def _filled(shape: Shape, fill_value: Any, dtype: npt.DTypeLike | None, order: Order, place: Place = None) -> Array:
    item = np.asarray(fill_value).dtype if dtype is None else dtype
    array = _new(shape, item, order, False, place)
    np.copyto(array, fill_value, casting="unsafe")
    return array


def ones(shape: Shape, dtype: npt.DTypeLike = float, order: Order = "C") -> Array:
    """Return a new shared array of ones; parameters and errors as for `onecopy.empty`.

    Examples
    --------
    >>> import onecopy as oc
    >>> oc.ones((1, 2))
    array([[1., 1.]])
    """
    return full(shape, 1, dtype, order)


def _new_like(
    prototype: npt.ArrayLike, dtype: npt.DTypeLike | None, order: str, shape: Shape | None, place: Place = None
) -> Array:
    like = np.asarray(prototype)
    item = like.dtype if dtype is None else np.dtype(dtype)
    dimensions = like.shape if shape is None else _dimensions(shape)
    if order == "A":
        order = "F" if like.flags.fnc else "C"
    if order != "K":
        return _new(dimensions, item, order, False, place)
    if len(dimensions) != like.ndim:
        return _new(dimensions, item, "C", False, place)
    # Lay the axes out as they lie in the prototype: the one with the largest step outermost.
    outermost = sorted(range(like.ndim), key=lambda axis: -abs(like.strides[axis]))
    array = _new([dimensions[axis] for axis in outermost], item, "C", False, place)
    extra = range(like.ndim, array.ndim)
    return array.transpose([*np.argsort(outermost), *extra]) if like.ndim > 1 else array


def empty_like(
    prototype: npt.ArrayLike, dtype: npt.DTypeLike | None = None, order: AnyOrder = "K", shape: Shape | None = None
) -> Array:
    """Return a new shared array like another one, without setting its items.

    Parameters
    ----------
    prototype : array-like
        What the new array is like, in shape, type and order of axes.
    dtype : dtype-like, optional
        Another type.
    order : {'C', 'F', 'A', 'K'}, optional
        As in `numpy.empty_like`.
    shape : int or sequence of int, optional
        Another shape.

    Returns
    -------
    numpy.ndarray
        As from `onecopy.empty`, which also tells the errors. Always a plain array, also for a prototype of a derived
        class.

    Examples
    --------
    >>> import numpy as np, onecopy as oc
    >>> oc.empty_like(np.ones((2, 3), order="F")).flags.f_contiguous
    True
    """
    return _new_like(prototype, dtype, order, shape)


def full_like(
    prototype: npt.ArrayLike,
    fill_value: Any,
    dtype: npt.DTypeLike | None = None,
    order: AnyOrder = "K",
    shape: Shape | None = None,
) -> Array:
    """Return a new shared array like another one, filled with one value; parameters as for `onecopy.empty_like`.

    Examples
    --------
    >>> import onecopy as oc
    >>> oc.full_like([1, 2], 5)
    array([5, 5])
    """
    array = _new_like(prototype, dtype, order, shape)
    np.copyto(array, fill_value, casting="unsafe")
    return array


def zeros_like(
    prototype: npt.ArrayLike, dtype: npt.DTypeLike | None = None, order: AnyOrder = "K", shape: Shape | None = None
) -> Array:
    """Return a new shared array of zeros like another one; parameters as for `onecopy.empty_like`.

    Examples
    --------
    >>> import onecopy as oc
    >>> oc.zeros_like([[1.5, 2.5]])
    array([[0., 0.]])
    """
    array = _new_like(prototype, dtype, order, shape)
    array[...] = np.zeros((), array.dtype)
    return array


def ones_like(
    prototype: npt.ArrayLike, dtype: npt.DTypeLike | None = None, order: AnyOrder = "K", shape: Shape | None = None
) -> Array:
    """Return a new shared array of ones like another one; parameters as for `onecopy.empty_like`.

    Examples
    --------
    >>> import onecopy as oc
    >>> oc.ones_like([3, 4])
    array([1, 1])
    """
    return full_like(prototype, 1, dtype, order, shape)


def _move_in(array: Array, *, seal: bool = False, place: Place = None) -> Array:
    """Copy a plain array into the arena; one pass, in the order of its axes."""
    moved = _native.put(array, seal, place)
    if moved is None:
        moved = _new_like(array, None, "K", None, place)
        np.copyto(moved, array)
        if seal:
            moved = cast(Array, _native.view(moved, "ro"))
    return moved


def array(
    object: Any, dtype: npt.DTypeLike | None = None, *, copy: bool | None = True, order: AnyOrder = "K", ndmin: int = 0
) -> Array:
    """Make a shared array of anything that numpy can make an array of.

    Parameters
    ----------
    object : array-like
        The items.
    dtype : dtype-like, optional
        Type of the items; numpy's choice by default.
    copy : bool, optional
        False or None: an array that is shared already is returned as it is, if it has the type and order asked for.
        Anything else must be copied into the arena in any case.
    order : {'C', 'F', 'A', 'K'}, optional
        As in `numpy.array`.
    ndmin : int, optional
        Least number of dimensions.

    Returns
    -------
    numpy.ndarray
        As from `onecopy.empty`, which also tells the errors.

    Examples
    --------
    >>> import onecopy as oc
    >>> a = oc.array([[1, 2], [3, 4]])
    >>> a, oc.is_shared(a), oc.is_shared(a[1])
    (array([[1, 2],
           [3, 4]]), True, True)
    """
    return _made_of(object, dtype, copy, order, ndmin)


def _made_of(
    object: Any, dtype: npt.DTypeLike | None, copy: bool | None, order: AnyOrder, ndmin: int, place: Place = None
) -> Array:
    source = np.asarray(object, dtype, order=order)
    if source.ndim < ndmin:
        source = source.reshape((1,) * (ndmin - source.ndim) + source.shape)
    return source if not copy and _lies_in(source, place) else _move_in(source, place=place)


def _lies_in(array: Array, place: Place) -> bool:
    return _native.is_shared(array) if place is None else place.holds(array)


def asarray(object: Any, dtype: npt.DTypeLike | None = None, *, order: AnyOrder = "K") -> Array:
    """Return a shared array of the items; the same array if it is shared already and has that type and order.

    Parameters are those of `onecopy.array`.

    Examples
    --------
    >>> import onecopy as oc
    >>> a = oc.asarray([1, 2])
    >>> oc.asarray(a) is a
    True
    """
    return array(object, dtype, copy=None, order=order)


def is_shared(array: Any) -> bool:
    """Tell whether an array lies in the arena, so that it travels as a handle.

    Parameters
    ----------
    array : object
        An array or a view of one; of anything else the answer is False.

    Returns
    -------
    bool

    Examples
    --------
    >>> import numpy as np, onecopy as oc
    >>> oc.is_shared(oc.zeros(10)[::2]), oc.is_shared(np.zeros(10))
    (True, False)
    """
    return _native.is_shared(array)


def check_mode(mode: str) -> None:
    """Refuse a word that is no mode."""
    if mode not in ("ro", "rw", "cow"):
        raise ValueError(f"mode={mode!r}: expected 'ro', 'rw' or 'cow'")


def share_array(array: Array, mode: Mode = "ro", place: Place = None) -> Array:
    """Return an equal array in the arena, of the same class; `onecopy.share` tells the rest."""
    check_mode(mode)
    if is_masked(array):
        mask = array.mask if array.mask is np.ma.nomask else share_array(np.asarray(array.mask), mode, place)
        masked: Array = np.ma.MaskedArray(
            share_array(array.data, mode, place), mask, fill_value=array.fill_value, shrink=False
        )
        return masked
    plain = array.view(np.ndarray)
    shared = _native.view(plain, mode) if _lies_in(plain, place) else None
    if shared is None:
        moved = _move_in(plain, seal=mode == "ro", place=place)
        shared = moved if mode != "cow" else cast(Array, _native.view(moved, mode))
    return shared if type(array) is np.ndarray else shared.view(array.dtype, type(array))
