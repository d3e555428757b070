"""What the user asked for, and everything it needs loaded and checked before the first minute is spent."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoprec.backends.protocol import Backend
from autoprec.data.dataset import Dataset
from autoprec.data.sources import load_data
from autoprec.data.splits import Splits, make_splits
from autoprec.errors import DataError, UsageError
from autoprec.graph import Topology
from autoprec.lower import Lowerer
from autoprec.metrics import Direction, Metric, choose_metric
from autoprec.model import Model, load_model
from autoprec.precision import FLOATS, Precision
from autoprec.recipes import (
    CalibrationRecipe,
    Pin,
    SearchSpace,
    load_calibration_recipe,
    load_search_space,
    parse_pin,
)  # fmt: skip
from autoprec.schemes import scheme_named, why_not
from autoprec.study.goals import OBJECTIVES, Objective
from autoprec.units.find import find_units
from autoprec.units.records import Partition

Source = str | Path | Mapping[str, Any] | Dataset

DEFAULT_MAX_DROP = 0.01
DEFAULT_SPACES = {"ort-cpu": "cpu", "tensorrt": "tensorrt", "tensorrt-8": "tensorrt", "tensorrt-rtx": "tensorrt"}


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of `autoprec tune`, with the same names.

    Attributes:
        model: path of the ONNX model.
        calib: calibration data; labels are not used.
        evaluate: data that plans are compared on, labelled or not.
        metric: a metric's name, "module:function", or a callable.
        direction: "higher" or "lower" is better, for a function that does not say it.
        max_drop: the most that the metric may get worse than FP32's, in its own unit.
        space: a search space's name or file.
        recipe: a calibration recipe's name or file.
        pins: "REGEX=PRECISION".
        confidence: accept a plan only where the upper end of this interval of its drop meets the bound; None
            accepts by the estimate itself.
        batch: samples for each timed run.
        trials: the most plans measured.
        timeout_s: seconds for the whole run.
        seed: of splits and samplers.
        sampler: what proposes plans: "guided", or one of Optuna's.
        objective: what is best within the bounds: "latency", "throughput" or "size"; None is accuracy where the
            latency is bounded, else latency.
        max_latency: the most latency as a share of FP32's.
        max_latency_ms: the same in milliseconds for one batch.
    """

    model: str | Path
    calib: Source | None = None
    evaluate: Source | None = None
    metric: str | Callable[..., Any] | None = None
    direction: Direction | None = None
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

    @property
    def limited(self) -> bool:
        """Whether the latency is bounded."""
        return self.max_latency is not None or self.max_latency_ms is not None

    @property
    def level(self) -> float:
        """Confidence of intervals: what was asked for, else 95 %."""
        return self.confidence or 0.95

    @property
    def aim(self) -> Objective:
        """What is minimised."""
        return next((o for o in OBJECTIVES if o == self.objective), "accuracy" if self.limited else "latency")


@dataclass(frozen=True, slots=True)
class Subject:
    """A model with its units and what each of them may become.

    Attributes:
        model: as loaded.
        partition: its units.
        lowerer: for the scheme and carrier of the space.
        space: the search space.
        possible: unit -> precision of the space -> why not, None where possible.
        choices: unit -> the precisions that the search may give it.
        pinned: unit -> the precision that the user fixed.
        notes: what the user should know about the space on this machine.
    """

    model: Model
    partition: Partition
    lowerer: Lowerer
    space: SearchSpace
    possible: Mapping[str, Mapping[Precision, str | None]]
    choices: Mapping[str, tuple[Precision, ...]]
    pinned: Mapping[str, Precision]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """A subject with data and metric: ready to run."""

    settings: Settings
    subject: Subject
    splits: Splits
    metric: Metric
    recipe: CalibrationRecipe
    backend: Backend


def prepare_subject(settings: Settings, backend: Backend, *, timed: bool = True) -> Subject:
    """Load the model, find its units, and work out what each may become.

    Args:
        settings: the user's.
        backend: says which precisions run natively.
        timed: leave out precisions that the backend only simulates.

    Raises:
        ModelError: see `autoprec.model.load_model`.
        RecipeError: the space is broken.
        UsageError: pins that fit nothing, or nothing left to choose.
    """
    model = load_model(settings.model)
    partition = find_units(model.graph)
    if not partition.units:
        raise UsageError(
            f"{settings.model} has no unit whose precision could be chosen; run `autoprec units` to see why"
        )
    space = load_search_space(settings.space or DEFAULT_SPACES.get(backend.scheme, "tensorrt"))
    scheme = scheme_named(backend.scheme if timed else _scheme_of(space, backend))
    topology = Topology(model.graph)
    possible = {
        unit.name: {p: why_not(topology, unit, p, scheme) for p in Precision} for unit in partition.units
    }  # fmt: skip
    usable, notes = _usable(space, backend, timed)
    pinned = _pins(partition, (*space.pins, *map(parse_pin, settings.pins)), possible)
    fallback = _fallback(space)
    choices = {}
    for unit in partition.units:
        options = [p for p in usable if possible[unit.name][p] is None]
        choices[unit.name] = (pinned[unit.name],) if unit.name in pinned else tuple(options or [fallback])
    lowerer = Lowerer(model, partition, scheme, space.carrier)
    offered = {name: {p: row[p] for p in {*space.precisions, Precision.FP32}} for name, row in possible.items()}
    for name, precision in pinned.items():
        offered[name][precision] = None
    return Subject(model, partition, lowerer, space, offered, choices, pinned, notes)


