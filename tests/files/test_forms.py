"""Plans, baselines and journals are written over or added to only where they are of their kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoprec.errors import RunDirectoryError
from autoprec.files.forms import refuse_foreign_journal, refuse_no_junit, refuse_no_text, refuse_other_kind

PLAN = '{\n "schema": 1,\n "kind": "autoprec plan"'


@pytest.mark.parametrize("text", ["", PLAN])
def test_an_older_record_of_the_kind_is_replaced(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    refuse_other_kind(tmp_path / "plan.json", "autoprec plan")
    refuse_other_kind(tmp_path / "absent.json", "autoprec plan")


@pytest.mark.parametrize("text", ["notes", PLAN.replace("plan", "baseline"), '{"kind": "autoprec plan"}', "\0"])
def test_anything_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(RunDirectoryError, match="is not an autoprec plan; move it away"):
        refuse_other_kind(tmp_path / "plan.json", "autoprec plan")


@pytest.mark.parametrize("text", ["my notes, no line break", '{"some": "json"}\n', "\x08\x07"])
def test_a_file_that_is_no_journal_is_not_added_to(tmp_path: Path, text: str) -> None:
    (tmp_path / "notes").write_text(text)
    with pytest.raises(RunDirectoryError, match="is not the journal of a study"):
        refuse_foreign_journal(tmp_path / "notes")


def test_a_file_in_the_place_of_the_lock_is_not_broken(tmp_path: Path) -> None:
    (tmp_path / "study.log.lock").write_text("mine")
    with pytest.raises(RunDirectoryError, match="move it away"):
        refuse_foreign_journal(tmp_path / "study.log")


@pytest.mark.parametrize("content", [b"{}", b"\x08\x07\x00onnx", b"PK\x03\x04\xff\xfe\xfd", b"[1]"])
def test_reports_are_written_over_no_other_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "report").write_bytes(content)
    for refuse in (refuse_no_junit, refuse_no_text):
        with pytest.raises(RunDirectoryError):
            refuse(tmp_path / "report")


def test_a_report_replaces_a_report_and_a_summary_grows(tmp_path: Path) -> None:
    (tmp_path / "gate.xml").write_text('<testsuites><testsuite name="autoprec gate" time="1">')
    (tmp_path / "summary.md").write_text("### What an earlier step wrote\n")
    refuse_no_junit(tmp_path / "gate.xml")
    refuse_no_text(tmp_path / "summary.md")
    refuse_no_text(tmp_path / "absent.md")
