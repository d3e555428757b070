"""The plan file of an answer."""

from __future__ import annotations

from autoprec.lowering.builders_choice import BuildersChoice
from autoprec.lowering.repaired import repairs_in
from autoprec.plan import Choice, Plan
from autoprec.run.answer.report import summary
from autoprec.run.answer.result import TuneResult
from autoprec.run.identity import plan_fingerprints
from autoprec.run.uniform import FP32_PLAN
from autoprec.run.unit_reasons import fixed_reason, searched_reason
from autoprec.units.sizes import shapes_of_inputs


def plan_of(tuned: TuneResult) -> Plan:
    """The content of plan.json for the answer of a run."""
    subject = tuned.task.subject
    task = tuned.task
    quantized = any(p.is_quantized for p in tuned.plan.values())
    freely = isinstance(tuned.plan, BuildersChoice)
    units = {
        unit.name: Choice(tuned.plan[unit.name], _unit_reason(tuned, unit.name), unit.name in subject.pinned, unit.key)
        for unit in subject.partition.units
    }
    record = summary(tuned)
    evidence = {
        key: record[key]
        for key in (
            "metric",
            "objective",
            "max_drop",
            "max_latency",
            "feasible",
            "reason",
            "verdict",
            "machine",
            "splits",
        )
    }
    candidates = record["candidates"]
    evidence |= {"chosen": candidates[tuned.chosen], "unit": record["unit"], "fp32": candidates.get(FP32_PLAN)}
    return Plan(
        units=units,
        carrier=subject.space.carrier,
        scheme=subject.lowerer.scheme.name,
        backend=task.backend.name,
        fingerprints=plan_fingerprints(task, tuned.ranges),
        evidence=evidence,
        ranges=tuned.ranges.for_plan(tuned.plan.values()).to_record() if quantized or freely else None,
        shapes=shapes_of_inputs(subject.partition, subject.model.graph),
        left_to_builder=freely,
        repairs=repairs_in(subject.model),
    )


def _unit_reason(tuned: TuneResult, name: str) -> str:
    subject = tuned.task.subject
    fixed = fixed_reason(subject, name)
    if fixed is not None:
        return fixed
    entries = {p: tuned.profile.entries.get((name, p)) for p in subject.choices[name]}
    noises = {p: entry.noise for p, entry in entries.items() if entry is not None}
    return searched_reason(noises, tuned.plan[name], tuned.chosen, tuned.found.feasible)
