"""Compressed text to arrays: gzip, which only one thread can inflate, and BGZF, whose blocks are independent."""

from benchmarks import data
from benchmarks.cases.text import ARRAY, OWN, add_rates
from benchmarks.measure import Scale
from benchmarks.report import Table

TITLE = "Compressed text to arrays, in bytes of plain text per second"

READERS = ["onecopy", "pandas", "pandas, categories", "polars", "polars, categoricals", "pyarrow, dictionary"]


def run(scale: Scale) -> Table:
    table = Table(TITLE)
    text = data.methylation(scale.rows(5_000_000))
    for label, path in [("gzip", data.gzipped(text)), ("BGZF", data.bgzipped(text))]:
        add_rates(table, scale, label, "CALLS", path, text, READERS)
        for figure in [OWN, ARRAY]:
            peers = [name for name in READERS if name.startswith(("pa", "po"))]
            table.claim_ratio(f"{label}, {figure}", 1.5, peers=peers)
    return table
