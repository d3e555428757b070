"""Writing a measured plan: its plan file and its lowered model."""

from __future__ import annotations

import math
from pathlib import Path

from autoprec.errors import UsageError
from autoprec.front.loaded import LoadedRun
from autoprec.front.points import Point
from autoprec.graph.model import check_model, save_model
from autoprec.lowering.node_metadata import note_plan
from autoprec.lowering.repaired import repairs_in
from autoprec.plan import Choice, Plan
from autoprec.run.directory import RunDirectory
from autoprec.run.unit_reasons import searched_reason
from autoprec.units.sizes import shapes_of_inputs


def plan_of(run: LoadedRun, point: Point, max_drop: float | None) -> Plan:
    """The plan file's content, as the run would have written it, with evidence that says where it comes from.

    Args:
        run: the run.
        point: one of its points.
        max_drop: the bound that the plan was chosen by; None for the run's.
    """
    studied, trial = run.studied, point.trial
    bound = studied.max_drop if max_drop is None else max_drop
    feasible, noises = point.drop <= bound and point.drop < math.inf, run.noises
    units = {
        unit: Choice(
            trial.plan[unit],
            about.fixed or searched_reason(noises.get(unit, {}), trial.plan[unit], point.name, feasible),
            about.pinned,
            about.key,
        )
        for unit, about in studied.units.items()
    }
    evidence = {
        "metric": studied.metric,
        "objective": studied.objective,
        "max_drop": bound,
        "feasible": feasible,
        "reason": reason_of(run, point),
        "machine": dict(studied.machine),
        "splits": studied.splits,
        "point": {"run": str(run.directory.root), **point.to_record()},
    }
    if point.confirmed and studied.answer is not None:
        evidence["answer"] = studied.answer.to_record(studied.unit)
    quantized = any(precision.is_quantized for precision in trial.plan.values())
    ranges = None if run.ranges is None or not quantized else run.ranges.for_plan(trial.plan.values())
    return Plan(
        units=units,
        carrier=studied.carrier,
        scheme=studied.scheme,
        backend=studied.backend,
        fingerprints=studied.fingerprints,
        evidence=evidence,
        ranges=None if ranges is None else ranges.to_record(),
        shapes=shapes_of_inputs(run.partition, run.model.graph),
        repairs=repairs_in(run.model),
    )


def reason_of(run: LoadedRun, point: Point) -> str:
    """Where a plan comes from and what is known of it, in one line."""
    measured = point.trial.measured
    speed = (
        f"{measured.latency_ratio:.3f} of {run.studied.goal.unit_text}'s latency"
        if measured.timed
        else "latency not measured"
    )
    sure = "the run's answer" if point.confirmed else "not confirmed on fresh samples"
    return (
        f"trial {point.trial.number} of the run {run.directory.root}: {speed}, {run.studied.metric} drops by "
        f"{point.drop:.4g} on {point.samples} selection samples; {sure}"
    )


def build_point(run: LoadedRun, point: Point, folder: Path, max_drop: float | None) -> RunDirectory:
    """Write plan.json and the lowered model.onnx of a measured plan.

    Args:
        run: the run.
        point: one of its points.
        folder: where the files go; it must not be a run directory, whose other files are of another plan.
        max_drop: the bound that the plan was chosen by; None for the run's.

    Raises:
        UsageError: the folder is a run directory, or its model.onnx is the run's model.
        RunDirectoryError: it cannot be written, or has files of these names that autoprec did not write there.
    """
    target = RunDirectory(folder)
    if target.study.exists() or target.evidence.exists() or target.root.resolve() == run.directory.root.resolve():
        raise UsageError(
            f"-o must be a folder of its own, but {folder} is a run directory, whose files belong to its answer; "
            f"choose another"
        )
    names, inputs = target.answer_files[:3], [run.model.path]
    target.inventory.refuse_foreign(names, inputs)
    plan = plan_of(run, point, max_drop)
    target.prepare()
    precisions = plan.precisions()
    lowered = note_plan(run.lowerer.lower(precisions, run.ranges), run.partition, precisions)
    check_model(lowered.ir)
    with target.inventory.replacing(*names, inputs=inputs):
        save_model(lowered.ir, target.model)
        plan.save(target.plan)
    return target
