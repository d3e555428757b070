"""Plans that nobody has measured yet, and how well the models predicted those that were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoprec.precision import Precision
from autoprec.study.guide.fidelity import Fidelity, fidelity
from autoprec.study.trial import Prediction, Trial


@dataclass(frozen=True, slots=True)
class Proposal:
    """A plan worth measuring.

    Attributes:
        plan: unit -> precision.
        origin: what proposed the plan, as a text of a kind in `autoprec.study.origin`.
        predicted: what the models predict of it, None before there are models.
        promising: whether it may be better within the bounds; otherwise it is for learning only.
    """

    plan: dict[str, Precision]
    origin: str
    predicted: Prediction | None
    promising: bool


@dataclass(frozen=True, slots=True)
class Estimate:
    """A predicted figure.

    Attributes:
        mean: the figure.
        deviation: its standard deviation.
    """

    mean: float
    deviation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedPlan:
    """A plan that was not measured, and that the models predict to be better than every measured one.

    Attributes:
        plan: unit -> precision.
        origin: what proposed the plan, as a text.
        latency: the latency relative to FP32's.
        drop: the judged drop.
        size: the size in bytes, None where no sizes are known.
        likely: the probability that the plan meets the bounds.
    """

    plan: dict[str, Precision]
    origin: str
    latency: Estimate
    drop: Estimate
    size: Estimate | None
    likely: float


@dataclass(frozen=True, slots=True)
class ModelFits:
    """How well the models predicted plans that they had not been fitted to."""

    latency: Fidelity
    noise: Fidelity
    drop: Fidelity


def model_fits(trials: Sequence[Trial]) -> ModelFits:
    """How well the models predicted the trials that they had proposed."""
    known = [(t.number, t.predicted, t.measured) for t in trials if t.predicted is not None]
    return ModelFits(
        fidelity([(number, p.latency, m.latency_ratio) for number, p, m in known]),
        fidelity([(number, p.noise, m.noise) for number, p, m in known], logarithmic=True),
        fidelity([(number, p.drop, m.judged_drop) for number, p, m in known]),
    )
