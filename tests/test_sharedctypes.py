"""`Value` and `Array`, as `multiprocessing` and onecopy have them: the suite is checked by the former."""

from __future__ import annotations

import ctypes
import multiprocessing
import multiprocessing.sharedctypes as sharedctypes
import pickle
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import onecopy as oc

LATE = 30  # seconds after which a test has failed
INTEGERS = {"b": 8, "h": 16, "i": 32, "q": 64}
CODES = "cubBhHiIlLqQfd"

pytestmark = pytest.mark.usefixtures("nothing_left")


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_double), ("n", ctypes.c_int * 3)]


@pytest.fixture(params=[oc, multiprocessing], ids=lambda library: library.__name__)
def library(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def context(request: pytest.FixtureRequest) -> Any:
    return multiprocessing.get_context(request.param)


def value_of(shared: Any) -> Any:
    return bytes(shared) if isinstance(shared, (ctypes.Array, ctypes.Structure)) else shared.value


# --- what they are ---


@pytest.mark.parametrize("code", CODES)
def test_every_type_code_is_a_type_of_zeros(library: Any, code: str) -> None:
    type_ = type(multiprocessing.RawValue(code))
    shared = library.RawValue(code)
    assert type(shared) is type_
    assert value_of(shared) == type_().value
    assert type(library.Value(code).get_obj()) is type_
    assert list(library.RawArray(code, 3)) == list((type_ * 3)())
    assert len(library.Array(code, 3)) == 3


@pytest.mark.parametrize(
    ("code", "first", "second"),
    [("d", 2.5, -1.0), ("c", b"a", b"b"), ("u", "ä", "x"), ("i", -7, 8), (ctypes.c_bool, True, False)],
)
def test_a_value_is_what_it_was_set_to(library: Any, code: Any, first: Any, second: Any) -> None:
    for shared in (library.RawValue(code, first), library.Value(code, first), library.Value(code, first, lock=False)):
        assert shared.value == first
        shared.value = second
        assert shared.value == second


@given(bits=st.sampled_from(sorted(INTEGERS.items())), number=st.integers(-(2**70), 2**70))
def test_integers_wrap_as_those_of_c_do(bits: tuple[str, int], number: int) -> None:
    code, width = bits
    expected = (number + 2 ** (width - 1)) % 2**width - 2 ** (width - 1)
    assert oc.Value(code, number).value == oc.RawArray(code, [number])[0] == expected


@given(
    items=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=20),
    cuts=st.lists(st.tuples(st.integers(-25, 25), st.integers(-25, 25)), max_size=5),
)
def test_slices_are_those_of_a_list(items: list[int], cuts: list[tuple[int, int]]) -> None:
    shared, raw = oc.Array("i", items), oc.RawArray("i", items)
    for start, stop in cuts:
        assert shared[start:stop] == raw[start:stop] == items[start:stop]
        new = [-n - 1 for n in items[start:stop]]
        shared[start:stop] = raw[start:stop] = items[start:stop] = new
    assert shared[:] == list(raw) == items


def test_an_array_has_items_slices_and_an_end(library: Any) -> None:
    for shared in (library.Array("i", range(5)), library.RawArray("i", range(5))):
        shared[0], shared[-1] = 10, 14
        shared[1:3] = [11, 12]
        assert (len(shared), list(shared), shared[::2]) == (5, [10, 11, 12, 3, 14], [10, 12, 14])
        for wrong in (lambda shared=shared: shared[5], lambda shared=shared: shared.__setitem__(-6, 0)):
            with pytest.raises(IndexError):
                wrong()
        with pytest.raises(ValueError, match="same size"):
            shared[1:3] = [1]
        with pytest.raises(TypeError):
            shared[0] = "text"


def test_bytes_have_a_value_and_raw(library: Any) -> None:
    text = library.Array("c", 8)
    text.value = b"abc"
    assert (text.value, text.raw, text[1], len(text)) == (b"abc", b"abc\0\0\0\0\0", b"b", 8)
    text.raw = b"12345678"
    assert text.value == b"12345678"
    with pytest.raises(ValueError, match="too long"):
        text.value = b"123456789"


def test_structures_have_their_fields(library: Any) -> None:
    point = library.Value(Point, 1.5)
    point.x += 1
    point.n[1] = 7
    assert (point.x, list(point.n)) == (2.5, [0, 7, 0])
    points = library.Array(Point, [(1.0, (1, 2, 3)), (2.0,)])
    points[1].x = 9.0
    assert [(p.x, *p.n) for p in points] == [(1.0, 1, 2, 3), (9.0, 0, 0, 0)]
    assert library.Value(Point).__class__ is point.__class__


