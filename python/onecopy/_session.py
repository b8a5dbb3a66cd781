"""The session: the arena that this process and its children share."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

from onecopy import _native

if TYPE_CHECKING:
    from onecopy import _audit

#: Set to anything but "" and "0": audit this process and its children, and print reports at the end.
AUDIT_VARIABLE = "ONECOPY_AUDIT"


def _announce() -> None:
    """Tell children that will be started from here where the arena is."""
    os.environ[_native.SESSION_VARIABLE] = _native.session_hint()


def _start() -> None:
    """Join the parent's arena or make one, before any child can be started.

    An arena made only when it is first used would be made by each worker of a pool on its own, and would end with the
    worker. Where it cannot be made now (a tight `ulimit -v`), the error belongs to the first call that needs it and not
    to the import.
    """
    try:
        _announce()
    except (OSError, MemoryError):
        return
    os.register_at_fork(after_in_child=_announce_quietly)


def _announce_quietly() -> None:
    try:
        _announce()
    except (OSError, MemoryError):
        os.environ.pop(_native.SESSION_VARIABLE, None)


def stats() -> dict[str, Any]:
    """Figures of the session's arena, and of what this process has moved.

    Returns
    -------
    dict
        Of the arena: ``arena`` (its id), ``limit``, ``used_bytes``, ``warm_bytes`` (freed memory kept for the next
        array), ``warm_budget``, ``promised_bytes`` (about to be used), ``blocks``, ``handles_in_flight``, of which
        ``handles_of_dead_senders``, ``processes`` (pids of the living), ``members`` (for each process ``pid``,
        ``command``, ``alive``, and the ``blocks``, ``bytes`` and ``promised_bytes`` that it holds, alone or with
        others), ``capacity`` (how many ``processes``, ``blocks`` and ``handles_in_flight`` there can be),
        ``headroom_bytes`` (how much more can be had now) and ``headroom_bound`` (what limits that). Of this process:
        ``handles_sent``, ``bytes_by_handle`` (bytes of arrays that were sent without being copied),
        ``handles_received``, ``arrays_moved_in`` and ``bytes_moved_in`` (copied into the arena, once),
        ``arrays_copied`` and ``bytes_copied`` (copied through a message). All sizes are in bytes.

    Examples
    --------
    >>> import onecopy as oc
    >>> before = oc.stats()["used_bytes"]
    >>> a = oc.zeros(1000)
    >>> oc.stats()["used_bytes"] - before
    8000
    """
    return _native.stats()


def set_limit(limit: int | str, *, warm: int | str | None = None) -> None:
    """Change how much memory the session's arena may have.

    Parameters
    ----------
    limit : int or str
        Bytes, or a size such as ``"8GiB"``. At most the addresses that the arena has, which is twice its first limit;
        that is 80 % of the memory of the machine or cgroup, or the environment variable ``ONECOPY_LIMIT``.
    warm : int or str, optional
        Bytes of freed memory that are kept for the next array; an eighth of the limit by default.

    Raises
    ------
    OutOfMemoryError
        The arena has fewer addresses than that.
    ValueError
        The size is not one.

    Examples
    --------
    >>> import onecopy as oc
    >>> limit = oc.stats()["limit"]
    >>> oc.set_limit("1GiB")
    >>> oc.stats()["limit"]
    1073741824
    >>> oc.set_limit(limit)
    """
    _native.set_limit(_bytes_of(limit), None if warm is None else _bytes_of(warm))


def _bytes_of(size: int | str) -> int:
    return _native.parse_size(size) if isinstance(size, str) else size


def audit() -> _audit.Report:
    """Find out what this program copies, how much, from which line, and why.

    Returns
    -------
    report
        A context manager; what this process sends and stores inside the ``with`` block is noted. ``print(report)``
        shows a table, the largest copies first. ``report.rows`` has the same as objects with the attributes ``site``
        (file and line), ``how``, ``what`` (type), ``why``, ``count`` and ``nbytes``; ``report.total(how)`` adds bytes
        up. There are three ways how things go: ``"handle"``, without a copy; ``"moved in"``, copied once into shared
        memory; ``"copied"``, through a message, or into the pickle of a stored object.

    Notes
    -----
    What is noted goes through `multiprocessing` (queues, pipes, process arguments, pools) and through onecopy's queues,
    `onecopy.put` and `onecopy.share`. Without an audit this costs nothing.

    With the environment variable ``ONECOPY_AUDIT=1``, each process of a program that imports onecopy prints a report to
    stderr when it ends in good order. (The workers of a pool do so after ``close()``, and not where ``terminate()``
    kills them.)

    Examples
    --------
    >>> import numpy as np, onecopy as oc
    >>> queue = oc.Queue()
    >>> with oc.audit() as report:
    ...     queue.put(oc.zeros(1000))
    ...     queue.put(np.zeros(1000))
    >>> [(row.how, row.nbytes) for row in report.rows if row.what == "ndarray of float64"]
    [('copied', 8000), ('handle', 8000)]
    """
    from onecopy import _audit

    return _audit.Report()


def reap(*, in_flight: bool = False) -> tuple[int, int]:
    """Take away what processes left that have been killed.

    This happens by itself whenever memory is needed or a process joins; call it to have the memory back now. Segments
    that programs made by `onecopy.multiprocessing.shared_memory` and left are removed, too.

    Parameters
    ----------
    in_flight : bool, optional
        Also drop arrays that were sent by processes that have ended and that nobody has received. Nobody can tell
        whether such a message will still be received (a process may send and end in good order), so this never happens
        by itself: whoever receives one afterwards gets a `StaleHandleError`.

    Returns
    -------
    processes, blocks : int
        How many dead processes there were and how many blocks were freed.

    Warns
    -----
    RuntimeWarning
        The memory was freed, but the directory of segments, or the runtime directory, in which published names are
        found, cannot be used.

    Examples
    --------
    >>> import onecopy as oc
    >>> processes, blocks = oc.reap()
    """
    from onecopy import _segments

    reaped = _native.reap(in_flight)
    try:
        _segments.sweep()
        _native.sweep_names()
    except OSError as error:
        # The memory has been freed, and the caller shall learn how much: no reason to raise.
        warnings.warn(f"entries of dead processes were not swept: {error}", RuntimeWarning, stacklevel=2)
    return reaped


_start()
if os.environ.get(AUDIT_VARIABLE, "0") not in ("", "0"):
    from onecopy._audit import report_at_exit

    report_at_exit()
