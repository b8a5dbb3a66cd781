"""Arenas besides the session's: in memory, found by name, or in a directory, where they survive all processes."""

from __future__ import annotations

import os
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from onecopy import _native
from onecopy._arrays import AnyOrder, Array, Mode, Order, Shape, _filled, _made_of, _new, share_array
from onecopy._named import parts_of, whole
from onecopy._session import _bytes_of

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    from typing_extensions import Self


def arena(
    *,
    name: str | None = None,
    path: str | os.PathLike[str] | None = None,
    limit: int | str | None = None,
    create: bool | None = None,
    hugepages: bool | None = None,
) -> Arena:
    """Open an arena of its own, or make it.

    Parameters
    ----------
    name : str, optional
        Keep it in memory, where any program of this user finds it by this name (as for `onecopy.publish`). It lives as
        long as any process has it open.
    path : path-like, optional
        Keep it in a directory at this path, which is made if it is not there. It survives all processes, may be larger
        than memory, and is shared with all programs of this user that see the directory, in containers too. With
        neither a name nor a path the arena is in memory, found only by those to whom it, or an array of it, is sent.
    limit : int or str, optional
        Bytes that a new one may take, or a size such as ``"8GiB"``. By default four fifths of the memory of the machine
        or cgroup, or of what is free on the file system. An arena that is there keeps its own.
    create : bool, optional
        True: it must be new. False: it must be there. None: it is made if it is not there.
    hugepages : bool, optional
        Pages of 2 MiB or so behind an arena in memory, so that programs that jump about in large arrays miss fewer
        entries of the page table. It is about what this process maps and makes, and may differ between processes.
        None: advise the kernel to use them where it heeds that (``advise``, ``within_size`` or ``always`` in
        ``/sys/kernel/mm/transparent_hugepage/shmem_enabled``); it does so in the background. True: put them behind
        each new array at once, as far as whole ones fit into it and the system has them: making an array takes several
        times as long then, which pays for arrays that stay and are read at random. False: leave it to the kernel.

    Returns
    -------
    Arena

    Raises
    ------
    NameTakenError
        `create` is True, and there is one.
    NameUnknownError
        `create` is False, and there is none.
    ForeignArenaError
        What is there is no arena, or one of another version or byte order.
    DamagedArenaError
        Its tables contradict each other.
    ArenaError
        The directory or a file in it is a symbolic link, belongs to another user, may be touched by others (it must
        have mode 700, and its files 600), or its file system cannot reserve space. Or `hugepages` is True, and the
        kernel cannot put huge pages behind shared memory (it takes Linux 6.1, and not ``deny`` in ``shmem_enabled``).
    OutOfMemoryError
        There is not enough memory, disk space or address space.
    ValueError
        Both a name and a path are given, or the name or limit is not one, or `hugepages` is True for an arena at a
        path, which has the pages of its file system.

    Notes
    -----
    Whatever processes are killed, at any moment: what is published in an arena at a path stays, whole, as long as its
    files do. When the first process opens it again, what the others held goes, and so do handles that nobody received.
    After a power loss only that is sure to be there which had been flushed and not been changed since; an arena whose
    tables were being changed at that moment may be refused as damaged.

    Files on disk cannot be sealed: whoever truncates one of them ends the processes that use the arena.

    Examples
    --------
    >>> import os, tempfile
    >>> import onecopy as oc
    >>> path = os.path.join(tempfile.mkdtemp(), "results")
    >>> with oc.arena(path=path, limit="64MiB") as results:
    ...     results.publish("squares", [n * n for n in range(5)])
    ...     results.publish("zeros", results.zeros(3))
    >>> with oc.arena(path=path, create=False) as results:  # in any other process, at any time
    ...     results.names(), results.attach("zeros")
    (['squares', 'zeros'], array([0., 0., 0.]))
    """
    if name is not None and path is not None:
        raise ValueError("give a name (in memory) or a path (on disk), not both")
    if hugepages and path is not None:
        raise ValueError(
            "hugepages=True is for arenas in memory: one at a path has the pages of its file system; "
            "leave hugepages out, or give a name instead of the path"
        )
    bytes_ = None if limit is None else _bytes_of(limit)
    return Arena(_native.OpenArena(name, path, None, bytes_, create, hugepages), name)


def _join(hint: str) -> Arena:
    return Arena(_native.OpenArena(None, None, hint, None, None, None), None)


def _open_again(name: str | None, path: str | None) -> Arena:
    return arena(name=name, path=path, create=False)


