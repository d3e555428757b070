"""Why a unit has its precision."""

from __future__ import annotations

from collections.abc import Mapping

from autoprec.precision import Precision
from autoprec.run.task import Subject

_NOTHING_ELSE = "the search space offers no other precision"


def fixed_reason(subject: Subject, name: str) -> str | None:
    """Why the search had no choice of precisions for a unit; None where it had one."""
    if name in subject.pinned:
        return "pinned by the user"
    if len(subject.choices[name]) > 1:
        return None
    refused = {p: why for p, why in subject.possible[name].items() if why is not None and p in subject.space.precisions}
    return "; ".join(f"{p} is not possible: {why}" for p, why in sorted(refused.items())) or _NOTHING_ELSE


def searched_reason(noises: Mapping[Precision, float], precision: Precision, part_of: str, feasible: bool) -> str:
    """Why a unit has the precision that the search gave it.

    Args:
        noises: precision -> the noise that the unit alone adds in it, as far as that was measured.
        precision: the precision that the unit has.
        part_of: the name of the plan.
        feasible: whether that plan meets the bound.
    """
    losses = [f"{noise:.2g} in {p}" for p, noise in noises.items()]
    plan = part_of if feasible else f"{part_of}, the best plan found, which misses the bound"
    alone = f"noise / signal that it adds alone: {', '.join(losses)}" if losses else "its sensitivity was not measured"
    return f"{precision} in {plan}; {alone}"
