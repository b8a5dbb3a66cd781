"""`from_hdf5`: every layout, parts of datasets, virtual datasets, and files that are not what they say."""

import os
import subprocess
import sys

import h5py
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onecopy as oc
from onecopy import _native
from onecopy._hdf5 import reader

# Beyond several pieces of what a thread reads at a time, and no multiple of one.
MANY = (13 << 20) // 8 + 321
RECORD = np.dtype([("chr", "S5"), ("pos", "<i4"), ("day", "<M8[D]"), ("word", "<U3"), ("grid", "<f4", (2,))])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.h5"


def numbers(*shape):
    return np.random.default_rng(5).integers(0, 1 << 20, shape)


def records(count):
    array = np.zeros(count, RECORD)
    array["chr"] = np.arange(count).astype("S")
    array["pos"] = np.arange(count) * 3
    array["day"] = np.arange(count).astype("M8[D]")
    array["word"] = np.array(["é", "日本", "a"])[np.arange(count) % 3]
    array["grid"] = np.arange(2 * count).reshape(count, 2)
    return array


def as_contiguous(file, data):
    file["x"] = data


def as_chunks(file, data):
    file.create_dataset("x", data=data, chunks=(7, *data.shape[1:]))


def as_tiles(file, data):
    file.create_dataset("x", data=data, chunks=tuple(max(1, n // 2) for n in data.shape), compression="lzf")


def as_gzip(file, data):
    file.create_dataset("x", data=data, chunks=(7, *data.shape[1:]), compression="gzip", shuffle=True)


def as_gzip_with_sums(file, data):
    file.create_dataset("x", data=data, chunks=(7, *data.shape[1:]), compression="gzip", fletcher32=True)


def as_other_bytes(file, data):
    file.create_dataset("x", data=data, dtype=data.dtype.newbyteorder(">"), chunks=(7, *data.shape[1:]))


def as_compact(file, data):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.COMPACT)
    file.create_dataset("x", data=data, dcpl=properties)


def as_external(file, data):
    name = os.path.abspath(file.filename) + ".raw"
    file.create_dataset("x", data=data, external=[(name, 0, h5py.h5f.UNLIMITED)])


def as_virtual(file, data):
    """Some rows of one source, a whole one, and rows that nobody has."""
    layout = h5py.VirtualLayout(data.shape, data.dtype)
    file["first"] = np.concatenate([data[:2], data[:10], data[:2]])
    file.create_dataset("second", data=data[10:20], chunks=True, compression="gzip")
    layout[:10] = h5py.VirtualSource(file["first"])[2:12]
    layout[10:20] = h5py.VirtualSource(file["second"])
    if len(data) > 20:
        file["third"] = data[20:]
        layout[20:] = h5py.VirtualSource(file["third"])
    file.create_virtual_dataset("x", layout)


LAYOUTS = [
    as_contiguous,
    as_chunks,
    as_tiles,
    as_gzip,
    as_gzip_with_sums,
    as_other_bytes,
    as_compact,
    as_external,
    as_virtual,
]


@pytest.mark.parametrize("userblock", [0, 4096])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_part_of_any_layout(path, layout, userblock):
    data = numbers(45, 6)
    with h5py.File(path, "w", userblock_size=userblock) as file:
        layout(file, data)
    slices = [slice(None), slice(0, 0), slice(5, 30), slice(7, 14), slice(20, 21), slice(-3, None), slice(40, 99)]
    slices += [slice(None, None, 4), slice(3, 40, 11), slice(None, None, -1), slice(30, 2, -7), slice(30, 2)]
    for rows in slices:
        found = oc.from_hdf5(path, "x", rows=rows)
        np.testing.assert_array_equal(found, data[rows], err_msg=str(rows), strict=layout is not as_other_bytes)
        assert oc.is_shared(found) or not found.size


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    shape=hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=30),
    codec=st.sampled_from([None, "gzip", "lzf"]),
    threads=st.integers(1, 3),
    block=st.integers(1, 2000),
)
def test_rows_are_those_of_the_array(tmp_path_factory, data, shape, codec, threads, block):
    array = np.arange(np.prod(shape)).reshape(shape)
    chunks = tuple(data.draw(st.integers(1, side)) for side in shape)
    path = tmp_path_factory.mktemp("rows") / "a.h5"
    oc.to_hdf5(path, array, chunks=chunks, compression=codec)
    rows = data.draw(st.slices(shape[0]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "_BLOCK_BYTES", block)
        found = oc.from_hdf5(path, "data", rows=rows, threads=threads)
    np.testing.assert_array_equal(found, array[rows], strict=True)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_large_arrays_come_whole_in_pieces(path, threads):
    data = numbers(MANY)
    oc.to_hdf5(path, {"plain": data})
    with h5py.File(path, "a") as file:
        file.create_dataset("chunks", data=data, chunks=(100_000,))
    for name in ("plain", "chunks"):
        np.testing.assert_array_equal(oc.from_hdf5(path, name, threads=threads), data)
        np.testing.assert_array_equal(oc.from_hdf5(path, name, threads=threads, rows=slice(77, -5)), data[77:-5])


@pytest.mark.parametrize("options", [{}, {"compression": "gzip", "chunks": 9}], ids=str)
@pytest.mark.parametrize("fields", ["pos", "day", "word", "grid", ["pos"], ["grid", "day", "chr"], ("word", "pos")])
def test_fields(path, options, fields):
    data = records(100)
    oc.to_hdf5(path, {"x": data, "one": data[5]}, **options)
    wanted = fields if isinstance(fields, str) else list(fields)
    packed = data.dtype[fields].base if isinstance(fields, str) else [(name, data.dtype[name]) for name in fields]
    found = oc.from_hdf5(path, "x", fields=fields, rows=slice(90, 10, -3))
    assert found.dtype == packed
    np.testing.assert_array_equal(found, data[90:10:-3][wanted])
    one = oc.from_hdf5(path, "one", fields=fields)
    assert one.dtype == packed
    np.testing.assert_array_equal(one, data[5][wanted])


@pytest.mark.parametrize("kind", ["<M8[D]", "<U2", "S2", "<i4"])
def test_a_field_of_arrays(path, kind):
    data = np.zeros(30, [("n", "i4"), ("several", kind, (2, 3))])
    data["several"] = np.arange(180).reshape(30, 2, 3).astype("i8" if kind == "<M8[D]" else kind).astype(kind)
    oc.to_hdf5(path, {"x": data}, chunks=7)
    np.testing.assert_array_equal(oc.from_hdf5(path, "x", fields="several"), data["several"], strict=True)
    np.testing.assert_array_equal(oc.from_hdf5(path, "x", fields=["several"])["several"], data["several"], strict=True)


def test_parts_that_cannot_be(path):
    oc.to_hdf5(path, {"x": records(10), "n": np.arange(3), "one": 5, "text": np.array(["a", "bc"], object)})
    cases = [
        (KeyError, r"no field 'qos'.*there are: chr, pos, day, word, grid", ("x",), {"fields": ["pos", "qos"]}),
        (ValueError, r"'/n' has the type int64 and no fields", ("n",), {"fields": "pos"}),
        (ValueError, r"'/one' is a scalar", ("one",), {"rows": slice(3)}),
        (TypeError, r"rows=\[1, 2\]: give a slice", ("n",), {"rows": [1, 2]}),
        (ValueError, r"give its name", (), {"rows": slice(3)}),
        (ValueError, r"threads=0", ("n",), {"threads": 0}),
    ]
    for error, words, name, options in cases:
        with pytest.raises(error, match=words):
            oc.from_hdf5(path, *name, **options)
    assert oc.from_hdf5(path, "text", rows=slice(1, None)).tolist() == ["bc"]


# ---------------------------------------------------------------- damaged and changing files


@pytest.mark.parametrize("call", ["read_array", "read_chunks"])
@pytest.mark.parametrize("left", [0, 5000, 100_000])
def test_a_file_that_shrinks_while_it_is_read_is_an_error(path, monkeypatch, nothing_left, call, left):
    options = {"compression": "gzip"} if call == "read_chunks" else {}
    oc.to_hdf5(path, {"x": numbers(MANY)}, **options)
    native = getattr(_native, call)

    def shrink_first(*arguments, **keywords):
        os.truncate(path, left)
        return native(*arguments, **keywords)

    monkeypatch.setattr(_native, call, shrink_first)
    with pytest.raises(OSError, match=rf"dataset '/x' cannot be read.*file has {left}.*truncated") as caught:
        oc.from_hdf5(path, "x")
    assert caught.value.filename == str(path)


@pytest.mark.parametrize("options", [{}, {"compression": "lzf"}], ids=str)
def test_a_truncated_file_is_named(path, options):
    oc.to_hdf5(path, {"x": numbers(100_000)}, **options)
    os.truncate(path, os.path.getsize(path) - 70_000)
    with pytest.raises(OSError, match=rf"cannot be opened.*truncated.*{path}"):
        oc.from_hdf5(path)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(["gzip", "lzf"]))
