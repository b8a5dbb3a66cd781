"""What HDF5 cannot hold: each is refused by name, with a way out, and what was there before stays."""

import subprocess
import sys
import textwrap

import h5py
import numpy as np
import pytest

import onecopy as oc

OPTIONS = [{}, {"compression": "gzip"}, {"append": True}, {"resume": True}]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.h5"


def refused(path, error, words, data, **options):
    """Check that an error is raised, and that it says so in words of ours; nothing is left."""
    with pytest.raises(error, match=words) as caught:
        oc.to_hdf5(path, data, **options)
    assert not isinstance(caught.value, UnicodeError)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a\0b", r"'a\\x00b' is no name.*NUL"),
        ("a/", r"'a/' is no name.*end"),
        (".", r"'\.' is no name.*'\.'"),
        ("a/./b", r"'a/\./b' is no name.*'\.'"),
        ("a\ud800", r"'a\\ud800' is no name.*surrogate"),
    ],
)
def test_names_of_datasets(path, name, words, options):
    refused(path, ValueError, words, [(name, np.arange(3))], **options)


def test_names_that_look_odd_are_kept(path):
    names = ["..", " ", "é/日本", "a/../b", "x" * 3000, "a%b"]
    oc.to_hdf5(path, {name: np.arange(3) for name in names})
    assert set(oc.from_hdf5(path)) == set(names)


@pytest.mark.parametrize(
    ("array", "error", "words"),
    [
        (np.array(["ok", "a\ud800"]), ValueError, r"'x' has text that is no Unicode: 'a\\ud800'.*astype\('S'\)|encode"),
        (np.array([("a\ud800",)], [("s", "U2")]), ValueError, r"'x' has text that is no Unicode: 'a\\ud800'"),
        (np.array(["a\ud800"], object), ValueError, r"'x' has text that is no Unicode: 'a\\ud800'"),
        (np.array(["a\0b"], object), ValueError, r"'x' cannot be stored.*NUL.*astype\('U'\)"),
        (np.zeros(2, [("a\ud800", "i4")]), ValueError, r"'x'.*field names.*rename"),
        (np.zeros(2, "V0"), ValueError, r"'x': dtype .*V0.* no bytes"),
        (np.zeros(2, []), ValueError, r"'x': dtype \[\].* no bytes"),
        (np.zeros(2, [("a", "S0"), ("b", "i4")]), ValueError, r"'x': dtype .*no bytes"),
        (np.zeros((1,) * 33), ValueError, r"'x'.*33 axes.*32"),
    ],
)
def test_values(path, array, error, words):
    refused(path, error, words, {"x": array})


@pytest.mark.parametrize(
    ("attrs", "error", "words"),
    [
        ({"k": None}, TypeError, r"'x': attribute 'k'.*None"),
        ({"k": {}}, TypeError, r"'x': attribute 'k'.*\{\}"),
        ({"k": np.datetime64("2020-01-01")}, TypeError, r"'x': attribute 'k'.*2020.*str"),
        ({"k": 2**70}, TypeError, r"'x': attribute 'k'"),
        ({"k": "a\0b"}, ValueError, r"'x': attribute 'k'.*NUL"),
        ({"k": "\ud800"}, ValueError, r"'x': attribute 'k'.*ud800"),
        ({"k\ud800": 1}, ValueError, r"'x': attribute 'k\\ud800'"),
        ({"k": np.zeros(20_000)}, ValueError, r"'x': attribute 'k'.*160,000 bytes.*dataset"),
        ({"": 1}, ValueError, r"'x': ''.*name of an attribute"),
        ({3: 1}, TypeError, r"'x': 3.*name of an attribute"),
        ({"dtype": "f4"}, ValueError, r"'x': attribute 'dtype' is onecopy's own"),
        ({"rows": 7}, ValueError, r"'x': attribute 'rows' is onecopy's own"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"append": True}], ids=str)
def test_attributes(path, attrs, error, words, options):
    refused(path, error, words, {"x": np.arange(3)}, attrs={"x": attrs}, **options)


