"""The picture in the README: bars for what users wait for."""

import textwrap
from pathlib import Path

import matplotlib

from benchmarks.report import Row, Table, show

matplotlib.use("Agg")
from matplotlib import pyplot as plt

LOG_SECONDS = "seconds, less is better (logarithmic)"
PANELS = [
    ("text", "5 columns, array", "Text → structured array", "MB/s of text, more is better", 1e6),
    ("text", "1,000 columns, array", "Text → matrix of 1,000 columns", "MB/s of text, more is better", 1e6),
    ("pipeline", "4 files, one dataset each", "Four text files → one HDF5 file", "MB/s of text, more is better", 1e6),
    (
        "pool",
        "64 arrays of 16 MiB in and out, ordinary",
        "64 arrays of 16 MiB to a pool and back",
        LOG_SECONDS,
        1.0,
    ),
    (
        "queue",
        "small objects, one by one",
        "Queue: small objects, one by one",
        "million messages/s, more is better",
        1e6,
    ),
    ("handover", "1 GiB array", "1 GiB array to a worker and back", LOG_SECONDS, 1.0),
]
LABEL_WIDTH = 26
OURS, THEIRS = "#1b6ca8", "#c3ccd5"
STYLE = {
    "font.size": 9,
    "axes.titlesize": 10.5,
    "svg.hashsalt": "onecopy",  # the same figures give the same file
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}


def draw(tables: dict[str, Table], path: Path) -> None:
    """Draw the panels whose case has been measured."""
    panels = [panel for panel in PANELS if panel[0] in tables]
    if not panels:
        return
    with plt.rc_context(STYLE):
        columns = 2 if len(panels) > 1 else 1
        lines = -(-len(panels) // columns)
        figure, axes = plt.subplots(
            lines, columns, figsize=(6 * columns, 3.4 * lines), constrained_layout=True, squeeze=False
        )
        for axis in axes.flat[len(panels) :]:
            axis.remove()
        for axis, (case, name, title, label, scale) in zip(axes.flat, panels, strict=False):
            _bars(axis, [row for row in tables[case].rows if row.figure == name], scale)
            axis.set_title(title, loc="left", fontweight="bold")
            axis.set_xlabel(label)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def _bars(axis: plt.Axes, rows: list[Row], scale: float) -> None:
    rows = sorted(rows, key=lambda row: row.median, reverse=rows[0].unit.endswith("/s"))
    values = [row.median / scale for row in rows]
    colours = [OURS if row.contender.startswith("onecopy") else THEIRS for row in rows]
    labels = [textwrap.fill(row.contender, LABEL_WIDTH) for row in rows]
    bars = axis.barh(labels, values, color=colours, height=0.7)
    axis.bar_label(bars, [show(row.median, row.unit) for row in rows], padding=3)
    axis.invert_yaxis()
    axis.tick_params(left=False)
    if rows[0].unit == "s":
        axis.set_xscale("log")
        axis.set_xlim(min(values) / 3, max(values) * 30)
    else:
        axis.set_xlim(0, max(values) * 1.18)
