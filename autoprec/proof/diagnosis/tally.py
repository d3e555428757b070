"""Adds up what was compared, batch by batch, and judges it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from enum import Enum

from autoprec.precision import Array, Precision
from autoprec.proof.diagnosis.noise import Power, worst
from autoprec.proof.diagnosis.record import Noise, UnitError
from autoprec.proof.diagnosis.seen import Seen
from autoprec.units.records import Unit

_FLOAT_TOLERANCE = {Precision.BF16: 1e-4}
_TOLERANCE = 2e-6
"""Sixteen roundings to FP16 in a row, which a unit of several operators may do, and TF32 where FP32 is asked for."""
_OF_ROUNDING = 0.25
"""Other sums tip a rounding to codes where it is a tie; that makes far less than this part of the rounding's noise."""


class Compared(Enum):
    """What is compared."""

    PLAN = "the plan with FP32"
    PLAN_ALONE = "one unit of the plan with the same unit in FP32, both fed with what the plan computes"
    RUNTIME = "the runtime with the plan"
    RUNTIME_ALONE = "one unit of the runtime with the same unit of the plan, both fed with what the runtime computes"
    UNSEEN = "the runtime that is looked at with the one that is not"


class Tally:
    """The sums of all comparisons.

    Args:
        seen: the name of each value -> how it is seen in the plan in exact arithmetic.
    """

    def __init__(self, seen: Mapping[str, Seen]) -> None:
        self._seen = seen
        self._powers: defaultdict[tuple[Compared, str], Power] = defaultdict(Power)
        self._outputs: defaultdict[tuple[Compared, str], Power] = defaultdict(Power)

    def value(self, what: Compared, name: str, found: Array, expected: Array) -> None:
        """Compare a value of a unit."""
        self._powers[what, name].add(found, expected)

    def output(self, what: Compared, name: str, found: Array, expected: Array) -> None:
        """Compare an output of the model, if it holds floats."""
        if found.dtype.kind == "f" and expected.dtype.kind == "f":
            self._outputs[what, name].add(found, expected)

    def unit(self, unit: Unit, precision: Precision) -> UnitError:
        """Return what is known of a unit."""

        def ratio(what: Compared) -> float | None:
            return worst([self._powers[what, name].ratio for name in unit.outputs])

        plan = Noise(ratio(Compared.PLAN), ratio(Compared.PLAN_ALONE))
        return UnitError(
            unit=unit.name,
            precision=precision,
            plan=plan,
            runtime=Noise(ratio(Compared.RUNTIME), ratio(Compared.RUNTIME_ALONE)),
            tolerance=self._tolerance(unit, precision, plan.own),
        )

    def _tolerance(self, unit: Unit, precision: Precision, own: float | None) -> float:
        known = [self._explained(name) for name in unit.outputs if name in self._seen]
        if precision.is_quantized and not any(known):  # its operands are codes, and its result is not
            known = [_OF_ROUNDING * (own or 0.0)]
        return max(_FLOAT_TOLERANCE.get(precision, _TOLERANCE), *known, 0.0)

    def _explained(self, name: str) -> float:
        """Return the noise that rounding a value to codes explains, 0 where it is not rounded to any."""
        seen, power = self._seen[name], self._powers[Compared.PLAN, name]
        step, share = (seen.scale, _OF_ROUNDING) if seen.scale is not None else (seen.later, 1 + _OF_ROUNDING)
        if step is None or not power.signal:
            return 0.0
        return share * step**2 / 12 * power.count / power.signal

    def outputs(self) -> dict[str, tuple[Noise, Noise]]:
        """Return for each output of the model the error of the plan, and that of the runtime."""
        names = dict.fromkeys(name for _, name in self._outputs)
        return {
            name: (
                Noise(self._outputs[Compared.PLAN, name].ratio),
                Noise(self._outputs[Compared.RUNTIME, name].ratio),
            )
            for name in names
        }

    @property
    def disturbed(self) -> float | None:
        """The largest noise at an output between the runtime that is looked at and the one that is not."""
        return worst([power.ratio for (what, _), power in list(self._outputs.items()) if what is Compared.UNSEEN])