def test_attributes_of_text(path):
    given = {"one": "é", "list": ["a", "日本"], "array": np.array(["a", "bc"]), "single": np.str_("x"), "bytes": b"y"}
    oc.to_hdf5(path, {"x": [1]}, attrs={"x": given})
    with h5py.File(path) as file:
        attrs = dict(file["x"].attrs)
    assert attrs.pop("list").tolist() == ["a", "日本"] and attrs.pop("array").tolist() == ["a", "bc"]
    assert {name: attrs[name] for name in ("one", "single", "bytes")} == {"one": "é", "single": "x", "bytes": "y"}


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"chunks": ("a",)}, TypeError, r"'x': chunks \('a',\): give"),
        ({"chunks": (2.5,)}, TypeError, r"'x': chunks \(2.5,\): give"),
        ({"chunks": 1 << 32, "append": True}, ValueError, r"'x': chunks of 34,359,738,368 bytes.*4 GiB"),
        ({"compression_opts": 3}, ValueError, r"compression_opts=3 without compression"),
    ],
)
def test_options(path, options, error, words):
    refused(path, error, words, {"x": np.arange(3)}, **options)


def test_sizes_of_chunks_may_be_numpys(path):
    oc.to_hdf5(path, {"a": np.zeros((9, 4)), "b": np.zeros((9, 4))}, chunks={"a": np.int64(3), "b": (np.int32(2), 4)})
    with h5py.File(path) as file:
        assert (file["a"].chunks, file["b"].chunks) == ((3, 4), (2, 4))


def test_rows_without_elements_can_grow(path):
    for _ in range(2):
        oc.to_hdf5(path, {"x": np.zeros((3, 0, 2), "i4")}, append=True, compression="gzip")
    assert oc.from_hdf5(path, "x").shape == (6, 0, 2)


def test_a_directory_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such directory.*missing"):
        oc.to_hdf5(tmp_path / "missing" / ".." / "out.h5", {"x": [1]})
    assert list(tmp_path.iterdir()) == []


# Nothing may be longer than a mebibyte, as after `ulimit -f`.
LIMITED = textwrap.dedent("""
    import errno, os, resource, sys
    from pathlib import Path
    import numpy as np, onecopy as oc

    noise = np.random.default_rng(1).integers(0, 1 << 62, 400_000)
    name, options = sys.argv[1], eval(sys.argv[2])
    oc.to_hdf5("old.h5", {"x": noise[:10]}, append=True, chunks=1000, swmr=options.get("swmr", False))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    before, files = Path("old.h5").read_bytes(), os.listdir(".")
    try:
        oc.to_hdf5(name, {"x": noise}, **options)
    except OSError as error:
        assert error.errno == errno.EFBIG and error.filename == name, error
        assert "1,048,576 bytes" in str(error) and "ulimit -f" in str(error), error
    else:
        raise SystemExit("no error")
    assert os.listdir(".") == files
    if not options.get("swmr"):
        assert Path("old.h5").read_bytes() == before
    rows = len(oc.from_hdf5("old.h5", "x"))
    # What fits is written all the same.
    oc.to_hdf5("old.h5", {"x": noise[:5]}, append=True, swmr=options.get("swmr", False))
    assert (oc.from_hdf5("old.h5", "x")[-5:] == noise[:5]).all() and len(oc.from_hdf5("old.h5", "x")) == rows + 5
    oc.to_hdf5("small.h5", {"x": noise[:1000]})
""")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("new.h5", {}),
        ("new.h5", {"compression": "gzip"}),
        ("new.h5", {"compression": "szip"}),
        ("new.h5", {"chunks": 1000}),
        ("new.h5", {"resume": True}),
        ("new.h5", {"resume": True, "compression": "szip"}),
        ("old.h5", {"append": True}),
        ("old.h5", {"mode": "w", "compression": "lzf"}),
        ("old.h5", {"append": True, "swmr": True}),
    ],
)
def test_a_limit_of_file_sizes_is_like_a_full_disk(tmp_path, name, options):
    program = [sys.executable, "-W", "error", "-c", LIMITED, name, repr(options)]
    ended = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", ""), ended.stderr
