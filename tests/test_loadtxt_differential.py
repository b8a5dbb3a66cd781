"""Random texts and arguments: `onecopy.loadtxt` gives what `numpy.loadtxt` gives, or the same type of exception.

`ONECOPY_INPUTS` sets how many (200,000 make the claim of the README), `ONECOPY_SEED` where they begin.
"""

import io
import os
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import onecopy as oc
from onecopy._text.converters import are_plain
from onecopy._text.lines import Joiner
from samples import identical

INPUTS = int(os.environ.get("ONECOPY_INPUTS", "20000"))
SEED = int(os.environ.get("ONECOPY_SEED", "20261125"))
#: Inputs of one test: what fails is found again by its number.
BATCH = 2000

SPACES = [" ", "  ", "\t", " \t", "\u00a0", "\u2003", "\x0b", "\x1f"]
ENDS = ["\n", "\n", "\n", "\r\n", "\n\n", " \n", "\n# note\n", "# tail\n", "\r"]
PLAIN = ["0", "1", "-7", "+3", "12", "255", "256", "-129", "32768", "4294967296", "9223372036854775807", "1" * 25]
FLOATS = ["1.5", "-0.0", ".5", "5.", "1e5", "1E-400", "1e400", "nan", "NaN", "-inf", "infinity", "0.1", "2.5e-320"]
ODD = ["", "x", "1_000", "0x10", "1e", "e5", "--1", "+-1", "1 ", " 1", "1.2.3", "nane", "inf1", "1\x00", "é", "λ"]
COMPLEX = ["1+2j", "(1-2j)", "3j", "(4)", "1+j", "1e2-3.5e-1j", "( 1+2j )", "1 +2j", "nan+infj"]
DATES = ["2020-01-02", "1969-12-31", "2012-02-30", "NaT", "2020-01-02T03:04:05", "20200102", "2020"]
QUOTED = ['"a"', '"a""b"', '"a b"', '"1"', '"', '""', 'x"y', '"1\n2"', '"#"']
WORDS = ["a", "chr1", "gene", "ab\u0301", "spam-a-lot", "\xff", "#", "a#b", "'"]

DTYPES: list[tuple[Any, list[str]]] = [
    (float, PLAIN + FLOATS), ("f4", PLAIN + FLOATS), ("f2", [*FLOATS, "65504", "65520"]), (int, PLAIN), ("i1", PLAIN),
    ("u1", PLAIN), ("<u8", PLAIN), (">i4", PLAIN), ("u2", PLAIN), (">f8", FLOATS), (bool, ["0", "1", "2", "-1"]),
    (complex, COMPLEX + FLOATS), ("c8", COMPLEX), ("S3", WORDS + PLAIN), ("U4", WORDS + PLAIN), ("U1", WORDS),
    ("M8[D]", DATES), ("M8[s]", DATES), ("m8[s]", [*PLAIN[:-1], "NaT"]), ("S", WORDS), ("U", WORDS), (object, WORDS),
    ("i4,f8", PLAIN + FLOATS), ([("s", "S4"), ("n", "i4"), ("x", "f4")], WORDS + PLAIN), ("i2,2f4", PLAIN),
    ([("a", "U3"), ("b", [("x", "f8"), ("y", "i1")])], PLAIN), ("g", FLOATS),
]  # fmt: skip


def numbered() -> Callable[[Any], int]:
    """Return a function whose results depend on the order of its calls."""
    seen: dict[Any, int] = {}
    return lambda field: seen.setdefault(field, len(seen))


#: Each is made anew for each call: some have a state.
CONVERTERS: list[Callable[[], Any]] = [
    lambda: float, lambda: {0: float}, lambda: {0: str.upper}, lambda: {9: float}, lambda: 3, lambda: {0: 3},
    lambda: {"a": float}, lambda: {}, lambda: {-1: float, 0: int}, lambda: {1.0: float}, lambda: {2**70: float},
    lambda: {1: lambda field: field, np.int8(0): lambda field: float(field or "-1")}, lambda: {0: float, -3: 7},
    numbered, lambda: dict.fromkeys((0, 1), numbered()), lambda: {0: len, 1: lambda field: None},
    lambda: {0: lambda field: [1, 2]}, lambda: {-1: lambda field: field.strip() or 0}, lambda: repr, lambda: len,
]  # fmt: skip


