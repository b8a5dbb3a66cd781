"""Reports of what is copied say how much, from which line, and why."""

import inspect
import multiprocessing as mp
import os
import subprocess
import sys
import textwrap
import threading
from multiprocessing import pool, queues, reduction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onecopy as oc
from onecopy import _auditor

pytestmark = pytest.mark.usefixtures("nothing_left")


def here(offset: int = 0) -> str:
    frame = inspect.currentframe()
    assert frame is not None and frame.f_back is not None
    return f"{__file__}:{frame.f_back.f_lineno + offset}"


def seen(report: Any, what: str = "ndarray of float64") -> list[tuple[Any, ...]]:
    return [(row.site, row.how, row.count, row.nbytes) for row in report.rows if row.what == what]


def test_a_queue_tells_each_line_and_the_reasons() -> None:
    queue = oc.Queue()
    shared, small = oc.zeros(100_000), np.zeros(10)
    objects = np.array([None, "a"] * 10)
    with oc.audit() as report:
        for _ in range(3):
            first = here(1)
            queue.put(shared)
        queue.put_many([small, shared[::2]])
        queue.put({"objects": objects, "large": np.zeros(100_000)})
    queue.put(small)
    second, third = [first.rsplit(":", 1)[0] + f":{int(first.rsplit(':', 1)[1]) + n}" for n in (1, 2)]
    assert seen(report) == [
        (third, "moved in", 1, 800_000),
        (second, "copied", 1, 80),
        (first, "handle", 3, 2_400_000),
        (second, "handle", 1, 400_000),
    ]
    assert seen(report, "ndarray of object") == [(third, "copied", 1, 160)]
    whys = {(row.what, row.how): row.why for row in report.rows}
    assert "below 64 KiB" in whys["ndarray of float64", "copied"]
    assert "share it once" in whys["ndarray of float64", "moved in"]
    assert "dtype object" in whys["ndarray of object", "copied"]
    assert whys["dict", "copied"] == "Python objects are pickled"
    assert report.total("moved in") == 800_000 and report.total("handle") == 2_800_000
    assert report.rows == sorted(report.rows, key=lambda row: (row.how == "handle", -row.nbytes))
    while not queue.empty():
        queue.get()


def test_the_table_is_readable() -> None:
    with oc.audit() as report:
        assert str(report) == "nothing was sent"
        site = here(1)
        oc.put({"a": np.zeros(1 << 17), "text": "x" * 3000})
    lines = str(report).splitlines()
    assert lines[0].endswith("copied, 1.0 MiB moved in, 0 B by handle")
    assert lines[1].split() == ["bytes", "count", "how", "what", "where", "why"]
    assert lines[2].split(maxsplit=7) == ["1.0", "MiB", "1", "moved", "in", "dict", site, "stored once"]
    assert len(lines) == 4 and "Python objects are pickled" in lines[3]


def test_put_and_share_are_told() -> None:
    shared = oc.share(np.zeros(1000))
    with oc.audit() as report:
        oc.put([shared, np.zeros(500)])
        oc.share(np.zeros(250))
        oc.share(shared)
    of_list = {(how, count, nbytes) for _, how, count, nbytes in seen(report, "list")}
    assert {("handle", 1, 8000), ("moved in", 1, 4000)} < of_list
    assert [row[1:] for row in seen(report, "numpy.ndarray")] == [("moved in", 1, 2000), ("handle", 1, 8000)]


def echo(connection: Any) -> None:
    for thing in iter(connection.recv, None):
        connection.send(thing is None)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_channels_of_multiprocessing_are_told(method: str) -> None:
    context = mp.get_context(method)
    near, far = context.Pipe()
    queue = context.Queue()
    array = np.zeros(1000)
    with oc.audit() as report:
        piped = here(1)
        near.send([array, "x" * 5000])
        queued = here(1)
        queue.put(array)
        queue.put(array)
        received = [queue.get(), queue.get()]
        process = context.Process(target=echo, args=(far,), kwargs={}, daemon=True)
        started = here(1)
        process.start()
        near.send(None)
        near.recv()
        process.join()
    queue.close()
    queue.join_thread()
    assert len(received) == 2
    by_site = {site: (how, count, nbytes) for site, how, count, nbytes in seen(report)}
    assert by_site[piped] == ("copied", 1, 8000)
    following = f"{__file__}:{int(queued.rsplit(':', 1)[1]) + 1}"
    assert by_site[queued] == by_site[following] == ("copied", 1, 8000)
    messages = {row.site: row.nbytes for row in report.rows if row.what == "list"}
    assert 5000 < messages[piped] < 6000
    if method != "fork":
        assert any(row.site == started and "Process" in row.what for row in report.rows)


def total(array: Any) -> float:
    return float(array.sum())


def test_pools_tell_the_line_that_gave_the_task() -> None:
    with mp.get_context("fork").Pool(1) as workers, oc.audit() as report:
        mapped = here(1)
        workers.map(total, [np.zeros(100), np.zeros(100)])
        applied = here(1)
        workers.apply_async(total, (np.zeros(100),)).get()
        lazily = here(1)
        list(workers.imap(total, [np.zeros(100)]))
        workers.close()
        workers.join()
    assert {(site, nbytes) for site, _, _, nbytes in seen(report)} == {(mapped, 1600), (applied, 800), (lazily, 800)}


