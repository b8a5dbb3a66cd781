"""Learning at once that a process has ended."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from multiprocessing.process import BaseProcess


class Watch:
    """A thread that waits for processes to end and says so, once for each.

    By descriptors of the processes themselves: the pipes behind `Process.sentinel` stay open in whatever the process
    has started, so they may outlive it.
    """

    def __init__(self, ended: Callable[[int], object]) -> None:
        self._ended = ended
        self._epoll = select.epoll()
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._epoll.register(self._stop, select.EPOLLIN)
        self._serials: dict[int, int] = {}
        self._thread = threading.Thread(target=self._run, name="onecopy pool: watch", daemon=True)
        self._started = False

    def add(self, serial: int, process: BaseProcess) -> None:
        """Watch a process, which is called `serial`."""
        assert process.pid is not None
        try:
            descriptor = os.pidfd_open(process.pid)
        except ProcessLookupError:
            self._ended(serial)
            return
        except OSError:
            # A system without such descriptors.
            descriptor = os.dup(process.sentinel)
        self._serials[descriptor] = serial
        self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLONESHOT)

    def start(self) -> None:
        """Begin to watch, from a thread; not before the first processes were forked."""
        if not self._started:
            self._started = True
            self._thread.start()

    def stop(self) -> None:
        """End the thread and let go of all descriptors."""
        if self._started:
            os.eventfd_write(self._stop, 1)
            self._thread.join()
        self._epoll.close()
        for descriptor in (self._stop, *self._serials):
            os.close(descriptor)
        self._serials.clear()
        # Whoever is told has this object, and would stay until the garbage collector comes.
        self._ended = int

    def _run(self) -> None:
        while True:
            for descriptor, _ in self._epoll.poll():
                if descriptor == self._stop:
                    return
                self._epoll.unregister(descriptor)
                serial = self._serials.pop(descriptor)
                os.close(descriptor)
                self._ended(serial)
