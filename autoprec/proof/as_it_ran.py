"""The plan that says what an engine really ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autoprec.precision import Precision
from autoprec.proof.verification import UnitStatus, Verification


def plan_as_it_ran(
    verification: Verification,
    plan: Mapping[str, Precision],
    choices: Mapping[str, Sequence[Precision]],
) -> dict[str, Precision]:
    """Return the plan with the precision that ran in the place of the one that was asked for.

    A unit keeps its precision where it was merged into another, where the runtime does not tell what ran, or where the
    search may not give it that.

    Args:
        verification: what the runtime made of each unit.
        plan: the plan that the engine was built from.
        choices: unit -> the precisions that the search may give it.
    """
    ran = {
        unit.unit: unit.ran
        for unit in verification.units
        if unit.ran is not None and unit.status is UnitStatus.NOT_HONOURED and unit.ran in choices[unit.unit]
    }
    return {**plan, **ran}
