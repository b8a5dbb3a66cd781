"""Processes start: every way, with shared arrays on both sides.

| started by | the child | test |
|---|---|---|
| `os.fork` | has a slot of its own, and keeps what it inherited | `test_a_forked_child_keeps_what_the_parent_drops` |
| fork beside busy threads | neither deadlocks nor shares a slot | `test_forks_beside_busy_threads` |
| fork in a fork, orphaned | goes on when both ancestors have ended | `test_an_orphaned_grandchild_goes_on` |
| `setsid`, double fork (daemon) | the same | `test_a_daemon_goes_on` |
| fork, spawn, forkserver | shares the session | `test_a_process_of_any_method` |
| pool with `maxtasksperchild` | workers come and go, nothing is left | `test_a_pool_that_replaces_its_workers` |
| `ProcessPoolExecutor` | arrays by handle, both ways | `test_an_executor` |
| `subprocess`, descriptors closed or not | shares the session | `test_a_subprocess` |
| `subprocess` with `preexec_fn` (real fork) | the same | `test_a_subprocess` |
| `os.posix_spawn` (vfork) | the same | `test_posix_spawn` |
| `os.execv` of the process itself | its old life is reaped, the new one joins | `test_exec_of_itself` |
| `subprocess` whose parent has gone | joins by an older relative | `test_a_program_whose_parent_has_gone` |
| a sub-interpreter | is refused clearly | `test_a_subinterpreter_is_refused` |
| more processes than there are slots | named error, the others go on | `test_no_slot_is_a_named_error` |
| a user that dropped its privileges | shares, and its children too | `test_dropped_privileges` |
"""

import concurrent.futures
import multiprocessing as mp
import os
import sys
from typing import Any

import pytest

import onecopy as oc
from programs import output_of, running

METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture(params=METHODS)
def context(request: pytest.FixtureRequest) -> Any:
    return mp.get_context(request.param)


def test_a_forked_child_keeps_what_the_parent_drops() -> None:
    output_of("""
        a = oc.full(1000, 7.0)
        down, up = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            os.read(down[0], 1)
            ok = (a == 7).all() and os.getpid() in oc.stats()["processes"]
            del a
            os.write(up[1], b"y" if ok else b"n")
            os._exit(0)
        blocks = oc.stats()["blocks"]
        del a
        assert oc.stats()["blocks"] == blocks, "the child still holds it"
        os.write(down[1], b"x")
        assert os.read(up[0], 1) == b"y"
        assert os.waitpid(pid, 0)[1] == 0
        oc.reap()
        assert oc.stats()["blocks"] == blocks - 1
    """)


BUSY_THREADS = """
    stop = threading.Event()
    failures = []
    source = np.arange(20_000.0)

    def churn(seed):
        try:
            while not stop.is_set():
                mine = oc.full(200_000 + seed, seed, "u1")
                copy = oc.share(source)
                again = pickle.loads(bytes(mp.reduction.ForkingPickler.dumps(mine)))
                assert (again == seed).all() and copy[-1] == 19_999
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=churn, args=(n,)) for n in range(1, 4)]
    for thread in threads:
        thread.start()
    held = oc.full(100, 5)
    for round in range(ROUNDS):
        up = os.pipe()
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)
            blocks = [oc.full(10_000, n) for n in range(20)]
            message = bytes(mp.reduction.ForkingPickler.dumps(blocks))
            members = oc.stats()["processes"]
            ok = all((block == n).all() for n, block in enumerate(blocks)) and (held == 5).all()
            ok &= members.count(os.getpid()) == 1 and members.count(os.getppid()) == 1
            os.write(up[1], len(message).to_bytes(4, "little") + message if ok else bytes(4))
            os._exit(0)
        os.close(up[1])
        with os.fdopen(up[0], "rb") as pipe:
            message = pipe.read()
        assert len(message) > 4, f"round {round}: exit code {os.waitpid(pid, 0)[1]}"
        for n, block in enumerate(pickle.loads(message[4:])):
            assert (block == n).all()
        assert os.waitpid(pid, 0)[1] == 0
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures, failures
"""


def test_forks_beside_busy_threads() -> None:
    output_of(BUSY_THREADS.replace("ROUNDS", "150"))


ORPHAN = """
    a = oc.full(1000, 3.0)
    down, up = os.pipe(), os.pipe()
    if os.fork() == 0:
        if DAEMON:
            os.setsid()
        if os.fork() == 0:
            signal.alarm(60)
            os.read(down[0], 1)  # until the parent has gone
            b = a * 2
            os.write(up[1], bytes(mp.reduction.ForkingPickler.dumps(oc.asarray(b))))
            os._exit(0)
        os._exit(0)
    os.wait()
    del a
    os.close(up[1])
    os.write(down[1], b"x")
    with os.fdopen(up[0], "rb") as pipe:
        received = pickle.loads(pipe.read())
    assert (received == 6).all() and oc.is_shared(received)
"""


def test_an_orphaned_grandchild_goes_on() -> None:
    output_of(ORPHAN.replace("DAEMON", "False"))


def test_a_daemon_goes_on() -> None:
    output_of(ORPHAN.replace("DAEMON", "True"))


def work_on(connection: Any, array: Any) -> None:
    array += 1
    connection.send((oc.full(50, array.sum()), oc.stats()["arena"]))


