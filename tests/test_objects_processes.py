"""Objects in shared memory between processes, however these are started, and whoever is killed."""

import gc
import multiprocessing as mp
import os
import pickle
import signal
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import onecopy as oc
from onecopy import _native

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def context(request: pytest.FixtureRequest) -> Any:
    return mp.get_context(request.param)


def model() -> dict[str, Any]:
    return {"weights": np.arange(100_000.0), "layers": [np.ones((10, 10), order="F"), np.arange(9)[::3]], "name": "m"}


def total(obj: Any) -> float:
    return float(obj["weights"].sum() + sum(layer.sum() for layer in obj["layers"]))


TOTAL = total(model())


def read(connection: Any, ref: oc.Ref) -> None:
    first = ref.get()
    connection.send((total(first), oc.is_shared(first["weights"]), ref.get() is first, oc.stats()["bytes_moved_in"]))
    ref.free()
    connection.send(total(first))


@pytest.mark.parametrize("mode", ["ro", "rw", "cow"])
def test_a_ref_as_argument_is_read_without_a_copy(context: Any, mode: Any) -> None:
    ref = oc.put(model(), mode)
    here, there = context.Pipe()
    moved = oc.stats()["bytes_moved_in"]
    process = context.Process(target=read, args=(there, ref))
    process.start()
    assert here.recv() in [(TOTAL, True, True, 0), (TOTAL, True, True, moved)]
    assert here.recv() == TOTAL
    process.join()
    assert process.exitcode == 0 and total(ref.get()) == TOTAL


def double(obj: Any) -> tuple[float, bool]:
    whole = obj.get() if isinstance(obj, oc.Ref) else obj
    if whole["weights"].flags.writeable:
        whole["weights"] *= 2
    return float(whole["weights"][1]), oc.is_shared(whole["layers"][1])


@pytest.mark.parametrize("mode", ["ro", "rw", "cow"])
def test_pools_share_what_was_put_and_what_was_shared(context: Any, mode: Any) -> None:
    ref, shared = oc.put(model(), mode), oc.share(model(), mode)
    copied = oc.stats()["arrays_moved_in"]
    with context.Pool(1) as pool:
        for obj in (ref, shared):
            assert pool.apply(double, (obj,)) == ({"ro": 1.0, "rw": 2.0, "cow": 2.0}[mode], True)
        pool.close()
        pool.join()
    written = 2.0 if mode == "rw" else 1.0
    assert (ref.get()["weights"][1], shared["weights"][1]) == (written, written)
    assert oc.stats()["arrays_moved_in"] == copied


def make(connection: Any, how: str) -> None:
    connection.send(oc.put(model()) if how == "put" else oc.share(model()))
    if connection.recv() == "die":
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("how", ["put", "share"])
@pytest.mark.parametrize("end", ["die", "end"])
def test_what_a_process_made_outlives_it(context: Any, how: str, end: str) -> None:
    here, there = context.Pipe()
    process = context.Process(target=make, args=(there, how))
    process.start()
    made = here.recv()
    here.send(end)
    process.join()
    oc.reap()
    assert total(made.get() if how == "put" else made) == TOTAL
    # As with all that was received: whoever made it may be gone, and the rest goes on to others.
    assert (
        total(pickle.loads(bytes(mp.reduction.ForkingPickler.dumps(made))) if how == "share" else made.get()) == TOTAL
    )


def hold(connection: Any, ref: oc.Ref) -> None:
    objects = [ref.get(), oc.put(model()).get(), oc.share([np.zeros(10), model()])]
    refs = [oc.put(np.zeros(n)) for n in range(100)]
    connection.send(len(objects) + len(refs))
    connection.recv()


def test_a_killed_getter_and_putter_leaves_nothing(context: Any) -> None:
    ref = oc.put(model())
    before = oc.stats()["blocks"]
    here, there = context.Pipe()
    process = context.Process(target=hold, args=(there, ref))
    process.start()
    assert here.recv() == 103
    assert oc.stats()["blocks"] == before + 102
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    oc.reap()
    assert oc.stats()["blocks"] == before and total(ref.get()) == TOTAL


def put_for_ever(connection: Any, part: Any) -> None:
    connection.send("ready")
    while True:
        ref = oc.put([model(), part, oc.put(part)])
        ref.get()[2].get()
        oc.share({"a": part, "b": np.zeros(100)})


def test_a_process_killed_while_it_puts_leaves_nothing(context: Any) -> None:
    part = oc.zeros(1000)
    for n in range(5):
        here, there = context.Pipe()
        process = context.Process(target=put_for_ever, args=(there, part))
        process.start()
        assert here.recv() == "ready"
        process.join(0.01 * n)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    oc.reap()
    gc.collect()


STRANGER = """
import pickle, sys
import onecopy as oc
ref = pickle.loads(bytes.fromhex(sys.argv[1]))
print(ref.get()["weights"].sum(), oc.is_shared(ref.get()["weights"]))
"""


def test_an_unrelated_program_reads_it_by_the_handle() -> None:
    ref = oc.put(model())
    environment = {k: v for k, v in os.environ.items() if k != _native.SESSION_VARIABLE}
    command = [sys.executable, "-c", STRANGER, pickle.dumps(ref).hex()]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert (out.stdout, out.stderr) == (f"{model()['weights'].sum()} True\n", "")


def test_a_forked_child_has_the_refs_of_its_parent() -> None:
    ref = oc.put(model())
    got = ref.get()
    process = mp.get_context("fork").Process(target=assert_total, args=(ref, got))
    process.start()
    process.join()
    assert process.exitcode == 0


def assert_total(ref: oc.Ref, got: Any) -> None:
    assert total(ref.get()) == total(got) == TOTAL
    ref.free()
    assert total(got) == TOTAL
