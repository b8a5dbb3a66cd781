"""What other users, damaged or forged handles, and stray stores cannot do: the promises of docs/design/security.md."""

import errno
import fcntl
import os
import pickle
import signal
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onecopy as oc
from onecopy import _native
from programs import output_of, running

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
NOBODY = 65534


def memory_files(process: str = "self") -> dict[int, str]:
    """Return the descriptors of a process that are an arena's."""
    names = {}
    for number in os.listdir(f"/proc/{process}/fd"):
        try:
            names[int(number)] = os.readlink(f"/proc/{process}/fd/{number}")
        except OSError:
            continue
    return {number: name for number, name in names.items() if name.startswith("/memfd:onecopy")}


# --- other users ---


@needs_root
def test_another_user_cannot_join() -> None:
    array = oc.zeros(1000)
    handle = _native.encode(array) or b""
    hint = _native.session_hint().split(",")[0].split(":")
    # It imports everything first: this folder may be closed to others.
    said = output_of(
        """
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        try:
            _native.decode(bytes.fromhex(sys.argv[1]))
        except oc.ArenaError as error:
            print(error)
        for number in sys.argv[3:]:
            try:
                os.open(f"/proc/{sys.argv[2]}/fd/{number}", os.O_RDONLY)
            except PermissionError:
                print("closed")
        """,
        handle.hex(),
        *hint[1:],
        session=False,
    )
    assert "cannot be reached" in said and "another user" in said
    assert said.splitlines()[1:] == ["closed"] * 3
    _native.decode(handle)


@needs_root
def test_root_does_not_join_the_arena_of_another_user() -> None:
    with running(
        """
        array = oc.zeros(1000)
        os.setgid(65534)
        print(bytes(_native.encode(array)).hex(), flush=True)
        for name in os.listdir("/proc/self/fd"):
            if os.path.exists(f"/proc/self/fd/{name}") and "memfd:onecopy" in os.readlink(f"/proc/self/fd/{name}"):
                os.fchown(int(name), 65534, 65534)
        print("changed", flush=True)
        input()
    """,
        session=False,
    ) as program:
        handle = bytes.fromhex(program.hear())
        assert program.hear() == "changed"
        with pytest.raises(oc.ArenaError, match=f"belongs to user {NOBODY}"):
            _native.decode(handle)


# --- the files ---


def test_memory_files_are_private_and_sealed() -> None:
    files = memory_files()
    assert len(files) >= 3
    oc.zeros(10)
    for number in files:
        assert not os.get_inheritable(number)
        seals = fcntl.fcntl(number, fcntl.F_GET_SEALS)
        assert seals & fcntl.F_SEAL_SHRINK and seals & fcntl.F_SEAL_GROW and seals & fcntl.F_SEAL_SEAL
        with pytest.raises(PermissionError):
            os.ftruncate(number, 0)
        assert not os.fstat(number).st_mode & 0o111 or os.uname().release < "6.3", "nobody can execute it"


def test_arrays_are_not_in_core_dumps() -> None:
    array = oc.zeros(1000)
    address = array.__array_interface__["data"][0]
    with open("/proc/self/smaps") as smaps:
        inside = False
        for line in smaps:
            if "-" in line.split(" ")[0] and not line.startswith("Vm"):
                low, high = (int(part, 16) for part in line.split(" ")[0].split("-"))
                inside = low <= address < high
            if inside and line.startswith("VmFlags:"):
                assert "dd" in line.split()
                return
    raise AssertionError("the mapping was not found")


# --- sealed arrays ---

MPROTECT = """
    libc = ctypes.CDLL(None, use_errno=True)
    def protect(array, flags):
        page = os.sysconf("SC_PAGESIZE")
        address = array.__array_interface__["data"][0] // page * page
        result = libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(page), flags)
        return 0 if result == 0 else ctypes.get_errno()
"""


def test_a_sealed_array_cannot_be_made_writable() -> None:
    sealed = oc.share(np.arange(10_000.0))
    message = bytes(_native.encode(sealed) or b"").hex()
    said = output_of(
        MPROTECT
        + """
    array = _native.decode(bytes.fromhex(sys.argv[1]))
    print(protect(array, 1 | 2), protect(array, 1), protect(oc.zeros(10), 1 | 2))
    """,
        message,
    )
    assert said.split() == [str(errno.EACCES), "0", "0"]


