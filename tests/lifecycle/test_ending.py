"""Processes end: every way, with shared arrays still there.

| end | what is left | test |
|---|---|---|
| arrays in globals, cycles, thread locals | nothing, not a word | `test_arrays_anywhere_at_shutdown` |
| daemon threads that still allocate | the same | `test_daemon_threads_that_still_work` |
| `atexit` handlers, in their order | arrays work in them | `test_atexit_handlers_use_arrays` |
| `sys.exit` in a thread, uncaught exception | the traceback only | `test_an_uncaught_exception` |
| `os._exit`, `os.abort`, SIGSEGV, SIGKILL | nothing after a reap | `test_a_sudden_end` |
| SIGTERM, SIGHUP by default | nothing after a reap | `test_a_sudden_end` |
| `Process.terminate`, `Process.kill` | nothing after a reap | `test_ended_by_multiprocessing` |
| pool terminated with results under way | nothing after a reap | `test_a_pool_is_terminated` |
| a whole process group killed | nothing at all | `test_a_process_group_is_killed` |
| a child that raises in `Process.run` | nothing | `test_a_child_that_raises` |
| a daemon closes all descriptors | its arrays; more is a named error | `test_a_daemon_that_closes_all_descriptors` |
"""

import multiprocessing as mp
import os
import signal
from typing import Any

import pytest

import onecopy as oc
from programs import output_of, running

METHODS = ["fork", "spawn", "forkserver"]


def test_arrays_anywhere_at_shutdown() -> None:
    output_of("""
        in_global = oc.ones(100_000)
        class Cycle:
            held = oc.ones(10)
        cycle = Cycle()
        cycle.self, cycle.array, cycle.view = cycle, oc.zeros((100, 100)), in_global[::2]
        class AtTheEnd:
            def __init__(self):
                self.array = oc.ones(5000)
            def __del__(self):
                assert self.array[4999] == 1
                other = self.array.copy()
        last = AtTheEnd()
        local = threading.local()
        local.array = oc.share(np.ones(100), mode="cow")
        sys.modules["kept"] = oc.zeros(10)
        sent = bytes(mp.reduction.ForkingPickler.dumps(in_global))
        pickle.loads(sent)
    """)


@pytest.mark.parametrize("round", range(5))
def test_daemon_threads_that_still_work(round: int) -> None:
    output_of("""
        source = np.ones(2_000_000)
        started = threading.Barrier(5)
        def churn():
            started.wait()
            while True:
                large, small = oc.share(source), oc.zeros(100)
                pickle.loads(bytes(mp.reduction.ForkingPickler.dumps(oc.empty(100_000))))
        for _ in range(4):
            threading.Thread(target=churn, daemon=True).start()
        started.wait()
    """)


def test_atexit_handlers_use_arrays() -> None:
    said = output_of("""
        a = oc.ones(1000)
        def last():
            print("last", a.sum(), oc.zeros(10).sum(), oc.stats()["blocks"] > 0)
        def first():
            received = pickle.loads(bytes(mp.reduction.ForkingPickler.dumps(a)))
            received += 1
            print("first", a.sum(), oc.reap()[1])
        atexit.register(last)
        atexit.register(first)
    """)
    assert said.splitlines() == ["first 2000.0 0", "last 2000.0 0.0 True"]


def test_an_uncaught_exception() -> None:
    with running("""
        a = oc.ones(1000)
        def fail(array):
            raise RuntimeError("on purpose")
        thread = threading.Thread(target=sys.exit)
        thread.start()
        thread.join()
        fail(a)
    """) as program:
        code, output, errors = program.end()
    assert (code, output) == (1, "") and errors.splitlines()[-1] == "RuntimeError: on purpose"
    assert errors.startswith("Traceback")


