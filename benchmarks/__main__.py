"""Command line: measure, print tables, save JSON, draw the picture, update the README."""

import argparse
import sys
from pathlib import Path

from benchmarks import picture, readme
from benchmarks.cases import CASES
from benchmarks.measure import FULL, QUICK, QUIET, OtherLoad
from benchmarks.report import load, render, save

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    options = _options()
    results = RESULTS / "quick" if options.quick else RESULTS
    if options.quick:
        print("A quick run: everything is smaller than its label says.\n")
    kept = True
    for name in options.only or ([] if options.redraw else CASES):
        with OtherLoad() as others:
            table = CASES[name].run(QUICK if options.quick else FULL)
        if others.cores > QUIET:
            table.notes.append(f"disturbed: other programs kept {others.cores:.1f} cores busy meanwhile")
        print(render(table), flush=True)
        save(table, results / f"{name}.json")
        kept = kept and all(claim.kept for claim in table.claims)
    tables = {name: load(path) for name in CASES if (path := results / f"{name}.json").exists()}
    picture.draw(tables, results / "benchmarks.svg")
    if not options.quick:
        readme.update(tables)
    return 0 if kept or options.quick else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure onecopy beside its peers.")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: shows that everything works")
    parser.add_argument("--only", nargs="+", choices=CASES, metavar="CASE", help=f"some of: {' '.join(CASES)}")
    parser.add_argument("--redraw", action="store_true", help="only the picture and the README, from saved results")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