def test_a_process_of_any_method(context: Any) -> None:
    here, there = context.Pipe()
    a = oc.zeros(100)
    process = context.Process(target=work_on, args=(there, a))
    process.start()
    made, arena = here.recv()
    process.join()
    assert (process.exitcode, arena) == (0, oc.stats()["arena"])
    assert (a == 1).all() and (made == 100).all()
    process.close()


def doubled(array: Any) -> Any:
    return oc.asarray(array * 2)


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_that_replaces_its_workers(method: str) -> None:
    with mp.get_context(method).Pool(2, maxtasksperchild=2) as pool:
        for n, result in enumerate(pool.imap(doubled, [oc.full(20_000, n) for n in range(8)])):
            assert (result == 2 * n).all() and oc.is_shared(result)
        del result
        pool.close()
        pool.join()


@pytest.mark.parametrize("method", METHODS)
def test_an_executor(method: str) -> None:
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=mp.get_context(method)) as executor:
        results = list(executor.map(doubled, [oc.full(20_000, n) for n in range(4)]))
    assert [int(result[0]) for result in results] == [0, 2, 4, 6] and all(map(oc.is_shared, results))


JOINER = 'print(oc.stats()["arena"], float(oc.ones(10).sum()))'


@pytest.mark.parametrize("close_fds", [True, False])
@pytest.mark.parametrize("preexec", [None, os.getpid], ids=["vfork", "fork"])
def test_a_subprocess(close_fds: bool, preexec: Any) -> None:
    said = output_of(JOINER, close_fds=close_fds, preexec_fn=preexec)
    assert said.split() == [oc.stats()["arena"], "10.0"]


def test_posix_spawn() -> None:
    said = output_of("""
        code = "import onecopy as oc; print(oc.stats()['arena'], oc.ones(10).sum(), flush=True)"
        sys.stdout.flush()
        pid = os.posix_spawn(sys.executable, [sys.executable, "-c", code], os.environ)
        assert os.waitpid(pid, 0)[1] == 0
    """)
    assert said.split() == [oc.stats()["arena"], "10.0"]


def test_exec_of_itself() -> None:
    before = oc.stats()["blocks"]
    with running("""
        held = [oc.zeros(1000) for _ in range(50)]
        print(oc.stats()["blocks"], flush=True)
        code = "import onecopy as oc; print(oc.stats()['arena'], flush=True); input()"
        os.execv(sys.executable, [sys.executable, "-W", "error", "-c", code])
    """) as program:
        assert int(program.hear()) == before + 50
        assert program.hear() == oc.stats()["arena"], "the new life is in the session of its parent"
        oc.reap()
        assert oc.stats()["blocks"] == before, "the old life is gone"
        assert oc.stats()["processes"].count(program.process.pid) == 1
        program.say()
        assert program.end() == (0, "", "")


def test_a_program_whose_parent_has_gone() -> None:
    with running("""
        down = os.pipe()
        code = "import os; os.read(%d, 1); import onecopy as oc; print(oc.stats()['arena'], flush=True)" % down[0]
        if os.fork() == 0:
            subprocess.Popen([sys.executable, "-c", code], pass_fds=down[:1])
            os._exit(0)
        os.wait()
        os.write(down[1], b"x")
    """) as program:
        assert program.hear() == oc.stats()["arena"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="has no sub-interpreters that matter")
def test_a_subinterpreter_is_refused() -> None:
    output_of("""
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        attempt = '''if True:
            try:
                import onecopy
            except ImportError as error:
                assert "interpreter" in str(error), error
            else:
                raise SystemExit("it was imported")
        '''
        for _ in range(2):
            problem = interpreters.run_string(interpreters.create(), attempt)
            assert problem is None, problem
        assert oc.ones(10).sum() == 10
    """)


def test_no_slot_is_a_named_error() -> None:
    # 512 slots, one of them the janitor's. The children need not do anything: a fork takes the slot.
    output_of(
        """
        hold = os.pipe()
        children = []
        while len(oc.stats()["processes"]) < 511:
            pid = os.fork()
            if pid == 0:
                os.close(hold[1])
                os.read(hold[0], 1)
                os._exit(0)
            children.append(pid)
        up = os.pipe()
        if (pid := os.fork()) == 0:
            try:
                oc.zeros(10)
            except oc.OutOfMemoryError as error:
                os.write(up[1], str(error).encode())
            os._exit(0)
        assert "processes is full (511): end some" in os.read(up[0], 1000).decode()
        os.waitpid(pid, 0)
        assert oc.zeros(10).sum() == 0
        os.close(hold[1])
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
        assert oc.reap() == (510, 0)
        if (pid := os.fork()) == 0:
            os._exit(int(oc.zeros(10).sum()))
        assert os.waitpid(pid, 0)[1] == 0
        """,
        session=False,
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_dropped_privileges() -> None:
    output_of(
        """
        a = oc.ones(1000)
        if (pid := os.fork()) == 0:
            os.setgid(65534)
            os.setuid(65534)
            a += 1
            b = oc.full(100_000, 3.0)
            if (inner := os.fork()) == 0:
                a += 1
                c = oc.full(10, 3.0)
                os._exit(0 if (b == 3).all() and os.getpid() in oc.stats()["processes"] else 1)
            os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]))
        assert os.waitpid(pid, 0)[1] == 0
        assert (a == 3).all()
        """,
        session=False,
    )
