"""Drift of ranges: whether the committed ranges still fit, by a new calibration that needs no GPU."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from autoprec.backends.protocol import Backend
from autoprec.calibrate.choose import method_of
from autoprec.calibrate.observe import observe
from autoprec.data.dataset import Dataset
from autoprec.gate.rebuild import Rebuilt
from autoprec.gate.verdict import Check, Status
from autoprec.lowering.placement import range_root
from autoprec.precision import Precision
from autoprec.ranges.bins import Range
from autoprec.ranges.calibrators import calibrate, quantization_error
from autoprec.ranges.histogram import Histogram
from autoprec.recipes.ranging import CalibrationRecipe

_SHOWN = 5  # the most drifted values that the report lists


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """The committed range of a value, compared with a fresh one.

    Attributes:
        value: the name of the value.
        committed: the range in the plan.
        fresh: the range that calibration finds now.
        bits: the bits of resolution that the committed range costs against the fresh one. One bit means that the
            amplitude of the quantisation noise is twice as large.
        clipped: the share of the numbers that the committed range clips.
    """

    value: str
    committed: Range
    fresh: Range
    bits: float
    clipped: float

    def text(self) -> str:
        """Return one line for people."""
        return (
            f"{self.value}: committed {self.committed.low:.4g} .. {self.committed.high:.4g}, calibrated now "
            f"{self.fresh.low:.4g} .. {self.fresh.high:.4g}; {self.clipped:.2%} of the values are clipped, "
            f"{self.bits:.2f} bits of resolution lost"
        )


def quantized_values(rebuilt: Rebuilt) -> dict[str, Precision]:
    """Return the precision, by name, of each value whose range decides how the plan quantises.

    A value that is quantised to both INT8 and FP8 is listed with INT8, which needs the finer scale.
    """
    topology, placement = rebuilt.lowerer.placement(rebuilt.precisions)
    values = {str(value.name): value for node in topology.nodes for value in node.outputs}
    values |= {str(value.name): value for value in topology.graph.inputs}
    found: dict[str, Precision] = {}
    for point in placement.activations:
        if point.fixed_scale is None:
            name = str(range_root(topology, values[point.tensor]).name)
            found[name] = Precision.INT8 if Precision.INT8 in (point.precision, found.get(name)) else point.precision
    return found


def drifts(rebuilt: Rebuilt, backend: Backend, data: Dataset, recipe: CalibrationRecipe) -> list[Drift]:
    """Return the drift of every value that the plan quantises, the worst first.

    Args:
        rebuilt: the committed plan on the model of today.
        backend: the runtime that computes the values.
        data: the calibration data.
        recipe: the calibration recipe.
    """
    table = rebuilt.ranges
    wanted = quantized_values(rebuilt)
    if table is None or not wanted:
        return []
    data = data.subset(range(min(data.count, recipe.samples)))
    observed = observe(rebuilt.lowerer, tuple(wanted), backend, data, recipe.batch)
    rows = []
    for name, precision in wanted.items():
        committed = (table.extent if precision is Precision.FP8 else table.clipped).get(name)
        if committed is not None:
            symmetric = rebuilt.lowerer.scheme.symmetric
            label = table.chosen.get(name, table.method)
            histogram = observed.histograms[name]
            rows.append(
                compare_range(name, committed, histogram, precision=precision, label=label, symmetric=symmetric)
            )
    return sorted(rows, key=lambda row: -row.bits)


def compare_range(
    name: str, committed: Range, histogram: Histogram, *, precision: Precision, label: str, symmetric: bool
) -> Drift:
    """Return what a committed range costs for numbers that were counted now.

    Args:
        name: the name of the value.
        committed: the range in the plan.
        histogram: the histogram of its numbers.
        precision: the precision it is quantised to. FP8 loses by the largest magnitude, INT8 by the expected squared
            error.
        label: the calibrator with its percentile, such as "mse" or "percentile 99.9".
        symmetric: whether the scheme quantises with zero point 0.
    """
    method, percentile = method_of(label)
    if precision is Precision.FP8:
        fresh = calibrate(histogram, "minmax", symmetric=False)
        bits = math.log2(fresh.magnitude / committed.magnitude) if committed.magnitude and fresh.magnitude else 0.0
        return Drift(
            value=name,
            committed=committed,
            fresh=fresh,
            bits=max(bits, 0.0),
            clipped=clipped_share(histogram, committed),
        )
    fresh = calibrate(histogram, method, symmetric=symmetric, percentile=percentile)
    errors = [quantization_error(histogram, span, symmetric) for span in (committed, fresh)]
    if errors[0] <= errors[1] or fresh == committed:
        bits = 0.0
    else:
        bits = 0.5 * math.log2(errors[0] / errors[1]) if errors[1] > 0 else math.inf
    return Drift(value=name, committed=committed, fresh=fresh, bits=bits, clipped=clipped_share(histogram, committed))


def clipped_share(histogram: Histogram, span: Range) -> float:
    """Return the share of the counted numbers outside the range, correct to within a bin."""
    bins = histogram.bins()
    outside = (bins.edges[1:] < span.low) | (bins.edges[:-1] > span.high)
    return float(bins.counts[outside].sum()) / max(histogram.count, 1)


def judge_drift(found: list[Drift], allowed: float, origin: str) -> Check:
    """Judge the drifts: the check is fine if no value loses more bits than `allowed`.

    Args:
        found: the drifts, the worst first.
        allowed: the most bits that a value may lose.
        origin: the name of the calibration data for the report.
    """
    if not found:
        return Check(
            name="ranges",
            status=Status.FINE,
            baseline="none",
            now="none",
            change="-",
            allowed="-",
            sentence="the plan quantises nothing that has a range",
        )
    worst, bad = found[0], [row for row in found if row.bits > allowed]
    check = Check(
        name="ranges",
        status=Status.WORSE if bad else Status.FINE,
        baseline=f"{len(found)} ranges",
        now=f"{len(bad)} drifted",
        change=f"{worst.bits:.2f} bits at worst",
        allowed=f"{allowed:g} bits",
        sentence="",
        details=tuple(row.text() for row in bad[:_SHOWN]),
    )
    if not bad:
        where = f", at {worst.value}" if worst.bits > 0 else ""
        return replace(
            check,
            sentence=f"calibrated again on {origin}, the committed ranges lose at most {worst.bits:.2f} bits{where}",
        )
    more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
    return replace(
        check,
        sentence=(
            f"the ranges of {worst.value}{more} no longer fit: the committed ones lose up to {worst.bits:.2f} bits of "
            f"resolution, {allowed:g} allowed; tune the model again, which calibrates it too"
        ),
    )
