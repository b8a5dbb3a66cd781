"""From text files to one HDF5 file, with every process working on one copy of the data.

    python examples/methylation.py [--rows 1000000] [--folder .]

Writes sample methylation files, loads them on all cores into shared memory, lets worker processes compute on that
memory, and saves everything as ``demo.h5`` and a plot as ``demo-methylation.png``.
"""

import argparse
import multiprocessing
import os
import platform
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.pool import Pool
from pathlib import Path

import h5py
import numpy as np

import onecopy as oc
from methylation_files import CALL, CHROMOSOMES, write_sample
from peak_memory import PeakMemory

SAMPLES = ["control_1", "control_2", "tumour_1", "tumour_2"]
PLOTTED = "chr21"
SUMMARY = np.dtype([("chr", "S10"), ("sites", "<i8"), ("reads", "<i8"), ("methylated", "<f8"), ("unmethylated", "<f8")])


def main() -> None:
    options = _options()
    cores = len(os.sched_getaffinity(0))
    print(f"onecopy {oc.__version__} on {cores} cores, CPython {platform.python_version()}\n")
    start_workers = multiprocessing.get_context("spawn")
    with PeakMemory() as peak:
        files = make_files(options.folder / "demo-data", options.rows)
        samples = load(files)
        with start_workers.Pool(cores) as workers:
            summary = summarise(workers, samples)
        output = write(options.folder / "demo.h5", samples, summary)
    arrays = sum(calls.nbytes for calls in samples.values())
    say("peak memory", f"{peak.bytes / 1e6:,.0f} MB in all processes together, {arrays / 1e6:,.0f} of them the arrays")
    show_content(output)
    show_means(summary)
    picture = options.folder / "demo-methylation.png"
    plot(picture, samples)
    print(f"\nplot of {PLOTTED}: {picture}")


def make_files(folder: Path, rows: int) -> list[Path]:
    """Write the sample files, one process each."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{name}.tsv" for name in SAMPLES]
    with stopwatch() as seconds, ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as writers:
        jobs = [
            writers.submit(write_sample, path, rows=rows, seed=seed, tumour="tumour" in path.stem)
            for seed, path in enumerate(files)
        ]
        for job in jobs:
            job.result()
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    say("sample files", f"{len(files)} files, {megabytes:,.0f} MB of text in {folder}/", seconds())
    return files


def load(files: list[Path]) -> dict[str, np.ndarray]:
    """Parse all files on all cores, straight into shared memory."""
    with stopwatch() as seconds:
        arrays = oc.loadtxt(files, dtype=CALL, delimiter="\t")
    rows, size = sum(map(len, arrays)), sum(path.stat().st_size for path in files)
    say("load", f"{rows:,} rows, {size / seconds() / 1e6:,.0f} MB/s into shared memory", seconds())
    return {path.stem: array for path, array in zip(files, arrays, strict=True)}


def summarise(workers: Pool, samples: dict[str, np.ndarray]) -> np.ndarray:
    """Let the workers fill one shared table, (samples, chromosomes): they receive views and send nothing back."""
    summary = oc.zeros((len(samples), len(CHROMOSOMES)), dtype=SUMMARY)
    before = oc.stats()
    with stopwatch() as seconds:
        tasks = [
            (calls[start:stop], summary[sample, number : number + 1])
            for sample, calls in enumerate(samples.values())
            for number, (start, stop) in enumerate(_chromosome_ranges(calls))
        ]
        workers.starmap(summarise_chromosome, tasks, chunksize=1)
    after = oc.stats()
    shared, copied = (after[name] - before[name] for name in ["bytes_by_handle", "bytes_copied"])
    say("compute", f"{len(tasks)} tasks in worker processes on {shared / 1e6:,.0f} MB of shared arrays", seconds())
    say("", f"bytes copied between processes: {copied:,}")
    return summary


def summarise_chromosome(calls: np.ndarray, result: np.ndarray) -> None:
    """Run in a worker: ``calls`` and ``result`` are the parent's own memory."""
    reads = calls["c"] + calls["t"]
    result["chr"] = calls["chr"][0]
    result["sites"] = len(calls)
    result["reads"] = reads.sum()
    result["methylated"] = 100 * calls["c"].sum() / reads.sum()
    result["unmethylated"] = 100 * np.mean(calls["pct"] < 20)


def write(path: Path, samples: dict[str, np.ndarray], summary: np.ndarray) -> Path:
    """Write every array into one file, compressed on all cores."""
    with stopwatch() as seconds:
        arrays = {**samples, "summary": summary}
        oc.to_hdf5(path, arrays, compression="gzip", compression_opts=4, shuffle=True, mode="w")
    rate = sum(calls.nbytes for calls in samples.values()) / seconds() / 1e6
    say("write", f"{path}, {path.stat().st_size / 1e6:,.1f} MB, compressed at {rate:,.0f} MB/s", seconds())
    return path


def show_content(path: Path) -> None:
    """Print what any HDF5 tool would find in the file."""
    print(f"\n{path}")
    with h5py.File(path) as file:
        for number, (name, dataset) in enumerate(file.items(), 1):
            branch = "└──" if number == len(file) else "├──"
            fields = ", ".join(f"{field} {dataset.dtype[field].str.strip('<|')}" for field in dataset.dtype.names)
            print(f"  {branch} {name:10} {dataset.shape!s:12} {fields}")


def show_means(summary: np.ndarray) -> None:
    """Print the result of the workers: methylated reads per sample."""
    print("\nmethylated reads, mean of all chromosomes (lowest to highest)")
    for name, chromosomes in zip(SAMPLES, summary["methylated"], strict=True):
        print(f"  {name:10} {chromosomes.mean():5.1f} % ({chromosomes.min():.1f} to {chromosomes.max():.1f})")


def plot(path: Path, samples: dict[str, np.ndarray]) -> None:
    from methylation_plot import plot_chromosome  # here, because matplotlib would slow the start of every worker

    number = CHROMOSOMES.index(PLOTTED)
    views = {}
    for name, calls in samples.items():
        start, stop = _chromosome_ranges(calls)[number]
        views[name] = calls[start:stop]
    plot_chromosome(path, PLOTTED, views)


def _chromosome_ranges(calls: np.ndarray) -> list[tuple[int, int]]:
    """First and last row (exclusive) of every chromosome; the files are sorted."""
    names = calls["chr"]
    starts = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1), len(calls)]
    return list(zip(map(int, starts[:-1]), map(int, starts[1:]), strict=True))


@contextmanager
def stopwatch() -> Iterator:
    """Yield a function that tells the seconds since the start, and after the block how long the block took."""
    start, end = time.perf_counter(), None
    yield lambda: (end or time.perf_counter()) - start
    end = time.perf_counter()


def say(step: str, what: str, seconds: float | None = None) -> None:
    print(f"{step:13} {what:84} {'' if seconds is None else f'{seconds:6.2f} s'}".rstrip(), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows in each file (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path(), help="where everything is written (default: here)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
