"""Keeps the README's table of claims equal to the saved results."""

from pathlib import Path

from benchmarks.report import Claim, Table, show

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


def update(tables: dict[str, Table], path: Path = README) -> None:
    """Replace what stands between the two marks."""
    before, _, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if end:
        path.write_text(f"{before}{BEGIN}\n{table_of_claims(tables)}\n{END}{after}")


def table_of_claims(tables: dict[str, Table]) -> str:
    """A Markdown table, one line per claim."""
    lines = ["| | onecopy | best peer | ratio | wanted |", "|---|---|---|---|---|"]
    for table in tables.values():
        lines += [_line(table, claim) for claim in table.claims]
    return "\n".join(lines)


def _line(table: Table, claim: Claim) -> str:
    name = f"{table.title.partition(':')[0].partition(',')[0]}: {claim.figure}"
    peer = f"{claim.peer}: {show(claim.peer_value, claim.unit)}"
    mark = "" if claim.kept else " (missed)"
    ratio = f"{claim.ratio:,.0f} x" if claim.ratio >= 100 else f"{claim.ratio:.2f} x"
    return f"| {name} | {show(claim.onecopy, claim.unit)} | {peer} | {ratio} | {claim.bar}{mark} |"