def text(rng: random.Random, dtype: np.dtype[Any], fields: list[str], delimiter: str | None, quoted: bool) -> str:
    # Meant differences: a NUL in a string is an error, and blanks around dates are as those around numbers.
    is_date = dtype.kind in "mM"
    # Where white space delimits, numpy drops an empty quoted field at the end of a line, and makes one of blanks there.
    is_odd_to_numpy = quoted and delimiter is None
    odd = [word for word in ODD if not ("\x00" in word if dtype.kind in "SUV" else is_date and " " in word)]
    odd = [word for word in odd if not (is_odd_to_numpy and " " in word)]
    odd = [word for word in odd if not (dtype.char == "e" and "_" in word)]
    fields = [word for word in fields if not (is_odd_to_numpy and ("#" in word or word == "'"))]
    ends = [end for end in ENDS if not ((is_date or is_odd_to_numpy) and end[0] == " ")]
    quotes = [word for word in QUOTED if not (is_odd_to_numpy and word in ('"', '""', '"a""b"'))]
    pool = fields * 4 + (odd if rng.random() < 0.3 else []) + (quotes * 2 if quoted and not is_date else [])
    columns, ragged = rng.randint(1, 4), rng.random() < 0.15
    spaces = SPACES[:4] if rng.random() < 0.9 else SPACES
    lines = []
    for _ in range(rng.choice([0, 1, 1, 2, 3, 3, 5, 8, 40])):
        row = [rng.choice(pool) for _ in range(columns if not ragged else rng.randint(1, 4))]
        line = row[0] + "".join((delimiter or rng.choice(spaces)) + field for field in row[1:])
        lines.append(line + (rng.choice(ends) if rng.random() < 0.3 else "\n"))
    whole = "".join(lines)
    return whole.rstrip("\n") if rng.random() < 0.3 else whole


def arguments(rng: random.Random, dtype: Any) -> tuple[dict[str, Any], str | None, bool]:
    delimiter = rng.choice([None, None, ",", ",", ";", "\t", " "])
    options: dict[str, Any] = {"dtype": dtype}
    if delimiter is not None:
        options["delimiter"] = rng.choice([delimiter, delimiter.encode()])
    quoted = rng.random() < 0.2
    choices: dict[str, Callable[[], Any]] = {
        "comments": lambda: rng.choice([None, "#", "%", ["#"], ["#", "%"], "//", b"#", "", ",", ["#", ","], "\n"]),
        "skiprows": lambda: rng.choice([0, 1, 2, 100, -1, 1.0]),
        "max_rows": lambda: rng.choice([None, 0, 1, 2, 3, 100, -1]),
        "usecols": lambda: rng.choice([0, -1, 1, [0, 1], (1, 0), [-1, 0], [5], [], np.array([0]), "a", 1.5, [2**70]]),
        "unpack": lambda: rng.choice([True, False]),
        "ndmin": lambda: rng.choice([0, 1, 2, 2, 3, None]),
        "encoding": lambda: rng.choice([None, "utf-8", "latin1", "bytes"]),
        "converters": lambda: rng.choice(CONVERTERS),
    }
    for name, choose in choices.items():
        if rng.random() < 0.12:
            options[name] = choose()
    if dtype in ("S", "U") and options.get("max_rows") == 0:
        del options["max_rows"]  # numpy fails inside
    if quoted:
        options["quotechar"] = rng.choice(['"', '"', '"', "'", "''", ""])
    return options, delimiter, quoted


def outcome(load: Callable[..., Any], make: Callable[[], Any], options: dict[str, Any]) -> tuple[Any, Any, list[str]]:
    """The result, the exception, and how the warnings begin."""
    if "converters" in options:
        options = {**options, "converters": options["converters"]()}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = load(make(), **options)
        except Exception as error:  # any type: that is what is compared
            return None, error, []
    return (
        result,
        None,
        sorted({str(entry.message)[:30] for entry in caught if issubclass(entry.category, UserWarning)}),
    )


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, list):
        return isinstance(ours, list) and len(ours) == len(theirs) and all(map(same, ours, theirs))
    if theirs.dtype.hasobject or theirs.dtype.kind == "g" or theirs.dtype.char in "gG":
        return bool(ours.dtype == theirs.dtype and ours.shape == theirs.shape and repr(ours) == repr(theirs))
    return identical(np.asarray(ours), np.asarray(theirs))


