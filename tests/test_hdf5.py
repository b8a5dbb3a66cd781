"""`to_hdf5` and `from_hdf5`: values, types, layouts, filters and readers."""

import errno
import shutil
import subprocess
import sys
import zlib

import h5py
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onecopy as oc
from onecopy._hdf5.filters import chunk_shape, native_codec
from onecopy._hdf5.writer import Hdf5Writer

CALL = np.dtype([("chr", "S10"), ("pos", "<i4"), ("pct", "<f4"), ("c", "<i4"), ("t", "<i4")])

DTYPES = [
    "?", "i1", "<i2", ">i4", "<u8", "<f2", "<f4", ">f8", "longdouble", "<c8", ">c16", "clongdouble",
    "S7", "V5", "<U3", ">U2", "<M8[s]", ">M8[ns]", "<M8[M]", "<M8[25us]", "<M8", "<m8[D]", "<m8[7W]",
    CALL,
    np.dtype([("flag", "?"), ("value", "<f8")], align=True),
    np.dtype({"names": ["b", "a"], "formats": ["<i2", "S3"], "offsets": [9, 2], "itemsize": 16}),
    np.dtype([("grid", "<f4", (2, 3)), ("inner", [("z", "<c8"), ("day", "<M8[D]", 2)])]),
    np.dtype([("name", "<U4"), ("names", "<U2", (2,)), ("when", "<m8[ms]"), ("deep", [("word", ">U3"), ("n", "u1")])]),
]  # fmt: skip

FILTERS = [
    {},
    {"chunks": True},
    {"compression": "gzip"},
    {"compression": "lzf"},
    {"compression": 1, "fletcher32": True},
    {"compression": "zstd"},
    {"fletcher32": True, "shuffle": True},
    {"compression": "blosc2"},
]


def sample(dtype, shape):
    """Values of any type, reproducible, with a few distinct ones so that they compress."""
    dtype = np.dtype(dtype)
    array = np.zeros(shape, dtype)
    if dtype.names:
        for name in dtype.names:
            array[name] = sample(dtype[name].base, array[name].shape)
        return array
    numbers = (np.arange(array.size) * 37 % 101).reshape(shape)
    if dtype.kind == "U":
        return np.asarray(np.array(["", "é", "日本", "a"])[numbers % 4], dtype)
    if dtype.kind in "SV":
        array[...] = numbers.astype("S").astype(dtype) if dtype.kind == "S" else np.array(b"\1\0\2", dtype)
        return array
    return numbers.astype(dtype) if dtype.kind not in "mM" else numbers.astype("i8").astype(dtype)


