"""The plans that every search begins with."""

from __future__ import annotations

from autoprec.precision import Precision
from autoprec.study.latency import Assignment
from autoprec.task import Subject

FP32_PLAN = "uniform fp32"


def uniform_plans(subject: Subject) -> dict[str, Assignment]:
    """FP32, and one plan for each precision that the search may choose; pins hold in all but FP32."""
    plans: dict[str, Assignment] = {FP32_PLAN: {unit.name: Precision.FP32 for unit in subject.partition.units}}
    for precision in sorted({p for options in subject.choices.values() for p in options}):
        plan = {name: precision if precision in options else options[0] for name, options in subject.choices.items()}
        if plan not in plans.values():
            plans[f"uniform {precision}"] = plan
    return plans


def seed_plans(subject: Subject) -> dict[str, Assignment]:
    """Every uniform plan that the search could answer, and the two halves, which show what boundaries cost."""
    seeds = {
        name: plan
        for name, plan in uniform_plans(subject).items()
        if all(plan[unit] in options for unit, options in subject.choices.items())
    }
    # Beside the carrier INT8 costs least: its neighbours are in that type already.
    low, high = seeds.get("uniform int8"), seeds.get(f"uniform {subject.space.carrier}", seeds.get(FP32_PLAN))
    if low is not None and high is not None and len(subject.choices) >= 4:
        names = [unit.name for unit in subject.partition.units]
        first = set(names[: len(names) // 2])
        seeds["first half int8"] = {n: (low if n in first else high)[n] for n in names}
        seeds["last half int8"] = {n: (high if n in first else low)[n] for n in names}
    return seeds
