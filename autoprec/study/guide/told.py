"""What was measured of plans, what was foretold of them, and how well the two agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autoprec.plan import Assignment
from autoprec.precision import Precision
from autoprec.study.guide.accuracy import Fidelity, fidelity


@dataclass(frozen=True, slots=True)
class Predicted:
    """What the models said of a plan before it was measured.

    Attributes:
        latency: relative to FP32.
        noise: of the outputs.
        drop: as judged.
    """

    latency: float
    noise: float
    drop: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPlan:
    """A plan that was measured.

    Attributes:
        number: of the trial.
        plan: unit -> precision.
        latency: relative to FP32, None where it was not timed.
        drop: as judged; NaN where nothing is bounded.
        noise: of the outputs, None where it is not known.
        foretold: before the measurement, None for plans that no model proposed.
        size: bytes, None where they are not known.
        layers_ms: unit -> milliseconds in the runtime's own profile, None where there is none.
    """

    number: int
    plan: Assignment
    latency: float | None
    drop: float
    noise: float | None = None
    predicted: Predicted | None = None
    size: float | None = None
    layers_ms: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """A plan worth measuring.

    Attributes:
        plan: unit -> precision.
        origin: where it comes from, in words.
        foretold: what the models say of it.
        promising: whether it may be better within the bounds; else it is for learning only.
    """

    plan: dict[str, Precision]
    origin: str
    predicted: Predicted | None
    promising: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedPlan:
    """What the models say of a plan that was not measured; each pair is a prediction and its standard deviation.

    Attributes:
        plan: unit -> precision.
        origin: where it comes from, in words.
        latency: relative to FP32.
        drop: as judged.
        size: bytes, None where none are known.
        likely: the probability that it meets the bounds.
    """

    plan: dict[str, Precision]
    origin: str
    latency: tuple[float, float]
    drop: tuple[float, float]
    size: tuple[float, float] | None
    likely: float


@dataclass(frozen=True, slots=True)
class ModelFits:
    """How well the models foretold plans that they were not fitted to."""

    latency: Fidelity
    noise: Fidelity
    drop: Fidelity


def model_fits(told: Sequence[KnownPlan]) -> ModelFits:
    """Of all plans that were foretold and then measured."""
    known = [(t, t.predicted) for t in told if t.predicted is not None]
    return ModelFits(
        fidelity([(t.number, f.latency, t.latency) for t, f in known if t.latency is not None]),
        fidelity([(t.number, f.noise, t.noise) for t, f in known if t.noise is not None], logarithmic=True),
        fidelity([(t.number, f.drop, t.drop) for t, f in known]),
    )
