"""What runs in a worker: tasks one by one, until it is told to stop or its pool is gone."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import starmap
from multiprocessing import process
from time import perf_counter_ns
from typing import Any

from onecopy import _auditor
from onecopy._native import Letter, Queue, Sealed
from onecopy._pool import letters
from onecopy._pool.failures import dumps_failure
from onecopy._pool.pickling import dumps
from onecopy._queues import dumps as dumps_by_name

#: Seconds after which a worker without work looks whether its pool is still there.
PATIENCE = 1.0


def main(serial: int, tasks: Queue, results: Queue, setup: Any, leaves: bool) -> None:
    """Serve a pool.

    `setup` holds the initializer and its arguments. `leaves` says what `sys.exit` in a task does: end the worker, or
    be an exception as others.
    """
    try:
        initializer, arguments = setup.obj
        if initializer is not None:
            initializer(*arguments)
    except BaseException as error:
        results._post(letters.UNFIT, serial, 0, (error, None, []), dumps_failure)
        # It has been told; the process shall not print it as well.
        raise SystemExit(1) from None
    del setup
    results._post(letters.READY, serial, 0, None, dumps)
    _serve(tasks, results, leaves)


def _serve(tasks: Queue, results: Queue, leaves: bool) -> None:
    pool_lives = _watch_pool()
    functions = _Functions()
    while True:
        try:
            fetched = tasks._fetch(1, PATIENCE)
        except KeyboardInterrupt:
            # Ctrl-C reaches all processes of a terminal; what becomes of the workers is for the pool to say.
            continue
        if not fetched:
            if pool_lives():
                continue
            return
        topic = fetched[0].topic
        if topic == letters.TASK:
            _work(fetched, functions, results, leaves)
        elif topic == letters.STOP:
            return
        else:
            functions.change(fetched.pop())


class _Functions(dict[int, Callable[..., Any]]):
    """Functions by their numbers, each made when it is first called, so that an error is that of a task."""

    def __init__(self) -> None:
        super().__init__()
        self.letters: dict[int, Letter] = {}

    def change(self, letter: Letter) -> None:
        """Learn a function, perhaps anew, or forget it."""
        self.pop(letter.number, None)
        self.letters.pop(letter.number, None)
        if letter.topic == letters.FUNCTION:
            self.letters[letter.number] = letter

    def __missing__(self, number: int) -> Callable[..., Any]:
        function: Callable[..., Any] = self.letters[number].open()
        self[number] = function
        del self.letters[number]
        return function


def _work(fetched: list[Letter], functions: _Functions, results: Queue, leaves: bool) -> None:
    letter = fetched.pop()
    task = letter.number
    answer = _answer(letter, functions, results, leaves)
    # Now nothing of the task is left here: whoever gets the result and drops it finds its memory free.
    try:
        answer.post()
    except BaseException as error:
        results._post(letters.FAILED, task, letters.PICKLING, (error, None, []), dumps_failure)


def _answer(letter: Letter, functions: _Functions, results: Queue, leaves: bool) -> Sealed:
    began = perf_counter_ns()
    task = letter.number
    stage, shown = letters.UNPICKLING, None
    done: list[Any] = []
    try:
        what, by_value, number = letters.unpack_order(letter.extra)
        function, given = functions[number], letter.take()
        stage = letters.RUNNING
        value = function(given) if what == letters.ONE else _do(what, function, given, done)
        stage = letters.PICKLING
        # As soon as the result is known, nobody needs what came with the task.
        del given
        pickle: Callable[[Any], bytes] = dumps if by_value else dumps_by_name
        if _auditor.note is not None:
            pickle = _audited(function, pickle)
        return results._seal(letters.RESULT, task, perf_counter_ns() - began, value, pickle)
    except BaseException as error:
        if leaves and isinstance(error, SystemExit):
            raise
        if stage == letters.PICKLING:
            shown, done = _shown(value), []
        return results._seal(letters.FAILED, task, stage, (error, shown, done), dumps_failure)


def _audited(function: Callable[..., Any], pickle: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    from onecopy._pool import auditing

    return auditing.for_function(function, pickle)


def _do(what: int, function: Callable[..., Any], given: Any, done: list[Any]) -> Any:
    """Do what a letter asks for; results of several items are added to `done` as they come."""
    if what == letters.CALL:
        arguments, keywords = given
        return function(*arguments, **keywords)
    # Extending keeps what came before an exception.
    done.extend(map(function, given) if what == letters.EACH else starmap(function, given))
    return done


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:
        return f"<{type(value).__name__} whose repr() raised {error!r}>"


def _watch_pool() -> Callable[[], bool]:
    """Return a function that tells whether the process that made the pool still lives."""
    pool = process.parent_process()
    if pool is None:
        return lambda: True
    if pool.pid == (parent := os.getppid()):
        # Not by its sentinel: workers that were forked later hold the other end of it too.
        return lambda: os.getppid() == parent
    return pool.is_alive
