"""What can be diagnosed, and what is refused by looking at files alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autoprec.errors import EXIT_USAGE, AutoprecError
from autoprec.front.question import Question, refuse_question

RUN = Path(__file__).resolve().parents[1] / "compatibility" / "data" / "runs" / "finished"


@pytest.mark.parametrize(
    ("subject", "options", "text"),
    [
        ("missing", {}, "there is no .*missing"),
        ("empty", {}, "neither study.json nor plan.json"),
        ("notes.txt", {}, "must be a run directory"),
        ("unfinished", {}, "no answer yet; choose a measured plan by --point"),
        ("lowered.onnx", {}, "give the plan by --plan"),
        ("plan.json", {}, "say by --model"),
        ("plan.json", {"model": Path("model.onnx")}, "give samples by --eval"),
        ("plan.json", {"point": 3}, "--point chooses"),
    ],
)
def test_what_files_alone_do_not_allow_is_refused(
    tmp_path: Path, subject: str, options: dict[str, Any], text: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "study.json").touch()
    folder = tmp_path / ("alone" if subject == "plan.json" else "")
    folder.mkdir(exist_ok=True)
    for name in ("notes.txt", "lowered.onnx", *(["plan.json"] if subject == "plan.json" else [])):
        (folder / name).touch()

    with pytest.raises(AutoprecError, match=text) as refused:
        refuse_question(Question(subject=folder / subject, **options))

    assert refused.value.exit_code == EXIT_USAGE


@pytest.mark.parametrize("name", ["", "plan.json", "model.onnx"])
def test_a_finished_run_needs_no_option(name: str) -> None:
    refuse_question(Question(subject=RUN / name))