def prepare_task(settings: Settings, backend: Backend, *, timed: bool = True) -> Task:
    """Everything `prepare_subject` does, plus data, splits and metric.

    Raises:
        DataError: there is no data, or it does not fit the model.
        MetricError: see `autoprec.metrics`.
    """
    _check_numbers(settings)
    subject = prepare_subject(settings, backend, timed=timed)
    recipe = load_calibration_recipe(settings.recipe)
    if settings.calib is None and settings.evaluate is None:
        raise DataError(
            "tuning needs data to calibrate on and to judge plans by; give --calib and --eval, or one of them "
            "to be split"
        )
    interface = subject.model.interface
    calib = None if settings.calib is None else load_data(settings.calib, interface, recipe)
    evaluate = None if settings.evaluate is None else load_data(settings.evaluate, interface, recipe)
    splits = make_splits(calib, evaluate, settings.seed)
    metric = choose_metric(settings.metric, splits.select.has_labels, settings.direction)
    if metric.needs_labels and not splits.select.has_labels:
        raise DataError(
            f"the metric {metric.name!r} needs labels, but {splits.select.origin} has none; store them under "
            f"'labels', or choose a label-free metric: agreement, kl, cosine or sqnr"
        )
    return Task(settings, subject, splits, metric, recipe, backend)


def drop_bound(max_drop: float | None, objective: str | None, limited: bool) -> float:
    """The most drop: where nobody says, the default, or none where accuracy is what is best within a latency."""
    if max_drop is not None:
        return max_drop
    return math.inf if limited and objective is None else DEFAULT_MAX_DROP


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


def _check_numbers(settings: Settings) -> None:
    _check_goal(settings)
    if not settings.max_drop >= 0:
        raise UsageError(f"--max-drop must be 0 or more, got {settings.max_drop:g}; FP32 itself has drop 0")
    for name, value in (("batch", settings.batch), ("trials", settings.trials)):
        if value < 1:
            raise UsageError(f"--{name} must be at least 1, got {value}")
    if settings.confidence is not None and not 0 < settings.confidence < 1:
        raise UsageError(f"--confidence must lie between 0 and 1, such as 0.95, got {settings.confidence:g}")
    if settings.timeout_s is not None and not settings.timeout_s > 0:
        raise UsageError(
            f"--timeout must be more than 0 seconds, got {settings.timeout_s:g}; leave it out for no limit"
        )


def _scheme_of(space: SearchSpace, backend: Backend) -> str:
    return "tensorrt" if space.backend in (None, "tensorrt") else backend.scheme


def _usable(space: SearchSpace, backend: Backend, timed: bool) -> tuple[list[Precision], tuple[str, ...]]:
    support = backend.support()
    usable = [p for p in space.precisions if not timed or support[p] is None]
    notes = tuple(f"{p} is left out: {support[p]}" for p in space.precisions if p not in usable)
    if not usable:
        raise UsageError(
            f"none of the precisions of the space {space.name!r} can be timed on {backend.name}; "
            f"choose another --space or --backend"
        )
    return usable, notes


def _fallback(space: SearchSpace) -> Precision:
    floats = [p for p in space.precisions if p in FLOATS]
    return Precision.FP32 if Precision.FP32 in floats or not floats else floats[0]


def _pins(
    partition: Partition, pins: Sequence[Pin], possible: Mapping[str, Mapping[Precision, str | None]]
) -> dict[str, Precision]:
    """Unit -> pinned precision; a later pin wins."""
    result: dict[str, Precision] = {}
    for pin in pins:
        matched = [u for u in partition.units if pin.matches(u.name) or any(map(pin.matches, u.nodes))]
        if not matched:
            close = difflib.get_close_matches(pin.pattern, [u.name for u in partition.units], n=3)
            hint = f"did you mean {', '.join(close)}? " if close else ""
            raise UsageError(f"the pin {pin.pattern!r} fits no unit; {hint}`autoprec units` lists them")
        able = [unit for unit in matched if possible[unit.name][pin.precision] is None]
        if not able:
            reason = possible[matched[0].name][pin.precision]
            raise UsageError(f"unit {matched[0].name!r} cannot be pinned to {pin.precision}: {reason}")
        result.update({unit.name: pin.precision for unit in able})
    return result