def assert_same(found, expected):
    """The same type, shape and values; bytes, so that NaN and NaT count, but not those between fields."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    if expected.dtype.names:
        for name in expected.dtype.names:
            assert_same(found[name], expected[name])
    else:
        assert found.tobytes() == expected.tobytes()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.h5"


@pytest.mark.parametrize("options", FILTERS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_comes_back(path, dtype, options):
    shapes = {"line": (211,), "cube": (5, 3, 4), "scalar": (), "empty": (0,), "flat": (3, 0)}
    arrays = {name: sample(dtype, shape) for name, shape in shapes.items()}
    oc.to_hdf5(path, arrays, **options)
    for name, array in arrays.items():
        assert_same(oc.from_hdf5(path, name), array)


@pytest.mark.parametrize("options", FILTERS, ids=str)
def test_views_that_are_not_contiguous(path, options):
    base = sample(CALL, (40, 30))
    views = {
        "t": base.T,
        "step": base[::3, 5::-2],
        "f": np.asfortranarray(base),
        "field": base["pos"],
        "back": base[::-1],
    }
    oc.to_hdf5(path, views, **options)
    for name, view in views.items():
        assert_same(oc.from_hdf5(path, name), np.ascontiguousarray(view))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), options=st.sampled_from(FILTERS))
def test_any_array_comes_back(tmp_path_factory, data, options):
    strings = hnp.byte_string_dtypes(min_len=1, max_len=9) | hnp.unicode_string_dtypes(min_len=1, max_len=5)
    scalars = hnp.scalar_dtypes() | strings
    fields = st.tuples(scalars, hnp.array_shapes(min_dims=0, max_dims=2, max_side=3))
    records = st.lists(fields, min_size=1, max_size=4).map(lambda f: np.dtype([(f"f{i}", *x) for i, x in enumerate(f)]))
    dtype = data.draw(scalars | records)
    array = data.draw(hnp.arrays(dtype.base, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6)))
    path = tmp_path_factory.mktemp("any") / "out.h5"
    try:
        oc.to_hdf5(path, {"x": array}, **options)
    except ValueError as error:
        assert "has surrogates" in str(error)
        return
    assert_same(oc.from_hdf5(path, "x"), array)


@settings(max_examples=60, deadline=None)
@given(
    axes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 12)), min_size=1, max_size=3),
    codec=st.sampled_from(["gzip", "lzf", "zstd", None]),
    shuffle=st.booleans(),
    fletcher32=st.booleans(),
    dtype=st.sampled_from(["<i4", "S3", "u1"]),
    threads=st.integers(1, 4),
)
def test_h5py_reads_what_we_write_and_the_other_way_round(
    tmp_path_factory, axes, codec, shuffle, fletcher32, dtype, threads
):
    shape, chunks = (tuple(side) for side in zip(*axes, strict=True))
    hdf5plugin = pytest.importorskip("hdf5plugin")
    array = sample(dtype, shape)
    path = tmp_path_factory.mktemp("both") / "out.h5"
    filters = {"shuffle": shuffle, "fletcher32": fletcher32}
    oc.to_hdf5(path, array, chunks=chunks, compression=codec, threads=threads, **filters)
    clipped = tuple(map(min, chunks, shape))
    with h5py.File(path, "r+") as file:
        assert (file["data"][()] == array).all()
        assert file["data"].chunks == clipped
        theirs = hdf5plugin.Zstd(clevel=2) if codec == "zstd" else codec
        file.create_dataset("theirs", data=array, chunks=clipped, compression=theirs, **filters)
        assert native_codec(file["theirs"]) is not None
    assert_same(oc.from_hdf5(path, "theirs", threads=threads), array)


def test_chunks_that_do_not_shrink_are_stored_as_they_are(path):
    noise = np.random.default_rng(5).integers(0, 256, 300_000, "u1")
    oc.to_hdf5(path, {"gzip": noise.view("u4"), "zero": np.zeros(9), "nothing": noise[:0]}, compression="gzip")
    with h5py.File(path) as file:
        assert file["gzip"].id.get_chunk_info(0).filter_mask == 0b10
        assert (file["gzip"][()] == noise.view("u4")).all()
        assert path.stat().st_size < noise.nbytes + 20_000
    assert_same(oc.from_hdf5(path, "gzip"), noise.view("u4"))


def test_the_stored_bytes_are_a_zlib_stream_of_byte_planes(path):
    array = np.arange(1000, dtype="<u4")
    oc.to_hdf5(path, array, chunks=256, compression="gzip")
    with h5py.File(path) as file:
        _, stored = file["data"].id.read_direct_chunk((768,))
    padded = np.zeros(256, "<u4")
    padded[:232] = array[768:]
    assert zlib.decompress(stored) == padded.view("u1").reshape(256, 4).T.tobytes()


def test_chunks_that_were_never_written_hold_the_fill_value(path):
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("x", (100,), "i4", chunks=(10,), compression="gzip", fillvalue=7)
        dataset[30:40] = np.arange(10)
    expected = np.full(100, 7, "i4")
    expected[30:40] = np.arange(10)
    assert_same(oc.from_hdf5(path, "x"), expected)


def test_a_chunk_larger_than_the_dataset_is_read(path):
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "x", data=np.arange(6).reshape(2, 3), chunks=(8, 8), maxshape=(None, None), compression="gzip"
        )
    assert_same(oc.from_hdf5(path, "x"), np.arange(6).reshape(2, 3))


def test_layout_and_filters_are_those_asked_for(path):
    array = sample(CALL, 100_000)
    oc.to_hdf5(path, {"x": array})
    with h5py.File(path) as file:
        assert (file["x"].chunks, file["x"].compression, file["x"].id.get_offset() is None) == (None, None, False)
    oc.to_hdf5(path, {"x": array}, compression="gzip", compression_opts=9, mode="w")
    with h5py.File(path) as file:
        x = file["x"]
        assert (x.compression, x.compression_opts, x.shuffle, x.chunks) == ("gzip", 9, True, ((1 << 20) // 26,))
    oc.to_hdf5(path, {"x": array}, compression=3, shuffle=False, chunks=1000, mode="w")
    with h5py.File(path) as file:
        assert (file["x"].compression_opts, file["x"].shuffle, file["x"].chunks) == (3, False, (1000,))
    oc.to_hdf5(path, {"x": array}, shuffle=True, fletcher32=True, mode="w")
    with h5py.File(path) as file:
        assert (file["x"].compression, file["x"].shuffle, file["x"].fletcher32) == (None, True, True)
        assert_same(file["x"][()], array)


@pytest.mark.parametrize(
    ("shape", "chunks", "expected"),
    [
        ((10,), None, (10,)),
        ((10**7,), True, (131072,)),
        ((10**6, 100), True, (1310, 100)),
        ((5, 10**6, 10), True, (1, 13107, 10)),
        ((10, 3, 4), 4, (4, 3, 4)),
        ((10, 3, 4), 40, (10, 3, 4)),
        ((10, 3), (4, 9), (4, 3)),
    ],
)
def test_chunk_shape(shape, chunks, expected):
    assert chunk_shape(shape, np.dtype("f8"), chunks) == expected


def test_chunks_of_each_dataset(path):
    arrays = {"a": np.zeros((100, 6)), "b": np.zeros((40, 5)), "c": np.zeros(7)}
    oc.to_hdf5(path, arrays, chunks={"a": (10, 3), "b": 8})
    with h5py.File(path) as file:
        assert [file[name].chunks for name in "abc"] == [(10, 3), (8, 5), None]
    asked = []

    def chunks(name, shape, dtype):
        asked.append((name, shape, dtype))
        return {"a": (50, 6), "b": True}.get(name)

    oc.to_hdf5(path, arrays, chunks=chunks, mode="w")
    assert asked == [(name, array.shape, np.dtype("f8")) for name, array in arrays.items()]
    with h5py.File(path) as file:
        assert [file[name].chunks for name in "abc"] == [(50, 6), (40, 5), None]
    with pytest.raises(ValueError, match="chunks for 'd', but there is no such dataset"):
        oc.to_hdf5(path, arrays, chunks={"d": 8}, mode="w")
    with pytest.raises(TypeError, match=r"'a': chunks 'many': give a number of rows"):
        oc.to_hdf5(path, arrays, chunks=lambda *_: "many", mode="w")
    with pytest.raises(ValueError, match="'b': chunks=False, but filters"):
        oc.to_hdf5(path, arrays, chunks={"b": False}, compression="lzf", mode="w")


def test_attributes(path):
    when = np.array(["2020-01-01", "NaT"], "M8[s]")
    oc.to_hdf5(path, {"a": sample(CALL, 3), "t": when}, attrs={"a": {"source": "one.txt"}})
    with h5py.File(path) as file:
        assert dict(file.attrs) == {"creator": "onecopy", "version": oc.__version__}
        expected = "[('chr', 'S10'), ('pos', '<i4'), ('pct', '<f4'), ('c', '<i4'), ('t', '<i4')]"
        assert dict(file["a"].attrs) == {"dtype": expected, "rows": 3, "source": "one.txt"}
        assert file["t"].attrs["units"] == "seconds since 1970-01-01"
        assert file["t"].dtype == "<i8"


def test_foreign_and_stale_dtype_attributes_do_no_harm(path):
    with h5py.File(path, "w") as file:
        for name, text in {"a": "int16", "b": "no type", "c": "[('x', '<M8[s]')]", "d": "<U3"}.items():
            file.create_dataset(name, data=np.arange(3)).attrs["dtype"] = text
    for array in oc.from_hdf5(path).values():
        assert_same(array, np.arange(3))


def test_strings_of_any_length(path):
    oc.to_hdf5(path, {"words": np.array(["a", "日本" * 9], object)})
    assert oc.from_hdf5(path, "words").tolist() == ["a", "日本" * 9]


def test_a_record_array_and_plain_values(path):
    records = sample(CALL, 5).view(np.recarray)
    oc.to_hdf5(path, {"records": records, "list": [1, 2, 3], "number": 1.5, "run/one": [1.0]})
    assert_same(oc.from_hdf5(path, "records"), sample(CALL, 5))
    assert set(oc.from_hdf5(path)) == {"records", "list", "number", "run/one"}
    assert oc.from_hdf5(path, "number") == 1.5


@pytest.mark.parametrize("options", FILTERS, ids=str)
def test_what_is_read_is_shared(path, options, nothing_left):
    oc.to_hdf5(path, {"calls": sample(CALL, 1000), "when": sample("M8[s]", 1000)}, **options)
    assert [oc.is_shared(array) for array in oc.from_hdf5(path).values()] == [True, True]


def test_an_iterable_is_consumed_step_by_step(path):
    alive = []

    def arrays():
        for i in range(4):
            alive.append(i)
            yield f"a{i}", np.full(3, i)

    oc.to_hdf5(path, arrays(), compression="lzf")
    assert alive == [0, 1, 2, 3]
    assert oc.from_hdf5(path, "a3").tolist() == [3, 3, 3]


@pytest.mark.parametrize("options", FILTERS, ids=str)
def test_progress_adds_up_to_the_bytes(path, options):
    seen = []
    array = sample(CALL, 100_001)
    oc.to_hdf5(path, {"a": array, "b": array[::2]}, progress=seen.append, **options)
    assert sum(seen) == array.nbytes + array[::2].nbytes


def test_progress_bar_only_on_a_terminal(path, capsys):
    oc.to_hdf5(path, np.arange(9), progress=True)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("options", FILTERS, ids=str)
@pytest.mark.parametrize("dtype", [CALL, "<M8[D]", "f8"], ids=str)
@pytest.mark.parametrize("parts", [[], [0], [7], [3, 0, 25, 11, 60, 1]])
def test_a_growing_dataset(path, parts, dtype, options):
    whole = sample(dtype, sum(parts))
    with Hdf5Writer(path, "x", oc._hdf5.filters.Filters(**{**options, "chunks": 10})) as writer:
        growing = writer.grow("x", dtype)
        for start, size in zip(np.cumsum([0, *parts[:-1]]), parts, strict=False):
            growing.append(whole[start : start + size])
        growing.save()
    assert_same(oc.from_hdf5(path, "x"), whole)
    with h5py.File(path) as file:
        assert file["x"].attrs["rows"] == sum(parts)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        ({"x": np.array([{}, []], object)}, TypeError, r"'x'.*object.*astype"),
        ({"x": np.array([(1, "a")], [("n", "i4"), ("s", "O")])}, TypeError, r"'x'.*astype"),
        ({"x": np.zeros(1, [("a\0b", "i4")])}, ValueError, r"'x'.*rename"),
        ({"x": np.ma.masked_array([1, 2], [True, False])}, TypeError, r"'x'.*filled"),
        ({"": [1]}, TypeError, r"''.*name"),
        ({3: [1]}, TypeError, r"3 .*name"),
        ([1, 2, 3], TypeError, r"1 is no pair.*asarray"),
        ([("a", [1]), ("a", [2])], ValueError, r"'a'.*already"),
        ([("a", [1]), ("a/b", [2])], ValueError, r"a/b"),
    ],
)
def test_data_that_cannot_be_written(path, data, error, words):
    with pytest.raises(error, match=words):
        oc.to_hdf5(path, data)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"compression": "zip"}, r"'zip'.*gzip"),
        ({"compression": "gzip", "compression_opts": 10}, r"10.*0 .* 9"),
        ({"compression": "zstd", "compression_opts": 0}, r"zstd level 0: give 1 .* 22"),
        ({"compression": "lzf", "compression_opts": 1}, "no levels"),
        ({"compression": 5, "compression_opts": 1}, "compression_opts"),
        ({"chunks": False, "compression": "gzip"}, "chunks=False"),
        ({"chunks": 0}, "chunks=0"),
        ({"chunks": (2, 2)}, r"\(2, 2\).*\(3,\)"),
        ({"chunks": (0,)}, r"\(0,\)"),
        ({"mode": "r"}, "'r'.*'x'"),
        ({"threads": 0}, "threads=0"),
        ({"attrs": {"y": {"source": "a"}}}, "'y'.*no such dataset"),
    ],
)
def test_options_that_do_not_fit(path, options, words):
    with pytest.raises(ValueError, match=words):
        oc.to_hdf5(path, [("x", np.arange(3))], **options)
    assert list(path.parent.iterdir()) == []


def test_reading_what_is_not_there(path, tmp_path):
    with pytest.raises(FileNotFoundError):
        oc.from_hdf5(path)
    with pytest.raises(IsADirectoryError, match="directory"):
        oc.from_hdf5(tmp_path)
    path.write_text("chr1 5\n")
    with pytest.raises(OSError, match="not an HDF5 file"):
        oc.from_hdf5(path)
    oc.to_hdf5(path, {"a": [1], "g/b": [2]}, mode="w")
    with pytest.raises(KeyError, match=r"'x'.*a, g/b"):
        oc.from_hdf5(path, "x")
    with pytest.raises(KeyError, match="'g'"):
        oc.from_hdf5(path, "g")


@pytest.mark.parametrize("codec", ["gzip", "lzf", "zstd"])
def test_a_damaged_chunk_is_named(path, codec):
    oc.to_hdf5(path, {"x": sample("i4", 100_000)}, compression=codec, chunks=10_000)
    with h5py.File(path, "r+") as file:
        _, stored = file["x"].id.read_direct_chunk((20_000,))
        file["x"].id.write_direct_chunk((20_000,), stored[: len(stored) // 2])
    with pytest.raises(OSError, match=f"'/x'.*{codec}.*corrupt.*{path}"):
        oc.from_hdf5(path, "x")


@pytest.mark.parametrize("codec", ["gzip", "lzf", "zstd", None])
def test_a_check_sum_finds_what_a_codec_does_not(path, codec):
    oc.to_hdf5(path, {"x": sample("i4", 10_000)}, compression=codec, chunks=1000, fletcher32=True)
    with h5py.File(path, "r+") as file:
        mask, stored = file["x"].id.read_direct_chunk((2000,))
        file["x"].id.write_direct_chunk((2000,), stored[:7] + bytes([stored[7] ^ 1]) + stored[8:], mask)
    with pytest.raises(OSError, match=f"'/x'.*fletcher32.*check sum.*{path}"):
        oc.from_hdf5(path, "x")


def test_blosc2_by_plug_in(path):
    pytest.importorskip("hdf5plugin")
    array = sample(CALL, 5000)
    oc.to_hdf5(path, array, compression="blosc2", compression_opts=2, chunks=1000)
    assert_same(oc.from_hdf5(path, "data"), array)
    with h5py.File(path) as file:
        assert_same(file["data"][()], array)


def test_zstd_needs_no_plug_in(path):
    code = """if True:
        import sys
        sys.modules["hdf5plugin"] = None
        import numpy as np, onecopy as oc
        for _ in range(3):
            oc.to_hdf5(sys.argv[1], {"x": np.arange(1000)}, append=True, compression="zstd", chunks=300)
        assert oc.from_hdf5(sys.argv[1], "x").tolist() == [*range(1000)] * 3
        try:
            oc.to_hdf5("other.h5", np.arange(3), compression="blosc2")
        except ValueError as error:
            print(error)
    """
    run = subprocess.run([sys.executable, "-c", code, path], cwd=path.parent, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == "compression 'blosc2' needs a plug-in: pip install hdf5plugin, or take 'zstd'\n"


# ---------------------------------------------------------------- other readers


@pytest.fixture
def mixed(path):
    columns = {
        "day": np.array(["2020-01-01", "NaT", "2021-05-06"], "M8[D]"),
        "rain": np.array([0.5, 1.5, np.nan]),
        "wet": np.array([True, False, True]),
        "station": np.array(["Zürich", "Oslo", "日本"]),
    }
    oc.to_hdf5(path, columns, compression="gzip")
    oc.to_hdf5(path.with_name("calls.h5"), {"calls": sample(CALL, 50)}, compression="gzip")
    return columns


def test_xarray_opens_plain_columns(path, mixed):
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    with xarray.open_dataset(path, engine="h5netcdf", phony_dims="sort") as dataset:
        assert (dataset["day"].values == mixed["day"])[[0, 2]].all()
        assert np.isnat(dataset["day"].values[1])
        np.testing.assert_array_equal(dataset["rain"].values, mixed["rain"])
        assert dataset["wet"].values.tolist() == [True, False, True]


def test_pandas_reads_records(path, mixed):
    pandas = pytest.importorskip("pandas")
    calls = sample(CALL, 50)
    with h5py.File(path.with_name("calls.h5")) as file:
        frame = pandas.DataFrame(file["calls"][:])
    assert (frame["pos"] == calls["pos"]).all()
    assert frame["chr"].tolist() == calls["chr"].tolist()


def test_pytables_reads_records(path, mixed):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("tables")
    calls = sample(CALL, 50)
    frame = pandas.read_hdf(path.with_name("calls.h5"), "calls")
    assert (frame["pct"] == calls["pct"]).all()
    assert frame["chr"].tolist() == [text.decode() for text in calls["chr"]]


@pytest.mark.skipif(shutil.which("h5dump") is None, reason="needs h5dump (Debian package hdf5-tools)")
def test_h5dump_reads_both(path, mixed):
    def dump(*args):
        return subprocess.run(["h5dump", *map(str, args)], capture_output=True, text=True, check=True).stdout

    assert "(0): 0.5, 1.5, nan" in dump("-d", "/rain", path)
    text = dump("-d", "/calls", path.with_name("calls.h5"))
    assert 'H5T_STD_I32LE "pos"' in text
    assert "(49): {" in text


def test_errors_are_those_of_the_builtin_kind(path):
    path.write_bytes(b"")
    with pytest.raises(FileExistsError) as caught:
        oc.to_hdf5(path, [1.0][0])
    assert (caught.value.errno, caught.value.filename) == (errno.EEXIST, str(path))
