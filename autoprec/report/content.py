"""What is on the page of a run, and in which order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from autoprec.files.computed_by import release
from autoprec.report.advice import advice_section
from autoprec.report.along import plan_section, units_section
from autoprec.report.answer import answer_cards, answer_section, state_text
from autoprec.report.diagnosis import diagnosis_section
from autoprec.report.origin import clipping_section, origin_section, time_section
from autoprec.report.plans import plans_section, predictions_section
from autoprec.report.read import RunRecord
from autoprec.report.repairs import repairs_section
from autoprec.report.sections import Report, Section


def report_of(run: RunRecord) -> Report:
    """The report of a run directory."""
    candidates = answer_section(run)
    sections = [
        None if candidates.table is None else candidates,
        plans_section(run),
        plan_section(run),
        advice_section(run),
        units_section(run),
        diagnosis_section(run),
        repairs_section(run),
        predictions_section(run),
        clipping_section(run),
        time_section(run),
        origin_section(run),
        Section(key="problems", title="What could not be read", notes=run.problems) if run.problems else None,
    ]
    return Report(
        title=f"Precision plan of {_model_name(Path(run.model))}",
        state=state_text(run),
        cards=answer_cards(run),
        sections=[_tidy(section) for section in sections if section is not None],
        written_by=release(),
    )


def _model_name(path: Path) -> str:
    """The name of a file, with its folder where it is a usual one."""
    return f"{path.parent.name}/{path.name}" if path.stem == "model" and path.parent.name else path.name


def _tidy(section: Section) -> Section:
    return section if section.table is None else replace(section, table=section.table.without_empty_columns())
