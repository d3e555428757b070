"""First stage: the evaluation samples are dealt to two halves that are equally hard for FP32."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from autoprec.backends.protocol import Computing
from autoprec.data.dataset import Dataset
from autoprec.data.splits import Splits, balanced, halves, shortened
from autoprec.graph.model import to_bytes
from autoprec.metrics.bounds import doubtful_for_scores
from autoprec.metrics.contract import try_metric
from autoprec.metrics.difficulty import difficulty
from autoprec.precision import Array
from autoprec.run.context import Run

_PROBES = 3


def deal_halves(run: Run) -> Run:
    """The same run, its selection and report samples dealt anew so that FP32 is equally good on both.

    FP32 runs on all of these samples once. Where the time is limited, its speed is measured on a few of them first,
    and both halves are shortened to what the run has time for.

    Raises:
        BackendError: the runtime cannot run the model in FP32.
        MetricError: the user's metric does not repeat its scores.
    """
    task = run.task
    union = task.splits.select.merged(task.splits.report)
    run.clock.begin("splits", f"FP32 on {union.count} samples, to make both parts equally hard")
    begun = time.monotonic()
    with run.backend.build(to_bytes(task.subject.model.original), exact=True) as engine:
        run.budget.build_s = time.monotonic() - begun
        metric = try_metric(engine, union, task.subject.model.interface, task.metric, task.settings.batch)
        run = replace(run, task=replace(task, metric=metric))
        keys = _timed_difficulty(run, run.engines.remembering(engine))
        splits = _affordable(run, union, keys) if run.budget.limited else task.splits
        hardness = keys(splits.select.merged(splits.report))
    dealt = balanced(splits, hardness, task.settings.seed)
    doubt = doubtful_for_scores(metric, hardness[:, 0], task.settings.max_drop)
    if doubt is not None:
        run.progress.stage("warning", doubt)
    doubts = (*task.doubts, *([] if doubt is None else [doubt]))
    return replace(run, task=replace(run.task, splits=dealt, doubts=doubts), halves=halves(task.splits, dealt))


def _timed_difficulty(run: Run, engine: Computing) -> Callable[[Dataset], Array]:
    """A function that says how hard each sample is for FP32, and lets the budget know how long that took."""
    task = run.task
    interface, batch = task.subject.model.interface, task.settings.batch

    def keys(data: Dataset) -> Array:
        begun = time.monotonic()
        found = difficulty(engine, data, interface, task.metric, batch)
        run.budget.known_sample((time.monotonic() - begun) / data.count, _timed_batch(run))
        return found

    return keys


def _timed_batch(run: Run) -> int:
    """The samples of a timed batch; 0 where FP32 runs on other hardware here than engines are timed on."""
    if run.backend.uses_gpu or not run.backend.runs_here:
        return 0
    return run.task.subject.model.interface.batch_size or run.task.settings.batch


def _affordable(run: Run, union: Dataset, keys: Callable[[Dataset], Array]) -> Splits:
    """The splits, shortened to the samples that there is time to judge plans on."""
    task, budget = run.task, run.budget
    probe = union.subset(range(min(union.count, task.settings.batch)))
    seconds = []
    for _ in range(_PROBES):  # The first one pays for allocations, and other work may disturb any of them.
        keys(probe)
        seconds.append(budget.sample_s)
    budget.known_sample(min(seconds), _timed_batch(run))
    splits = shortened(task.splits, budget.most_samples())
    if splits is not task.splits:
        budget.leave_out(f"plans were judged on {splits.select.count} samples of each half")
    return splits