def same_exception(ours: Exception | None, theirs: Exception | None) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    return isinstance(ours, type(theirs)) or isinstance(theirs, type(ours))


@pytest.mark.parametrize("first", range(SEED, SEED + INPUTS, BATCH))
def test_random_inputs_give_what_numpy_gives(first: int) -> None:
    for seed in range(first, first + min(BATCH, INPUTS)):
        rng = random.Random(seed)
        dtype, fields = rng.choice(DTYPES)
        options, delimiter, quoted = arguments(rng, dtype)
        content = text(rng, np.dtype(dtype), fields, delimiter, quoted)
        make: Callable[[], Any] = rng.choice(
            [
                lambda content=content: io.StringIO(content, newline=None),
                lambda content=content: io.StringIO(content),
                lambda content=content: io.BytesIO(content.encode()),
                lambda content=content: content.split("\n"),
                lambda content=content: (line for line in content.splitlines(keepends=True)),
            ]
        )
        theirs, their_error, their_warning = outcome(np.loadtxt, make, options)
        # What does not fit a string is cut by numpy without a word, and by onecopy if it is told to.
        ours, our_error, our_warning = outcome(oc.loadtxt, make, {**options, "truncate": True})
        told = f"input {seed}: {content!r}, {options}: {ours!r} {our_error!r}, numpy: {theirs!r} {their_error!r}"
        assert same_exception(our_error, their_error), told
        assert our_error is not None or (same(ours, theirs) and our_warning == their_warning), told


@pytest.mark.parametrize("first", range(SEED, SEED + INPUTS // 4, BATCH))
def test_blocks_of_random_inputs_are_the_rows_of_loadtxt(first: int) -> None:
    for seed in range(first, first + min(BATCH, INPUTS // 4)):
        rng = random.Random(seed)
        dtype, fields = rng.choice(
            [(dtype, fields) for dtype, fields in DTYPES if dtype not in ("S", "U", object, "g")]
        )
        options, delimiter, quoted = arguments(rng, dtype)
        is_plain = are_plain(options["converters"](), names=False) if "converters" in options else True
        if options.pop("ndmin", 0) not in (0, 1, 2) or not is_plain or str(options.get("usecols")) == "[]":
            continue  # `loadtxt` alone has that to say; and rows without columns are in no block
        options.pop("unpack", None)
        # A file that gives carriage returns is for `loadtxt` one of lines that end with line feeds alone.
        content = text(rng, np.dtype(dtype), fields, delimiter, quoted).replace("\r", "\n")
        make: Callable[[], Any] = rng.choice(
            [
                lambda content=content: io.StringIO(content),
                lambda content=content: io.BytesIO(content.encode()),
                lambda content=content: content.split("\n"),
                lambda content=content: (line for line in content.splitlines(keepends=True)),
            ]
        )
        options["truncate"] = True
        ndmin = 1 if np.dtype(dtype).names else 2
        whole, whole_error, _ = outcome(oc.loadtxt, make, {**options, "ndmin": ndmin})
        rows, threads = rng.randint(1, 5), rng.randint(1, 3)
        blocks, error, _ = outcome(
            lambda source, rows=rows, threads=threads, **options: list(
                oc.iter_text(source, rows=rows, threads=threads, **options)
            ),
            make,
            options,
        )
        told = f"input {seed}: {content!r}, {options}, {rows=}: {blocks!r} {error!r}, whole: {whole!r} {whole_error!r}"
        if isinstance(error, Joiner.Odd):
            continue  # only numpy's reader joins these lines
        assert same_exception(error, whole_error), told
        if error is None:
            assert [len(block) for block in blocks[:-1]] == [rows] * (len(blocks) - 1), told
            assert all(block.dtype == whole.dtype for block in blocks), told
            # Together they would have the byte order of this machine.
            together = np.concatenate(blocks).astype(whole.dtype) if blocks else whole[:0]
            assert same(together, whole), told