def test_numpy_sees_the_same_memory(library: Any) -> None:
    shared = library.Array("d", 4)
    array = np.frombuffer(shared.get_obj())
    array[1] = 2.5
    assert shared[1] == 2.5
    assert np.ctypeslib.as_array(library.RawArray("i", [3, 4])).sum() == 7
    assert oc.is_shared(array) == (library is oc)


def test_nothing_is_larger_than_it_must_be(library: Any) -> None:
    assert len(library.RawArray("i", 0)) == len(library.Array("d", [])) == 0
    nested = library.RawArray(ctypes.c_int * 2, 3)
    nested[2][1] = 5
    assert [list(row) for row in nested] == [[0, 0], [0, 0], [0, 5]]


# --- locks ---


def test_the_lock_is_a_reentrant_one_or_what_was_given(library: Any) -> None:
    for make in (lambda lock: library.Value("i", lock=lock), lambda lock: library.Array("i", 2, lock=lock)):
        for lock in (True, None):
            shared = make(lock)
            with shared.get_lock(), shared as held:
                assert held
                assert shared.acquire()
                shared.release()
            assert type(shared.get_lock()) is type(library.RLock())
        for lock in (library.RLock(), library.Lock(), threading.RLock(), library.Semaphore()):
            assert make(lock).get_lock() is lock
        with pytest.raises(AttributeError, match="has no method 'acquire'"):
            make(7)
        assert isinstance(make(False), (ctypes._SimpleCData, ctypes.Array))


def test_everything_takes_the_lock(library: Any) -> None:
    number, items, text, point = (
        library.Value("i"), library.Array("i", 3), library.Array("c", 3), library.Value(Point),
    )  # fmt: skip
    uses = [
        (number, lambda: number.value), (number, lambda: setattr(number, "value", 1)),
        (items, lambda: items[0]), (items, lambda: items.__setitem__(0, 1)), (items, lambda: items[:]),
        (text, lambda: text.raw), (text, lambda: text.value), (point, lambda: point.x),
        (point, lambda: setattr(point, "x", 2.0)),
    ]  # fmt: skip
    for shared, use in uses:
        worker = threading.Thread(target=use, daemon=True)
        with shared.get_lock():
            worker.start()
            worker.join(0.02)
            assert worker.is_alive()
        worker.join(LATE)
        assert not worker.is_alive()


def test_an_exception_releases_the_lock(library: Any) -> None:
    shared = library.Array("i", 3)
    with pytest.raises(IndexError):
        shared[7]
    with pytest.raises(TypeError):
        shared[0] = None
    number = library.Value("i")
    with pytest.raises(TypeError):
        number.value = "text"
    with pytest.raises(KeyError), shared, number.get_lock():
        raise KeyError
    for free in (shared, number):
        worker = threading.Thread(target=lambda free=free: free.acquire() and free.release(), daemon=True)
        worker.start()
        worker.join(LATE)
        assert not worker.is_alive()


def test_they_are_what_the_standard_library_makes() -> None:
    assert isinstance(oc.Value("i"), sharedctypes.Synchronized)
    assert isinstance(oc.Array("i", 1), sharedctypes.SynchronizedArray)
    assert isinstance(oc.Array("c", 1), sharedctypes.SynchronizedString)
    assert isinstance(oc.Value(Point), sharedctypes.SynchronizedBase)
    assert repr(oc.Value("i", 3)) == repr(multiprocessing.Value("i", 3))


# --- mistakes ---


@pytest.mark.parametrize("make", ["Value", "RawValue", "Array", "RawArray"])
def test_a_wrong_type_is_a_type_error(library: Any, make: str) -> None:
    arguments = (2,) if "Array" in make else ()
    for wrong in ("x", "", "ii", 3.5, int):
        with pytest.raises(TypeError):
            getattr(library, make)(wrong, *arguments)


def test_messages_tell_the_value_and_the_way_out() -> None:
    with pytest.raises(TypeError, match="type code 'x': expected one of c u b"):
        oc.Value("x")
    with pytest.raises(TypeError, match="<class 'int'> is no type of ctypes"):
        oc.RawArray(int, 3)
    with pytest.raises(ValueError, match="-3"):
        oc.Array("i", -3)
    with pytest.raises(AttributeError, match="lock=7"):
        oc.Value("i", lock=7)


def test_wrong_contents_leave_nothing_behind(library: Any) -> None:
    for wrong in (
        lambda: library.Value("i", "text"),
        lambda: library.Array("d", [None]),
        lambda: library.Array("i", 1.5),
    ):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(ValueError, match="Array length must be >= 0"):
        library.RawArray("i", -1)


