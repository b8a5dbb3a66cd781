"""The compiled half of onecopy."""

from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from typing import Any, final

import numpy as np
import numpy.typing as npt

__all__ = ["__version__", "compress_chunks", "decompress_chunks", "rename_noreplace", "reserve_space"]

__version__: str
SESSION_VARIABLE: str

@final
class Block: ...

def empty(shape: Sequence[int], dtype: np.dtype[Any], fortran: bool, zero: bool) -> npt.NDArray[Any]: ...
def put(array: npt.NDArray[Any], seal: bool) -> npt.NDArray[Any] | None: ...
def view(array: npt.NDArray[Any], mode: str) -> npt.NDArray[Any] | None: ...
def is_shared(array: object) -> bool: ...
def encode(array: npt.NDArray[Any]) -> bytes | None: ...
def decode(handle: bytes) -> npt.NDArray[Any]: ...
def count_copied(nbytes: int) -> None: ...
def session_hint() -> str: ...
def stats() -> dict[str, Any]: ...
def set_limit(limit: int, warm: int | None) -> None: ...
def parse_size(text: str) -> int: ...
def reap() -> tuple[int, int]: ...
def trim(keep: int) -> int: ...

# text
def load(
    input: str | PathLike[str] | bytes,
    dtype: np.dtype[Any],
    dialect: dict[str, Any],
    threads: int,
    tick: Callable[[int], None] | None,
) -> tuple[npt.NDArray[Any], list[str] | None, int]: ...
def infer(
    input: str | PathLike[str] | bytes, dialect: dict[str, Any], guess_delimiter: bool, guess_header: bool
) -> tuple[list[tuple[str, str]], list[str] | None, str | None, str | None, bool]: ...

# files
def reserve_space(fd: int, size: int, /) -> None: ...
def rename_noreplace(old: str | PathLike[str], new: str | PathLike[str], /) -> None: ...

# filters
def compress_chunks(
    array: npt.NDArray[Any],
    chunks: Sequence[int],
    *,
    codec: str,
    level: int,
    shuffle: bool,
    threads: int,
    write: Callable[[tuple[int, ...], bytes, int], object],
) -> None: ...
def decompress_chunks(
    array: npt.NDArray[Any],
    chunks: Sequence[int],
    *,
    codec: str,
    shuffle: bool,
    threads: int,
    stored: Iterable[tuple[Sequence[int], bytes, int]],
) -> None: ...
