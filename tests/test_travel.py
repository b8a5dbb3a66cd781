"""Shared arrays between processes, however these are started and whatever the arrays go through."""

import multiprocessing as mp
import os
import pickle
import signal
import subprocess
import sys
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

METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture(params=METHODS)
def context(request: pytest.FixtureRequest) -> Any:
    return mp.get_context(request.param)


def send(array: Any) -> bytes:
    return bytes(ForkingPickler.dumps(array))


# --- one process: what a message holds ---


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("view", VIEWS)
def test_every_dtype_and_view_travels_as_a_handle(dtype: Any, view: str) -> None:
    array = VIEWS[view](oc.array(filled(dtype, (4, 5))))
    message = send(array)
    received = pickle.loads(message)
    assert identical(received, array)
    assert received.strides == array.strides
    assert received.flags.writeable == array.flags.writeable
    assert oc.is_shared(received)
    if array.nbytes:
        assert np.shares_memory(received, array) or array.flags.writeable is False


@pytest.mark.usefixtures("nothing_left")
@given(hnp.arrays(hnp.scalar_dtypes() | hnp.array_dtypes(), hnp.array_shapes(max_dims=4)), st.data())
def test_any_view_of_any_array_travels(a: Any, data: st.DataObject) -> None:
    view = oc.array(a)[data.draw(hnp.basic_indices(a.shape, allow_newaxis=True))]
    if isinstance(view, np.ndarray) and type(view) is np.ndarray:
        assert identical(pickle.loads(send(view)), view)


@pytest.mark.usefixtures("nothing_left")
def test_the_message_does_not_grow_with_the_array() -> None:
    messages = [send(oc.zeros(10)), send(oc.zeros(10_000_000))]
    assert len(messages[0]) == len(messages[1]) < 200
    for message in messages:
        pickle.loads(message)


@pytest.mark.usefixtures("nothing_left")
def test_arrays_inside_anything_travel_as_handles() -> None:
    a = oc.zeros(1000)
    message = send({"x": [a, (a[::2], "text")], "y": {1: a.T}})
    assert len(message) < 1000
    received = pickle.loads(message)
    received["x"][0][0] = 5
    assert a[0] == 5 == received["y"][1][0] == received["x"][1][0][0]


@pytest.mark.usefixtures("nothing_left")
def test_large_plain_arrays_are_moved_in_once_and_are_the_receivers_own() -> None:
    a = np.arange(100_000.0)
    before = oc.stats()
    received = pickle.loads(send(a))
    assert identical(received, a) and oc.is_shared(received) and received.flags.writeable
    received[0] = -1
    assert a[0] == 0
    assert oc.stats()["arrays_moved_in"] == before["arrays_moved_in"] + 1
    assert oc.stats()["bytes_copied"] == before["bytes_copied"]


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(
    "array",
    [np.arange(3), np.array([None, "a"]), np.array(["x" * 20_000] * 2, dtype=object), np.zeros((0, 5))],
)
def test_small_arrays_and_objects_travel_in_the_message(array: Any) -> None:
    received = pickle.loads(send(array))
    assert received.dtype == array.dtype and received.tolist() == array.tolist()
    assert not oc.is_shared(received)


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("size", [3, 100_000])
@pytest.mark.parametrize("shared", [False, True])
def test_derived_classes_stay_what_they_are(size: int, shared: bool, tmp_path: Any) -> None:
    record = np.rec.array(np.zeros(size, [("a", "i4"), ("b", "f8")]))
    masked = np.ma.masked_less(np.arange(size), 2)
    masked.fill_value = -7
    matrix = np.zeros((size, 1)).view(np.matrix)
    for source in (record, masked, matrix):
        source = oc.share(source, mode="rw") if shared else source
        received = pickle.loads(send(source))
        assert type(received) is type(source) and received.dtype == source.dtype
        assert received.tolist() == source.tolist()
    again = pickle.loads(send(masked))
    assert again.fill_value == -7
    mapped = np.memmap(tmp_path / "file", "f8", "w+", shape=(size,))
    assert identical(pickle.loads(send(mapped)), np.zeros(size))


