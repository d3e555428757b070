"""The journal gives back what was measured before a kill."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoprec.precision import Precision
from autoprec.sensitivity.journal import Journal
from autoprec.sensitivity.scoring import Total

INT8, FP16 = Precision.INT8, Precision.FP16
TOTALS = {
    ("a", INT8): Total(noise=1.5, kl=0.25, drop=-0.5, squares=1.25, count=2),
    ("b", FP16): Total(noise=2.0, kl=None, drop=float("inf"), squares=4.0, count=1),
}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", "of this model")
    journal.write(0, TOTALS, 1.0)
    journal.write(1, TOTALS, 2.5)
    done, spent = journal.read([2, 2])

    assert done == {(chunk, *entry): total for chunk in (0, 1) for entry, total in TOTALS.items()}
    assert spent == 2.5


@pytest.mark.parametrize("end", ['{"mark": "of this mod', "no json\n", '{"mark": "of this model"}\n'])
def test_a_line_that_a_kill_cut_off_is_passed_over(tmp_path: Path, end: str) -> None:
    path = tmp_path / "journal"
    journal = Journal(path, "of this model")
    journal.write(0, TOTALS, 1.0)
    path.write_text(path.read_text(encoding="utf-8") + end, encoding="utf-8")

    assert len(journal.read([2, 2])[0]) == len(TOTALS)


def test_parts_of_another_model_are_passed_over(tmp_path: Path) -> None:
    Journal(tmp_path / "journal", "of another").write(0, TOTALS, 1.0)

    assert Journal(tmp_path / "journal", "of this model").read([2, 2]) == ({}, 0.0)


def test_a_journal_of_an_older_release_is_read_with_the_samples_of_its_chunks(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    row = (
        '{"mark": "m", "chunk": 1, "unit": "a", "precision": "int8", "noise": 3.0, "kl": null, "drop": 0, "spent_s": 1}'
    )
    path.write_text(row, encoding="utf-8")
    total = Journal(path, "m").read([8, 5])[0][1, "a", INT8]

    assert (total.count, total.noise_error) == (5, None)
    assert total.mean().noise == pytest.approx(0.6)


def test_without_a_file_nothing_is_kept() -> None:
    journal = Journal(None, "of this model")
    journal.write(0, TOTALS, 1.0)

    assert journal.read([2, 2]) == ({}, 0.0)


@pytest.mark.parametrize(
    "change", [{"chunk": -1}, {"chunk": 2}, {"count": 3}, {"noise": -0.5}, {"squares": -1.0}, {"kl": -0.1}], ids=str
)
def test_a_line_that_no_measurement_gives_is_passed_over(tmp_path: Path, change: dict[str, float]) -> None:
    path = tmp_path / "journal"
    Journal(path, "m").write(1, {("a", INT8): Total(noise=0.5, kl=0.1, drop=0.0, squares=0.2, count=2)}, 1.0)
    assert set(Journal(path, "m").read([2, 2])[0]) == {(1, "a", INT8)}

    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))

    assert Journal(path, "m").read([2, 2])[0] == {}
