"""What a diagnosis found: the error of the plan and that of the runtime, unit by unit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from autoprec.errors import RunDirectoryError
from autoprec.files.json import read_json
from autoprec.precision import Precision

SCHEMA = 1
KIND = "autoprec diagnosis"
DIAGNOSIS = "diagnosis.json"
"""The file of a run directory that holds the last diagnosis."""


class Visibility(str, Enum):
    """How the values of the runtime were made visible; the values are those in JSON."""

    EXTRA_OUTPUTS = "extra outputs"
    DEBUG_TENSORS = "unfused debug tensors"
    NOTHING = "nothing ran here"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Noise:
    """How far values are from others: power of the difference over power of the others.

    Attributes:
        here: with everything that came in from units before; None where it is not known, infinite where one of the
            values is not finite.
        own: what the unit adds, fed with what it really read; None where it is not known.
    """

    here: float | None
    own: float | None = None

    def to_record(self) -> dict[str, Any]:
        """Return both as plain JSON values, in which infinite noise is null beside "finite": false."""
        return {
            "noise": _finite(self.here),
            "sqnr_db": decibels(self.here),
            "own_noise": _finite(self.own),
            "own_sqnr_db": decibels(self.own),
            "finite": self.here != math.inf and self.own != math.inf,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Noise:
        """Return what `to_record` described."""
        here, own = record["noise"], record["own_noise"]
        if not record["finite"] and here is None:
            here = math.inf
        return cls(None if here is None else float(here), None if own is None else float(own))


def decibels(noise: float | None) -> float | None:
    """Return the signal to noise ratio in dB; None where it is infinite or not known."""
    return None if noise is None or not 0 < noise < math.inf else -10 * math.log10(noise)


def _finite(noise: float | None) -> float | None:
    return None if noise is None or not math.isfinite(noise) else noise


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitError:
    """The errors at the outputs of one unit; of several outputs the worst counts.

    Attributes:
        unit: the name of the unit.
        precision: the precision that the plan gives it.
        plan: the plan in exact arithmetic against FP32.
        runtime: the runtime against the plan in exact arithmetic.
        tolerance: the most noise that rounding by another order of sums may add in this unit.
    """

    unit: str
    precision: Precision
    plan: Noise
    runtime: Noise
    tolerance: float

    @property
    def parts(self) -> bool:
        """Whether the runtime computes something else here than the plan says."""
        return self.runtime.own is not None and self.runtime.own > self.tolerance

    def to_record(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "unit": self.unit,
            "precision": self.precision.value,
            "plan": self.plan.to_record(),
            "runtime": self.runtime.to_record(),
            "tolerance": self.tolerance,
            "parts": self.parts,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Where a plan and a runtime err.

    Attributes:
        plan: what was diagnosed, for people: the path, and the number of a measured plan.
        runtime: the name and the version of the runtime.
        samples: the number of samples.
        units: the units in the order of the network.
        outputs: output of the model -> errors of the plan, and of the runtime as it runs without being looked at.
        visibility: how the values of the runtime were made visible.
        changed: the units that the runtime computes by other kernels when it is looked at; None where it does not tell.
        disturbed: the largest noise at an output between the runtime that is looked at and the one that is not.
    """

    plan: str
    runtime: str
    samples: int
    units: tuple[UnitError, ...]
    outputs: Mapping[str, tuple[Noise, Noise]]
    visibility: Visibility
    changed: tuple[str, ...] | None
    disturbed: float | None

    @property
    def first(self) -> UnitError | None:
        """The first unit where the runtime and exact arithmetic part; None where there is none."""
        return next((unit for unit in self.units if unit.parts), None)

    @property
    def worst(self) -> UnitError | None:
        """The unit that adds most noise by the plan; None where none adds any."""
        added = [unit for unit in self.units if unit.plan.own and unit.plan.here]
        return max(added, key=lambda unit: unit.plan.own or 0.0, default=None)

    @property
    def hidden(self) -> tuple[str, ...]:
        """The units whose values the runtime does not show."""
        return tuple(unit.unit for unit in self.units if unit.runtime.here is None)

    def to_record(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        first, worst = self.first, self.worst
        return {
            "schema": SCHEMA,
            "kind": KIND,
            "plan": self.plan,
            "runtime": self.runtime,
            "samples": self.samples,
            "first": None if first is None else first.unit,
            "worst": None if worst is None else worst.unit,
            "visibility": self.visibility.value,
            "changed": None if self.changed is None else list(self.changed),
            "disturbed": _finite(self.disturbed),
            "units": [unit.to_record() for unit in self.units],
            "outputs": [
                {"output": name, "plan": plan.to_record(), "runtime": runtime.to_record()}
                for name, (plan, runtime) in self.outputs.items()
            ],
        }


def read_diagnosis(path: Path) -> Diagnosis:
    """Read what was written of `Diagnosis.to_record`.

    Raises:
        RunDirectoryError: the file is missing or damaged, or has a newer schema.
    """
    record = read_json(path, "diagnosis", RunDirectoryError, SCHEMA)
    try:
        changed = record["changed"]
        return Diagnosis(
            plan=str(record["plan"]),
            runtime=str(record["runtime"]),
            samples=int(record["samples"]),
            units=tuple(
                UnitError(
                    unit=str(row["unit"]),
                    precision=Precision(row["precision"]),
                    plan=Noise.from_record(row["plan"]),
                    runtime=Noise.from_record(row["runtime"]),
                    tolerance=float(row["tolerance"]),
                )
                for row in record["units"]
            ),
            outputs={
                str(row["output"]): (Noise.from_record(row["plan"]), Noise.from_record(row["runtime"]))
                for row in record["outputs"]
            },
            visibility=Visibility(record["visibility"]),
            changed=None if changed is None else tuple(map(str, changed)),
            disturbed=None if record["disturbed"] is None else float(record["disturbed"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunDirectoryError(
            f"the diagnosis {path} is damaged ({error!r}); delete it, `autoprec diagnose` makes it again"
        ) from error
