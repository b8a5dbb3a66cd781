"""``onecopy load``: text files into one HDF5 file."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from onecopy._cli import export, interrupt, options, stack
from onecopy._cli.datasets import Dataset, write_concatenated, write_per_file
from onecopy._cli.loading import loading, streaming
from onecopy._cli.options import dtype_text
from onecopy._cli.plans import Plan, fit_to_dataset, make_plans
from onecopy._cli.resume import complete_result, kept, tell_of_partial
from onecopy._cli.sources import Source, check_complete, recorded_options, source_of
from onecopy._hdf5.filters import Filters, thread_count
from onecopy._hdf5.writer import Hdf5Writer
from onecopy._names import check_name, is_text
from onecopy._text.lines import is_read_once

_OUTPUT = "the HDF5 file to write; .parquet, .arrow (or .feather) and .zarr stand for these formats"


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of this command."""
    parser = commands.add_parser(
        "load",
        help="load text files into one HDF5 file",
        description="Load delimited text files (plain, gzip, BGZF, zstd, bzip2 or xz) on all cores into one HDF5 file, "
        "which appears only when it is complete.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("files", nargs="+", metavar="FILE", help="text file")
    parser.add_argument("-o", "--output", required=True, metavar="OUT.h5", help=_OUTPUT)
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--force", action="store_true", help="replace the output when it exists")
    existing.add_argument(
        "--append",
        action="store_true",
        help="add to the output when it exists (to a copy of it): datasets, or with --layout concat rows, all or none",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="keep each file that is loaded, whatever happens, and go on with what an earlier run with --resume kept",
    )
    parser.add_argument(
        "--checksum",
        action="store_true",
        help="store the SHA-256 of each file, and tell also by it whether one has changed; each is read twice more",
    )
    _add_text_options(parser.add_argument_group("text"))
    _add_output_options(parser.add_argument_group("HDF5"))
    _add_stack_options(parser.add_argument_group("--layout stack"))
    parser.add_argument("--jobs", type=options.positive, metavar="N", help="threads (default: one per processor)")
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    parser.add_argument("--json", action="store_true", help="print a summary as JSON on standard output")


def _add_text_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--dtype", type=options.dtype, metavar="TYPES", help="chr:S10,pos:i4 for records, f4 when all are alike")
    add("--names", type=options.names, metavar="NAMES", help="names of the columns: chr,pos")
    add("--header", action=argparse.BooleanOptionalAction, help="whether the first line holds names (default: guessed)")
    add("--columns", type=options.columns, metavar="COLUMNS", help="columns to load: 0,2,-1 or names")
    add("--delimiter", type=options.delimiter, default=argparse.SUPPRESS, help="a character, '\\t', or 'white space'")
    add(
        "--comments",
        action="append",
        metavar="TEXT",
        help="what begins a comment (default: #; '' for none)",
    )
    add("--quote", type=options.one_character, metavar="CHAR", help="character around quoted fields")
    add("--missing", type=options.missing, action="append", default=[], metavar="[COLUMN:]TEXT=VALUE", help="NA=nan")
    add("--skip-rows", type=options.count, default=0, metavar="N", help="lines to skip at the beginning")
    add("--max-rows", type=options.count, metavar="N", help="rows to load of each file")
    add("--truncate", action="store_true", help="cut strings that are longer than their type")


def _add_output_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--layout",
        choices=["per-file", "concat", "stack"],
        default="per-file",
        help="a dataset per file, one with the rows of all, or one with an axis more, along which files are stacked",
    )
    add("--name", default="data", help="name of the one dataset of --layout concat and stack (default: data)")
    add(
        "--compression",
        type=options.compression,
        default={},
        metavar="FILTER",
        help="none (default), gzip:4, lzf, zstd:3, blosc2:5",
    )
    add("--chunks", type=options.positive, metavar="ROWS", help="rows per chunk (default: about 1 MiB when compressed)")
    add("--fletcher32", action="store_true", help="add check sums to the chunks")
    add("--shuffle", action=argparse.BooleanOptionalAction, help="reorder bytes before compression (default: on)")


def _add_stack_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--dims",
        type=options.dims,
        metavar="NAMES",
        help="names of the axes: time,lat,lon (default: file,row,column); coordinates of the last one are a header's",
    )
    add("--index-column", type=options.count, metavar="N", help="the column, from 0, with the coordinates of the rows")
    add(
        "--time-from",
        type=options.pattern,
        metavar="REGEX",
        help="what in the name of a file is its coordinate, such as '(\\d{8})'; several groups are joined by '-'",
    )
    add(
        "--coord",
        type=options.coordinate,
        action="append",
        default=[],
        metavar="DIM=VALUES",
        help="coordinates of an axis: time=2020-01-01,2020-01-02",
    )


def run(args: argparse.Namespace) -> int:
    """Load the files; whatever can be refused is refused before the first of them is parsed."""
    start = time.monotonic()
    _check_inputs(args.files, args.output)
    stack.check_options(args)
    kind = export.format_of(args.output)
    if kind is not None:
        export.check_options(args, kind)
    if args.checksum and (kind is not None or args.layout == "stack"):
        raise ValueError("--checksum is for HDF5 with --layout per-file or concat: leave it out")
    if kind in (None, "zarr"):
        _check_names(args)
    # Who feeds several may wait until one has been read before he begins with the next; and what has been loaded before
    # can be compared only with all of a pipe.
    stream = kind is None and not args.resume and args.layout != "stack" and sum(map(is_read_once, args.files)) == 1
    sources = [Source.of(path, checksum=args.checksum, stream=stream) for path in args.files]
    done = complete_result(args.output, sources, recorded_options(args)) if args.resume else None
    if done is not None:
        _summarise(args, Loaded(done, 0, len(sources)), time.monotonic() - start)
        return 0
    if not args.resume and not args.quiet:
        tell_of_partial(args.output)
    loaded = _load(args, sources) if kind is None else Loaded(*export.export(args, sources, kind), 0)
    _summarise(args, loaded, time.monotonic() - start)
    return 0


