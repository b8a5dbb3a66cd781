"""Signals: stopped holders, handlers that use arrays, and timers that fire all the time.

| signal | what happens | test |
|---|---|---|
| SIGSTOP, SIGCONT of a holder | it is alive all the while | `test_a_stopped_holder_is_alive` |
| a handler that uses onecopy | works, whatever it interrupted | `test_a_handler_uses_arrays` |
| a fast timer during long calls | they end all the same | `test_a_fast_timer` |
| SIGCHLD handler that reaps | works | `test_a_handler_of_sigchld_reaps` |
"""

import pickle
import signal

import onecopy as oc
from programs import output_of, running


def test_a_stopped_holder_is_alive() -> None:
    before = oc.stats()["blocks"]
    with running("""
        held = [oc.full(1000, float(n)) for n in range(40)]
        print(bytes(mp.reduction.ForkingPickler.dumps(held[7])).hex(), flush=True)
        input()
        assert all((array == n).all() for n, array in enumerate(held))
        print("all there", flush=True)
    """) as program:
        message = program.hear()
        program.signal(signal.SIGSTOP)
        oc.reap()
        assert oc.stats()["blocks"] == before + 40
        assert program.process.pid in oc.stats()["processes"]
        assert bytes.fromhex(message)
        for _ in range(20):
            assert (oc.full(1000, 9.0) == 9).all()
        program.signal(signal.SIGCONT)
        program.say()
        assert program.hear() == "all there"
        assert (pickle.loads(bytes.fromhex(message)) == 7).all()
        assert program.end() == (0, "", "")


def test_a_handler_uses_arrays() -> None:
    output_of("""
        import itertools
        kept, numbers = [], itertools.count()
        def handler(number, frame):
            n = next(numbers)
            kept.append((n, oc.full(1000, n)))
            if len(kept) % 3 == 0:
                pickle.loads(bytes(mp.reduction.ForkingPickler.dumps(kept[-1][1])))
                oc.reap()
                oc.share(np.zeros(100_000))
            signal.setitimer(signal.ITIMER_REAL, 0.0005)  # not a periodic one, which could outrun a slow machine
        signal.signal(signal.SIGALRM, handler)
        handler(signal.SIGALRM, None)
        source = np.ones(500_000)
        while len(kept) < 300:
            a, b = oc.share(source), oc.zeros(50)
            pickle.loads(bytes(mp.reduction.ForkingPickler.dumps(a)))
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        assert all((array == n).all() for n, array in kept)
    """)


def test_a_fast_timer() -> None:
    output_of("""
        signal.signal(signal.SIGALRM, lambda number, frame: None)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        a = oc.empty(512 << 20, "u1")
        b = oc.share(np.ones(256 << 20, "u1"))
        assert b[-1] == 1
        del a
        c = oc.zeros(256 << 20, "u1")
        assert not c.any()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        del b, c
        _native.trim(0)
    """)


def test_a_handler_of_sigchld_reaps() -> None:
    output_of("""
        reaped = []
        def handler(number, frame):
            while True:
                try:
                    pid, _ = os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    return
                if pid == 0:
                    return
                reaped.append(oc.reap())
        signal.signal(signal.SIGCHLD, handler)
        for n in range(20):
            ready = os.pipe()
            if (pid := os.fork()) == 0:
                held = oc.full(1000, n)
                os.write(ready[1], b"x")
                signal.pause()
            os.read(ready[0], 1)
            os.kill(pid, signal.SIGKILL)
            while len(reaped) <= n:
                signal.sigtimedwait([], 0.01)
            os.close(ready[0])
            os.close(ready[1])
        assert sum(blocks for _, blocks in reaped) == 20
    """)
