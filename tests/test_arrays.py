"""Making shared arrays: the same as numpy makes, in the arena."""

import copy
import io
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import onecopy as oc
from samples import DTYPES, VIEWS, filled, identical

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0, 3)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_zeros_are_those_of_numpy(dtype: Any, shape: tuple[int, ...], order: Any) -> None:
    ours, theirs = oc.zeros(shape, dtype, order), np.zeros(shape, dtype, order)
    assert identical(ours, theirs)
    assert ours.strides == theirs.strides or not ours.size  # where there are no items numpy itself varies
    assert ours.flags.writeable and ours.flags.aligned == theirs.flags.aligned
    assert oc.is_shared(ours)


def test_recycled_memory_is_zeroed() -> None:
    for _ in range(3):
        a = oc.zeros(100_000)
        assert not a.any()
        a[:] = 1


@pytest.mark.parametrize("name", ["empty", "zeros", "ones"])
def test_a_sub_array_dtype_becomes_dimensions(name: str) -> None:
    a = getattr(oc, name)(2, dtype=("i4", (3,)))
    assert (a.shape, a.dtype) == ((2, 3), np.dtype("i4"))


def test_a_string_dtype_without_length_is_numpys() -> None:
    assert oc.zeros(2, "S").dtype == np.zeros(2, "S").dtype
    assert oc.zeros(2, "U").dtype == np.zeros(2, "U").dtype


@pytest.mark.parametrize("value", [3, 2.5, 1j, True, b"abc", "de", np.datetime64("2020-01-01"), [1, 2]])
def test_full_is_numpys(value: Any) -> None:
    assert identical(oc.full((3, 2), value), np.full((3, 2), value))
    assert identical(oc.full(2, value, dtype="S25"), np.full(2, value, dtype="S25"))


@pytest.mark.parametrize("name", ["empty_like", "zeros_like", "ones_like"])
@pytest.mark.parametrize("order", ["C", "F", "A", "K"])
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (0, 2, 1)])
def test_like_lies_like_numpys(name: str, order: Any, axes: tuple[int, ...]) -> None:
    prototype = np.zeros((2, 3, 4), "f4").transpose(axes)
    ours, theirs = getattr(oc, name)(prototype, order=order), getattr(np, name)(prototype, order=order)
    assert (ours.shape, ours.strides, ours.dtype) == (theirs.shape, theirs.strides, theirs.dtype)
    assert oc.is_shared(ours)
    if name != "empty_like":
        assert identical(ours, theirs)


def test_like_takes_another_dtype_and_shape() -> None:
    a = oc.full_like(np.zeros((2, 2)), 7, dtype="i2", shape=(5,))
    assert identical(a, np.full(5, 7, "i2"))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("view", VIEWS)
def test_array_copies_every_view(dtype: Any, view: str) -> None:
    source = VIEWS[view](filled(dtype, (4, 5)))
    ours = oc.array(source)
    assert identical(ours, np.asarray(source))
    assert oc.is_shared(ours)
    assert not np.shares_memory(ours, source)


@given(hnp.arrays(hnp.scalar_dtypes() | hnp.array_dtypes(), hnp.array_shapes(min_dims=0, min_side=0)))
def test_any_array_is_copied(a: Any) -> None:
    assert identical(oc.array(a), a)


def test_asarray_copies_only_what_is_not_shared() -> None:
    a = oc.zeros((3, 4))
    assert oc.asarray(a) is a
    assert oc.asarray(a, dtype="f4") is not a
    assert oc.array(a) is not a
    assert oc.array(a, copy=False) is a
    assert oc.array([1, 2], ndmin=3).shape == (1, 1, 2)


@pytest.mark.parametrize("view", VIEWS)
def test_views_are_shared(view: str) -> None:
    a = oc.array(filled("f8", (4, 5)))
    v = VIEWS[view](a)
    assert oc.is_shared(v)
    del a
    assert identical(np.array(v), VIEWS[view](filled("f8", (4, 5))))


@pytest.mark.parametrize("thing", [None, 3, [1, 2], "abc", np.zeros(3), np.float64(1), b"abc"])
def test_other_things_are_not_shared(thing: Any) -> None:
    assert not oc.is_shared(thing)


def test_memory_goes_back_when_the_last_view_goes() -> None:
    before = oc.stats()["blocks"]
    a = oc.zeros(1000)
    view = a[10:20]
    del a
    assert oc.stats()["blocks"] == before + 1
    del view
    assert oc.stats()["blocks"] == before


# --- share ---


