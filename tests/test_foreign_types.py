"""Objects of other packages: stored, and sent through channels, without a copy."""

import datetime
import multiprocessing as mp
import pickle
import subprocess
import sys
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import pytest

import onecopy as oc

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")
sparse = pytest.importorskip("scipy.sparse")
xr = pytest.importorskip("xarray")

pytestmark = pytest.mark.usefixtures("nothing_left")

N = 20_000
WORDS = [f"word number {n}" for n in range(N)]


def numbers() -> dict[str, Any]:
    return {
        "i": np.arange(N),
        "f": np.arange(N) / 3,
        "when": np.datetime64("2020-01-01", "ns") + np.arange(N).astype("m8[s]"),
        "b": np.arange(N) % 2 == 0,
    }


def polars_frame() -> Any:
    return pl.DataFrame(
        {
            **numbers(),
            "words": WORDS,
            "null": pl.Series([None, 1] * (N // 2)),
            "category": pl.Series(["x", "y"] * (N // 2), dtype=pl.Categorical),
            "enum": pl.Series(["x", "y"] * (N // 2), dtype=pl.Enum(["y", "x"])),
            "list": [[1, 2], []] * (N // 2),
            "struct": [{"a": 1, "b": "x"}, None] * (N // 2),
            "array": pl.Series([[1, 2]] * N, dtype=pl.Array(pl.Int64, 2)),
            "zone": pl.Series([datetime.datetime(2020, 1, 1)] * N).dt.replace_time_zone("UTC"),
            "bytes": [b"x" * 40] * N,
            "decimal": pl.Series([1] * N).cast(pl.Decimal(10, 2)),
        }
    )


MAKERS = {
    "pandas": lambda: pd.DataFrame({**numbers(), "words": WORDS}).set_index("when"),
    "pandas, one block": lambda: pd.DataFrame(np.arange(4.0 * N).reshape(N, 4)),
    "pandas, Arrow": lambda: pd.DataFrame({**numbers(), "words": WORDS}).convert_dtypes(dtype_backend="pyarrow"),
    "pandas, masked": lambda: pd.DataFrame(numbers()).convert_dtypes(),
    "pandas, categories": lambda: pd.DataFrame({"c": pd.Categorical(WORDS), "d": range(N)}).set_index(["c", "d"]),
    "pandas Series": lambda: pd.Series(WORDS, name="words"),
    "polars": polars_frame,
    "polars Series": lambda: pl.Series("words", WORDS),
    "pyarrow": lambda: pa.table({**numbers(), "words": WORDS}),
    "pyarrow, chunks": lambda: pa.chunked_array([WORDS, WORDS[::-1], []]),
    "pyarrow, dictionary": lambda: pa.array(WORDS).dictionary_encode(),
    "pyarrow, batch": lambda: pa.record_batch(numbers()),
    "csr": lambda: sparse.random(500, 500, 0.3, format="csr", random_state=1),
    "coo array": lambda: sparse.coo_array(sparse.random(500, 500, 0.3, random_state=1)),
    "xarray": lambda: xr.Dataset(
        {"v": (("t", "x"), np.arange(4.0 * N).reshape(N, 4))}, {"t": np.arange(N), "x": list("abcd")}
    ),
}


def equal(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if sparse.issparse(a):
        return a.shape == b.shape and (a != b).nnz == 0
    if isinstance(a, pl.DataFrame):
        return a.schema == b.schema and bool(a.equals(b, null_equal=True))
    if isinstance(a, pl.Series):
        return a.dtype == b.dtype and a.name == b.name and bool(a.equals(b, null_equal=True))
    if isinstance(a, xr.Dataset):
        return bool(a.identical(b))
    if isinstance(a, pd.DataFrame):
        pd.testing.assert_frame_equal(a, b)
        return True
    return bool(a.equals(b))


def payload_of(obj: Any) -> int:
    """Bytes of an object that are neither Python objects nor codes that polars makes anew for Arrow."""
    if isinstance(obj, pl.DataFrame):
        return int(obj.drop("category", "enum").estimated_size())
    stream, buffers = pickle_5(obj)
    return sum(buffers) or len(stream)


def pickle_5(obj: Any) -> tuple[bytes, list[int]]:
    buffers: list[pickle.PickleBuffer] = []
    stream = pickle.dumps(obj, 5, buffer_callback=buffers.append)
    return stream, [memoryview(buffer).nbytes for buffer in buffers]


@pytest.fixture(params=MAKERS)
def made(request: pytest.FixtureRequest) -> Any:
    return MAKERS[request.param]()


@pytest.mark.parametrize("mode", ["ro", "rw", "cow"])
def test_it_is_stored_and_read_back_equal(made: Any, mode: Any) -> None:
    with oc.put(made, mode) as ref:
        blocks = oc.stats()["blocks"]
        received = ref.get()
        assert equal(received, made)
        assert ref.get() is received and oc.stats()["blocks"] == blocks
    assert equal(oc.share(made, mode), made)


def test_what_is_shared_goes_on_without_a_copy(made: Any) -> None:
    shared = oc.share(made)
    before = oc.stats()
    message = bytes(ForkingPickler.dumps(shared))
    received = pickle.loads(message)
    stored = oc.put(shared)
    assert equal(received, made) and equal(stored.get(), made)
    assert len(message) < 6000 + (2 * N if isinstance(made, pl.DataFrame) else 0)
    moved = oc.stats()["bytes_moved_in"] - before["bytes_moved_in"]
    # The record itself, and what polars makes anew for Arrow each time: the codes of categories.
    assert moved < 12_000 + (2 * 5 * N if isinstance(made, pl.DataFrame) else 0)
    queue = oc.SimpleQueue()
    queue.put(shared)
    assert equal(queue.get(), made)
    assert oc.stats()["bytes_copied"] - before["bytes_copied"] < 12_000


def test_what_is_not_shared_is_moved_in_once_and_not_through_the_message(made: Any) -> None:
    payload = payload_of(made)
    message = bytes(ForkingPickler.dumps(made))
    assert len(message) < max(0.2 * payload, 65536 * 3)
    assert equal(pickle.loads(message), made)


def echo(connection: Any) -> None:
    while (thing := connection.recv()) is not None:
        connection.send(thing)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_it_crosses_between_processes(method: str) -> None:
    context = mp.get_context(method)
    here, there = context.Pipe()
    process = context.Process(target=echo, args=(there,), daemon=True)
    process.start()
    for name, make in MAKERS.items():
        if method == "fork" and name.startswith("polars"):
            continue  # Its threads do not survive a fork.
        thing = make()
        for sent in (thing, oc.share(thing)):
            here.send(sent)
            assert equal(here.recv(), thing)
        here.send([oc.put(thing)])
        assert equal(here.recv()[0].get(), thing)
    here.send(None)
    process.join()
    assert process.exitcode == 0
    del sent, thing


def test_a_column_of_a_shared_frame_is_found() -> None:
    frame = oc.share(pd.DataFrame(np.arange(4.0 * N).reshape(N, 4)))
    column = frame[1].to_numpy()
    assert oc.is_shared(column) and oc.is_shared(frame.iloc[5:10].to_numpy())
    before = oc.stats()["bytes_moved_in"]
    received = pickle.loads(bytes(ForkingPickler.dumps(frame.iloc[::2])))
    assert received.iloc[1, 0] == 8 and oc.stats()["bytes_moved_in"] == before
    with pytest.raises(ValueError, match="read-only"):
        frame[1].to_numpy()[0] = 1


def test_a_small_slice_of_a_large_arrow_column_does_not_send_the_whole() -> None:
    column = pd.Series(WORDS, dtype="str")
    message = bytes(ForkingPickler.dumps(column.iloc[:10]))
    before = oc.stats()["bytes_moved_in"]
    assert pickle.loads(message).tolist() == WORDS[:10] and len(message) < 3000
    shared = oc.share(column)
    assert pickle.loads(bytes(ForkingPickler.dumps(shared.iloc[5:10]))).tolist() == WORDS[5:10]
    assert oc.stats()["bytes_moved_in"] - before < 10 * N * 16


def test_arrow_data_interface_over_shared_memory() -> None:
    data = oc.share(np.arange(N))
    column = pa.Array.from_buffers(pa.int64(), N, [None, pa.py_buffer(data)])
    capsule_user = pl.Series(column)  # through the interface, as anything else that knows it
    back = pa.array(capsule_user.to_arrow())
    for array in (column, back):
        assert oc.is_shared(array.to_numpy())
        assert pickle.loads(bytes(ForkingPickler.dumps(array))).to_numpy()[-1] == N - 1
    exported = pa.RecordBatch._import_from_c_capsule(*pa.record_batch([column], ["x"]).__arrow_c_array__())
    assert oc.is_shared(exported.column(0).to_numpy())


def test_empty_things_travel() -> None:
    for thing in (
        pl.DataFrame(),
        pl.Series("x", [], dtype=pl.String),
        pd.DataFrame(),
        pa.table({"a": []}),
        pa.array([]),
    ):
        assert equal(pickle.loads(bytes(ForkingPickler.dumps(thing))), thing)
        assert equal(oc.put(thing).get(), thing)


def test_polars_objects_are_refused_as_polars_refuses_them() -> None:
    """Arrow would take the objects' addresses for items."""
    column = pl.Series("o", [object()], dtype=pl.Object)
    for thing in (column, pl.DataFrame({"o": column})):
        with pytest.raises(BaseException) as theirs:  # polars panics
            pickle.dumps(thing)
        for refuse in (ForkingPickler.dumps, oc.put):
            with pytest.raises(type(theirs.value)):
                refuse(thing)


IMPORTS = """
import sys
import onecopy as oc
import importlib.util
names = ["pyarrow", "polars", "pandas", "torch"]
assert not any(name in sys.modules for name in names)
for name in names:
    importlib.util.find_spec(name)
import polars as pl, pyarrow as pa
from multiprocessing.reduction import ForkingPickler
for thing in (pl.Series(range(100_000)), pa.array(range(100_000))):
    message = bytes(ForkingPickler.dumps(thing))
    print(len(message) < 5000, ForkingPickler.loads(message).equals(thing))
print([type(finder).__name__ for finder in sys.meta_path].count("_Finder") <= 3)
"""


def test_reducers_come_with_the_packages_and_not_before() -> None:
    """Also where somebody has asked whether there are such packages, without importing them."""
    out = subprocess.run([sys.executable, "-W", "error", "-c", IMPORTS], capture_output=True, text=True, check=False)
    assert (out.stdout, out.stderr) == ("True True\nTrue True\nTrue\n", "")


def test_tensors_travel() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.arange(100_000, dtype=torch.bfloat16).reshape(100, 1000).T
    parameter = torch.nn.Parameter(torch.ones(100_000))
    shared = oc.share({"t": tensor, "p": parameter, "b": torch.tensor([True, False])}, mode="rw")
    assert torch.equal(shared["t"], tensor) and shared["t"].stride() == tensor.stride()
    assert isinstance(shared["p"], torch.nn.Parameter) and shared["p"].requires_grad
    received = pickle.loads(bytes(ForkingPickler.dumps(shared)))
    received["t"][0, 0] = 7
    assert shared["t"][0, 0] == 7 and oc.is_shared(received["t"].view(torch.int16).numpy())
    assert isinstance(received["p"], torch.nn.Parameter) and torch.equal(received["p"], parameter)
    assert torch.equal(oc.put(tensor).get(), tensor)