def test_flipped_bits_of_chunks_are_errors_or_other_values(tmp_path_factory, data, codec):
    path = tmp_path_factory.mktemp("flip") / "a.h5"
    array = np.arange(3000)
    oc.to_hdf5(path, array, compression=codec, chunks=500)
    with h5py.File(path) as file:
        chunk = file["data"].id.get_chunk_info(data.draw(st.integers(0, 5)))
    with open(path, "r+b") as file:
        file.seek(chunk.byte_offset + data.draw(st.integers(0, chunk.size - 1)))
        file.write(data.draw(st.binary(min_size=1, max_size=1)))
    try:
        found = oc.from_hdf5(path, "data")
    except OSError as error:
        assert "corrupt" in str(error) and error.filename == str(path)
    else:
        assert found.shape == array.shape


def test_a_file_that_another_process_writes_is_named(path):
    with h5py.File(path, "w") as file:
        file["x"] = 1
        file.flush()
        child = f"import onecopy as oc; oc.from_hdf5({str(path)!r})"
        ended = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=False)
    assert "BlockingIOError" in ended.stderr and "being written by another process" in ended.stderr, ended.stderr


def test_a_file_that_is_written_for_readers_is_read_as_it_is_so_far(path):
    read = f"import onecopy as oc; print(oc.from_hdf5({str(path)!r}, 'x').sum())"
    with h5py.File(path, "w", libver="latest") as file:
        rows = file.create_dataset("x", data=np.arange(100), chunks=(30,), maxshape=(None,), compression="gzip")
        file.swmr_mode = True
        for count in (100, 250):
            rows.resize(count, axis=0)
            rows[:] = np.arange(count)
            rows.flush()
            ended = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, check=False)
            assert ended.stdout.strip() == str(sum(range(count))), ended.stderr


