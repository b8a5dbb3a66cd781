"""Ctrl-C in every call that can take long: it raises `KeyboardInterrupt` soon, and nothing is left.

The signal comes at a moment that is known, without a sleep. Where the call works without the GIL, a second thread can
only run once it does: that thread sends it. Where the call calls back into Python, it is sent from there.

| call | the signal comes while | test |
|---|---|---|
| `empty`, `zeros` of a large block | memory is reserved, or zeroed | `test_native_work` |
| `share`, `array` of a large array | it is copied | `test_native_work` |
| sending a large plain array | it is copied | `test_native_work` |
| `loadtxt` of a file | it is parsed | `test_native_work` |
| `loadtxt` of a pipe that says nothing | it waits | `test_loadtxt_of_a_silent_pipe` |
| `loadtxt` of a pipe that nobody opens | it waits | `test_loadtxt_of_a_silent_pipe` |
| `to_hdf5` | a chunk is written | `test_hdf5` |
| `from_hdf5` | a chunk is read | `test_hdf5` |
| `reap`, `stats`, `trim` | at their start; they are over at once | `test_short_calls` |
"""

import os
from typing import Any

import pytest

from programs import output_of

#: Sends SIGINT from a thread that gets the GIL only when the call has released it.
MOMENT = """
import time
def interrupted(call):
    sys.setswitchinterval(1000)
    ready, go = threading.Lock(), threading.Lock()
    ready.acquire()
    go.acquire()
    def send():
        ready.release()
        go.acquire()
        os.kill(os.getpid(), signal.SIGINT)
    thread = threading.Thread(target=send)
    thread.start()
    ready.acquire()
    before = oc.stats()
    try:
        go.release()
        result = call()
    except KeyboardInterrupt:
        result = None
    else:
        raise SystemExit("it was not interrupted")
    finally:
        sys.setswitchinterval(0.005)
    thread.join()
    gc.collect()
    after = oc.stats()
    for figure in ("blocks", "used_bytes", "handles_in_flight", "arrays_moved_in"):
        assert after[figure] == before[figure], (figure, before[figure], after[figure])
    _native.trim(0)
    assert oc.full(1000, 2.0).sum() == 2000
"""

SIZE = 1 << 30
CALLS = {
    "empty": f"oc.empty({SIZE}, 'u1')",
    "share": f"oc.share(np.ones({SIZE}, 'u1'))",
    "array": f"oc.array(np.ones({SIZE}, 'u1'))",
    "send": f"mp.reduction.ForkingPickler.dumps(np.ones({SIZE}, 'u1'))",
    "loadtxt": "oc.loadtxt(sys.argv[1])",
}


@pytest.fixture(scope="module")
def long_text(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("text") / "long.txt"
    with path.open("w") as file:
        for _ in range(200):
            file.write("1.25 17 -3e5 0.001\n" * 50_000)
    return str(path)


@pytest.mark.parametrize("call", CALLS)
def test_native_work(call: str, long_text: str) -> None:
    output_of(MOMENT + f"source = lambda: {CALLS[call]}\ninterrupted(source)", long_text)


def test_zeros_in_recycled_memory() -> None:
    output_of(
        MOMENT + f"a = oc.empty({SIZE}, 'u1')\na[::4096] = 1\ndel a\ninterrupted(lambda: oc.zeros({SIZE}, 'u1'))",
        session=False,
        env={"ONECOPY_LIMIT": "9GiB"},
    )


@pytest.mark.parametrize("writer", [True, False], ids=["silent writer", "no writer"])
def test_loadtxt_of_a_silent_pipe(writer: bool, tmp_path: Any) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    end = os.open(path, os.O_RDWR) if writer else None
    if end is not None:
        os.write(end, b"1 2\n3 4\n")
    try:
        output_of(MOMENT + "interrupted(lambda: oc.loadtxt(sys.argv[1]))", str(path))
    finally:
        if end is not None:
            os.close(end)


HDF5 = """
def interrupt_at_the_second_call(function):
    calls = []
    def hooked(*arguments, **options):
        calls.append(None)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return function(*arguments, **options)
    return hooked

def left():
    return sorted(os.listdir(sys.argv[1]))

path = os.path.join(sys.argv[1], "a.h5")
a = oc.array(np.arange(4_000_000.0).reshape(-1, 10))
before = oc.stats()["blocks"]
native_call = getattr(_native, NAME)

class Compressor:
    def __init__(self, threads):
        self.compressor = native_call(threads)
    def put(self, *arguments, write, **options):
        self.compressor.put(*arguments, write=interrupt_at_the_second_call(write), **options)
    def settle(self):
        self.compressor.settle()
    def close(self):
        self.compressor.close()

def reading(*arguments, stored, **options):
    stored = iter(stored)
    take = interrupt_at_the_second_call(lambda: next(stored, None))
    return native_call(*arguments, stored=iter(take, None), **options)

def rows():
    for first in range(0, len(a), 100_000):
        yield a[first:first + 100_000]

if NAME == "read_chunks":
    oc.to_hdf5(path, a, compression="gzip")
setattr(_native, NAME, reading if NAME == "read_chunks" else Compressor)
for data in (lambda: a, rows):
    try:
        if NAME == "read_chunks":
            oc.from_hdf5(path, "data")
        else:
            oc.to_hdf5(path, {"data": data}, compression="gzip")
    except KeyboardInterrupt:
        pass
    else:
        raise SystemExit("it was not interrupted")
setattr(_native, NAME, native_call)
gc.collect()
assert oc.stats()["blocks"] == before
assert left() == (["a.h5"] if NAME == "read_chunks" else [])
if NAME != "read_chunks":
    oc.to_hdf5(path, {"data": rows()}, compression="gzip")
assert (oc.from_hdf5(path, "data") == a).all()
"""


@pytest.mark.parametrize("name", ["ChunkCompressor", "read_chunks"])
def test_hdf5(name: str, tmp_path: Any) -> None:
    output_of(HDF5.replace("NAME", repr(name)), str(tmp_path))


@pytest.mark.parametrize("call", ["oc.reap()", "oc.stats()", "_native.trim(0)", "oc.set_limit(oc.stats()['limit'])"])
def test_short_calls(call: str) -> None:
    output_of(f"""
        held = oc.ones(1000)
        for _ in range(100):
            try:
                signal.raise_signal(signal.SIGINT)
                {call}
            except KeyboardInterrupt:
                pass
            {call}
        assert held.sum() == 1000
    """)
