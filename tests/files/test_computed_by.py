"""Figures of another release are known as such, and those of another algorithm are not taken for one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoprec.files.computed_by import ALGORITHMS, algorithm, computed_by, release, stamped
from autoprec.files.json import write_json


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (stamped({}), ""),
        ({"autoprec": "0.0.1"}, ", computed by autoprec 0.0.1"),
        ({}, ", computed by an older autoprec"),
    ],
)
def test_figures_of_another_release_are_said(tmp_path: Path, record: dict[str, str], text: str) -> None:
    write_json(tmp_path / "ranges.json", {"schema": 1, **record})

    assert computed_by(tmp_path / "ranges.json", 1) == text


def test_a_file_that_is_not_there_is_of_nobody(tmp_path: Path) -> None:
    assert computed_by(tmp_path / "ranges.json", 1) == ""
    assert release()


def test_another_algorithm_has_another_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    assert algorithm("ranges") == []  # what the releases before there were numbers computed holds
    monkeypatch.setitem(ALGORITHMS, "ranges", 2)

    assert algorithm("ranges") == ["algorithm 2 of ranges"]
