"""Dictionaries, lists and namespaces: those of Python are the reference."""

import datetime
import decimal
import enum
import fractions
import pickle
import threading
from collections.abc import MutableMapping, MutableSequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onecopy as oc

NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.booleans(),
    st.sampled_from([0.0, -0.0, 1.0, 2.5, 1e30, float("inf")]),
    st.sampled_from([10**30, int(1e30), 1 << 63, -(1 << 63), -(1 << 63) - 1]),
    st.sampled_from([fractions.Fraction(1), fractions.Fraction(5, 2), decimal.Decimal("2.50"), 1 + 0j, np.int32(2)]),
)
PARTS = st.one_of(NUMBERS, st.none(), st.text(max_size=3), st.binary(max_size=3))
KEYS = st.recursive(PARTS, lambda keys: st.tuples(keys, keys) | st.frozensets(keys, max_size=3), max_leaves=4)
VALUES = st.one_of(PARTS, st.text(min_size=4000, max_size=5000), st.lists(st.integers(), max_size=3))


def same(a, b):
    """Tell whether two values are equal and of one type."""
    return a == b and type(a) is type(b)


def alike(call, first, second):
    """Call with both; the calls return equal values or raise the same class of exception."""
    results = []
    for argument in (first, second):
        try:
            results.append((call(argument), None))
        except Exception as error:
            results.append((None, type(error)))
    assert results[0] == results[1]


def dict_step(what, key, value):
    """Return what is done to a dictionary."""
    return {
        "set": lambda d: d.__setitem__(key, value),
        "pop": lambda d: d.pop(key),
        "pop with default": lambda d: d.pop(key, value),
        "setdefault": lambda d: d.setdefault(key, value),
        "del": lambda d: d.__delitem__(key),
        "popitem": lambda d: d.popitem(),
        "get": lambda d: d.get(key, 7),
        "in": lambda d: key in d,
        "update": lambda d: d.update({key: value, "name": value}),
    }[what]


DICT_STEPS = ["set", "pop", "pop with default", "setdefault", "del", "popitem", "get", "in", "update"]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(DICT_STEPS), KEYS, VALUES)))
def test_it_is_a_dict(steps):
    shared, model = oc.Dict(), {}
    for what, key, value in steps:
        alike(dict_step(what, key, value), shared, model)
        assert len(shared) == len(model)
    assert shared == model and list(shared.items()) == list(model.items())
    assert all(same(a, b) for a, b in zip(shared, model, strict=True))
    assert all(same(shared[key], model[key]) for key in model)


def list_step(what, index, values, piece):
    """Return what is done to a list."""
    return {
        "append": lambda li: li.append(index),
        "extend": lambda li: li.extend(values),
        "set": lambda li: li.__setitem__(index, 7),
        "del": lambda li: li.__delitem__(index),
        "get": lambda li: li[index],
        "insert": lambda li: li.insert(index, 8),
        "pop": lambda li: li.pop(index),
        "set slice": lambda li: li.__setitem__(piece, values),
        "del slice": lambda li: li.__delitem__(piece),
        "reverse": lambda li: li.reverse(),
        "sort": lambda li: li.sort(key=lambda n: n % 3, reverse=index > 0),
        "remove": lambda li: li.remove(index),
        "multiply": lambda li: li.__imul__(index % 3) if len(li) < 100 else None,
    }[what]


LIST_STEPS = ["append", "extend", "set", "del", "get", "insert", "pop", "set slice", "del slice", "reverse"]
LIST_STEPS += ["sort", "remove", "multiply"]
BOUNDS = st.none() | st.integers(-9, 9)
SLICES = st.builds(slice, BOUNDS, BOUNDS, st.sampled_from([None, 1, 2, -1, -2]))
STEP = st.tuples(st.sampled_from(LIST_STEPS), st.integers(-9, 9), st.lists(st.integers(0, 9), max_size=4), SLICES)


@settings(deadline=None, max_examples=100)
@given(st.lists(STEP, max_size=25))
def test_it_is_a_list(steps):
    shared, model = oc.List(), []
    for what, index, values, piece in steps:
        alike(list_step(what, index, values, piece), shared, model)
        assert shared[piece] == model[piece] and len(shared) == len(model)
    assert shared == model and list(shared) == model and list(reversed(shared)) == model[::-1]


