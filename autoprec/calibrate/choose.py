"""Calibration of a model: one streaming pass, then the calibrator whose uniform INT8 is nearest to FP32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from autoprec.backends.protocol import Computing
from autoprec.calibrate.job import CalibrationJob
from autoprec.calibrate.observe import Observed, needed_tensors, observe
from autoprec.calibrate.refine import refine
from autoprec.data.dataset import Dataset
from autoprec.errors import BackendError, OutOfTimeError
from autoprec.files.computed_by import algorithm
from autoprec.files.json import fingerprint
from autoprec.graph.model import to_bytes
from autoprec.lowering.lowerer import Lowerer
from autoprec.lowering.repaired import repairs_fingerprint
from autoprec.metrics.evaluator import Evaluator
from autoprec.metrics.metric import load_metric
from autoprec.ranges.averages import blended_range
from autoprec.ranges.bins import Range
from autoprec.ranges.calibrators import calibrate
from autoprec.ranges.table import RangeTable
from autoprec.recipes.ranging import CalibrationRecipe

CANDIDATES: tuple[tuple[str, float], ...] = (
    ("percentile", 99.99),
    ("minmax", 100.0),
    ("percentile", 99.9),
    ("mse", 100.0),
    ("entropy", 100.0),
)
"""The calibrators that "auto" chooses from; the first is taken if there is no time to compare them."""
_JUDGED, _JUDGED_MACS = (8, 64), 1.6e11
"""The fewest and the most samples that calibrators are compared on, and the multiply-accumulates that they may cost.

A sample of a network that costs much holds many positions or decisions, and tells as much as several others."""
_REFINED, _REFINED_MACS = (4, 32), 8e10
"""The same for choosing the calibrator of single values, which takes many passes over these samples."""
ONE_FOR_ALL = "one calibrator for all, simulated"
ONE_FOR_EACH = "one for each value, simulated"
UNCORRECTED = "without bias correction, simulated"


def calibrate_model(job: CalibrationJob) -> RangeTable:
    """Find the ranges of every value that any plan can quantise.

    Raises:
        DataError: a value is NaN or infinite on this data.
    """
    recipe = job.recipe
    job = replace(job, dataset=job.dataset.subset(range(min(job.dataset.count, recipe.samples))))
    tensors = needed_tensors(job.lowerer, job.possible)
    digest = range_fingerprint(job.lowerer, job.dataset, recipe)
    if not tensors:
        return RangeTable(
            method=recipe.method, clipped={}, extent={}, means={}, samples=0, fingerprint=digest, evidence={}
        )
    averaged = recipe.method == "average" or "average" in dict(recipe.blend)
    smoothing = recipe.smoothing if averaged else None
    observed = observe(
        job.lowerer, tensors, job.backend, job.dataset, job.batch, progress=job.progress, smoothing=smoothing
    )
    late = job.progress("calibrators", 0.0)
    tables = _tables(job, observed, _methods(recipe)[: 1 if late else None], digest)
    return choose_ranges(job, observed, tables) if len(tables) > 1 else next(iter(tables.values()))


def quick_ranges(job: CalibrationJob) -> RangeTable:
    """Find ranges by the better of two calibrators for all values, to compare models by and not to keep.

    Raises:
        DataError: a value is NaN or infinite on this data.
    """
    tensors = needed_tensors(job.lowerer, job.possible)
    observed = observe(job.lowerer, tensors, job.backend, job.dataset, job.batch, progress=job.progress)
    digest = range_fingerprint(job.lowerer, job.dataset, job.recipe)
    tables = _tables(job, observed, [("percentile 99.99", "percentile", 99.99), ("minmax", "minmax", 100.0)], digest)
    errors = _noise_of_each(job, tables)
    return tables[min(errors, key=errors.__getitem__, default="percentile 99.99")]


def uniform_noise(job: CalibrationJob, reference: Computing, table: RangeTable) -> float:
    """Return the noise-to-signal ratio of the outputs of uniform INT8 against a reference, on the job's samples."""
    return _simulated_noise(job, _evaluator(job, reference, job.dataset, job.batch), table)


def _tables(
    job: CalibrationJob, observed: Observed, methods: Sequence[tuple[str, str, float]], digest: str
) -> dict[str, RangeTable]:
    """Return the label of each calibrator -> its table."""
    tables = {}
    for label, method, percentile in methods:
        clipped = {name: _clipped(job, observed, name, method, percentile) for name in observed.histograms}
        tables[label] = _table(observed, label, clipped, digest)
    return tables


def _clipped(job: CalibrationJob, observed: Observed, name: str, method: str, percentile: float) -> Range:
    symmetric, recipe = job.lowerer.scheme.symmetric, job.recipe
    if method == "average":
        return observed.averages[name].span(symmetric=symmetric)
    if method == "blend":
        weights = dict(recipe.blend)
        return blended_range({each: _clipped(job, observed, name, each, percentile) for each in weights}, weights)
    return calibrate(observed.histograms[name], method, symmetric=symmetric, percentile=percentile)


def range_fingerprint(lowerer: Lowerer, dataset: Dataset, recipe: CalibrationRecipe) -> str:
    """Return the fingerprint of all that a range table depends on."""
    model = lowerer.model
    parts = [model.graph_fingerprint, model.weights_fingerprint, dataset.fingerprint(), recipe.fingerprint]
    parts += repairs_fingerprint(model)
    return fingerprint([*parts, lowerer.scheme.family, str(lowerer.carrier), *algorithm("ranges")])


def _methods(recipe: CalibrationRecipe) -> list[tuple[str, str, float]]:
    chosen = CANDIDATES if recipe.method == "auto" else ((recipe.method, recipe.percentile),)
    return [(f"{m} {p:g}" if m == "percentile" else m, m, p) for m, p in chosen]