def test_native_reading_refuses_what_it_cannot_fill(path):
    path.write_bytes(b"x" * 100)
    with open(path, "rb") as file:
        with pytest.raises(ValueError, match="contiguous"):
            _native.read_array(file.fileno(), np.zeros(10)[::2], 0, threads=1)
        read_only = np.zeros(3)
        read_only.flags.writeable = False
        with pytest.raises(ValueError, match="read-only"):
            _native.read_array(file.fileno(), read_only, 0, threads=1)
        with pytest.raises(OSError, match=r"24 bytes from byte 80.*has 100"):
            _native.read_array(file.fileno(), np.zeros(3), 80, threads=2)
        with pytest.raises(OSError, match=r"has 100"):
            _native.read_array(file.fileno(), np.zeros(3), 1 << 63, threads=2)
        place = {"codec": None, "shuffle": False, "fletcher32": False, "threads": 1}
        with pytest.raises(OSError, match=r"chunk of 1000000000000000 stored bytes.*has 100"):
            _native.read_chunks(file.fileno(), np.zeros(3), [3], stored=[((0,), (0, 10**15), 0)], **place)
        with pytest.raises(OSError, match=r"it holds 25 bytes instead of 24"):
            _native.read_chunks(file.fileno(), np.zeros(3), [3], stored=[((0,), (0, 25), 0)], **place)
        with pytest.raises(ValueError, match=r"no chunk begins at \[1\]"):
            _native.read_chunks(file.fileno(), np.zeros(3), [3], stored=[((1,), (0, 24), 0)], **place)
    with pytest.raises(OSError, match=r"[Bb]ad file descriptor"):
        _native.read_array(-1, np.zeros(3), 0, threads=1)
    with open(path, "ab") as writer, pytest.raises(OSError, match=r"[Bb]ad file descriptor"):
        _native.read_array(writer.fileno(), np.zeros(3), 0, threads=1)