class Loaded(NamedTuple):
    """What a run has done.

    Attributes
    ----------
    datasets : list of Dataset
        All of the output.
    text_bytes : int
        Bytes of text that were parsed.
    resumed : int
        How many files an earlier run had loaded.
    """

    datasets: list[Dataset]
    text_bytes: int
    resumed: int


def _load(args: argparse.Namespace, sources: list[Source]) -> Loaded:
    jobs = thread_count(args.jobs)
    options = recorded_options(args)
    writer = Hdf5Writer(
        args.output,
        "w" if args.force else "a" if args.append else "x",
        Filters(args.chunks, **args.compression, shuffle=args.shuffle, fletcher32=args.fletcher32),
        threads=jobs,
        report=lambda size: interrupt.check(),
        resume=options if args.resume else None,
    )
    try:
        with writer:
            check_complete([source_of(note) for note in writer.saved], sources, args.output)
            before = len(writer.saved)
            plans = make_plans(args, sources if args.layout == "concat" else sources[before:])
            if args.append and args.layout == "concat" and args.dtype is None and args.name in writer:
                plans = fit_to_dataset(plans, writer.dtype_of(args.name), args.name)
            # The first file of each type.
            for plan in {plan.dtype: plan for plan in reversed(plans)}.values():
                writer.check_dtype(os.path.basename(plan.path), plan.dtype)
            if args.dtype is None and not args.quiet:
                _show(plans)
            writer.describe({"options": json.dumps(options)})
            datasets, text_bytes = _load_and_write(plans, sources, writer, jobs, args)
            return Loaded(datasets, text_bytes, before)
    except interrupt.Interrupted as interrupted:
        interrupted.outcome = kept(len(writer.saved), len(sources))
        raise
    except Exception:
        if writer.saved:
            print(f"onecopy load: {kept(len(writer.saved), len(sources))}", file=sys.stderr)
        raise


def _load_and_write(
    plans: list[Plan], sources: list[Source], writer: Hdf5Writer, jobs: int, args: argparse.Namespace
) -> tuple[list[Dataset], int]:
    todo = plans[len(writer.saved) :] if args.layout == "concat" else plans
    if args.layout == "stack":
        with loading(todo, jobs, args) as arrays:
            datasets = stack.write_stacked(writer, plans, arrays, stack.grid_of(args, plans))
            return list(datasets), arrays.text_bytes
    with streaming(todo, jobs, args) as files:
        if args.layout == "concat":
            datasets = write_concatenated(writer, plans, files, args.name)
        else:
            datasets = write_per_file(writer, sources, files)
        return list(datasets), files.text_bytes


def _check_inputs(paths: Sequence[str], output: str) -> None:
    for path in paths:
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, "is a directory: name the files in it, for example with *.txt", path)
        if not is_read_once(path):
            with open(path, "rb"):
                pass
        if os.path.exists(output) and os.path.samefile(path, output):
            raise ValueError(f"{output} is an input and the output: give another output")


def _check_names(args: argparse.Namespace) -> None:
    """Raise `ValueError` or `TypeError` unless datasets can have the names that they will have."""
    for path in args.files:
        if not is_text(path):
            raise ValueError(f"{path!r}: its name is no UTF-8, which HDF5 asks for: rename it")
    if args.layout != "per-file":
        check_name(args.name)


def _show(plans: Sequence[Plan]) -> None:
    """Print the guessed types in the form in which ``--dtype`` takes them."""
    shown = set()
    for plan in plans:
        text = dtype_text(plan.table_dtype if plan.columns else plan.dtype)
        if text not in shown:
            header = ", with a header line" if plan.dialect["header"] else ""
            delimiter = repr(plan.dialect["delimiter"] or "white space")
            print(f"{plan.path}: --dtype {text} (guessed; delimiter {delimiter}{header})", file=sys.stderr)
        shown.add(text)


def _size(output: str) -> int:
    """Bytes of a file, or of all files in a directory."""
    if not os.path.isdir(output):
        return os.path.getsize(output)
    return sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(output) for name in names)


def _summarise(args: argparse.Namespace, loaded: Loaded, seconds: float) -> None:
    datasets, text_bytes, resumed = loaded
    rows = sum(dataset["rows"] for dataset in datasets)
    size = _size(args.output)
    if args.json:
        summary = {"output": args.output, "datasets": datasets, "rows": rows, "text_bytes": text_bytes}
        print(json.dumps({**summary, "resumed_files": resumed, "file_bytes": size, "seconds": round(seconds, 3)}))
    elif not args.quiet:
        count = f"{len(datasets)} dataset{'s' * (len(datasets) != 1)}"
        speed = f"{text_bytes / 1e6:,.1f} MB of text in {seconds:.2f} s ({text_bytes / 1e6 / seconds:,.0f} MB/s)"
        earlier = f" ({resumed} of {len(args.files)} files were complete before)" if resumed else ""
        print(f"{args.output}: {count}, {rows:,} rows, {size / 1e6:,.1f} MB; {speed}{earlier}", file=sys.stderr)
