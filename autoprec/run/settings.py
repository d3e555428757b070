"""The options of a tune and their limits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoprec.data.dataset import Dataset
from autoprec.data.situations import Situation, parse_situations
from autoprec.errors import UsageError
from autoprec.metrics.metric import Direction, MetricLike
from autoprec.metrics.offered import DecoderLike
from autoprec.plan import RepairKind
from autoprec.study.goal import OBJECTIVES, Objective

DataLike = str | Path | Mapping[str, Any] | Iterable[Any] | Dataset
"""What names data: a path or "module:function", arrays by name, tensors, an iterable of such, or a data set;
`autoprec.data.sources` loads it."""

DEFAULT_MAX_DROP = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of `autoprec tune`, with the same names.

    Attributes:
        model: the path of the ONNX model.
        calib: the calibration data, whose labels are not used.
        evaluate: the data that plans are compared on, with labels or without.
        metric: the name of a metric, "module:name", a function, or an object with `update` and `compute`.
        direction: whether a "higher" or a "lower" score is better, for a function that does not say it.
        decode: what reads outputs for the metric: the head of a detector, "ctc" or "tokens" for texts, or a function.
        labels: the true boxes of the evaluation data: a COCO file, or a folder of YOLO text files.
        max_drop: the largest drop of the metric against FP32, in the unit of the metric.
        space: the name of a search space, or its file.
        recipe: the name of a calibration recipe, or its file.
        pins: "REGEX=PRECISION" for each group of units whose precision is fixed.
        confidence: the confidence of the interval of the drop whose upper end must meet the bound; None accepts a plan
            by the estimate itself.
        batch: the number of samples of a timed run.
        trials: the largest number of plans that are measured.
        timeout_s: the most seconds that the whole run may take.
        seed: the seed of splits and samplers.
        sampler: what proposes plans: "guided", or one of Optuna's.
        objective: what is best within the bounds: "latency", "throughput" or "size". None stands for the accuracy if
            the latency is bounded, and otherwise for the latency.
        max_latency: the largest latency as a share of FP32's.
        max_latency_ms: the largest latency in milliseconds for one batch.
        situations: the situations that plans are timed in, see `autoprec.data.situations`; empty for one batch of the
            data.
        counted: the name of the situation whose time counts in the search; None for the first one.
        repairs: which exact transformations of the model are tried: "none", "auto" for all, or names with commas.
    """

    model: str | Path
    calib: DataLike | None = None
    evaluate: DataLike | None = None
    metric: MetricLike | None = None
    direction: Direction | None = None
    decode: DecoderLike | None = None
    labels: str | Path | None = None
    max_drop: float = 0.01
    space: str | Path | None = None
    recipe: str | Path = "default"
    pins: Sequence[str] = field(default_factory=tuple)
    batch: int = 16
    trials: int = 40
    timeout_s: float | None = None
    seed: int = 0
    confidence: float | None = None
    sampler: str = "guided"
    objective: str | None = None
    max_latency: float | None = None
    max_latency_ms: float | None = None
    situations: Sequence[str] = field(default_factory=tuple)
    counted: str | None = None
    repairs: str = "none"

    @property
    def inputs(self) -> list[str | Path]:
        """What the user gave to read: paths, and names that may be paths."""
        given = (self.model, self.calib, self.evaluate, self.labels, self.space, self.recipe)
        return [source for source in given if isinstance(source, (str, Path))]

    @property
    def limited(self) -> bool:
        """Whether the latency is bounded."""
        return self.max_latency is not None or self.max_latency_ms is not None

    @property
    def level(self) -> float:
        """Confidence of intervals: what was asked for, else 95 %."""
        return self.confidence or 0.95

    @property
    def situation(self) -> Situation | None:
        """The situation whose time counts in the search, None for one batch of the data."""
        found = parse_situations(self.situations)
        return next((s for s in found if self.counted in (None, s.name)), None)

    @property
    def other_situations(self) -> tuple[Situation, ...]:
        """The situations that only the answer and its rivals are timed in."""
        return tuple(s for s in parse_situations(self.situations) if s != self.situation)

    @property
    def aim(self) -> Objective:
        """What is minimised."""
        return next((o for o in OBJECTIVES if o == self.objective), "accuracy" if self.limited else "latency")