# ---------------------------------------------------------------- virtual datasets


@pytest.fixture
def steps(tmp_path):
    """Three files of one grid each, and a virtual dataset of them all."""
    data = numbers(3, 4, 5)
    for step, grid in enumerate(data):
        oc.to_hdf5(tmp_path / f"step{step}.h5", {"grid": grid}, compression="gzip")
    layout = h5py.VirtualLayout((5, 4, 5), data.dtype)
    for step in range(3):
        layout[step] = h5py.VirtualSource(f"step{step}.h5", "grid", (4, 5))
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file.create_virtual_dataset("x", layout, fillvalue=-1)
    return tmp_path / "all.h5", np.concatenate([data, np.full((2, 4, 5), -1)])


def test_grids_of_several_files(steps, monkeypatch):
    path, expected = steps
    read = []
    native = _native.read_chunks
    monkeypatch.setattr(
        _native, "read_chunks", lambda *arguments, **options: (read.append(1), native(*arguments, **options))
    )
    np.testing.assert_array_equal(oc.from_hdf5(path, "x"), expected)
    assert len(read) == 3
    np.testing.assert_array_equal(oc.from_hdf5(path, "x", rows=slice(1, 2)), expected[1:2])
    assert len(read) == 4
    np.testing.assert_array_equal(oc.from_hdf5(path)["x"], expected)


def test_sources_are_found_where_the_file_is(steps, tmp_path, monkeypatch):
    path, expected = steps
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "link.h5").symlink_to(path)
    np.testing.assert_array_equal(oc.from_hdf5("link.h5", "x"), expected)


def test_a_missing_source_is_an_error(steps):
    path, _ = steps
    (path.parent / "step1.h5").unlink()
    with pytest.raises(FileNotFoundError, match=r"virtual dataset '/x' in .*all\.h5 is made of.*step1\.h5"):
        oc.from_hdf5(path, "x")
    oc.to_hdf5(path.parent / "step1.h5", {"other": [1]})
    with pytest.raises(OSError, match=r"has no dataset 'grid', which the virtual dataset '/x' in .*step1\.h5"):
        oc.from_hdf5(path, "x")


def test_virtual_datasets_of_any_other_shape_are_read_by_libhdf5(path):
    with h5py.File(path, "w") as file:
        file["a"] = numbers(6, 5)
        file["b"] = numbers(6, 5).astype("i4")
        tiles = h5py.VirtualLayout((6, 10), "i8")
        tiles[:, :5] = h5py.VirtualSource(file["a"])
        tiles[:, 5:] = h5py.VirtualSource(file["b"])
        file.create_virtual_dataset("tiles", tiles)
        every = h5py.VirtualLayout((12, 5), "i8")
        every[::2] = h5py.VirtualSource(file["a"])
        every[1::2] = h5py.VirtualSource(file["b"])
        file.create_virtual_dataset("every", every)
        file["c"] = numbers(6, 5)[::-1]
        columns = h5py.VirtualLayout((6, 5), "i8")
        columns[:, :3], columns[:, 3:] = h5py.VirtualSource(file["a"])[:, :3], h5py.VirtualSource(file["c"])[:, 3:]
        file.create_virtual_dataset("columns", columns)
        turns = h5py.VirtualLayout((6, 5), "i8")
        turns[::2], turns[1::2] = h5py.VirtualSource(file["a"])[::2], h5py.VirtualSource(file["c"])[1::2]
        file.create_virtual_dataset("turns", turns)
        again = h5py.VirtualLayout((12, 5), "i8")
        again[...] = h5py.VirtualSource(file["every"])
        file.create_virtual_dataset("again", again)
        expected = {name: file[name][()] for name in file}
    for name, data in expected.items():
        np.testing.assert_array_equal(oc.from_hdf5(path, name), data, err_msg=name)
        np.testing.assert_array_equal(oc.from_hdf5(path, name, rows=slice(2, 5)), data[2:5], err_msg=name)


def test_a_virtual_dataset_of_itself_is_an_error(path):
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout((4,), "i8")
        layout[...] = h5py.VirtualSource(".", "x", (4,))
        file.create_virtual_dataset("x", layout)
    with pytest.raises(OSError, match="lead from one to another"):
        oc.from_hdf5(path, "x")
