"""One picture of a chromosome: methylation of every sample in windows, and a stretch of it site by site."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

WINDOW = 500_000  # base pairs
SITES_IN_CLOSE_UP = 420
COLOURS = {"control": "#1b6ca8", "tumour": "#d1495b"}
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "figure.dpi": 130,
}


def plot_chromosome(path: Path, chromosome: str, samples: Mapping[str, np.ndarray]) -> None:
    """Save a PNG of one chromosome; ``samples`` gives each sample's calls on it, named ``control…`` or ``tumour…``."""
    with plt.rc_context(STYLE):
        figure, (overview, close_up) = plt.subplots(
            2, 1, figsize=(10, 6.2), height_ratios=[3, 2], constrained_layout=True
        )
        for name, calls in samples.items():
            _draw_overview(overview, name, calls)
        _draw_close_up(close_up, samples)
        _label(overview, f"Methylation along {chromosome}, windows of {WINDOW // 1000:,} kb", "position (Mb)")
        _label(close_up, "A close-up: one dot per site and sample, CpG islands stay unmethylated", "position (kb)")
        overview.legend(ncols=len(samples), frameon=False, loc="lower left")
        figure.savefig(path)
        plt.close(figure)


def _colour(name: str) -> str:
    return COLOURS[name.rpartition("_")[0]]


def _draw_overview(axes: plt.Axes, name: str, calls: np.ndarray) -> None:
    window = calls["pos"] // WINDOW
    methylated, reads = np.bincount(window, calls["c"]), np.bincount(window, calls["c"] + calls["t"])
    covered = reads > 0
    centres = (np.flatnonzero(covered) + 0.5) * WINDOW / 1e6
    dashed = "--" if name.endswith("2") else "-"
    percent = 100 * methylated[covered] / reads[covered]
    axes.plot(centres, percent, dashed, color=_colour(name), linewidth=1.4, label=name.replace("_", " "))


def _draw_close_up(axes: plt.Axes, samples: Mapping[str, np.ndarray]) -> None:
    start = len(next(iter(samples.values()))) // 2
    for name, calls in samples.items():
        sites = calls[start : start + SITES_IN_CLOSE_UP]
        axes.plot(sites["pos"] / 1e3, sites["pct"], ".", color=_colour(name), markersize=3, alpha=0.45)


def _label(axes: plt.Axes, title: str, x_label: str) -> None:
    axes.set_title(title, loc="left", fontweight="bold")
    axes.set_xlabel(x_label)
    axes.set_ylabel("methylated reads (%)")
    axes.set_ylim(-2, 102)
    axes.margins(x=0.01)
    axes.xaxis.set_major_formatter("{x:,.0f}")
