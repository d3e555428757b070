"""Model + data -> ranges: one streaming pass, then the calibrator whose uniform INT8 is nearest to FP32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from autoprec.backends.protocol import Backend
from autoprec.calibrate.observe import Observed, Possible, Progress, needed_tensors, observe
from autoprec.calibrate.refine import refine
from autoprec.data.dataset import Dataset
from autoprec.errors import BackendError
from autoprec.files.json import fingerprint
from autoprec.graph.model import to_bytes
from autoprec.lowering.lowerer import Lowerer
from autoprec.lowering.possible import uniform
from autoprec.metrics.evaluator import Evaluator
from autoprec.metrics.metric import load_metric
from autoprec.precision import Precision
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
"""What "auto" chooses from; the first is taken where there is no time to compare."""
_JUDGED_SAMPLES = 64
_REFINED_SAMPLES = 32
ONE_FOR_ALL = "one calibrator for all, simulated"
ONE_FOR_EACH = "one for each value, simulated"
UNCORRECTED = "without bias correction, simulated"


def calibrate_model(
    lowerer: Lowerer,
    possible: Possible,
    backend: Backend,
    dataset: Dataset,
    recipe: CalibrationRecipe,
    progress: Progress = lambda what, share: None,
) -> RangeTable:
    """Find the ranges of every value that any plan can quantise.

    Args:
        lowerer: of the model.
        possible: unit name -> precision -> why not.
        backend: runs the model.
        dataset: calibration samples; no labels are used.
        recipe: method, percentile, number of samples.
        progress: told how far it is.

    Raises:
        DataError: a value is NaN or infinite on this data.
    """
    data = dataset.subset(range(min(dataset.count, recipe.samples)))
    tensors = needed_tensors(lowerer, possible)
    mark = range_fingerprint(lowerer, data, recipe)
    if not tensors:
        return RangeTable(
            method=recipe.method, clipped={}, extent={}, means={}, samples=0, fingerprint=mark, evidence={}
        )
    observed = observe(lowerer, tensors, backend, data, recipe.batch, progress)
    late = progress("calibrators", 0.0)
    tables = {
        label: _table(observed, label, method, percentile, lowerer.scheme.symmetric, mark)
        for label, method, percentile in _methods(recipe)[: 1 if late else None]
    }
    if len(tables) == 1:
        return next(iter(tables.values()))
    return choose_ranges(lowerer, possible, backend, data, recipe.batch, observed, tables, progress)


def range_fingerprint(lowerer: Lowerer, dataset: Dataset, recipe: CalibrationRecipe) -> str:
    """What a range table depends on."""
    model = lowerer.model
    parts = [model.graph_fingerprint, model.weights_fingerprint, dataset.fingerprint(), recipe.fingerprint]
    return fingerprint([*parts, lowerer.scheme.name, str(lowerer.carrier)])


def _methods(recipe: CalibrationRecipe) -> list[tuple[str, str, float]]:
    chosen = CANDIDATES if recipe.method == "auto" else ((recipe.method, recipe.percentile),)
    return [(f"{m} {p:g}" if m == "percentile" else m, m, p) for m, p in chosen]


def method_of(label: str) -> tuple[str, float]:
    """The calibrator and its percentile, of a label such as "mse" or "percentile 99.9"."""
    method, _, percentile = label.partition(" ")
    return method, float(percentile or 99.99)


def _table(observed: Observed, label: str, method: str, percentile: float, symmetric: bool, mark: str) -> RangeTable:
    clipped: dict[str, Range] = {}
    for name, histogram in observed.histograms.items():
        clipped[name] = calibrate(histogram, method, symmetric=symmetric, percentile=percentile)
    extent = {name: calibrate(h, "minmax", symmetric=False) for name, h in observed.histograms.items()}
    return RangeTable(
        method=label,
        clipped=clipped,
        extent=extent,
        means=observed.means,
        samples=observed.samples,
        fingerprint=mark,
        evidence={},
    )


def choose_ranges(
    lowerer: Lowerer,
    possible: Possible,
    backend: Backend,
    dataset: Dataset,
    batch_size: int,
    observed: Observed,
    tables: Mapping[str, RangeTable],
    progress: Progress,
) -> RangeTable:
    """The best calibrator for all values, then for single ones, and whether biases are corrected."""
    errors = _judge(lowerer, possible, backend, dataset, batch_size, tables, progress)
    best = min(errors, key=errors.__getitem__)
    table = replace(tables[best], evidence=errors)
    if progress("calibrator of each value", 0.0):
        return table
    plan = uniform(lowerer.partition, Precision.INT8, possible, lowerer.carrier)
    others = [other for label, other in tables.items() if label != best]
    cut = min(_REFINED_SAMPLES, dataset.count)
    seen = dataset.subset(range(cut))
    # What was chosen on few samples must hold on others.
    fresh = dataset.subset(range(cut, min(cut + _JUDGED_SAMPLES, dataset.count))) if dataset.count > cut else seen
    with backend.build(to_bytes(lowerer.model.ir), exact=True) as reference:
        on_seen, on_fresh = (
            Evaluator.against(reference, data, lowerer.model.interface, load_metric("sqnr"), size, fidelity=())
            for data, size in ((seen, max(1, min(batch_size, cut // 4))), (fresh, batch_size))
        )
        refined = refine(
            lowerer,
            plan,
            backend,
            on_seen,
            seen.count,
            observed.histograms,
            table,
            others,
            lambda share: progress("calibrator of each value", share),
        )

        def noise(candidate: RangeTable) -> float:
            lowered = to_bytes(lowerer.lower(plan, candidate, simulate=True).ir)
            with backend.build(lowered, exact=True) as engine:
                return on_fresh.evaluate(engine).noise

        evidence = {ONE_FOR_ALL: noise(table), ONE_FOR_EACH: noise(refined)}
        if evidence[ONE_FOR_EACH] < evidence[ONE_FOR_ALL]:
            table = refined
        evidence[UNCORRECTED] = noise(replace(table, means={}))
    means = {} if evidence[UNCORRECTED] < min(evidence[ONE_FOR_ALL], evidence[ONE_FOR_EACH]) else table.means
    return replace(table, evidence={**errors, **evidence}, means=means)


def _judge(
    lowerer: Lowerer,
    possible: Possible,
    backend: Backend,
    dataset: Dataset,
    batch_size: int,
    tables: Mapping[str, RangeTable],
    progress: Progress,
) -> dict[str, float]:
    """Calibrator -> noise-to-signal ratio of uniform INT8's outputs; needs no labels."""
    data = dataset.subset(range(min(dataset.count, _JUDGED_SAMPLES)))
    plan = uniform(lowerer.partition, Precision.INT8, possible, lowerer.carrier)
    # Engines that take long to build are built for plans, not for ranges.
    simulate = not (backend.builds_quickly and backend.scheme == lowerer.scheme)

    def noises(evaluator: Evaluator, simulate: bool) -> dict[str, float]:
        errors: dict[str, float] = {}
        for label, table in tables.items():
            lowered = lowerer.lower(plan, table, simulate=simulate)
            with backend.build(to_bytes(lowered.ir), exact=simulate) as engine:
                errors[label] = evaluator.evaluate(engine).noise
            if progress("calibrator", len(errors) / len(tables)):
                break
        return errors

    with backend.build(to_bytes(lowerer.model.ir), exact=True) as reference:
        evaluator = Evaluator.against(
            reference, data, lowerer.model.interface, load_metric("sqnr"), batch_size, fidelity=()
        )
        if simulate:
            return noises(evaluator, True)
        try:
            return noises(evaluator, False)
        except BackendError:  # of a plan that need not be the answer; all tables anew, since noises must compare
            return noises(evaluator, True)