def test_a_dict_has_what_a_dict_has():
    d = oc.Dict({"a": 1}, b=2, handle=3)
    assert isinstance(d, MutableMapping) and d == {"a": 1, "b": 2, "handle": 3} != d.keys()
    assert d | {"a": 9} == {"a": 9, "b": 2, "handle": 3} and {"a": 9} | d == d.copy()
    d |= {"c": 4}
    assert list(d.keys()) == ["a", "b", "handle", "c"] and list(d.values()) == [1, 2, 3, 4]
    assert ("c", 4) in d.items() and 4 in d.values() and "c" in list(d.keys()) and d.keys() & {"c", "z"} == {"c"}
    assert list(reversed(d)) == ["c", "handle", "b", "a"] and next(reversed(d.items())) == ("c", 4)
    assert repr(oc.Dict(a=1)) == "Dict({'a': 1})" and oc.Dict.fromkeys("ab", 0) == {"a": 0, "b": 0}
    assert d.pop("none", 5) == 5 and d.get("none") is None and type(d.copy()) is dict
    d.clear()
    assert not d and d == {}
    for wrong in ({}, [], oc.Dict()):
        with pytest.raises(TypeError, match="unhashable"):
            d[wrong] = 1
    with pytest.raises(KeyError, match="'none'"):
        d["none"]
    with pytest.raises(KeyError, match="empty"):
        d.popitem()
    with pytest.raises(ValueError, match="length 3; 2 is required"):
        d.update([(1, 2, 3)])
    with pytest.raises(TypeError):
        hash(d)


def test_a_list_has_what_a_list_has():
    values = oc.List([3, 1, 2])
    assert isinstance(values, MutableSequence) and values == [3, 1, 2] and 1 in values
    more = [4]
    assert values + more == [3, 1, 2, 4] and more + values == [4, 3, 1, 2] and values * 2 == 2 * values
    values += (5, 5)
    assert values.count(5) == 2 and values.index(2) == 2 and values.index(5, 4) == 4
    values.remove(5)
    assert values == oc.List([3, 1, 2, 5]) and values > [3, 1] and repr(values) == "List([3, 1, 2, 5])"
    with pytest.raises(ValueError, match="not in list"):
        values.remove(99)
    with pytest.raises(IndexError, match="list index out of range"):
        values[4]
    with pytest.raises(IndexError, match="pop from empty list"):
        oc.List().pop()
    with pytest.raises(TypeError, match="must be integers or slices, not str"):
        values["a"]
    with pytest.raises(ValueError, match="size 1 to extended slice of size 2"):
        values[::2] = [1]
    values[:] = values
    assert values.copy() == [3, 1, 2, 5]
    with pytest.raises(TypeError, match="not supported"):
        values.append("a")
        values.sort()
    assert values == [3, 1, 2, 5, "a"] and not values.lock().locked()


def test_a_namespace_has_attributes():
    state = oc.Namespace(a=1, lock_=2)
    state.b = [1]
    del state.a
    assert state.b == [1] and "b" in dir(state) and state == state and repr(state) == "Namespace(b=[1], lock_=2)"
    for missing in ("a", "_a", "__a__"):
        assert not hasattr(state, missing)
    for reserved in ("_a", "lock"):
        with pytest.raises(AttributeError, match="cannot be an attribute"):
            setattr(state, reserved, 1)
    with pytest.raises(AttributeError, match="no attribute 'a'"):
        del state.a


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    HIGH = 3


@dataclass(frozen=True)
class Point:
    x: int
    names: frozenset[str]


@pytest.mark.parametrize(
    "key",
    [
        Colour.RED,
        Point(1, frozenset("abcdefgh")),
        datetime.date(2026, 1, 2),
        ("same", "same"),
        (),
        frozenset({("a", 1), ("b", 2)}),
        "\ud800",
        int,
        3 + 4j,
        2**70,
    ],
    ids=repr,
)
def test_a_key_is_found_by_its_equal(key):
    again = pickle.loads(pickle.dumps(key))
    d = oc.Dict({key: 1, "other": 2})
    d[again] = 3
    assert d[again] == 3 and len(d) == 2 and next(iter(d)) == key and type(next(iter(d))) is type(key)


