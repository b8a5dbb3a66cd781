"""Any object in shared memory: what goes in comes out, over the same bytes, in one process."""

import copy
import gc
import pickle
import subprocess
import sys
import threading
import weakref
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import onecopy as oc
from onecopy import _native
from samples import DTYPES, VIEWS, filled, identical

pytestmark = pytest.mark.usefixtures("nothing_left")


class Plain:
    """Has a dictionary, so that it can be referred to weakly."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return identical(a, b)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, dict):
        return type(a) is type(b) and list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    return bool(a == b)


def arrays_in(obj: Any) -> list[Any]:
    if isinstance(obj, np.ndarray):
        return [obj]
    parts = obj.values() if isinstance(obj, dict) else obj if isinstance(obj, list | tuple) else ()
    return [array for part in parts for array in arrays_in(part)]


# --- what goes in comes out ---


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("shared", [False, True])
def test_every_dtype_and_view_is_read_where_it_was_put(dtype: Any, view: str, shared: bool) -> None:
    whole = filled(dtype, (4, 5))
    array = VIEWS[view](oc.array(whole) if shared else whole)
    ref = oc.put([array, array])
    received, again = ref.get()
    assert identical(received, array) and received is again
    assert not received.flags.writeable or received.nbytes == 0
    if array.nbytes:
        assert oc.is_shared(received) and oc.is_shared(received[..., None])
        with pytest.raises(ValueError, match="WRITEABLE"):
            received.flags.writeable = True


shared_and_not = hnp.arrays(hnp.scalar_dtypes() | hnp.array_dtypes(), hnp.array_shapes(min_dims=0, max_dims=3))
leaves = shared_and_not | shared_and_not.map(oc.array) | st.integers() | st.text() | st.none() | st.binary()
structures = st.recursive(
    leaves,
    lambda parts: (
        st.lists(parts, max_size=4) | st.tuples(parts, parts) | st.dictionaries(st.text(max_size=3), parts, max_size=4)
    ),
    max_leaves=12,
)


@given(structures, st.sampled_from(["ro", "rw", "cow"]))
def test_any_structure_comes_back_equal_and_is_sent_by_handle(obj: Any, mode: Any) -> None:
    with oc.put(obj, mode) as ref:
        received = ref.get()
        assert equal(received, obj)
    for array in arrays_in(received):
        if array.nbytes and not array.dtype.hasobject:
            assert oc.is_shared(array) and array.flags.writeable is (mode != "ro")
    copied = oc.stats()["bytes_copied"]
    sent = pickle.loads(bytes(ForkingPickler.dumps(received)))
    assert equal(sent, obj) and oc.stats()["bytes_copied"] == copied


def test_masked_records_matrices_and_memmaps_stay_what_they_are(tmp_path: Any) -> None:
    masked = np.ma.masked_less(np.arange(1000), 2)
    masked.fill_value = -7
    mapped = np.memmap(tmp_path / "file", "f8", "w+", shape=(1000,))
    record = np.rec.array(np.zeros(1000, [("a", "i4"), ("b", "M8[s]")]))
    matrix = np.zeros((1000, 1)).view(np.matrix)
    for source in (masked, record, matrix):
        received = oc.put({"x": source}).get()["x"]
        assert type(received) is type(source) and received.dtype == source.dtype
        assert received.tolist() == source.tolist() and oc.is_shared(received)
    received = oc.share([mapped])[0]
    assert type(received) is np.ndarray and oc.is_shared(received) and identical(received, np.zeros(1000))
    assert oc.put(masked).get().fill_value == -7


def test_who_is_who_and_cycles_are_kept() -> None:
    part = Plain(array=np.arange(3))
    whole: list[Any] = [part, part]
    whole.append(whole)
    received = oc.put(whole).get()
    assert received[0] is received[1] and received[2] is received
    assert received[0].array is received[1].array
    # Such a circle keeps its arrays, and they the record, until the collector comes.
    del received, whole
    gc.collect()


def test_gaps_are_not_stored_and_repeated_items_are_stored_once() -> None:
    large = np.zeros((1000, 1000))
    assert oc.put(large[:, 0]).nbytes < 9000
    assert oc.put(np.broadcast_to(np.arange(1000), (1000, 1000))).nbytes < 9000
    assert oc.put(large[::-1].T).get().strides == large[::-1].T.strides


def test_what_is_shared_already_is_not_copied() -> None:
    a = oc.array(np.arange(100_000.0))
    used = oc.stats()["used_bytes"]
    ref = oc.put({"a": a[::2], "b": [a, a[5:]], "memory": memoryview(a).nbytes}, mode="rw")
    assert oc.stats()["used_bytes"] - used < 4096
    assert ref.nbytes > 2 * a.nbytes
    received = ref.get()
    received["a"][1] = -1
    assert a[2] == received["b"][0][2] == -1
    del a
    gc.collect()
    assert received["b"][1][0] == 5 and ref.get() is received


def test_plain_objects_are_pickled_into_the_block() -> None:
    words = [f"word {n}" for n in range(10_000)]
    ref = oc.put(words)
    assert ref.get() == words and ref.get() is ref.get()
    assert oc.share(words) == words
    for value in (None, 0, "", (), b"", 1.5, ...):
        assert oc.put(value).get() == value == oc.share(value)


# --- modes ---


@pytest.mark.parametrize("through", ["put", "share"])
def test_what_may_be_done_is_as_asked(through: str) -> None:
    source = {"a": np.arange(1000.0), "b": [np.zeros(3)]}

    def made(mode: Any) -> Any:
        return oc.put(source, mode).get() if through == "put" else oc.share(source, mode)

    def sent(obj: Any) -> Any:
        return pickle.loads(bytes(ForkingPickler.dumps(obj)))

    readable = made("ro")
    with pytest.raises(ValueError, match="read-only"):
        readable["a"][0] = 1
    assert not sent(readable)["b"][0].flags.writeable
    shared = made("rw")
    other = sent(shared)
    other["a"][1] = 7
    assert shared["a"][1] == 7
    private = made("cow")
    private["a"][1], private["b"][0][0] = 7, 8
    assert sent(private)["a"][1] == 1 and sent(private)["b"][0][0] == 0
    assert source["a"][1] == 1


def test_read_only_parts_stay_so() -> None:
    sealed = oc.share(np.arange(10))
    received = oc.share([sealed, np.arange(10)], mode="rw")
    assert [part.flags.writeable for part in received] == [False, True]
    assert np.shares_memory(received[0], sealed)
    private = oc.share([sealed], mode="cow")[0]
    private[0] = 99
    # What differs from its block is what is stored.
    assert oc.put([private]).get()[0][0] == 99 and sealed[0] == 0


def test_wrong_modes_are_named() -> None:
    for function in (oc.put, oc.share):
        with pytest.raises(ValueError, match="mode='wr': expected 'ro', 'rw' or 'cow'"):
            function([1], mode="wr")
    with pytest.raises(TypeError, match="Python objects inside"):
        oc.share(np.array([None]))


# --- Refs ---


def test_the_second_get_is_the_first_as_long_as_somebody_uses_it() -> None:
    ref = oc.put(Plain(array=np.arange(1000)))
    first = ref.get()
    assert ref.get() is first is oc.get(ref) is copy.copy(ref).get() is copy.deepcopy([ref])[0].get()
    gone = weakref.ref(first)
    del first
    assert gone() is None, "the cache kept it"
    assert ref.get().array[1] == 1


def test_what_has_no_weak_reference_goes_with_the_last_ref() -> None:
    class Inner:
        pass

    globals()["Inner"] = Inner
    Inner.__qualname__ = "Inner"
    ref = oc.put([Inner()])
    gone = weakref.ref(ref.get()[0])
    other = copy.copy(ref)
    ref.free()
    assert gone() is not None and other.get()[0] is gone()
    del other
    assert gone() is None


def test_the_memory_goes_with_the_last_user() -> None:
    blocks = oc.stats()["blocks"]
    ref = oc.put({"a": np.arange(1000), "b": np.arange(1000)})
    part = ref.get()["a"][::2]
    ref.free()
    assert oc.stats()["blocks"] == blocks + 1 and part[1] == 2
    del part
    assert oc.stats()["blocks"] == blocks


def test_use_after_free_is_said() -> None:
    ref = oc.put([1])
    assert "Ref to" in repr(ref)
    ref.free()
    for use in (ref.free, ref.get, lambda: oc.get(ref), lambda: ref.nbytes, lambda: pickle.dumps(ref), ref.__enter__):
        with pytest.raises(oc.StaleHandleError, match="has been freed"):
            use()
    assert repr(ref) == "<onecopy.Ref, freed>"
    with oc.put([1]) as ref:
        ref.free()


def test_a_ref_is_made_by_put_and_got_by_get() -> None:
    with pytest.raises(TypeError, match=r"onecopy\.put"):
        oc.Ref()
    with pytest.raises(TypeError, match=r"takes a Ref.*not list"):
        oc.get([1])  # type: ignore[arg-type]


def test_a_pickled_ref_keeps_the_object_for_one_receiver() -> None:
    ref = oc.put({"a": np.arange(1000)})
    messages = [pickle.dumps(ref), bytes(ForkingPickler.dumps(ref))]
    assert all(len(message) < 200 for message in messages)
    ref.free()
    for message in messages:
        received = pickle.loads(message)
        assert received.get()["a"][-1] == 999
        received.free()
    for message in messages:
        with pytest.raises(oc.StaleHandleError):
            pickle.loads(message)


def test_refs_inside_objects_can_be_read_again_and_again() -> None:
    inner = oc.put(np.arange(1000))
    outer = oc.put({"inner": inner}, mode="rw")
    inner.free()
    message = pickle.dumps(outer)
    for _ in range(3):
        assert outer.get()["inner"].get()[-1] == 999
        outer.get()["inner"].free()
        del outer
        outer = pickle.loads(message)
        message = pickle.dumps(outer)
    pickle.loads(message)


def test_a_queue_keeps_what_its_refs_refer_to() -> None:
    queue = oc.Queue()
    queue.put([oc.put(np.arange(1000)), oc.share({"a": np.arange(10)})])
    ref, shared = queue.get()
    assert ref.get()[-1] == 999 and oc.is_shared(shared["a"])
    queue.put(oc.put([1]))


# --- forged records and handles ---


def test_forged_handles_and_records_are_errors() -> None:
    ref = oc.put([np.arange(10)])
    handle = ref.__reduce__()[1][0]
    for cut in range(len(handle)):
        with pytest.raises(oc.InvalidHandleError, match="no stored object"):
            _native.StoredObject.receive(handle[:cut])
    array_handle = _native.encode(oc.zeros(3)) or b""
    with pytest.raises(oc.InvalidHandleError):
        _native.StoredObject.receive(array_handle)
    as_object = b"ob\x01" + array_handle[4:44]
    with pytest.raises(oc.InvalidHandleError, match="no object's record"):
        _native.StoredObject.receive(as_object)
    with pytest.raises(ValueError, match="no record"):
        _native.StoredObject.of_record(np.zeros(10, "u1"))
    _native.StoredObject.receive(handle)


@given(st.data())
def test_a_damaged_table_is_an_error_or_harmless(data: st.DataObject) -> None:
    ref = oc.put([np.arange(100), np.arange(7)], mode="rw")
    stored = _native.StoredObject.receive(ref.__reduce__()[1][0])
    record = _native.view(stored.record(), "ro")
    assert record is not None
    forged = np.array(record)
    for _ in range(3):
        forged[data.draw(st.integers(0, 24 + 64 - 1))] = data.draw(st.integers(0, 255))
    try:
        parts = _native.StoredObject.of_record(oc.array(forged)).parts()
    except (oc.OnecopyError, ValueError):
        return
    assert all(part.sum() >= 0 for part in [parts[0], *parts[1]])


# --- what does not pickle, what does not fit ---


class Stubborn:
    def __reduce__(self) -> Any:
        raise TypeError("it does not want to")


@pytest.mark.parametrize("function", [oc.put, oc.share])
def test_what_pickle_refuses_is_named_with_its_place(function: Any) -> None:
    model = Plain(weights=np.arange(100_000.0), parts=[Plain(), Plain(lock=threading.Lock())])
    with pytest.raises(
        TypeError, match=r"pickle '_thread.lock' object; it is obj\['m'\].parts\[1\].lock, of type _thr"
    ):
        function({"a": 1, "m": model})
    with pytest.raises(
        TypeError, match=r"not want to; it is obj\[0\] \(key .*\), of type test_objects.Stubborn: leave"
    ):
        function([{Stubborn(): 1}])
    with pytest.raises(TypeError, match=r"it is obj, of type test_objects\.Stubborn"):
        function(Stubborn())


def test_locks_are_refused_as_by_the_standard_library() -> None:
    with pytest.raises(RuntimeError, match=r"through inheritance; it is obj\['lock'\], of type onecopy\.Lock"):
        oc.put({"lock": oc.Lock()})


def test_an_object_in_a_circle_of_refusals_is_named_too() -> None:
    stubborn = Plain(part=Stubborn())
    stubborn.self = stubborn
    with pytest.raises(TypeError, match=r"it is obj\.part, of type"):
        oc.put(stubborn)


def test_functions_go_by_value_with_cloudpickle() -> None:
    pytest.importorskip("cloudpickle")
    factor = np.arange(1000)
    received = oc.put({"f": lambda x: x * factor, "a": factor}).get()
    assert (received["f"](2) == 2 * factor).all() and oc.is_shared(received["a"])
    assert oc.is_shared(received["f"].__closure__[0].cell_contents)
    lock = threading.Lock()
    with pytest.raises(
        TypeError, match=r"cannot pickle '_thread.lock'.*it is obj\[0\] \(its variable 'lock'\), of type"
    ):
        oc.put([lambda: lock])


WITHOUT_CLOUDPICKLE = """
import sys
sys.modules["cloudpickle"] = None
import onecopy as oc
try:
    oc.put({"f": lambda: 1})