def test_shared_read_only_is_not_written_to() -> None:
    a = oc.share(np.arange(5.0))
    with pytest.raises(ValueError, match="read-only"):
        a[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        a.flags.writeable = True


def test_share_does_not_copy_what_is_shared() -> None:
    a = oc.zeros(5)
    b = oc.share(a)
    a[1] = 7
    assert b[1] == 7 and not b.flags.writeable
    with pytest.raises(ValueError, match="read-only here"):
        oc.share(b, mode="rw")


def test_copy_on_write_stays_here() -> None:
    original = oc.share(np.arange(5000), mode="rw")
    mine = oc.share(original, mode="cow")
    mine[3:] = -1
    assert original[3] == 3 and mine[3] == -1
    assert oc.is_shared(mine) and oc.is_shared(mine[1:])


def test_share_keeps_the_class() -> None:
    record = np.rec.array([(1, 2.0), (3, 4.0)], dtype=[("a", "i4"), ("b", "f8")])
    shared = oc.share(record)
    assert type(shared) is np.recarray and list(shared.a) == [1, 3] and oc.is_shared(shared)
    masked = np.ma.masked_equal([1, 2, 3], 2)
    again = oc.share(masked)
    assert isinstance(again, np.ma.MaskedArray)
    assert again.tolist() == [1, None, 3] and oc.is_shared(again.data) and oc.is_shared(again.mask)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("mode", ["ro", "rw", "cow"])
def test_share_of_every_view(view: str, mode: Any) -> None:
    source = VIEWS[view](filled("i4", (4, 5)))
    assert identical(np.array(oc.share(source, mode)), np.array(source))


# --- pickling to a file stores the data ---


def test_plain_pickle_and_copy_hold_the_items() -> None:
    a = oc.array(filled("f8", (3, 4)))
    buffer = io.BytesIO()
    pickle.dump(a, buffer)
    assert a.tobytes() in buffer.getvalue()
    assert identical(pickle.loads(buffer.getvalue()), np.array(a))
    for other in (copy.copy(a), copy.deepcopy(a), a + 0):
        assert not oc.is_shared(other)


# --- bad input ---


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: oc.empty(3, dtype=object), TypeError, "Python objects"),
        (lambda: oc.array([object()]), TypeError, "Python objects"),
        (lambda: oc.array(["a", None]), TypeError, "Python objects"),
        (lambda: oc.empty(-1), ValueError, "negative dimensions"),
        (lambda: oc.empty(2.5), TypeError, "float"),
        (lambda: oc.empty(2, order="X"), ValueError, "order='X'"),
        (lambda: oc.empty((2**40, 2**40)), ValueError, "too large"),
        (lambda: oc.share(np.zeros(2), mode="wr"), ValueError, "mode='wr'"),
        (lambda: oc.share(np.array([None])), TypeError, "Python objects"),
        (lambda: oc.set_limit("8 apples"), ValueError, "8 apples"),
    ],
)
def test_bad_input_says_what_and_how(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_too_much_is_an_error_with_figures() -> None:
    with pytest.raises(oc.OutOfMemoryError, match="ONECOPY_LIMIT") as caught:
        oc.empty(1 << 45, "u1")
    assert caught.value.asked == 1 << 45
    assert 0 < caught.value.free < caught.value.asked
    assert isinstance(caught.value, MemoryError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.asked) == (str(caught.value), 1 << 45)


def test_the_limit_can_be_lowered_and_raised() -> None:
    limit = oc.stats()["limit"]
    try:
        oc.set_limit("32MiB")
        with pytest.raises(oc.OutOfMemoryError, match=r"arena's limit of 32\.0 MiB"):
            oc.empty(64 << 20, "u1")
        assert oc.empty(1 << 20, "u1").nbytes == 1 << 20
    finally:
        oc.set_limit(limit)


def test_every_error_is_also_a_builtin() -> None:
    pairs = [
        (oc.OutOfMemoryError, MemoryError),
        (oc.StaleHandleError, LookupError),
        (oc.InvalidHandleError, ValueError),
        (oc.ArenaError, OSError),
        (oc.ParseError, ValueError),
    ]
    for ours, builtin in pairs:
        assert issubclass(ours, oc.OnecopyError) and issubclass(ours, builtin)
        error = ours("what happened", line=3)
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), again.line) == (ours, "what happened", 3)


@given(st.integers(0, 3))
def test_threads_do_not_disturb_each_other(_: int) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def work(n: int) -> bool:
        arrays = [oc.full(1000, n) for _ in range(20)]
        return all((a == n).all() for a in arrays)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(20)))
