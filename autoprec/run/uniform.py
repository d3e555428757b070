"""Uniform plans, the seeds of a search, and the problem that its sampler solves."""

from __future__ import annotations

import math
from collections.abc import Mapping

from autoprec.files.json import fingerprint
from autoprec.plan import Assignment
from autoprec.precision import Precision
from autoprec.ranges.table import RangeTable
from autoprec.run.task import Subject
from autoprec.sensitivity.table import Sensitivities
from autoprec.study.guide.neighbours import everywhere
from autoprec.study.guide.solve import Problem
from autoprec.units.records import Partition

FP32_PLAN = "uniform fp32"
"""Every unit as it is in the model, which is FP32 but for models in half precision. Drops and latencies are compared
with this plan, even where pins forbid it as the answer."""
PINNED_FP32_PLAN = "uniform fp32 but for pins"
"""FP32 in all units that are not pinned to another precision: the possible answer that is nearest to FP32."""


def uniform_plans(subject: Subject) -> dict[str, Assignment]:
    """FP32 itself, and one plan for each precision that the search may choose; pins hold in all but the first.

    A precision that only pinned units have makes no plan, unless nothing at all is left to choose.
    """
    plans: dict[str, Assignment] = {FP32_PLAN: subject.partition.as_given()}
    offered = subject.choices.values()
    free = {p for options in offered if len(options) > 1 for p in options}
    wanted = free or {p for options in offered for p in options}
    # FP32 goes first, since every runtime builds it.
    for precision in sorted(wanted, key=lambda p: (p is not Precision.FP32, p)):
        plan = everywhere(subject.choices, precision, subject.space.carrier)
        if plan not in plans.values():
            plans[PINNED_FP32_PLAN if precision is Precision.FP32 else f"uniform {precision}"] = plan
    return plans


def unit_name(unit: Precision) -> str:
    """The name of the uniform plan that is the clock's unit."""
    return f"uniform {unit}"


def last_resort(subject: Subject, unit: Precision = Precision.FP32) -> dict[str, Assignment]:
    """FP32, which is measured only where nothing else meets the bound, as it is not the clock's unit; else nothing."""
    if unit is Precision.FP32:
        return {}
    names = (FP32_PLAN, PINNED_FP32_PLAN)
    plans = {name: plan for name, plan in uniform_plans(subject).items() if name in names}
    return {name: plan for name, plan in plans.items() if _is_offered(plan, subject)}


def compared_plans(subject: Subject, unit: Precision = Precision.FP32) -> dict[str, Assignment]:
    """The uniform plans that are built to be compared with: all but FP32, where that is not the clock's unit."""
    late = () if unit is Precision.FP32 else (FP32_PLAN, PINNED_FP32_PLAN)
    return {name: plan for name, plan in uniform_plans(subject).items() if name not in late}


def seed_plans(subject: Subject, unit: Precision = Precision.FP32) -> dict[str, Assignment]:
    """The plans that are measured first: the uniform plans that may be the answer, and two plans of two halves each.

    The latter show what boundaries between precisions cost.

    Args:
        subject: what is tuned.
        unit: the precision of the clock's unit.
    """
    seeds = {name: plan for name, plan in compared_plans(subject, unit).items() if _is_offered(plan, subject)}
    # Beside the carrier INT8 costs least: its neighbours are in that type already.
    floats = (f"uniform {subject.space.carrier}", FP32_PLAN, PINNED_FP32_PLAN)
    low, high = seeds.get("uniform int8"), next((seeds[name] for name in floats if name in seeds), None)
    if low is not None and high is not None and len(subject.choices) >= 4:
        names = [unit.name for unit in subject.partition.units]
        # TensorRT on a GPU, whose unit is not FP32, is where it matters, and studies that FP32 is the unit of stay.
        first = set(names[: len(names) // 2 if unit is Precision.FP32 else _middle(subject.partition)])
        seeds["first half int8"] = {n: (low if n in first else high)[n] for n in names}
        seeds["last half int8"] = {n: (high if n in first else low)[n] for n in names}
    return seeds


def _middle(partition: Partition) -> int:
    """The number of units in the first half, which ends near the middle where the fewest values are read behind it.

    A residual block whose halves differ in precision has one boundary more, and TensorRT 8.6 has no kernel for its Add.
    """
    place = {unit.name: number for number, unit in enumerate(partition.units)}
    last_read: dict[str, int] = {}
    for edge in partition.edges:
        last_read[edge.tensor] = max(last_read.get(edge.tensor, 0), place.get(edge.consumer, 0))
    made = {edge.tensor: place[edge.producer] for edge in partition.edges if edge.producer in place}
    middle = len(place) // 2
    near = range(max(middle - middle // 2, 1), middle + middle // 2 + 1)

    def crossing(cut: int) -> int:
        return sum(number < cut <= last_read[tensor] for tensor, number in made.items())

    return min(near, key=lambda cut: (crossing(cut), abs(cut - middle), cut))


def _is_offered(plan: Assignment, subject: Subject) -> bool:
    """Whether the search may choose every precision of a plan."""
    return all(plan[unit] in options for unit, options in subject.choices.items())


def no_sensitivities(ranges: RangeTable) -> Sensitivities:
    """The sensitivities of a run that had no time to measure any."""
    return Sensitivities(
        entries={},
        samples=0,
        pass_s=0.0,
        spent_s=0.0,
        fingerprint=fingerprint([ranges.fingerprint, "no sensitivities"]),
    )


def problem_of(subject: Subject, profile: Sensitivities) -> Problem:
    """The problem that the sampler solves."""
    loss = {key: entry.noise for key, entry in profile.entries.items()}
    loss |= _assumed(subject, loss)
    return Problem(subject.partition, subject.choices, loss, subject.space.carrier)


def _assumed(subject: Subject, loss: Mapping[tuple[str, Precision], float]) -> dict[tuple[str, Precision], float]:
    """What is assumed of units whose sensitivity the time limit left out: the mean of those that are known.

    Nothing is assumed where nothing was measured at all, as plans can be compared by measuring alone then.
    """
    known: dict[Precision, list[float]] = {}
    for (_, precision), value in loss.items():
        if math.isfinite(value):
            known.setdefault(precision, []).append(value)
    sources = {unit.name: unit.source for unit in subject.partition.units}
    return {
        (unit, p): sum(known[p]) / len(known[p])
        for unit, options in subject.choices.items()
        for p in options
        if p in known and p not in (Precision.FP32, sources[unit]) and (unit, p) not in loss
    }
