"""Gathering of the evidence of a run, or of a model under a committed plan."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from autoprec.backends.host import clocks, driver
from autoprec.backends.protocol import Backend
from autoprec.data.dataset import Dataset
from autoprec.data.situations import Situation
from autoprec.files.computed_by import release
from autoprec.files.json import fingerprint
from autoprec.files.trust import relative_text
from autoprec.gate.evidence import Evidence, Rounds, SampleScores, is_recipe_file
from autoprec.graph.interface import TensorSpec
from autoprec.graph.model import Model, to_bytes
from autoprec.graph.topology import Topology
from autoprec.graph.written import read_message, written
from autoprec.metrics.metric import Metric
from autoprec.metrics.over_set import Rows
from autoprec.precision import Array, Precision
from autoprec.ranges.table import RangeTable
from autoprec.run.answer.result import TuneResult
from autoprec.run.budget import Deadline
from autoprec.run.engines import timing_feed
from autoprec.run.settings import DEFAULT_MAX_DROP, DataLike
from autoprec.timing.race import RACE_THREADS, race_block, race_s
from autoprec.units.keys import value_keys

RACE_BLOCKS = 3
"""The number of blocks of the race whose rounds a baseline records."""
_DIGITS = 7  # the digits of a score that are stored, which is what float32 holds


def evidence_of(tuned: TuneResult, lowered: Path) -> Evidence:
    """Return the evidence of a run whose lowered model is the file `lowered`."""
    task, chosen = tuned.task, tuned.candidates[tuned.chosen]
    settings, report, model = task.settings, task.splits.report, read_message(lowered)
    exact = None if tuned.simulated is None or task.backend.portable else tuned.simulated.scores
    folder = lowered.parent
    data = _data_record(tuned, folder)
    return Evidence(
        model=model_record(task.subject.model, folder),
        lowered=lowered_record(model, lowered.name),
        data=data,
        metric=metric_record(
            task.metric,
            settings.max_drop if math.isfinite(settings.max_drop) else DEFAULT_MAX_DROP,
            settings.decode if isinstance(settings.decode, str) else None,
        ),
        machine=machine_record(task.backend, settings.batch, settings.situation),
        samples=SampleScores(
            digests=tuple(identity[:8] for identity in report.identities()),
            fp32=kept_scores(tuned.reference_scores),
            plan=kept_scores(chosen.outcome.scores),
            exact=None if exact is None else kept_scores(exact),
            statistics=statistics_of(
                fp32=tuned.reference_rows,
                plan=chosen.outcome.rows,
                exact=None if exact is None or tuned.simulated is None else tuned.simulated.rows,
            ),
        ),
        rounds=_raced(tuned, model),
        verification=tuned.verification.to_record(),
        values=keys_of_ranges(Topology(task.subject.model.graph), tuned.ranges),
        found={
            "feasible": tuned.found.feasible,
            "complaint": tuned.verification.complaint(),
            "objective": tuned.goal.objective,
        },
    )


def _data_record(tuned: TuneResult, folder: Path) -> dict[str, Any]:
    """Return where the data is, seen from a folder, and what it was."""
    task, settings, report = tuned.task, tuned.task.settings, tuned.task.splits.report
    return {
        "calib": source_text(settings.calib, folder),
        "eval": source_text(settings.evaluate, folder),
        **({} if settings.labels is None else {"labels": source_text(settings.labels, folder)}),
        "recipe": recipe_text(settings.recipe, folder),
        "seed": settings.seed,
        "splits": task.splits.text,
        "calibration": task.splits.calibrate.fingerprint(),
        "report": samples_fingerprint(report),
    }


def _raced(tuned: TuneResult, lowered: bytes) -> Rounds:
    """Return the rounds of FP32 and the plan in a race, since a gate will race them too.

    If a time limit leaves no time for a race, the rounds of the comparison in the run are returned instead.
    """
    task, unit, plan = tuned.task, tuned.unit, tuned.answer
    if tuned.goal.unit is not Precision.FP32:  # its engine was not built, and a race would need it
        return replace(rounds_of({"fp32": unit.timing.rounds_ms, "plan": plan.timing.rounds_ms}), unit=unit.name)
    models = {"fp32": to_bytes(task.subject.model.original), "plan": lowered}
    feed, deadline = timing_feed(task, task.splits.report), Deadline(tuned.time.left_s)
    block_s = race_s(unit.timing.median_ms + plan.timing.median_ms, task.backend.threads)
    rows: list[dict[str, tuple[float, ...]]] = []
    while len(rows) < RACE_BLOCKS and deadline.left_s >= block_s:
        rows.append(race_block(task.backend, models, feed, RACE_THREADS, len(rows)))
        block_s = deadline.elapsed_s / len(rows)
    if not rows:
        return rounds_of({"fp32": unit.timing.rounds_ms, "plan": plan.timing.rounds_ms})
    return rounds_of({name: [ms for row in rows for ms in row[name]] for name in models})


def samples_fingerprint(data: Dataset) -> str:
    """Return a fingerprint of the samples that does not depend on their order."""
    return fingerprint(sorted(data.identities()))


def model_record(model: Model, folder: Path) -> dict[str, Any]:
    """Return what identifies a model for a file in `folder`, as plain JSON values."""
    return {
        "path": relative_text(model.path, folder),
        "bytes": model.path.stat().st_size,
        "graph": model.graph_fingerprint,
        "weights": model.weights_fingerprint,
        "inputs": [_spec(spec) for spec in model.interface.inputs],
        "outputs": [_spec(spec) for spec in model.interface.outputs],
    }


def lowered_record(lowered: bytes, path: str) -> dict[str, Any]:
    """Return what identifies a lowered model, as plain JSON values; `path` is seen from the file that names it."""
    size, digest = written(lowered)
    return {"path": path, "bytes": size, "sha256": digest}


def statistics_of(**columns: Rows | None) -> dict[str, Rows] | None:
    """Return the statistics by name; None where FP32 or the plan has none."""
    known = {name: rows for name, rows in columns.items() if rows is not None}
    return known if {"fp32", "plan"} <= known.keys() else None


def metric_record(metric: Metric, max_drop: float, decode: str | None = None) -> dict[str, Any]:
    """Return what identifies a metric, the bound on its drop and what reads outputs for it, as plain JSON values."""
    return {
        **({} if decode is None else {"decode": decode}),
        "name": metric.name,
        "fingerprint": metric.fingerprint,
        "higher_is_better": metric.higher_is_better,
        "max_drop": max_drop,
    }


def machine_record(backend: Backend, batch: int, situation: Situation | None = None) -> dict[str, Any]:
    """Return what a latency depends on, as plain JSON values."""
    clock, gpu = backend.clock, backend.uses_gpu
    return {
        "autoprec": release(),
        "batch": batch,
        "threads": backend.threads,
        "scheme": backend.scheme.name,
        "clock": clock.kind,
        "hardware": clock.hardware,
        "runs_here": backend.runs_here,
        "driver": driver(gpu=gpu),
        "clocks": clocks(gpu=gpu),
        "describe": dict(backend.describe()),
        **({} if situation is None else {"situation": situation.text}),
    }


def rounds_of(fastest: Mapping[str, Sequence[float]]) -> Rounds:
    """Return the rounds of a race of "fp32" and "plan", rounded to five digits."""
    fp32, plan = (tuple(float(f"{ms:.5g}") for ms in fastest[name]) for name in ("fp32", "plan"))
    return Rounds(fp32, plan)


def kept_scores(scores: Array) -> tuple[float | None, ...]:
    """Return the scores rounded to the digits that are stored, and None for those that are not finite."""
    return tuple(float(f"{score:.{_DIGITS}g}") if np.isfinite(score) else None for score in scores.tolist())


def keys_of_ranges(topology: Topology, ranges: RangeTable | None) -> dict[str, str]:
    """Return the structural key, by name, of each value that has a range, a mean or moments."""
    keys = value_keys(topology)
    wanted = [] if ranges is None else [*ranges.clipped, *ranges.means, *ranges.moments, *ranges.patches]
    return {name: keys[name] for name in dict.fromkeys(wanted) if name in keys}


def source_text(source: DataLike | None, folder: Path) -> str | None:
    """Return the source as a file in `folder` names it, or None for arrays in memory."""
    if source is None or not isinstance(source, (str, os.PathLike)):
        return None
    text = os.fspath(source)
    return relative_text(text, folder) if os.path.exists(text) else text


def recipe_text(recipe: str | Path, folder: Path) -> str:
    """Return the recipe as a file in `folder` names it; a name stays a name."""
    text = str(recipe)
    return relative_text(text, folder) if is_recipe_file(text) else text


def _spec(spec: TensorSpec) -> list[Any]:
    return [spec.name, spec.dtype.name, list(spec.shape)]
