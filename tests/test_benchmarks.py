"""What the benchmarks say is what they measured."""

import gzip
import os
import subprocess
import sys

import pytest

from benchmarks import data, measure, readme
from benchmarks.isolated import ContenderError, isolated
from benchmarks.measure import OtherLoad, take_turns
from benchmarks.report import Table, load, render, save, show


@pytest.fixture
def table():
    table = Table("Reading: all cores")
    table.add("a file", "onecopy", [900e6, 1000e6, 1300e6], "B/s")
    table.add("a file", "slow", [100e6], "B/s")
    table.add("a file", "fast", [500e6], "B/s")
    table.add("a message", "onecopy", [2e-6], "s")
    table.add("a message", "pickle", [4e-3], "s")
    return table


def test_ratio_is_to_the_best_peer_and_decides(table):
    table.claim_ratio("a file", 2)
    table.claim_ratio("a file", 2.1)
    table.claim_ratio("a file", 10, peers=["slow"])
    assert [(claim.peer, claim.ratio, claim.kept) for claim in table.claims] == [
        ("fast", 2, True),
        ("fast", 2, False),
        ("slow", 10, True),
    ]


def test_limit_is_about_the_median_and_ratio_above_one_is_better(table):
    table.claim_limit("a message", 3e-6, peer="pickle")
    table.claim_limit("a message", 1e-6, peer="pickle")
    assert [claim.kept for claim in table.claims] == [True, False]
    assert table.claims[0].ratio == pytest.approx(2000)


def test_more_things_per_second_are_better(table):
    table.add("messages", "onecopy", [6e6], "messages/s")
    table.add("messages", "slow", [1e6], "messages/s")
    table.claim_ratio("messages", 5)
    assert [(claim.ratio, claim.kept) for claim in table.claims] == [(6, True)]


def test_a_claim_that_cannot_be_checked_is_said(table):
    table.claim_ratio("another file", 2)
    assert not table.claims
    assert "another file" in table.notes[0]


def test_missed_claims_and_notes_are_shown(table):
    table.claim_ratio("a file", 2.1)
    table.notes.append("polars: not measured")
    text = render(table)
    assert "MISSED a file: 1,000 MB/s, 2.00 x fast (at least 2.1 x)" in text
    assert "note   polars: not measured" in text


def test_saved_tables_come_back(table, tmp_path):
    table.claim_ratio("a file", 2)
    save(table, tmp_path / "reading.json")
    assert load(tmp_path / "reading.json") == table


def test_readme_table_replaces_only_what_is_between_the_marks(table, tmp_path):
    table.claim_ratio("a file", 2)
    page = tmp_path / "README.md"
    page.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n")
    readme.update({"reading": table}, page)
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n")
    assert "old" not in text
    assert "| Reading: a file | 1,000 MB/s | fast: 500 MB/s | 2.00 x | at least 2 x |" in text


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (1.234e-6, "s", "1.23 µs"),
        (0.05, "s", "50.0 ms"),
        (12.5e9, "B/s", "12.5 GB/s"),
        (1.5e9, "B/s", "1,500 MB/s"),
        (4.25e6, "messages/s", "4.25 M messages/s"),
        (90, "arrays/s", "90.0 arrays/s"),
    ],
)
def test_figures_have_three_digits(value, unit, shown):
    assert show(value, unit) == shown


def test_a_measurement_runs_in_a_process_of_its_own():
    assert isolated(os.getpid) not in (os.getpid(), isolated(os.getpid))


def test_a_contender_that_fails_is_named_with_its_reason_and_not_asked_again():
    calls = []

    def fail():
        calls.append(1)
        return isolated(os.stat, "/no/such/file")

    results, notes = take_turns({"fails": fail, "works": lambda: 1.0}, rounds=3)
    assert results == {"works": [1.0, 1.0, 1.0]}
    assert len(calls) == 1
    assert "fails: not measured: FileNotFoundError" in notes[0]


def test_an_error_in_the_benchmark_itself_is_not_taken_for_a_result():
    with pytest.raises(ContenderError, match="ZeroDivisionError"):
        isolated(divmod, 1, 0)


def test_bgzf_files_are_gzip_members_that_tell_their_size(tmp_path):
    text = tmp_path / "text"
    text.write_bytes(b"chr1\t100\t50.0\t2\t2\n" * 10_000)
    packed = tmp_path / "text.bgzf.gz"
    data._write_bgzf(text, packed)
    content = packed.read_bytes()
    members, start = 0, 0
    while start < len(content):
        assert content[start + 12 : start + 16] == b"BC\x02\x00"
        start += int.from_bytes(content[start + 16 : start + 18], "little") + 1
        members += 1
    assert members == 4  # 180,000 bytes in blocks of 65,280, and the empty one at the end
    assert gzip.decompress(content) == text.read_bytes()


def test_the_load_of_other_programs_is_what_this_one_did_not_do(monkeypatch):
    clocks = {"time.perf_counter": [0, 2], "_busy_seconds": [10, 18], "_own_seconds": [1, 5]}
    for name, readings in clocks.items():
        monkeypatch.setattr(f"benchmarks.measure.{name}", iter(readings).__next__)
    with OtherLoad() as others:
        pass
    assert others.cores == 2


def test_processes_that_were_started_here_count_as_own():
    before = measure._own_seconds()
    work = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-c", work], check=True)
    assert measure._own_seconds() - before >= 0.25