def double(array: Any) -> Any:
    return 2 * array


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_onecopys_pools_tell_the_line_and_what_came_back(method: str) -> None:
    context = mp.get_context(method)
    large = oc.zeros(20_000)
    with oc.Pool(1, context=context) as workers, oc.ProcessPoolExecutor(1, context) as executor:
        # A quick one before, so that the tasks of the second map are sent together.
        workers.map(abs, range(200), 1)
        executor.submit(abs, -1).result()
        with oc.audit() as report:
            sites = {}
            sites["map"] = here(1)
            workers.map(double, [large, np.zeros(100), large], 1)
            sites["apply"] = here(1)
            workers.apply(total, (np.zeros(100),))
            sites["imap"] = here(1)
            list(workers.imap(total, iter([np.zeros(100)] * 3)))
            sites["submit"] = here(1)
            executor.submit(total, np.zeros(100)).result()
            sites["executor map"] = here(1)
            list(executor.map(double, [large, np.zeros(100)]))
    workers.join()
    names = {site: name for name, site in sites.items()}
    sent = {(names[site], how, count, nbytes) for site, how, count, nbytes in seen(report)}
    assert sent == {
        ("map", "handle", 2, 320_000),
        ("map", "copied", 1, 800),
        ("apply", "copied", 1, 800),
        ("imap", "copied", 3, 2400),
        ("submit", "copied", 1, 800),
        ("executor map", "handle", 1, 160_000),
        ("executor map", "copied", 1, 800),
    }
    came = {(names[row.site], row.what, row.how): row for row in report.rows if row.what.startswith("result of")}
    by_handle = came["map", "result of test_audit.double", "handle"]
    assert (by_handle.count, by_handle.why) == (2, "it lies in shared memory") and by_handle.nbytes >= 320_000
    copied = came["map", "result of test_audit.double", "copied"]
    assert copied.count == 3 and 800 <= copied.nbytes < 2000 and copied.why == "a worker has pickled it"
    assert came["apply", "result of test_audit.total", "copied"].count == 1
    assert came["imap", "result of test_audit.total", "copied"].count == 3
    assert came["submit", "result of test_audit.total", "copied"].count == 1
    # A chunk's results are a list.
    assert came["executor map", "result of test_audit.double", "handle"].count == 1
    assert {row.site for row in report.rows} == set(names)


def test_lines_in_threads_are_lines() -> None:
    queue = oc.Queue()
    with oc.audit() as report:
        thread = threading.Thread(target=lambda: queue.put(np.zeros(10)))
        thread.start()
        thread.join()
    assert [site for site, *_ in seen(report)] == [here(-3)]
    queue.get()


def test_audits_may_overlap_and_leave_nothing_behind() -> None:
    watched = [
        (reduction.ForkingPickler, "dumps"),
        (reduction, "dump"),
        (queues.Queue, "put"),
        (pool.ApplyResult, "__init__"),
        (pool.IMapIterator, "__init__"),
    ]
    before = [vars(owner)[name] for owner, name in watched]
    queue = oc.Queue()
    outer, inner = oc.audit(), oc.audit()
    with outer:
        queue.put([1])
        with inner:
            queue.put([2])
        queue.put([3])
        assert _auditor.note is not None
    queue.put([4])
    assert [sum(row.count for row in report.rows) for report in (outer, inner)] == [3, 1]
    assert _auditor.note is None and [vars(owner)[name] for owner, name in watched] == before
    assert [queue.get() for _ in range(4)] == [[1], [2], [3], [4]]


def test_what_cannot_be_pickled_raises_as_ever() -> None:
    near, far = mp.Pipe()
    with oc.audit(), pytest.raises(Exception, match=r"(?i)pickle"):
        near.send(lambda: 1)
    near.send(1)
    assert far.recv() == 1


PROGRAM = """
import multiprocessing as mp, sys
import numpy as np
import onecopy as oc

def work(queue):
    queue.put(np.zeros(10))

def answer(n):
    return np.zeros(n)

if __name__ == "__main__":
    context = mp.get_context(sys.argv[1])
    queue = context.SimpleQueue()
    process = context.Process(target=work, args=(queue,))
    process.start()
    process.join()
    queue.get()
    oc.SimpleQueue().put(oc.zeros(100))
    with oc.Pool(1, context=context) as pool:
        pool.apply(answer, (30,))
        pool.close()
        pool.join()
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_variable_has_all_processes_report_at_their_end(method: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    environment = {**os.environ, "ONECOPY_AUDIT": "1"}
    command = [sys.executable, str(program), method]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    reports: dict[str, list[str]] = {}
    for line in out.stderr.splitlines():
        assert line.startswith("onecopy audit, process "), out.stderr
        reports.setdefault(line.split(":")[0], []).append(line)
    texts = ["\n".join(lines) for lines in reports.values()]
    parent = [text for text in texts if f"{program}:19 " in text]
    child = [text for text in texts if f"{program}:7" in text and "80 B" in text]
    assert len(parent) == len(child) == 1 and parent != child, out.stderr
    assert "800 B" in parent[0] and f"{program}:7" not in parent[0]
    worker = [text for text in texts if f"{program}:9 " in text and "240 B" in text]
    assert len(worker) == 1 and worker != parent, out.stderr
    assert f"{program}:21 " in parent[0] and "result of __main__.answer" in parent[0]


def test_without_it_nothing_is_printed_or_imported() -> None:
    program = "import sys, onecopy as oc; oc.Queue().put([1]); oc.put([1]); print('onecopy._audit' in sys.modules)"
    for value in ("", "0"):
        environment = {**os.environ, "ONECOPY_AUDIT": value}
        out = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        assert (out.stdout, out.stderr) == ("False\n", "")
