"""`from_hdf5` and files that other programs wrote in their own ways."""

import ctypes
import glob
import os

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onecopy as oc

SLICES = [slice(1, 3), slice(None, None, -1), slice(3, None), slice(0, 0), slice(None, None, 2)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.h5"


def same_parts(path, expected):
    """Check all of dataset x, and parts of it."""
    np.testing.assert_array_equal(oc.from_hdf5(path, "x"), expected, strict=True)
    for rows in SLICES:
        np.testing.assert_array_equal(oc.from_hdf5(path, "x", rows=rows), expected[rows], strict=True)


# ---------------------------------------------------------------- chunks at the edge that no filter has seen


def _libhdf5():
    """The library inside of h5py, for an option that h5py does not offer."""
    folder = os.path.dirname(os.path.dirname(h5py.__file__))
    found = [name for name in glob.glob(f"{folder}/h5py.libs/libhdf5*") if "hl" not in os.path.basename(name)]
    if not found:
        pytest.skip("needs an h5py with its own libhdf5")
    library = ctypes.CDLL(found[0])
    library.H5Pset_chunk_opts.argtypes = [ctypes.c_int64, ctypes.c_uint]
    return library


def write_with_plain_edges(path, data, chunks, filters, *, grows=False):
    """Write a dataset whose chunks at the edge are stored as they are (``H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS``)."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk(chunks)
    for name in filters:
        getattr(properties, f"set_{name}")(*([4] if name == "deflate" else []))
    assert _libhdf5().H5Pset_chunk_opts(properties.id, 2) == 0
    most = tuple([h5py.h5s.UNLIMITED, *data.shape[1:]]) if grows else data.shape
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple(data.shape, most)
        dataset = h5py.h5d.create(file.id, b"x", h5py.h5t.py_create(data.dtype), space, properties)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, data)


FILTERS = [["deflate"], ["shuffle"], ["fletcher32"], ["shuffle", "deflate", "fletcher32"]]


@pytest.mark.parametrize("filters", FILTERS, ids=str)
@pytest.mark.parametrize("chunks", [(10, 4), (10, 6), (7, 5), (1, 4), (40, 7)])
def test_chunks_at_the_edge_that_no_filter_has_seen(path, filters, chunks):
    data = np.arange(25 * 7).reshape(25, 7)
    write_with_plain_edges(path, data, chunks, filters, grows=chunks[0] > len(data))
    same_parts(path, data)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 9), st.integers(1, 12), st.integers(1, 9), st.sampled_from(FILTERS))
def test_any_edge(tmp_path_factory, rows, columns, chunk_rows, chunk_columns, filters):
    path = tmp_path_factory.mktemp("edge") / "a.h5"
    data = np.arange(rows * columns, dtype="i4").reshape(rows, columns)
    write_with_plain_edges(path, data, (min(rows, chunk_rows), min(columns, chunk_columns)), filters)
    np.testing.assert_array_equal(oc.from_hdf5(path, "x"), data, strict=True)


def test_a_chunk_that_filters_leave_as_long_as_it_was(path):
    """Shuffle alone never changes the length: only the option of the dataset tells of what was not filtered."""
    data = np.arange(25 * 7).reshape(25, 7)
    oc.to_hdf5(path, {"x": data}, chunks=(10, 4), shuffle=True)
    same_parts(path, data)


def test_rows_are_not_added_where_the_last_chunk_would_be_taken_for_another(path):
    write_with_plain_edges(path, np.arange(30).reshape(15, 2), (10, 2), ["deflate"], grows=True)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"'/x' cannot grow.*not filtered.*copy"):
        oc.to_hdf5(path, {"x": np.ones((3, 2), "i8")}, append=True)
    assert path.read_bytes() == before


# ---------------------------------------------------------------- filters


@pytest.mark.parametrize(
    "filters", [["deflate", "shuffle"], ["fletcher32", "deflate"], ["shuffle", "fletcher32", "deflate"]], ids=str
)
def test_filters_in_another_order(path, filters):
    data = np.arange(60).reshape(20, 3)
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((7, 3))
    for name in filters:
        getattr(properties, f"set_{name}")(*([4] if name == "deflate" else []))
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple(data.shape, (h5py.h5s.UNLIMITED, 3))
        dataset = h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_INT64, space, properties)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, data)
    same_parts(path, data)
    oc.to_hdf5(path, {"x": data[:5]}, append=True)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["x"][20:], data[:5])


def test_a_shuffle_of_other_elements(path):
    """The filter names the size of its elements, which libhdf5 believes."""
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.arange(20), chunks=(20,), shuffle=True)
    stored = path.read_bytes()
    size = stored.index(b"shuffle\0") + 8
    assert stored[size : size + 4] == b"\x08\0\0\0"
    path.write_bytes(stored[:size] + b"\x04" + stored[size + 1 :])
    with h5py.File(path) as file:
        expected = file["x"][()]
    assert expected.tolist() != [*range(20)]
    same_parts(path, expected)


# ---------------------------------------------------------------- types


@pytest.mark.parametrize("chunks", [None, (2,), (3,)])
@pytest.mark.parametrize("gzip", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_elements_that_are_arrays(path, chunks, gzip, order):
    data = np.arange(12, dtype=f"{order}f4").reshape(4, 3)
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if chunks:
        properties.set_chunk(chunks)
        if gzip:
            properties.set_deflate(4)
    kind = h5py.h5t.array_create(h5py.h5t.py_create(data.dtype), (3,))
    with h5py.File(path, "w") as file:
        dataset = h5py.h5d.create(file.id, b"x", kind, h5py.h5s.create_simple((4,)), properties)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, data, kind)
    same_parts(path, data)


def test_elements_that_are_arrays_and_were_never_written(path):
    kind = h5py.h5t.array_create(h5py.h5t.IEEE_F64LE, (2, 3))
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((2,))
    with h5py.File(path, "w") as file:
        h5py.h5d.create(file.id, b"x", kind, h5py.h5s.create_simple((5,)), properties)
    same_parts(path, np.zeros((5, 2, 3)))


def test_text_that_is_no_utf8_keeps_its_bytes(path):
    with h5py.File(path, "w") as file:
        text = np.array([b"a\xff", b"b", "é".encode()], object)
        file.create_dataset("x", data=text, dtype=h5py.string_dtype("utf-8"))
        file.create_dataset("one", data=b"\xfe", dtype=h5py.string_dtype("utf-8"))
    found = oc.from_hdf5(path)
    assert [os.fsencode(text) for text in found["x"]] == [b"a\xff", b"b", "é".encode()]
    assert os.fsencode(str(found["one"])) == b"\xfe"


@pytest.mark.parametrize("dtype", ["f4", "S3", h5py.string_dtype(), [("a", "i4")]], ids=str)
def test_a_dataset_without_a_space_is_an_array_without_elements(path, dtype):
    with h5py.File(path, "w") as file:
        file["x"] = h5py.Empty(np.dtype(dtype))
    found = oc.from_hdf5(path, "x")
    assert (found.shape, found.dtype) == ((0,), np.dtype(dtype))


def test_types_of_h5py(path):
    days = np.array(["2020-01-01", "NaT"], "M8[s]")
    states = h5py.enum_dtype({"A": 0, "B": 1}, "i1")
    with h5py.File(path, "w") as file:
        file["opaque"] = days.astype(h5py.opaque_dtype("M8[s]"))
        file.create_dataset("enum", data=np.array([0, 1, 1], "i1"), dtype=states)
        file.create_dataset("records", data=np.zeros(2, [("state", states), ("ok", "?")]))
    found = oc.from_hdf5(path)
    np.testing.assert_array_equal(found["opaque"], days, strict=True)
    assert (found["enum"].dtype, found["enum"].tolist()) == (np.dtype("i1"), [0, 1, 1])
    assert found["records"].dtype == [("state", "i1"), ("ok", "?")]


def test_names_that_lead_nowhere_are_left_out(path):
    with h5py.File(path, "w") as file:
        file["x"] = [1, 2]
        file["soft"] = h5py.SoftLink("/none")
        file["external"] = h5py.ExternalLink("none.h5", "/x")
        file["loop"] = file["/"]
    assert list(oc.from_hdf5(path)) == ["x"]
    for name in ("soft", "external", "a\ud800"):
        with pytest.raises(KeyError, match=r"no dataset .* there are: x"):
            oc.from_hdf5(path, name)
