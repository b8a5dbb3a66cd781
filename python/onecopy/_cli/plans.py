"""What each text file is, decided before any is loaded: type and dialect, from the options or the first lines."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onecopy import _text
from onecopy._cli.sources import Source

DType = np.dtype[Any]


@dataclass(frozen=True)
class Plan:
    """How one file will be loaded.

    Attributes
    ----------
    source : Source
        The file, as it was before it was looked into.
    dtype : numpy.dtype
        The type of its rows, or of all its columns.
    dialect : dict
        What `onecopy._text.load` gets besides.
    names : sequence of str, optional
        Of a table: what the header calls the columns.
    columns : int
        Of a table: how many columns it has, without that of row coordinates.
    """

    source: Source
    dtype: DType
    dialect: dict[str, Any]
    names: Sequence[str] | None = None
    columns: int = 0

    @property
    def path(self) -> str:
        """The path of the file."""
        return self.source.source

    @property
    def table_dtype(self) -> DType:
        """The type of the numbers of a table."""
        return self.dtype["values"].base if self.dtype.names else self.dtype


def make_plans(args: argparse.Namespace, sources: Sequence[Source]) -> list[Plan]:
    """Look at the first lines of every file; for one dataset of all, find a type that holds them all."""
    if args.layout == "stack":
        return _alike_tables([_table(source, args) for source in sources])
    plans = [_plan(source, args) for source in sources]
    if args.layout == "per-file":
        return plans
    dtype = plans[0].dtype
    for plan in plans[1:]:
        dtype = _common(dtype, plan, plans[0])
    return [replace(plan, dtype=dtype) for plan in plans]


def _table(source: Source, args: argparse.Namespace) -> Plan:
    """Plan a table of numbers; with a column of row coordinates, records of that and of all the others."""
    path, dialect, index = source.source, _dialect(args), args.index_column
    columns = _column_numbers(source, args, dialect) if args.columns is not None else None
    inferred = _text.infer(source.sample, **dialect)
    dialect.update(delimiter=inferred.delimiter, quotechar=inferred.quotechar, header=inferred.header)
    types = [inferred.dtype[name] for name in inferred.dtype.names or ()]
    if index is not None and index >= len(types):
        raise ValueError(f"{path} has {len(types)} columns, and no column {index} for --index-column")
    chosen = [column % len(types) for column in (range(len(types)) if columns is None else columns)]
    chosen = [column for column in chosen if column != index]
    if not chosen:
        raise ValueError(f"{path} has no columns of numbers besides --index-column")
    for column in chosen:
        if args.dtype is None and types[column].kind not in "biufc":
            raise ValueError(f"{path}: column {column} holds text, not numbers: give --columns, --missing or --dtype")
    dtype = np.result_type(*(types[column] for column in chosen)) if args.dtype is None else args.dtype
    if index is not None:
        dtype = np.dtype([("index", _readable(types[index])), ("values", dtype, (len(chosen),))])
    dialect["usecols"] = [*([] if index is None else [index]), *chosen]
    names = args.names if args.names is not None else inferred.names
    chosen_names = None if names is None else [names[column] for column in chosen]
    return Plan(source, dtype, dialect, chosen_names, len(chosen))


def _readable(dtype: DType) -> DType:
    return np.dtype(f"U{dtype.itemsize}") if dtype.kind == "S" else dtype


def _alike_tables(plans: Sequence[Plan]) -> list[Plan]:
    """Check that all tables have the same columns, and find types that hold the numbers of all."""
    first, dtype = plans[0], plans[0].dtype
    for plan in plans[1:]:
        if plan.columns != first.columns:
            raise ValueError(f"{plan.path} has {plan.columns} columns, but {first.path} has {first.columns}")
        if plan.names != first.names:
            raise ValueError(f"{plan.path} has another header than {first.path}: {_difference(plan, first)}")
        dtype = _promoted(dtype, plan.dtype)
    return [replace(plan, dtype=dtype) for plan in plans]


def _promoted(one: DType, other: DType) -> DType:
    if one.names is None:
        return np.promote_types(one, other)
    index, values = (np.promote_types(one[field].base, other[field].base) for field in ("index", "values"))
    return np.dtype([("index", index), ("values", values, one["values"].shape)])


def _difference(plan: Plan, first: Plan) -> str:
    pairs = zip(plan.names or [], first.names or [], strict=False)
    return next((f"{one!r} instead of {other!r}" for one, other in pairs if one != other), "only one of them has one")


def fit_to_dataset(plans: Sequence[Plan], dtype: DType, name: str) -> list[Plan]:
    """Load files as the type of the dataset to which their rows are added."""
    for plan in plans:
        if plan.dtype.names is not None and plan.dtype.names != dtype.names:
            one, other = (", ".join(names or ["no names"]) for names in (plan.dtype.names, dtype.names))
            raise ValueError(f"{plan.path} has the columns {one}, but dataset {name!r} has {other}: give --dtype")
    return [replace(plan, dtype=dtype) for plan in plans]


def _plan(source: Source, args: argparse.Namespace) -> Plan:
    path = source.source
    dialect = _dialect(args)
    if args.columns is not None:
        dialect["usecols"] = _column_numbers(source, args, dialect)
    inferred = _text.infer(source.sample, types=args.dtype is None, **dialect)
    dialect.update(delimiter=inferred.delimiter, quotechar=inferred.quotechar, header=inferred.header)
    dtype = inferred.dtype if args.dtype is None else args.dtype
    if dtype.names == ():
        raise ValueError(f"{path}: there are no lines of data, so nothing says which columns there are: give --dtype")
    names = args.names if args.names is not None else inferred.names
    if names is not None and dialect["usecols"] is not None:
        names = _chosen(names, dialect["usecols"], path)
    named = _named(dtype, names, path, must=args.names is not None)
    return Plan(source, named if args.dtype is not None or names is not None else _alike(named), dialect)


def _dialect(args: argparse.Namespace) -> dict[str, Any]:
    dialect: dict[str, Any] = {
        "comments": ["#"] if args.comments is None else [text for text in args.comments if text],
        "skiprows": args.skip_rows,
        "usecols": None,
        "max_rows": args.max_rows,
        "quotechar": args.quote,
        "missing": args.missing,
        "truncate": args.truncate,
    }
    if "delimiter" in args:
        dialect["delimiter"] = args.delimiter
    if args.header is not None:
        dialect["header"] = args.header
    return dialect


def _column_numbers(source: Source, args: argparse.Namespace, dialect: dict[str, Any]) -> list[int]:
    if all(isinstance(column, int) for column in args.columns):
        return list(args.columns)
    if args.names is None:
        # Names need a header; what looks like none may be one.
        dialect.setdefault("header", True)
    inferred = _text.infer(source.sample, types=False, **dialect)
    names = list(args.names or inferred.names or [])
    if not names:
        raise ValueError(f"{source.source}: no header line with names for --columns: give numbers, or --names")
    return [column if isinstance(column, int) else _find(column, names, source.source) for column in args.columns]


def _chosen(names: Sequence[str], columns: Sequence[int], path: str) -> list[str]:
    beyond = next((column for column in columns if not -len(names) <= column < len(names)), None)
    if beyond is not None:
        raise ValueError(f"{path}: no column {beyond} for --columns; there are {', '.join(names)}")
    return [names[column] for column in columns]


def _find(name: str, names: list[str], path: str) -> int:
    if name not in names:
        raise ValueError(f"{path}: no column {name!r} for --columns; there are {', '.join(names)}")
    return names.index(name)


def _named(dtype: DType, names: Sequence[str] | None, path: str, *, must: bool) -> DType:
    """Give the fields the names of the columns, unless ``--dtype`` named them."""
    count = 1 if dtype.names is None else len(dtype.names)
    if must and (names is None or len(names) != count or dtype.names is None):
        raise ValueError(f"{path}: --names gives {len(names or ())} names for {count} fields: give one for each")
    automatic = dtype.names == tuple(f"f{number}" for number in range(count))
    if names is None or dtype.names is None or not (must or (automatic and len(names) == count)):
        return dtype
    return np.dtype([(name, dtype[number]) for number, name in enumerate(names)])


def _alike(dtype: DType) -> DType:
    """Make a table of numbers without names a plain array: one type for all columns."""
    kinds = {dtype[number] for number in range(len(dtype.names or ()))}
    if len(kinds) != 1 or len(dtype.names or ()) == 1 or next(iter(kinds)).kind in "SU":
        return dtype
    return kinds.pop()


def _common(dtype: DType, plan: Plan, first: Plan) -> DType:
    if dtype.names != plan.dtype.names:
        one, other = (", ".join(names or ["no names"]) for names in (dtype.names, plan.dtype.names))
        raise ValueError(
            f"{plan.path} has the columns {other}, but {first.path} {one}: give --dtype, or --layout per-file"
        )
    if dtype.names is None:
        return np.promote_types(dtype, plan.dtype)
    return np.dtype([(name, np.promote_types(dtype[name], plan.dtype[name])) for name in dtype.names])