def drop_bound(max_drop: float | None, objective: str | None, limited: bool) -> float:
    """The most drop: where nobody says, the default, or none where accuracy is what is best within a latency."""
    if max_drop is not None:
        return max_drop
    return math.inf if limited and objective is None else DEFAULT_MAX_DROP


def repair_kinds(text: str) -> tuple[RepairKind, ...]:
    """Return the repairs that "none", "auto" or names with commas stand for, in their order.

    Raises:
        UsageError: there is no such repair.
    """
    if text in ("none", "auto"):
        return tuple(RepairKind) if text == "auto" else ()
    names = [name.strip() for name in text.split(",")]
    known = [kind.value for kind in RepairKind]
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"--repairs must be none, auto, or some of {', '.join(known)}, got {unknown[0]!r}")
    return tuple(kind for kind in RepairKind if kind.value in names)


def _check_goal(settings: Settings) -> None:
    offered = [o for o in OBJECTIVES if o != "accuracy"]
    if settings.objective is not None and settings.objective not in offered:
        raise UsageError(
            f"--objective must be one of {', '.join(offered)}, got {settings.objective!r}; for the most accurate plan "
            f"that is fast enough give --max-latency instead"
        )
    if settings.limited and settings.objective not in (None, "size"):
        raise UsageError(
            f"--max-latency asks for the most accurate plan that is fast enough, so it cannot go with --objective "
            f"{settings.objective}; leave one of them out, or choose --objective size"
        )
    if settings.max_latency is not None and settings.max_latency_ms is not None:
        raise UsageError("--max-latency must be a share of FP32's latency or milliseconds, got both")
    for value in (settings.max_latency, settings.max_latency_ms):
        if value is not None and not 0 < value < math.inf:
            raise UsageError(
                f"--max-latency must be more than 0, got {value:g}: a share of FP32's latency such as 0.5, or 5ms"
            )


def objective_and_situation(text: str | None) -> tuple[str | None, str | None]:
    """Return the objective and the name of the situation that counts: the parts of "latency:decode"."""
    objective, colon, counted = (text or "").partition(":")
    return objective or None, counted if colon else None


def _check_situations(settings: Settings) -> None:
    names = [situation.name for situation in parse_situations(settings.situations)]
    if settings.counted is not None and settings.counted not in names:
        raise UsageError(
            f"--objective names the situation {settings.counted!r}, which must be one of those given by --situation: "
            f"{', '.join(names) or 'none is given'}"
        )


def check_numbers(settings: Settings) -> None:
    """Refuse settings outside their limits.

    Raises:
        UsageError: a number is out of range, or two options exclude each other.
    """
    _check_goal(settings)
    _check_situations(settings)
    repair_kinds(settings.repairs)
    if not settings.max_drop >= 0:
        raise UsageError(f"--max-drop must be 0 or more, got {settings.max_drop:g}; FP32 itself has drop 0")
    for name, value in (("batch", settings.batch), ("trials", settings.trials)):
        if value < 1:
            raise UsageError(f"--{name} must be at least 1, got {value}")
    if settings.seed < 0:
        raise UsageError(f"--seed must be 0 or more, got {settings.seed}")
    if settings.confidence is not None and not 0 < settings.confidence < 1:
        raise UsageError(f"--confidence must lie between 0 and 1, such as 0.95, got {settings.confidence:g}")
    if settings.timeout_s is not None and not settings.timeout_s > 0:
        raise UsageError(
            f"--timeout must be more than 0 seconds, got {settings.timeout_s:g}; leave it out for no limit"
        )
