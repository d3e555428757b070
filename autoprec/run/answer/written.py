"""The answer as files: the plan, the model lowered by it, and the figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoprec.files.json import write_json
from autoprec.graph.model import check_model, save_model
from autoprec.lowering.builders_choice import lower_plan
from autoprec.lowering.lowerer import Lowered
from autoprec.lowering.node_metadata import note_plan
from autoprec.plan import Plan
from autoprec.run.answer.result import TuneResult
from autoprec.run.directory import RunDirectory


def lowered_by(plan: Plan, tuned: TuneResult) -> Lowered:
    """Return the model of a run, lowered by a plan."""
    lowerer, precisions = tuned.task.subject.lowerer, plan.precisions()
    return note_plan(lower_plan(lowerer, plan, precisions, tuned.ranges), lowerer.partition, precisions)


def write_answer(target: RunDirectory, plan: Plan, tuned: TuneResult, record: Mapping[str, Any]) -> None:
    """Write plan.json, model.onnx and result.json, but not the evidence, for which latencies are raced.

    Args:
        target: where to write.
        plan: the plan that is the answer.
        tuned: the run.
        record: all figures, for result.json.

    Raises:
        RunDirectoryError: the folder cannot be written to, or has a file of one of these names that autoprec did not
            write there.
        UsageError: one of these files is the model or data of the search.
    """
    lowered = lowered_by(plan, tuned)
    check_model(lowered.ir)
    names = [name for name in target.answer_files if name != target.evidence.name]
    with target.inventory.replacing(*names, inputs=tuned.task.settings.inputs):
        plan.save(target.plan)
        save_model(lowered.ir, target.model)
        write_json(target.result, record)
