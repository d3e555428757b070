"""Fingerprints of what measured figures depend on."""

from __future__ import annotations

from autoprec.backends.protocol import Backend
from autoprec.backends.slow_builds import TimesByCarrier
from autoprec.files.computed_by import algorithm
from autoprec.files.json import fingerprint
from autoprec.precision import Precision
from autoprec.ranges.table import RangeTable
from autoprec.run.task import Task
from autoprec.sensitivity.table import Sensitivities

SHORT_S = 300.0
"""Engines that take long to build are built quickly in runs that have at most so many seconds: with TensorRT 8.6 the
two first engines of SqueezeNet took 73 s by its usual settings."""


def builds_quickly(backend: Backend, limit_s: float | None) -> bool:
    """Whether engines are built by settings that take less time, as the run has little."""
    by_carrier = isinstance(backend, TimesByCarrier) and backend.times_by_carrier
    return by_carrier and limit_s is not None and limit_s <= SHORT_S


def study_name(task: Task, profile: Sensitivities, unit: Precision = Precision.FP32) -> str:
    """The study's name: a fingerprint of all that its measurements depend on, so that others are not taken for them."""
    settings = task.settings
    choices = str(sorted((n, [p.value for p in o]) for n, o in task.subject.choices.items()))
    machine = map(str, sorted(task.backend.describe().items()))
    parts = [profile.fingerprint, task.splits.select.fingerprint(), choices, *machine, str(settings.batch)]
    parts += [] if settings.confidence is None else [f"confidence {settings.confidence!r}"]
    parts += [] if unit is Precision.FP32 else [f"in shares of {unit}"]
    parts += ["built quickly"] if builds_quickly(task.backend, settings.timeout_s) else []
    parts += ["busy"] if settings.aim == "throughput" else []
    parts += [] if settings.situation is None else [settings.situation.text]
    # Only the guided sampler can learn from trials that were measured for another goal.
    if settings.sampler != "guided" and settings.aim not in ("latency", "throughput"):
        parts.append(f"{settings.aim} {settings.max_drop!r}")
    return fingerprint([*parts, *algorithm("trials")])


def plan_fingerprints(task: Task, ranges: RangeTable) -> dict[str, str]:
    """The fingerprints of all that the plans of a task depend on."""
    model = task.subject.model
    return {
        "graph": model.graph_fingerprint,
        "weights": model.weights_fingerprint,
        "calibration": task.splits.calibrate.fingerprint(),
        "selection": task.splits.select.fingerprint(),
        "metric": task.metric.fingerprint,
        "ranges": ranges.fingerprint,
        "machine": fingerprint(sorted(f"{k}={v}" for k, v in task.backend.describe().items())),
    }
