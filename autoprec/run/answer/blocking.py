"""Which units keep every plan over the bound: those that must be let off for the best plan to meet it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from autoprec.plan import Assignment
from autoprec.precision import Precision

_NAMED = 4
_PRUNED = 6
"""Up to so many units each is tried without the others' relief."""


@dataclass(frozen=True, slots=True)
class Blocking:
    """The units that block a bound.

    Attributes:
        units: that suffice: with them in FP32, and the rest as in the best plan, the bound is met; where there was no
            time to see that, all that are lowered, the noisiest first.
        drop: judged with them in FP32, None where it was not measured.
    """

    units: tuple[str, ...]
    drop: float | None

    @property
    def text(self) -> str:
        """For people."""
        few = ", ".join(self.units[:_NAMED])
        more = f" and {len(self.units) - _NAMED} more" if len(self.units) > _NAMED else ""
        if self.drop is None:
            return f"most of the noise is added by {few}{more}, by their sensitivities"
        verb = "blocks" if len(self.units) == 1 else "block"
        them = "it" if len(self.units) == 1 else "them"
        return f"{few}{more} {verb} it: with {them} in FP32 the drop is {self.drop:.4g}"

    def to_record(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "units": list(self.units)}


def find_blocking(
    best: Assignment,
    noises: Mapping[str, float],
    judged_drop: Callable[[Assignment], float],
    bound: float,
    out_of_time: Callable[[], bool] = lambda: False,
) -> Blocking:
    """Let units off, the noisiest first, until the bound is met; then those that need not have been are taken back.

    Args:
        best: the plan that came nearest to the bound.
        noises: unit -> what it alone adds under that plan.
        judged_drop: measures a plan.
        bound: on the drop.
        out_of_time: says whether there is no time for another measurement.
    """
    lowered = [unit for unit, precision in best.items() if precision is not Precision.FP32]
    order = sorted(lowered, key=lambda unit: -noises.get(unit, 0.0))
    met: dict[int, float] = {len(order): 0.0}  # FP32 itself

    def drop(units: Sequence[str]) -> float | None:
        return None if out_of_time() else judged_drop({**best, **dict.fromkeys(units, Precision.FP32)})

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
