"""Why a unit has its precision."""

from __future__ import annotations

from collections.abc import Mapping

from autoprec.precision import Precision
from autoprec.run.task import Subject


def fixed_reason(subject: Subject, name: str) -> str | None:
    """Why the search had no choice of precisions for a unit; None where it had one."""
    if name in subject.pinned:
        return "pinned by the user"
    if len(subject.choices[name]) > 1:
        return None
    refused = {p: why for p, why in subject.possible[name].items() if why is not None and p in subject.space.precisions}
    return "; ".join(f"no {p}: {why}" for p, why in sorted(refused.items())) or "the space offers nothing else"


def searched_reason(noises: Mapping[Precision, float], precision: Precision, part_of: str, feasible: bool) -> str:
    """Why a unit has the precision that the search gave it.

    Args:
        noises: precision -> the noise that the unit alone adds in it, as far as that was measured.
        precision: the precision that the unit has.
        part_of: the name of the plan.
        feasible: whether that plan meets the bound.
    """
    losses = [f"{p} adds noise {noise:.2g}" for p, noise in noises.items()]
    verb = "searched" if feasible else "best found"
    return f"{verb}: {', '.join(losses) or 'no measured loss'}; {precision} is part of {part_of}"
