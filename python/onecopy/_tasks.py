"""Waiting in tasks of event loops, without a thread for each.

A task tries, and if that fails it takes a place in the line of those of its loop that wait for the same thing. The
first of a line tries again when the reactor says that it may be worth it. Nothing is taken before the moment in which
the task has it: so whoever is cancelled has lost nothing, and leaves the turn to the next.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, ref

from onecopy._errors import BrokenBarrierError, ShutDownError
from onecopy._locks import Barrier, Condition
from onecopy._native import Connection, Event, Lock, Mailbox, Queue, RLock, RWLockSide, Semaphore, Watch

T = TypeVar("T")

#: Has a token delivered to a mailbox when it may be worth to try again.
StartWatch = Callable[[Mailbox, int], Watch]


class _Board:
    """What is waited for in one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.mailbox = Mailbox()
        self.lines: dict[Hashable, _Line] = {}
        self.watched: dict[int, _Line] = {}
        self.tokens = itertools.count()
        loop.add_reader(self.mailbox.fileno(), self._collect)

    def _collect(self) -> None:
        for token in self.mailbox.collect():
            # Others are of watches that were cancelled too late.
            if line := self.watched.pop(token, None):
                line.call_first()


#: Each belongs to its loop, which calls it when there is mail.
_boards: WeakKeyDictionary[asyncio.AbstractEventLoop, ref[_Board]] = WeakKeyDictionary()


def _board() -> _Board:
    loop = asyncio.get_running_loop()
    known = _boards.get(loop)
    board = known() if known else None
    if board is None:
        board = _Board(loop)
        _boards[loop] = ref(board)
    return board


class _Line:
    """The tasks of a loop that wait for the same thing, in the order in which they came.

    While anybody is in line, either there is a watch, or the first has been called and has not left or failed yet.
    """

    def __init__(self, board: _Board, key: Hashable, start_watch: StartWatch) -> None:
        self._board = board
        self._key = key
        self._start_watch = start_watch
        self._places: dict[_Place, None] = {}
        self._called: _Place | None = None
        self._token: int | None = None
        self._watch: Watch | None = None

    def watch(self) -> None:
        before, self._called = self._watch, None
        token = next(self._board.tokens)
        self._watch = self._start_watch(self._board.mailbox, token)
        self._board.watched[token] = self
        self._token = token
        if before is not None:
            # Only now: a task that waits to write keeps later readers out without a gap.
            before.cancel()

    def call_first(self) -> None:
        self._token = None
        self._called = next(iter(self._places), None)
        if self._called is not None:
            self._called.call()

    @contextmanager
    def place(self) -> Iterator[_Place]:
        place = _Place()
        self._places[place] = None
        try:
            if self._token is None and self._called is None:
                self.watch()
            yield place
        finally:
            self._leave(place)

    def _leave(self, place: _Place) -> None:
        del self._places[place]
        if not self._places:
            self._close()
        elif self._called is place:
            try:
                self.watch()
            except Exception:
                # The next one finds out by itself.
                self.call_first()
                raise

    def _close(self) -> None:
        self._board.lines.pop(self._key, None)
        if self._token is not None:
            del self._board.watched[self._token]
        if self._watch is not None:
            self._watch.cancel()