@pytest.mark.usefixtures("nothing_left")
def test_dtype_metadata_survives() -> None:
    dtype = np.dtype("i4", metadata={"unit": "K"})
    assert pickle.loads(send(oc.zeros(3, dtype))).dtype.metadata == {"unit": "K"}


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("mode", ["ro", "rw", "cow"])
def test_the_mode_travels(mode: Any) -> None:
    shared = oc.share(np.arange(10_000), mode=mode)
    received = pickle.loads(send(shared[5:]))
    assert received[0] == 5
    if mode == "ro":
        with pytest.raises(ValueError, match="read-only"):
            received[0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            received.flags.writeable = True
    else:
        received[0] = 99
        assert shared[5] == (99 if mode == "rw" else 5)


@pytest.mark.usefixtures("nothing_left")
def test_a_message_keeps_its_array_and_is_received_once() -> None:
    message = send(oc.full(10, 3.0))
    blocks = oc.stats()["blocks"]
    received = pickle.loads(message)
    again = pickle.loads(message)
    assert np.shares_memory(received, again)
    del received, again
    assert oc.stats()["blocks"] == blocks - 1
    with pytest.raises(oc.StaleHandleError, match="keep the array alive"):
        pickle.loads(message)


@pytest.mark.usefixtures("nothing_left")
def test_more_than_four_gib() -> None:
    items = (1 << 32) + 1000
    try:
        a = oc.empty(items, "u1")
    except oc.OutOfMemoryError as error:
        pytest.skip(f"this machine is too small: {error}")
    a[-1] = 7
    received = pickle.loads(send(a[-10:]))
    assert received[-1] == 7 and np.shares_memory(received, a)
    assert pickle.loads(send(a)).shape == (items,)
    del a, received
    _native.trim(0)


# --- forged handles ---


def test_forged_handles_are_errors_and_never_a_crash() -> None:
    a = oc.zeros((3, 4), [("x", "i4"), ("y", "f8", 2)])
    handle = _native.encode(a)
    assert handle is not None
    for cut in range(len(handle)):
        with pytest.raises((oc.OnecopyError, ValueError, TypeError)):
            _native.decode(handle[:cut])
    _native.decode(handle)


@pytest.mark.parametrize("pid", [0, 1, 2**32 - 1, os.getpid()])
def test_a_lie_about_the_arena_is_an_error(pid: int) -> None:
    handle = bytearray(_native.encode(oc.zeros(3)) or b"")
    handle[4] ^= 0xFF
    handle[12:16] = pid.to_bytes(4, "little")
    with pytest.raises(oc.ArenaError, match="cannot be reached"):
        _native.decode(bytes(handle))
    oc.zeros(3)


def test_bytes_that_are_no_handle() -> None:
    with pytest.raises(oc.InvalidHandleError, match="3 bytes that are not one"):
        _native.decode(b"abc")


# --- several processes ---


def double_in_place(array: Any) -> None:
    array *= 2


def doubled(array: Any) -> Any:
    return oc.array(array * 2)


def doubled_plain(array: Any) -> Any:
    return array * 2


def echo(connection: Any) -> None:
    while (thing := connection.recv()) is not None:
        connection.send((thing, oc.stats()["bytes_copied"]))


def serve(requests: Any, replies: Any) -> None:
    for thing in iter(requests.get, None):
        replies.put(thing)


@pytest.mark.usefixtures("nothing_left")
def test_process_arguments_are_the_same_memory(context: Any) -> None:
    a = oc.ones((200, 300))
    process = context.Process(target=double_in_place, args=(a[::-1, ::2],))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert (a[:, ::2] == 2).all() and (a[:, 1::2] == 1).all()


@pytest.mark.usefixtures("nothing_left")
def test_pool_arguments_and_results_go_by_handle(context: Any) -> None:
    shared = [oc.full(50_000, float(n)) for n in range(6)]
    with context.Pool(2) as pool:
        for function in (doubled, doubled_plain):
            for n, result in enumerate(pool.map(function, shared)):
                assert oc.is_shared(result) and (result == 2 * n).all()
                del result
        pool.close()
        pool.join()


@pytest.mark.usefixtures("nothing_left")
def test_pipes_carry_every_view(context: Any) -> None:
    here, there = context.Pipe()
    process = context.Process(target=echo, args=(there,))
    process.start()
    copied = oc.stats()["bytes_copied"]
    for dtype in DTYPES:
        array = oc.array(filled(dtype, (4, 5)))
        for view in VIEWS.values():
            here.send(view(array))
            received, copied_there = here.recv()
            assert identical(received, view(array)) and oc.is_shared(received)
    here.send(None)
    process.join()
    # Under fork the child's count went on from the parent's.
    assert (oc.stats()["bytes_copied"], copied_there) in [(copied, 0), (copied, copied)]


@pytest.mark.usefixtures("nothing_left")
def test_queues_carry_arrays(context: Any) -> None:
    requests, replies = context.Queue(), context.Queue()
    process = context.Process(target=serve, args=(requests, replies))
    process.start()
    for n in range(20):
        requests.put({"n": n, "array": oc.full(1000, n)})
    for n in range(20):
        reply = replies.get()
        assert reply["n"] == n and (reply["array"] == n).all() and oc.is_shared(reply["array"])
    requests.put(None)
    process.join()
    del reply


def send_and_end(connection: Any) -> None:
    connection.send(oc.full(1000, 4.0))
    connection.close()


@pytest.mark.usefixtures("nothing_left")
def test_a_sender_that_has_ended_loses_nothing(context: Any) -> None:
    here, there = context.Pipe()
    process = context.Process(target=send_and_end, args=(there,))
    process.start()
    process.join()
    received = here.recv()
    assert (received == 4).all()


def hold_until_killed(connection: Any) -> None:
    held = [oc.zeros(1000) for _ in range(100)]
    connection.send(len(held))
    connection.recv()


@pytest.mark.usefixtures("nothing_left")
def test_a_killed_holder_leaves_nothing(context: Any) -> None:
    before = oc.stats()["blocks"]
    here, there = context.Pipe()
    process = context.Process(target=hold_until_killed, args=(there,))
    process.start()
    assert here.recv() == 100
    assert oc.stats()["blocks"] == before + 100
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    oc.reap()
    assert oc.stats()["blocks"] == before


def fork_again(connection: Any, array: Any) -> None:
    child = mp.get_context("fork").Process(target=double_in_place, args=(array,))
    child.start()
    child.join()
    connection.send((child.exitcode, array[0]))


@pytest.mark.usefixtures("nothing_left")
def test_grandchildren_share_too(context: Any) -> None:
    here, there = context.Pipe()
    a = oc.ones(100)
    process = context.Process(target=fork_again, args=(there, a))
    process.start()
    assert here.recv() == (0, 2.0)
    process.join()
    assert (a == 2).all()


STRANGER = """
import pickle, sys
import onecopy as oc
array = pickle.loads(bytes.fromhex(sys.argv[1]))
array += 1
print(array.sum(), oc.is_shared(array))
"""


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("session", [True, False], ids=["child", "unrelated"])
def test_a_program_joins_by_the_handle(session: bool) -> None:
    a = oc.zeros(100)
    environment = {k: v for k, v in os.environ.items() if session or k != _native.SESSION_VARIABLE}
    command = [sys.executable, "-c", STRANGER, send(a).hex()]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert (out.stdout, out.stderr) == ("100.0 True\n", "")
    assert (a == 1).all()


@pytest.mark.parametrize("value", ["", "nonsense", "0123456789abcdef:1:3:4:5", f"00:{2**31}:3:4:5"])
def test_a_stale_session_variable_starts_a_new_session(value: str) -> None:
    environment = {**os.environ, _native.SESSION_VARIABLE: value}
    program = "import onecopy as oc; print(oc.zeros(3).sum(), len(oc.stats()['processes']))"
    out = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert (out.stdout, out.stderr) == ("0.0 1\n", "")


def test_a_bad_limit_is_an_error_that_names_it() -> None:
    environment = {k: v for k, v in os.environ.items() if k != _native.SESSION_VARIABLE} | {"ONECOPY_LIMIT": "lots"}
    out = subprocess.run([sys.executable, "-c", "import onecopy"], env=environment, capture_output=True, text=True)
    assert out.returncode == 1 and 'ONECOPY_LIMIT="lots"' in out.stderr and "8GiB" in out.stderr


LIMITED = """
import resource, numpy
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + {room}, size + {room}))
import onecopy as oc
try:
    print(oc.zeros(3).sum(), oc.stats()["limit"] >= 16 << 20)
    oc.zeros(1 << 40)
except oc.OutOfMemoryError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("room", "lines", "words"), [(2 << 30, 2, "arena's limit"), (30 << 20, 1, "this process's address space")]
)
def test_little_address_space_makes_a_small_arena_or_an_error(room: int, lines: int, words: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k != _native.SESSION_VARIABLE}
    command = [sys.executable, "-c", LIMITED.format(room=room)]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert out.stdout.count("\n") == lines and words in out.stdout and "ONECOPY_LIMIT" in out.stdout, out