def test_equal_numbers_are_one_key_in_the_form_that_came_first():
    d = oc.Dict({3: "int"})
    for equal in (3.0, Level.HIGH, np.int64(3), fractions.Fraction(3), decimal.Decimal(3), 3 + 0j):
        d[equal] = type(equal).__name__
        assert d[3] == type(equal).__name__
    assert list(d) == [3] and type(next(iter(d))) is int
    d = oc.Dict({True: 1})
    d[1] = 2
    assert list(d.items()) == [(True, 2)] and next(iter(d)) is True
    assert decimal.Decimal("0.10") in oc.Dict({fractions.Fraction(1, 10): 0}) and 0.5 in oc.Dict({np.float32(0.5): 0})


def test_what_is_shared_is_the_same_for_all_who_get_it():
    before = oc.stats()["blocks"]
    d = oc.Dict(array=oc.zeros(1000), lock=oc.Lock(), queue=oc.Queue(), inner=oc.Dict(), list=oc.List())
    d["array"][1] = 7
    d["inner"]["list"] = d["list"]
    d["inner"]["list"].append(d["array"][:2])
    d["queue"].put(d["inner"])
    assert d["lock"].acquire() and not d["lock"].acquire(block=False)
    d["lock"].release()
    assert d["queue"].get()["list"][0].tolist() == [0, 7]
    large = np.arange(100_000.0)
    d["mixed"] = {"large": large, "small": [1, 2]}
    assert (d["mixed"]["large"] == large).all() and oc.is_shared(d["mixed"]["large"])
    kept = d.pop("mixed")["large"]
    assert (kept == large).all()
    del kept, d
    assert oc.stats()["blocks"] == before


def test_containers_in_a_ring_go_when_nobody_has_them():
    oc.reap()
    before = oc.stats()["blocks"]
    a, b = oc.Dict(), oc.List()
    a["b"] = b
    b.append(a)
    assert repr(a) == "Dict({'b': List([Dict({...})])})" and repr(b) == "List([Dict({'b': List([...])})])"
    del a, b
    oc.reap()
    assert oc.stats()["blocks"] == before


def test_values_of_any_length_come_back():
    d, values = oc.Dict(), oc.List()
    for n in (0, 1, 7, 8, 9, 255, 256, 257, 4095, 4096, 4097, 100_000):
        for value in (b"x" * n, "é" * n, [1] * n):
            d["value"] = value
            values.append(value)
            assert d["value"] == value and values[-1] == value


def test_what_cannot_be_pickled_changes_nothing():
    d = oc.Dict(a=1)
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        d["a"] = lambda: 1
    assert d == {"a": 1}
    with pytest.raises(RuntimeError, match=r"through inheritance"):
        pickle.dumps(d)


def test_the_lock_of_a_container_is_for_reading_and_writing_in_one():
    d, values = oc.Dict(n=0), oc.List([0])

    def add():
        for _ in range(300):
            with d.lock():
                d["n"] += 1
            with values.lock(), values.lock():
                values[0] += 1

    threads = [threading.Thread(target=add) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert d["n"] == values[0] == 900
    assert d.lock().acquire() and d.lock().locked()
    written = threading.Thread(target=d.__setitem__, args=("other", 1))
    written.start()
    got = []
    other = threading.Thread(target=lambda: got.extend([d.lock().acquire(timeout=0.01), d["n"]]))
    other.start()
    other.join()
    assert got == [False, 900] and "other" not in d
    d.lock().release()
    written.join()
    assert d["other"] == 1
    with pytest.raises(AssertionError, match="not held by this thread"):
        d.lock().release()
    with d.lock().recover() as somebody_died:
        assert not somebody_died


def test_a_loop_goes_on_while_the_dict_changes():
    d = oc.Dict((n, n) for n in range(50))
    met = []
    for key, value in d.items():
        met.append(key)
        assert key == value
        if key % 2 == 0:
            del d[key]
        if key < 50:
            d[1000 + key] = 1000 + key
            d.setdefault(key + 1, key + 1)
    assert met[:50] == list(range(50)) and len(met) == len(set(met))


class Named(oc.Dict):
    def __init__(self, name):
        super().__init__()
        self.name = name


def test_classes_made_of_them_travel_too():
    named = Named("x")
    named["a"] = 1
    assert named.name == "x" and repr(named) == "Named({'a': 1})"
    outer = oc.List([named])
    assert type(outer[0]) is Named and outer[0]["a"] == 1
    outer[0]["a"] = 2
    assert named["a"] == 2