class Arena:
    """An arena that was opened by `onecopy.arena`; a context manager that closes it.

    Its arrays are like those of the functions of the same names: plain numpy arrays that travel as handles. The object
    itself can be sent to other processes, which open the arena too.
    """

    __slots__ = ("__weakref__", "_name", "_native")

    def __init__(self, native: _native.OpenArena, name: str | None) -> None:
        self._native = native
        self._name = name

    @property
    def id(self) -> str:
        """What the arena is called by ``onecopy ls``: 16 hexadecimal digits."""
        return self._native.id

    @property
    def name(self) -> str | None:
        """The name by which it was opened."""
        return self._name

    @property
    def path(self) -> Path | None:
        """The directory of an arena on disk."""
        return self._native.path

    @property
    def limit(self) -> int:
        """Bytes that the arena may take."""
        limit: int = self.stats()["limit"]
        return limit

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._native.closed

    def set_limit(self, limit: int | str, *, warm: int | str | None = None) -> None:
        """Change how much the arena may take; as `onecopy.set_limit`."""
        self._native.set_limit(_bytes_of(limit), None if warm is None else _bytes_of(warm))

    def stats(self) -> dict[str, Any]:
        """Return figures of the arena, those of `onecopy.stats` that are about an arena."""
        return self._native.stats()

    def verify(self) -> None:
        """Check all tables of the arena against each other; others wait meanwhile.

        Raises
        ------
        DamagedArenaError
            They contradict each other.
        """
        self._native.verify()

    def flush(self) -> None:
        """Wait until all that was written so far is on disk; nothing for an arena in memory.

        What is not changed after it survives a power loss. Without it everything survives the death of processes.
        """
        self._native.flush()

    def close(self) -> None:
        """Close the arena. Arrays that there are stay valid: this process leaves the arena with the last of them.

        When the last process has closed an arena in memory it is gone, with what is published in it.
        """
        self._native.close()

    def publish(self, name: str, obj: Any, *, replace: bool = False) -> None:
        """Put a value under a name in this arena; as `onecopy.publish`.

        Arrays of this arena are not copied; of others a read-only copy is made. On disk, a value lives until it is
        unpublished. Objects that live in other arenas, such as locks and queues, are not kept by it.
        """
        payload, arrays = parts_of(obj, self._native)
        self._native.publish(name, payload, arrays, replace)

    def attach(self, name: str, *, allow_pickle: bool = False) -> Any:
        """Return the value that has a name in this arena; as `onecopy.attach`."""
        return whole(name, *self._native.attach(name), allow_pickle=allow_pickle)

    def unpublish(self, name: str) -> None:
        """Take a name of this arena away; as `onecopy.unpublish`."""
        self._native.unpublish(name)

    def names(self) -> list[str]:
        """Return the names of the published values, sorted."""
        return self._native.names()

    def empty(self, shape: Shape, dtype: npt.DTypeLike = float, order: Order = "C") -> Array:
        """Return a new array in this arena without setting its items; as `onecopy.empty`."""
        return _new(shape, dtype, order, False, self._native)

    def zeros(self, shape: Shape, dtype: npt.DTypeLike = float, order: Order = "C") -> Array:
        """Return a new array of zeros in this arena; as `onecopy.zeros`."""
        return _new(shape, dtype, order, True, self._native)

    def ones(self, shape: Shape, dtype: npt.DTypeLike = float, order: Order = "C") -> Array:
        """Return a new array of ones in this arena; as `onecopy.ones`."""
        return _filled(shape, 1, dtype, order, self._native)

    def full(self, shape: Shape, fill_value: Any, dtype: npt.DTypeLike | None = None, order: Order = "C") -> Array:
        """Return a new array filled with one value in this arena; as `onecopy.full`."""
        return _filled(shape, fill_value, dtype, order, self._native)

    def array(
        self,
        object: Any,
        dtype: npt.DTypeLike | None = None,
        *,
        copy: bool | None = True,
        order: AnyOrder = "K",
        ndmin: int = 0,
    ) -> Array:
        """Make an array in this arena of anything that numpy can make an array of; as `onecopy.array`."""
        return _made_of(object, dtype, copy, order, ndmin, self._native)

    def share(self, array: Array, mode: Mode = "ro") -> Array:
        """Return an equal array in this arena; as `onecopy.share`. One in another arena is copied."""
        if not isinstance(array, np.ndarray):
            raise TypeError(
                f"share() of an arena takes a numpy array, not {type(array).__name__}; publish() takes any object"
            )
        return share_array(array, mode, self._native)

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, type_: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        where = f"name={self._name!r}" if self._name is not None else f"path={str(self.path)!r}" if self.path else ""
        state = ", closed" if self.closed else ""
        return f"<onecopy.Arena {', '.join(filter(None, [self.id, where]))}{state}>"

    def __reduce__(self) -> tuple[Any, ...]:
        path = self._native.path
        if self._name is None and path is None:
            return _join, (self._native.hint,)
        return _open_again, (self._name, None if path is None else os.fspath(path))
