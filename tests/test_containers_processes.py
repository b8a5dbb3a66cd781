"""Containers between processes that are really started, and really killed."""

import gc
import multiprocessing
import os
import signal
import threading

import numpy as np
import pytest

import onecopy as oc

METHODS = ["fork", "spawn"]


@pytest.fixture(params=METHODS)
def context(request):
    return multiprocessing.get_context(request.param)


def run(context, target, *args):
    process = context.Process(target=target, args=args)
    process.start()
    process.join(60)
    assert process.exitcode == 0


def use(d, values, state, done):
    assert d["a"] == 1 and values == [1, "two"] and state.step == 3
    d["child"] = oc.full(1000, 7.0)
    d[("tuple", 1.0)] = oc.List(["made by a child"])
    d["array"][0] = 5
    values.insert(0, b"zero")
    state.step += 1
    done.put(d)


def test_what_a_child_puts_in_outlives_it(context):
    d, values, state, done = oc.Dict(a=1), oc.List([1, "two"]), oc.Namespace(step=3), oc.Queue()
    d["array"] = oc.zeros(10)
    run(context, use, d, values, state, done)
    assert (d["child"] == np.full(1000, 7.0)).all() and d["array"][0] == 5 and state.step == 4
    assert d[("tuple", 1)] == ["made by a child"] and values == [b"zero", 1, "two"]
    again = done.get(timeout=10)
    again["more"] = 1
    assert d["more"] == 1


def look_up(keys, d, answers):
    answers.put([d[key] for key in keys])


def test_strings_and_sets_are_the_same_keys_in_all_processes(context):
    keys = ["text", frozenset(["a", "b", "c", "d"]), ("x", frozenset("xyz")), b"bytes", None, 1.5]
    d, answers = oc.Dict((key, n) for n, key in enumerate(keys)), oc.Queue()
    run(context, look_up, keys, d, answers)
    assert answers.get(timeout=10) == list(range(len(keys)))


def count(d, values, times):
    for n in range(times):
        with d.lock():
            d["n"] += 1
        values.append(n)
        d[os.getpid(), n % 50] = n


def test_nothing_is_lost_between_processes(context):
    d, values = oc.Dict(n=0), oc.List()
    workers = [context.Process(target=count, args=(d, values, 500)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert d["n"] == 1500 and sorted(values) == sorted([*range(500)] * 3) and len(d) == 1 + 3 * 50


def hold(d, ready):
    d.lock().acquire()
    d["half"] = 1
    ready.put(True)
    signal.pause()


def test_the_death_of_a_holder_is_told_and_blocks_nobody(context):
    d, ready = oc.Dict(), oc.Queue()
    process = context.Process(target=hold, args=(d, ready))
    process.start()
    ready.get(timeout=60)
    waiting = threading.Thread(target=d.__setitem__, args=("waited", 2))
    waiting.start()
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    waiting.join(30)
    assert not waiting.is_alive() and d == {"half": 1, "waited": 2}
    with pytest.raises(oc.OwnerDiedError, match="half changed"), d.lock():
        pass
    with d.lock().recover() as somebody_died:
        assert somebody_died
    with d.lock():
        d["whole"] = 3


def change(d, values, seed, started):
    started.set()
    random = np.random.default_rng(seed)
    own = f"worker {seed}"
    while True:
        key = (own, int(random.integers(20)))
        kind = random.integers(6)
        if kind == 0:
            d[key] = oc.full(int(random.integers(1, 2000)), float(seed))
        elif kind == 1:
            d[key] = "x" * int(random.integers(6000))
        elif kind == 2:
            d.pop(key, None)
        elif kind == 3:
            values.extend([own, oc.full(100, float(seed)), own])
        elif kind == 4:
            values.insert(0, own)
            values.sort(key=str)
        else:
            del values[:2]


def test_whoever_is_killed_takes_nothing_of_the_others_along(context):
    gc.collect()
    oc.reap()
    before = oc.stats()["blocks"]
    started = oc.Event()
    d, values = oc.Dict((n, oc.full(50, float(n))) for n in range(30)), oc.List()
    d["text"] = "kept"
    for seed in range(12):
        started.clear()
        process = context.Process(target=change, args=(d, values, seed, started), daemon=True)
        process.start()
        # Before that it may not have received what it was sent.
        assert started.wait(60)
        # Not a synchronisation: the moment of death is what shall vary.
        process.join(0.002 * seed)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        for n in range(30):
            assert (d[n] == np.full(50, float(n))).all()
        assert d["text"] == "kept" and len(d) == len(list(d)) == len(d.copy())
        for key, value in d.copy().items():
            if isinstance(value, np.ndarray) and isinstance(key, tuple):
                assert (value == float(key[0].split()[1])).all()
        assert all(isinstance(value, (str, np.ndarray)) for value in values.copy())
        values.append("mine")
        assert "mine" in [value for value in values if isinstance(value, str)]
    d.clear()
    values.clear()
    del value, d, values, process, started
    gc.collect()
    oc.reap()
    assert oc.stats()["blocks"] == before