def test_a_stray_store_ends_the_writer_and_nobody_else() -> None:
    sealed = oc.share(np.arange(10_000.0))
    with running(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        array = _native.decode(bytes.fromhex(sys.argv[1]))
        print(array.sum(), flush=True)
        ctypes.memset(array.__array_interface__["data"][0], 0xff, 8)
    """,
        bytes(_native.encode(sealed) or b"").hex(),
    ) as program:
        assert program.end() == (-signal.SIGSEGV, f"{sealed.sum()}\n", "")
    assert (sealed == np.arange(10_000.0)).all()
    oc.reap()


def test_a_handle_cannot_ask_for_more_than_a_seal_allows() -> None:
    sealed = oc.share(np.arange(100.0))
    handle = bytearray(_native.encode(sealed) or b"")
    handle[3] = 1
    with pytest.raises(oc.InvalidHandleError, match="write access to a sealed block"):
        _native.decode(bytes(handle))


# --- forged handles ---

ARENA = slice(4, 12)
PARTS = {"block": slice(28, 32), "generation": slice(32, 36), "offset": slice(44, 52), "shape": slice(53, 61)}


def forged(real: bytes, **parts: int) -> bytes:
    handle = bytearray(real)
    for name, value in parts.items():
        at = PARTS[name]
        handle[at] = value.to_bytes(at.stop - at.start, "little")
    return bytes(handle)


@pytest.mark.parametrize(
    ("parts", "error", "words"),
    [
        ({"shape": 2**63}, oc.InvalidHandleError, "spans bytes"),
        ({"shape": 2**64 - 1}, oc.InvalidHandleError, "spans bytes"),
        ({"offset": 2**64 - 8}, oc.InvalidHandleError, "spans bytes"),
        ({"block": 2**32 - 1}, oc.InvalidHandleError, "block 4294967295 of"),
        ({"generation": 77_777}, oc.StaleHandleError, "generation 77777"),
    ],
)
def test_forged_handles_name_what_is_wrong(parts: dict[str, int], error: type[Exception], words: str) -> None:
    array = oc.zeros(3)
    real = _native.encode(array) or b""
    with pytest.raises(error, match=words):
        _native.decode(forged(real, **parts))
    # What the handle kept is not lost to others; a handle that is damaged itself is used up.
    assert (array == 0).all()
    _native.decode(real)


def test_a_handle_of_another_arena_does_not_open_this_one() -> None:
    with running("print(_native.encode(oc.zeros(3)).hex(), flush=True); input()", session=False) as program:
        theirs = bytearray(bytes.fromhex(program.hear()))
        mine = _native.encode(oc.zeros(3)) or b""
        theirs[ARENA] = mine[ARENA]
        # The arena's name is ours, so the rest is judged by our tables: stale, or a block that fits.
        try:
            received = _native.decode(bytes(theirs))
        except oc.OnecopyError:
            pass
        else:
            received.tobytes()
        _native.decode(mine)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 200), st.sampled_from([0, 1, 127, 128, 255]) | st.integers(0, 255)),
        min_size=1,
        max_size=6,
    )
)
def test_any_damage_is_an_error_or_an_array_inside_its_block(damage: list[tuple[int, int]]) -> None:
    # Everything is drawn before the handle is made: an example that is given up while drawing would leave it in flight.
    array = oc.zeros((3, 4), "i4")
    handle = _native.encode(array) or b""
    damaged = bytearray(handle)
    for at, byte in damage:
        damaged[28 + at % (len(handle) - 28)] = byte
    with suppress(oc.OnecopyError, ValueError, TypeError):
        _native.decode(bytes(damaged)).tobytes()
    with suppress(oc.StaleHandleError):
        _native.decode(handle)


class Bomb:
    def __reduce__(self) -> Any:
        return os.abort, ()


def test_no_code_is_loaded_from_a_handle() -> None:
    array = oc.zeros(3)
    handle = _native.encode(array) or b""
    dtype = handle[53 + 16 :]
    bomb = pickle.dumps(Bomb())
    text = len(bomb).to_bytes(4, "little") + bomb
    for attack in (bomb, b"s" + text, b"r" + (8).to_bytes(8, "little") + b"\0" + (1).to_bytes(8, "little") + text):
        with pytest.raises((TypeError, ValueError)):
            _native.decode(handle[: -len(dtype)] + attack)
    _native.decode(handle)


# --- the session variable ---


def test_a_forged_session_variable_is_harmless(tmp_path: Any) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"precious" * 100)
    files = [os.open(path, os.O_RDWR) for path in (tmp_path / "pipe", tmp_path / "file", "/dev/zero")]
    files.append(os.memfd_create("onecopy-meta"))
    files.append(os.memfd_create("onecopy-meta", os.MFD_ALLOW_SEALING))
    os.ftruncate(files[-1], 1 << 20)
    fcntl.fcntl(files[-1], fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    real = os.environ["ONECOPY_SESSION"].split(",")[0].split(":")
    hints = [f"0123456789abcdef:{os.getpid()}:{fd}:{fd}:{fd}" for fd in files]
    hints += [f"{real[0]}:{os.getpid()}:{files[-1]}:{real[3]}:{real[4]}", f"{real[0]}:1:3:4:5", "\x01\x7f", "," * 5000]
    hints += [":".join([*real[:2], real[2], real[2], real[2]])]
    try:
        for hint in hints:
            said = output_of("print(oc.zeros(10).sum(), len(oc.stats()['processes']))", env={"ONECOPY_SESSION": hint})
            assert said == "0.0 1\n", hint
        assert (tmp_path / "file").read_bytes() == b"precious" * 100
    finally:
        for file in files:
            os.close(file)
