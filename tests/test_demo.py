"""The demo, small: a whole program from text files to a plot."""

import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np

DEMO = Path(__file__).parent.parent / "examples" / "methylation.py"


def test_demo_writes_what_the_text_files_hold(tmp_path):
    command = [sys.executable, "-W", "error", str(DEMO), "--rows", "2000", "--folder", str(tmp_path)]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert re.search(r"bytes copied between processes: 0$", finished.stdout, re.MULTILINE)
    texts = sorted((tmp_path / "demo-data").glob("*.tsv"))
    assert len(texts) == 4
    with h5py.File(tmp_path / "demo.h5") as file:
        for text in texts:
            expected = np.loadtxt(text, dtype=file[text.stem].dtype, delimiter="\t")
            assert np.array_equal(file[text.stem][:], expected)
        assert np.array_equal(file["summary"]["sites"].sum(axis=1), [2000] * 4)
        assert (file["summary"]["methylated"] > 0).all()
    assert (tmp_path / "demo-methylation.png").stat().st_size > 10_000


def test_sample_files_are_the_same_every_time(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(DEMO.parent)
    from methylation_files import write_sample

    first, second, other = tmp_path / "first", tmp_path / "second", tmp_path / "other"
    write_sample(first, rows=500, seed=3)
    write_sample(second, rows=500, seed=3)
    write_sample(other, rows=500, seed=4)
    assert first.read_bytes() == second.read_bytes() != other.read_bytes()
    assert first.read_bytes().count(b"\n") == 500
