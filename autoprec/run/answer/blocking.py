"""Which units keep every plan over the bound: those that must be in FP32 for the best plan to meet it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from autoprec.plan import Assignment
from autoprec.precision import Precision

_NAMED = 4
_PRUNED = 6
"""Among at most so many units it is tried for each whether the others in FP32 suffice."""


@dataclass(frozen=True, slots=True)
class Blocking:
    """The units that block a bound.

    Attributes:
        units: the units that suffice: with them in FP32, and the rest as in the best plan, the bound is met. Where
            there was no time to measure that, all units in a lower precision, the noisiest first.
        drop: the judged drop with them in FP32, None where it was not measured.
    """

    units: tuple[str, ...]
    drop: float | None

    @property
    def text(self) -> str:
        """The units and the drop, as a clause for people."""
        few = ", ".join(self.units[:_NAMED])
        more = f" and {len(self.units) - _NAMED} more" if len(self.units) > _NAMED else ""
        if self.drop is None:
            return f"by their sensitivities, {few}{more} add most of the error"
        verb = "blocks" if len(self.units) == 1 else "block"
        them = "it" if len(self.units) == 1 else "them"
        return f"{few}{more} {verb} it: with {them} in FP32, the drop is {self.drop:.4g}"

    def to_record(self) -> dict[str, Any]:
        """The record as JSON."""
        return {**asdict(self), "units": list(self.units)}


def find_blocking(
    best: Assignment,
    noises: Mapping[str, float],
    judged_drop: Callable[[Assignment], float],
    bound: float,
    out_of_time: Callable[[], bool] = lambda: False,
    *,
    given: Assignment | None = None,
) -> Blocking:
    """Put units in FP32, the noisiest first, until the bound is met; then put those back that were not necessary.

    The number of units is found by bisection, since the drop mostly falls with each further unit in FP32.

    Args:
        best: the plan that came nearest to the bound.
        noises: unit -> the noise that it alone adds under that plan.
        judged_drop: measures a plan.
        bound: the most drop that is allowed.
        out_of_time: says whether there is no time for another measurement.
        given: unit -> its precision in the model; FP32 for all by default.
    """
    exact = dict.fromkeys(best, Precision.FP32) if given is None else given
    lowered = [unit for unit, precision in best.items() if precision is not exact[unit]]
    order = sorted(lowered, key=lambda unit: -noises.get(unit, 0.0))
    met: dict[int, float] = {len(order): 0.0}  # FP32 itself

    def drop(units: Sequence[str]) -> float | None:
        return None if out_of_time() else judged_drop({**best, **{unit: exact[unit] for unit in units}})

    low, high, step = 0, len(order), 1
    while low + 1 < high:
        count = min(step, (low + high) // 2) if step < high and high == len(order) else (low + high) // 2
        found = drop(order[:count])
        if found is None:
            return Blocking(tuple(order), None)
        if found <= bound:
            high, met[count] = count, found
        else:
            low, step = count, 2 * max(step, count)
    units, last = order[:high], met[high]
    for unit in [*units] if 1 < len(units) <= _PRUNED else []:
        rest = [other for other in units if other != unit]
        found = drop(rest) if rest else None
        if found is not None and found <= bound:
            units, last = rest, found
    return Blocking(tuple(units), last)