except Exception as error:
    print(type(error).__name__, error)
"""


def test_without_cloudpickle_the_way_out_is_told() -> None:
    out = subprocess.run([sys.executable, "-c", WITHOUT_CLOUDPICKLE], capture_output=True, text=True, check=True)
    assert out.stdout.startswith(("PicklingError", "AttributeError")), out
    assert "it is obj['f'], of type function: define it at the top of a module, or install cloudpickle" in out.stdout


def test_what_does_not_fit_is_an_error_and_leaves_nothing() -> None:
    limit, used = oc.stats()["limit"], oc.stats()["used_bytes"]
    kept = oc.zeros(1000)
    oc.set_limit(used + (4 << 20))
    try:
        for function in (oc.put, oc.share):
            with pytest.raises(oc.OutOfMemoryError) as raised:
                function({"kept": kept, "much": [np.zeros(1 << 20) for _ in range(8)]})
            assert raised.value.asked > 64 << 20 and raised.value.limit == used + (4 << 20)
            assert oc.stats()["handles_in_flight"] == 0 or "kept" not in str(raised.value)
    finally:
        oc.set_limit(limit)


def test_deep_recursion_is_what_pickle_raises() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(RecursionError):
        oc.put(deep)
    while deep:
        deep = deep[0]


# --- ways in and out of other packages ---


def test_views_of_other_kinds_are_found() -> None:
    shared = oc.share({"a": np.arange(1000.0)}, mode="rw")["a"]
    by_interface = np.asarray(type("Holder", (), {"__array_interface__": shared.__array_interface__, "keep": shared})())
    for other in (np.from_dlpack(shared), np.frombuffer(memoryview(shared)), by_interface):
        assert np.shares_memory(other, shared) and oc.is_shared(other)
        assert np.shares_memory(pickle.loads(bytes(ForkingPickler.dumps(other))), shared)
    sealed = oc.share(np.arange(3))
    assert not np.frombuffer(memoryview(sealed)).flags.writeable
    try:
        exchanged = np.from_dlpack(sealed)
    except BufferError:
        return  # A numpy from before DLPack could say that an array is read-only.
    assert oc.is_shared(exchanged) and not exchanged.flags.writeable


def test_many_arrays_in_one_object() -> None:
    arrays = [np.full(3, n) for n in range(20_000)]
    blocks = oc.stats()["blocks"]
    ref = oc.put(arrays)
    assert oc.stats()["blocks"] == blocks + 1
    received = ref.get()
    assert all(array[0] == n for n, array in enumerate(received))
    ref.free()
    message = bytes(ForkingPickler.dumps(received))
    again = pickle.loads(message)
    assert np.shares_memory(again[-1], received[-1]) and oc.stats()["blocks"] == blocks + 1
