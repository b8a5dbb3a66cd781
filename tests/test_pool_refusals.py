"""What cannot be done, and which exception with which way out callers get: that of the standard library.

What the standard library never answers (exceptions and results that do not unpickle) is an error here.
"""

from __future__ import annotations

import multiprocessing
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.pool import MaybeEncodingError, RemoteTraceback
from typing import Any

import pytest

import onecopy as oc
from workloads import METHODS, square

pytestmark = pytest.mark.usefixtures("time_limit")


class RefusesToUnpickleError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__("told once")


class WhenUnpickled:
    """Is not to be had where it arrives."""

    def __reduce__(self) -> Any:
        return int, ("x",)


class WhenPickled:
    def __reduce__(self) -> Any:
        raise ZeroDivisionError("of the user's")


def nest(depth: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(depth):
        nested = [nested]
    return nested


def recurse(n: int) -> int:
    return recurse(n + 1)


def iter_of(n: int) -> Iterator[int]:
    return (x for x in range(n))


def made(name: str) -> Any:
    return globals()[name]()


def fail(error: type[BaseException], *arguments: Any) -> None:
    raise error(*arguments)


def fail_with_a_lock() -> None:
    raise ValueError(threading.Lock())


Case = tuple[Callable[..., Any], Callable[[], Any], type[BaseException], type[BaseException], str]

#: What is called, with what, what a pool raises, what an executor raises, and what is said of it.
CASES: dict[str, Case] = {
    "an argument that does not pickle": (
        repr,
        threading.Lock,
        TypeError,
        TypeError,
        r"builtins\.repr cannot be sent.*'_thread\.lock'.*pass what can be",
    ),
    "an argument that is nested too deep": (
        len,
        lambda: nest(100_000),
        RecursionError,
        RecursionError,
        r"builtins\.len cannot be sent.*recursion",
    ),
    "an argument whose pickling raises": (repr, WhenPickled, ZeroDivisionError, ZeroDivisionError, "of the user's"),
    "an argument that does not unpickle": (repr, WhenUnpickled, ValueError, BrokenProcessPool, "invalid literal"),
    "a function that cannot be called": (5, int, TypeError, TypeError, "'int' object is not callable"),  # type: ignore[dict-item]
    "a result that does not pickle": (
        iter_of,
        lambda: 1,
        MaybeEncodingError,
        TypeError,
        r"result cannot be sent back.*'generator'.*return what can be",
    ),
    "a result that is nested too deep": (
        nest,
        lambda: 100_000,
        MaybeEncodingError,
        RecursionError,
        r"cannot be sent back.*recursion",
    ),
    "a result that does not unpickle": (
        made,
        lambda: "WhenUnpickled",
        MaybeEncodingError,
        BrokenProcessPool,
        "result cannot be unpickled.*return",
    ),
    "recursion": (recurse, int, RecursionError, RecursionError, "maximum recursion depth"),
    "an exception whose arguments do not pickle": (
        lambda _: fail_with_a_lock(),
        int,
        MaybeEncodingError,
        TypeError,
        r"ValueError\(.*was raised.*_thread\.lock.*give it arguments",
    ),
    "an exception that does not unpickle": (
        lambda _: fail(RefusesToUnpickleError, 1, 2),
        int,
        MaybeEncodingError,
        BrokenProcessPool,
        "RefusesToUnpickleError.*was raised.*__reduce__",
    ),
    "an exception that is not an Exception": (
        lambda _: fail(GeneratorExit, "left"),
        int,
        GeneratorExit,
        GeneratorExit,
        "left",
    ),
    "an interrupt": (
        lambda _: fail(KeyboardInterrupt, "from the task"),
        int,
        KeyboardInterrupt,
        KeyboardInterrupt,
        "from the task",
    ),
    "what ends loops": (lambda _: fail(StopIteration, 5), int, StopIteration, StopIteration, "5"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_pool_raises(pool, case):
    function, argument, error, _, text = CASES[case]
    with pytest.raises(error, match=text):
        pool.apply_async(function, (argument(),)).get(60)
    assert pool.apply(square, (3,)) == 9


@pytest.mark.parametrize("case", CASES)
def test_what_an_executor_raises(executor, case):
    function, argument, _, error, text = CASES[case]
    with pytest.raises(error, match=text):
        executor.submit(function, argument()).result(60)
    assert executor.submit(square, 3).result(60) == 9


def test_the_traceback_of_the_worker_is_the_cause(pool, executor):
    for call in (pool.apply, lambda function: executor.submit(function).result(60)):
        with pytest.raises((MaybeEncodingError, TypeError)) as caught:
            call(fail_with_a_lock)
        assert isinstance(caught.value.__cause__, RemoteTraceback)
        assert "in fail_with_a_lock" in str(caught.value.__cause__)


def test_an_error_about_what_cannot_be_sent_can_be_sent(pool):
    with pytest.raises(MaybeEncodingError) as caught:
        pool.apply(fail_with_a_lock)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), type(again.reason)) == (str(caught.value), TypeError)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.usefixtures("nothing_left")
def test_an_initializer_that_does_not_go_to_a_worker(method):
    context = multiprocessing.get_context(method)
    arguments = (oc.ones(3), iter_of(3))
    if method == "fork":
        # There is nothing to send.
        with oc.Pool(1, square_all, arguments, context=context) as pool:
            assert pool.apply(square, (2,)) == 4
        pool.join()
        return
    with pytest.raises(TypeError, match="cannot pickle 'generator'"):
        oc.Pool(2, square_all, arguments, context=context)
    executor = oc.ProcessPoolExecutor(2, context, square_all, arguments)
    for _ in range(2):
        with pytest.raises(TypeError, match="cannot pickle 'generator'"):
            executor.submit(square, 2)
    executor.shutdown()


def square_all(*arguments: Any) -> None:
    assert arguments[0].sum() == 3


def test_contexts_do_not_mix():
    lock, context = multiprocessing.get_context("fork").Lock(), multiprocessing.get_context("spawn")
    with pytest.raises(RuntimeError, match="same context"):
        oc.Pool(1, square_all, (lock,), context=context)
    with (
        oc.ProcessPoolExecutor(1, context, square_all, (lock,)) as executor,
        pytest.raises(RuntimeError, match="same context"),
    ):
        executor.submit(square, 2)
    for make in (lambda: oc.Pool(1, context="spawn"), lambda: oc.ProcessPoolExecutor(1, "spawn")):
        with pytest.raises(AttributeError, match=r"pass multiprocessing.get_context\('spawn'\)"):
            make()


def test_what_only_a_starting_process_may_have_is_no_argument(pool):
    for thing in (multiprocessing.Lock(), multiprocessing.Queue()):
        with pytest.raises(RuntimeError, match="inheritance"):
            pool.apply(repr, (thing,))