ENDS = {
    "os._exit": ("os._exit(0)", 0),
    "abort": ("os.abort()", -signal.SIGABRT),
    "segfault": ("ctypes.string_at(0)", -signal.SIGSEGV),
    "sigkill": ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    "sigterm": ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    "sighup": ("os.kill(os.getpid(), signal.SIGHUP)", -signal.SIGHUP),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_sudden_end(end: str) -> None:
    source, expected = ENDS[end]
    before = oc.stats()["blocks"]
    with running(f"""
        import resource
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        held = [oc.full(5000, 1.0) for _ in range(30)]
        print(oc.stats()["blocks"], flush=True)
        input()
        {source}
    """) as program:
        assert int(program.hear()) == before + 30
        program.say()
        assert program.end() == (expected, "", "")
    assert oc.reap() == (1, 30)


def hold(connection: Any) -> None:
    held = [oc.zeros(1000) for _ in range(20)]
    connection.send(len(held))
    connection.recv()


@pytest.mark.parametrize("how", ["terminate", "kill"])
@pytest.mark.parametrize("method", METHODS)
def test_ended_by_multiprocessing(method: str, how: str) -> None:
    context = mp.get_context(method)
    here, there = context.Pipe()
    process = context.Process(target=hold, args=(there,))
    process.start()
    assert here.recv() == 20
    getattr(process, how)()
    process.join()
    assert process.exitcode == (-signal.SIGTERM if how == "terminate" else -signal.SIGKILL)
    assert oc.reap()[1] == 20


def slow(array: Any) -> Any:
    return oc.full(10_000, array[0])


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_is_terminated(method: str) -> None:
    # In a session of its own: handles that were in the pool's pipes stay until the session ends.
    output_of(
        """
        import test_ending
        shared = oc.zeros(1000)
        if __name__ == "__main__":
            pool = mp.get_context(METHOD).Pool(2)
            results = pool.imap_unordered(test_ending.slow, [shared[n:] for n in range(200)])
            next(results)
            pool.terminate()
            pool.join()
            del results, pool  # which keep results that have arrived
            gc.collect()
            oc.reap()
            stats = oc.stats()
            assert stats["blocks"] <= 1 + stats["handles_in_flight"], stats
            assert [os.getpid()] == [pid for pid in stats["processes"] if pid == os.getpid()]
            assert oc.ones(1000).sum() == 1000
        """.replace("METHOD", repr(method)),
        session=False,
        env={"PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")])},
    )


def test_a_process_group_is_killed() -> None:
    # All that share the arena end at once: nobody is left to clean up, so the kernel has to.
    inodes = "{os.stat(f'/proc/self/fd/{fd}').st_ino for fd in hint.split(',')[0].split(':')[2:]}"
    with running(
        f"""
        held = [oc.full(100_000, 1.0) for _ in range(20)]
        children = [mp.get_context("fork").Process(target=signal.pause) for _ in range(3)]
        for child in children:
            child.start()
        hint = os.environ["ONECOPY_SESSION"]
        print(*{inodes}, flush=True)
        signal.pause()
        """,
        session=False,
        start_new_session=True,
    ) as program:
        inodes_of_arena = {int(inode) for inode in program.hear().split()}
        assert len(inodes_of_arena) == 3 and inodes_of_arena <= _open_memory_files()
        os.killpg(program.process.pid, signal.SIGKILL)
        program.end()
    # The children are not ours to wait for; their pipe to us has ended, and with them all descriptors.
    assert not inodes_of_arena & _open_memory_files()


def _open_memory_files() -> set[int]:
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(path := f"/proc/{pid}/fd/{fd}").startswith("/memfd:onecopy"):
                    found.add(os.stat(path).st_ino)
        except OSError:
            continue
    return found


def raise_with(array: Any) -> None:
    raise RuntimeError(f"on purpose {array.sum()}")


def test_a_child_that_raises(capfd: pytest.CaptureFixture[str]) -> None:
    process = mp.get_context("fork").Process(target=raise_with, args=(oc.ones(1000),))
    process.start()
    process.join()
    assert process.exitcode == 1
    assert capfd.readouterr().err.splitlines()[-1] == "RuntimeError: on purpose 1000.0"


DAEMON = """
    a = oc.full(1000, 3.0)
    precious = os.path.join(sys.argv[1], "precious")
    up, down = os.pipe(), os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.alarm(60)
            keep = {0, 1, 2, up[1], down[0]}
            for descriptor in range(1024):
                if descriptor not in keep:
                    try:
                        os.close(descriptor)
                    except OSError:
                        pass
            # What a daemon opens next gets the numbers that were onecopy's.
            files = [open(precious + str(n), "w+b") for n in range(8)]
            for file in files:
                file.write(b"precious" * 1000)
                file.flush()
            os.write(up[1], b"x")
            os.read(down[0], 1)  # the others have reaped now
            ok = (a == 3).all()
            try:
                oc.full(50_000_000, 4.0)
            except oc.ArenaError as error:
                ok = ok and "leave the descriptors open" in str(error)
            del a
            os.write(up[1], b"y" if ok else b"n")
            os._exit(0)
        os._exit(0)
    os.wait()
    os.close(up[1])
    assert os.read(up[0], 1) == b"x"
    del a
    oc.reap()
    filled = [oc.full(1000, 9.0) for _ in range(10)]  # would lie where the daemon's array was
    assert len(oc.stats()["processes"]) == 2, "the daemon is alive"
    os.write(down[1], b"x")
    print(os.read(up[0], 1000).decode())
    os.read(up[0], 1)
    for n in range(8):
        with open(precious + str(n), "rb") as file:
            assert file.read() == b"precious" * 1000, f"file {n} of the daemon was written to"
"""


def test_a_daemon_that_closes_all_descriptors(tmp_path: Any) -> None:
    assert output_of(DAEMON, str(tmp_path), session=False) == "y\n"