def test_there_is_not_so_much_memory() -> None:
    with pytest.raises(oc.OutOfMemoryError):
        oc.RawArray("d", 1 << 42)


def test_they_are_pickled_only_for_processes_and_queues(library: Any) -> None:
    for shared in (library.Value("i"), library.Array("i", 2), library.Value(Point)):
        with pytest.raises(RuntimeError):
            pickle.dumps(shared)
        with pytest.raises(RuntimeError):
            multiprocessing.reduction.ForkingPickler.dumps(shared)
    for shared in (library.RawValue("i"), library.RawArray("i", 2)):
        with pytest.raises(RuntimeError, match="should only be shared"):
            multiprocessing.reduction.ForkingPickler.dumps(shared)


# --- other processes ---


def _use(everything: dict[str, Any], done: Any) -> None:
    everything["value"].value += 1
    everything["raw"].value = 2.5
    everything["array"][1:3] = [5, 6]
    everything["rows"][1][0] = 7
    everything["text"].value = b"there"
    with everything["point"] as point_is_held:
        assert point_is_held
        everything["point"].x = 1.5
    everything["theirs"].value += 1
    done.send(type(everything["value"].get_lock()).__module__)


def test_they_go_to_a_process_that_is_started(library: Any, context: Any) -> None:
    if library is multiprocessing:
        library = context
    everything = {
        "value": library.Value("q", 2**40), "raw": library.RawValue("d"), "array": library.Array("i", 4),
        "rows": oc.RawArray(ctypes.c_int * 2, 3), "text": library.Array("c", 10), "point": library.Value(Point),
        # One of the other library beside it, of a type that both have seen.
        "theirs": context.Value("q") if library is oc else oc.Value("q"),
    }  # fmt: skip
    mine, theirs = context.Pipe()
    process = context.Process(target=_use, args=(everything, theirs), daemon=True)
    process.start()
    assert mine.poll(LATE)
    assert mine.recv().startswith("onecopy" if library is oc else "multiprocessing")
    process.join(LATE)
    assert everything["value"].value == 2**40 + 1
    assert everything["raw"].value == 2.5
    assert everything["array"][:] == [0, 5, 6, 0]
    assert [list(row) for row in everything["rows"]] == [[0, 0], [7, 0], [0, 0]]
    assert (everything["text"].value, everything["point"].x, everything["theirs"].value) == (b"there", 1.5, 1)


def test_they_go_through_a_queue() -> None:
    q = oc.Queue()
    value, array, rows, point = oc.Value("i"), oc.Array("c", 5), oc.RawArray(ctypes.c_int * 2, 2), oc.Value(Point)
    for _ in range(2):  # what came out of a queue goes in again
        q.put([value, array, rows, point])
        with value.get_lock():
            same, array, rows, point = q.get()
            worker = threading.Thread(target=lambda same=same: setattr(same, "value", same.value + 1))
            worker.start()
            worker.join(0.02)
            assert worker.is_alive(), "it has another lock"
        worker.join(LATE)
    array.value, rows[1][1], point.x = b"x", 3, 0.5
    assert value.value == 2
    q.put((multiprocessing.RawValue, ctypes.c_int(5)))
    assert q.get()[1].value == 5
    with pytest.raises(RuntimeError):
        q.put(multiprocessing.Value("i"))


def _count(value: Any, times: int) -> None:
    for _ in range(times):
        with value.get_lock():
            value.value += 1


def test_two_processes_count_without_losing_one(library: Any) -> None:
    fork = multiprocessing.get_context("fork")
    value = library.Value("i")
    workers = [fork.Process(target=_count, args=(value, 10_000)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(LATE)
    assert value.value == 20_000


def _hold(value: Any, done: Any) -> None:
    value.get_lock().acquire()
    value.value = 7
    done.send("held")
    threading.Event().wait()


def test_a_killed_holder_of_the_lock_stops_nobody() -> None:
    fork = multiprocessing.get_context("fork")
    for shared, use in [
        (oc.Value("i"), lambda shared: shared.value),
        (oc.Value(Counted), lambda shared: shared.value),
    ]:
        mine, theirs = fork.Pipe()
        holder = fork.Process(target=_hold, args=(shared, theirs), daemon=True)
        holder.start()
        assert mine.poll(LATE)
        holder.kill()
        holder.join()
        with pytest.raises(oc.OwnerDiedError):
            use(shared)
        with shared.get_lock().recover() as somebody_died:
            assert somebody_died
            assert use(shared) == 7
        assert use(shared) == 7


class Counted(ctypes.Structure):
    _fields_ = [("value", ctypes.c_int)]