class _Place:
    """The place of a task in a line."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._turn: asyncio.Future[bool] = self._loop.create_future()

    def call(self) -> None:
        if not self._turn.done():
            self._turn.set_result(True)

    async def turn(self, end: float | None) -> bool:
        """Wait to be called; tell whether that happened before the end."""
        if end is None:
            called = await self._turn
        else:
            timer = self._loop.call_at(end, self._give_up)
            try:
                called = await self._turn
            finally:
                timer.cancel()
        self._turn = self._loop.create_future()
        return called

    def _give_up(self) -> None:
        if not self._turn.done():
            self._turn.set_result(False)


def _end(timeout: float | None) -> float | None:
    """Return when a wait ends, in the time of the loop."""
    return None if timeout is None else asyncio.get_running_loop().time() + timeout


def _is_none(timeout: float | None) -> bool:
    if timeout is not None and timeout != timeout:
        raise ValueError("timeout=nan: expected a number of seconds, or None to wait for ever")
    return timeout is not None and timeout <= 0


async def _until(
    attempt: Callable[[], bool], start_watch: StartWatch, key: Hashable, timeout: float | None, *, in_turn: bool = True
) -> bool:
    """Try until it succeeds or the time is up; tell which.

    If it is to be `in_turn`, those that came before go first.
    """
    board, at_once = _board(), _is_none(timeout)
    if (at_once or not in_turn or key not in board.lines) and attempt():
        return True
    if at_once:
        return False
    end = _end(timeout)
    line = board.lines.get(key)
    if line is None:
        line = board.lines[key] = _Line(board, key, start_watch)
    with line.place() as place:
        while await place.turn(end):
            if attempt():
                return True
            line.watch()
        return attempt()


async def _called(start_watch: StartWatch, end: float | None) -> bool:
    """Wait to be called, out of turn; tell whether that happened before the end."""
    with _Line(_board(), object(), start_watch).place() as place:
        return await place.turn(end)


# --- locks ---


async def acquire(
    lock: Lock | RLock | RWLockSide | Semaphore, timeout: float | None = None, on_owner_died: str = "raise"
) -> bool:
    """Take a lock."""
    options: dict[str, Any] = {} if on_owner_died == "raise" else {"on_owner_died": on_owner_died}
    # A thread takes its own RLock at once, whoever else waits for it.
    in_turn = not isinstance(lock, RLock)
    return await _until(lambda: lock.acquire(False, **options), lock._watch, id(lock), timeout, in_turn=in_turn)


async def release(lock: Lock | RLock | RWLockSide | Semaphore) -> None:
    """Release a lock."""
    lock.release()


async def event(event: Event, timeout: float | None = None) -> bool:
    """Wait for an event."""
    if event.is_set() or _is_none(timeout):
        return event.is_set()
    return await _called(event._watch, _end(timeout)) or event.is_set()


async def condition(changed: Condition, timeout: float | None) -> bool:
    """Wait for a notification."""
    lock, at_once = changed._lock, _is_none(timeout)
    place, cancelled = changed._enter(lock), None
    try:
        if not at_once:
            await _called(place._watch, _end(timeout))
    except asyncio.CancelledError as error:
        cancelled = error
    except BaseException:
        # The loop is no more, so nobody could wait for the lock.
        place.leave(False)
        raise
    try:
        notified = place.withdraw()
        while True:
            try:
                await _until(lambda: place.retake(lock), lock._watch, id(lock), None, in_turn=isinstance(lock, Lock))
                break
            except asyncio.CancelledError as error:
                # Whoever waits in a block of the lock leaves it with the lock.
                cancelled = error
    finally:
        place.leave(cancelled is None)
    if cancelled is not None:
        raise cancelled
    return notified


async def barrier(meeting: Barrier, action: Callable[[], object] | None, timeout: float | None) -> int:
    """Wait for the other parties."""
    end = _end(0 if _is_none(timeout) else timeout)

    async def changed(since: int, end: float | None) -> bool:
        return await _called(lambda mailbox, token: meeting._watch(mailbox, token, since), end)

    moment = meeting._moment()
    while (arrived := meeting._try_arrive()) is None:
        if not await changed(moment, end):
            meeting.abort()
        moment = meeting._moment()
    index, is_last = arrived
    if is_last:
        try:
            if action is not None:
                action()
        except BaseException:
            with suppress(BrokenBarrierError):
                meeting._finish(False)
            raise
        meeting._finish(True)
        return index
    while True:
        moment = meeting._moment()
        if meeting._try_leave():
            return index
        try:
            in_time = await changed(moment, end)
        except BaseException:
            meeting._give_up(False)
            raise
        if not in_time:
            if meeting._give_up(True):
                raise BrokenBarrierError("the time was up before all parties had arrived; reset() makes it as new")
            # All arrived in time, and wait for the action as long as it takes.
            end = None


# --- queues and pipes ---


async def get(source: Queue, timeout: float | None = None) -> Any:
    """Get an object out of a queue."""
    got: list[Any] = []

    def attempt() -> bool:
        try:
            got.append(source.get(False))
        except queue.Empty:
            return False
        return True

    if not await _until(attempt, _watching(source, "get"), (id(source), "get"), timeout):
        raise queue.Empty
    return got[0]


async def put(sink: Queue, obj: object, timeout: float | None = None) -> None:
    """Put an object into a queue."""

    def attempt() -> bool:
        try:
            sink.put(obj, False)
        except queue.Full:
            return False
        return True

    if not await _until(attempt, _watching(sink, "put"), (id(sink), "put"), timeout):
        raise queue.Full


async def next_of(source: Queue) -> Any:
    """Get the next object out of a queue, until it has been shut down."""
    try:
        return await get(source)
    except ShutDownError:
        raise StopAsyncIteration from None


async def join(tasks: Queue) -> None:
    """Wait until all objects that were put have been dealt with."""
    await _until(lambda: tasks._unfinished() == 0, _watching(tasks, "join"), object(), None)


async def send(connection: Connection, obj: object) -> None:
    """Send an object."""
    await _until(lambda: connection._try_send(obj), _watching(connection, "send"), (id(connection), "send"), None)


async def recv(connection: Connection) -> Any:
    """Receive an object."""
    return (await _received(connection, connection._try_recv))[0]


async def recv_bytes(connection: Connection) -> bytes:
    """Receive the bytes of a message."""
    return await _received(connection, connection._try_recv_bytes)


async def _received(connection: Connection, receive: Callable[[], T | None]) -> T:
    received: list[T] = []

    def attempt() -> bool:
        message = receive()
        if message is None:
            return False
        received.append(message)
        return True

    await _until(attempt, _watching(connection, "recv"), (id(connection), "recv"), None)
    return received[0]


def _watching(thing: Queue | Connection, what: str) -> StartWatch:
    return lambda mailbox, token: thing._watch(mailbox, token, what)