def method_of(label: str) -> tuple[str, float]:
    """Return the calibrator and its percentile from a label such as "mse" or "percentile 99.9"."""
    method, _, percentile = label.partition(" ")
    return method, float(percentile or 99.99)


def _table(observed: Observed, label: str, clipped: Mapping[str, Range], digest: str) -> RangeTable:
    return RangeTable(
        method=label,
        clipped=clipped,
        extent={name: calibrate(h, "minmax", symmetric=False) for name, h in observed.histograms.items()},
        means=observed.means,
        samples=observed.samples,
        fingerprint=digest,
        evidence={},
    )


def choose_ranges(job: CalibrationJob, observed: Observed, tables: Mapping[str, RangeTable]) -> RangeTable:
    """Choose the best calibrator for all values, then for single ones, and whether biases are corrected.

    Args:
        job: the calibration; its samples are those that the tables are of.
        observed: the histograms of all values.
        tables: the name of each calibrator -> its table.
    """
    errors = _noise_of_each(job, tables)
    best = min(errors, key=errors.__getitem__, default=next(iter(tables)))
    table = replace(tables[best], evidence=errors)
    if not errors or job.progress("calibrator of each value", 0.0):
        return table
    try:
        return _refined(job, observed, table, [other for label, other in tables.items() if label != best])
    except OutOfTimeError:  # one calibrator for all values is what is known by now
        return table


def _refined(job: CalibrationJob, observed: Observed, table: RangeTable, others: list[RangeTable]) -> RangeTable:
    """Choose calibrators of single values, and whether biases are corrected.

    Raises:
        OutOfTimeError: the time is up.
    """
    seen, fresh = _parts(job)
    few = replace(job, dataset=seen)
    with job.engine(to_bytes(job.lowerer.model.ir)) as reference:
        on_seen = _evaluator(job, reference, seen, max(1, min(job.batch, seen.count // 4)))
        on_fresh = _evaluator(job, reference, fresh, job.batch)
        refined = refine(few, on_seen, observed.histograms, table, others)
        evidence = {
            ONE_FOR_ALL: _simulated_noise(job, on_fresh, table),
            ONE_FOR_EACH: _simulated_noise(job, on_fresh, refined),
        }
        if evidence[ONE_FOR_EACH] < evidence[ONE_FOR_ALL]:
            table = refined
        evidence[UNCORRECTED] = _simulated_noise(job, on_fresh, replace(table, means={}))
    means = {} if evidence[UNCORRECTED] < min(evidence[ONE_FOR_ALL], evidence[ONE_FOR_EACH]) else table.means
    return replace(table, evidence={**table.evidence, **evidence}, means=means)


def _affordable(job: CalibrationJob, bounds: tuple[int, int], macs: float) -> int:
    """Return how many samples may be run over and over: as many as cost so many multiply-accumulates."""
    each = sum(unit.macs for unit in job.lowerer.partition.units)
    return min(int(np.clip(macs / max(each, 1), *bounds)), job.dataset.count)


def _parts(job: CalibrationJob) -> tuple[Dataset, Dataset]:
    """Return the samples that single values are refined on, and others on which the choice must hold."""
    dataset, cut = job.dataset, _affordable(job, _REFINED, _REFINED_MACS)
    seen = dataset.subset(range(cut))
    if dataset.count <= cut:
        return seen, seen
    judged = _affordable(job, _JUDGED, _JUDGED_MACS)
    return seen, dataset.subset(range(cut, min(cut + judged, dataset.count)))


def _evaluator(job: CalibrationJob, reference: Computing, data: Dataset, batch: int) -> Evaluator:
    """Return an evaluator of the noise of outputs, which needs no labels."""
    return Evaluator.against(reference, data, job.lowerer.model.interface, load_metric("sqnr"), batch, fidelity=())


def _simulated_noise(job: CalibrationJob, evaluator: Evaluator, table: RangeTable) -> float:
    lowered = to_bytes(job.lowerer.lower(job.int8_plan(), table, simulate=True).ir)
    with job.engine(lowered) as engine:
        return evaluator.evaluate(engine).noise


def _noise_of_each(job: CalibrationJob, tables: Mapping[str, RangeTable]) -> dict[str, float]:
    """Return calibrator -> the noise-to-signal ratio of uniform INT8's outputs, which needs no labels."""
    data = job.dataset.subset(range(_affordable(job, _JUDGED, _JUDGED_MACS)))
    # Engines that take long to build are built for plans, not for ranges.
    simulate = not (job.backend.builds_quickly and job.backend.scheme.family == job.lowerer.scheme.family)
    with job.engine(to_bytes(job.lowerer.model.ir)) as reference:
        try:
            evaluator = _evaluator(job, reference, data, job.batch)
        except OutOfTimeError:
            return {}
        if simulate:
            return _noises(job, evaluator, tables, simulate=True)
        try:
            return _noises(job, evaluator, tables, simulate=False)
        except BackendError:  # of a plan that need not be the answer; all tables anew, since noises must compare
            return _noises(job, evaluator, tables, simulate=True)


def _noises(
    job: CalibrationJob, evaluator: Evaluator, tables: Mapping[str, RangeTable], *, simulate: bool
) -> dict[str, float]:
    """Return the noise of each table, or of the first ones if time runs out."""
    plan = job.int8_plan()
    errors: dict[str, float] = {}
    for label, table in tables.items():
        lowered = job.lowerer.lower(plan, table, simulate=simulate)
        with job.engine(to_bytes(lowered.ir), exact=simulate) as engine:
            try:
                errors[label] = evaluator.evaluate(engine).noise
            except OutOfTimeError:
                break
        if job.progress("calibrator", len(errors) / len(tables)):
            break
    return errors
