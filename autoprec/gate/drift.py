"""Whether the committed ranges still fit: calibrated again, value by value, without a GPU."""

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

_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One value's committed range beside a fresh one.

    Attributes:
        value: the name of the value.
        committed: the range that is shipped.
        fresh: the range that calibration gives now.
        bits: the bits of resolution that the committed range loses against the fresh one; one bit doubles the noise.
        clipped: the share of the values that the committed range cuts off.
    """

    value: str
    committed: Range
    fresh: Range
    bits: float
    clipped: float

    def text(self) -> str:
        """One line for people."""
        return (
            f"{self.value}: committed {self.committed.low:.4g} .. {self.committed.high:.4g}, calibrated now "
            f"{self.fresh.low:.4g} .. {self.fresh.high:.4g}; {self.clipped:.2%} of the values are clipped, "
            f"{self.bits:.2f} bits of resolution lost"
        )


def quantized_values(rebuilt: Rebuilt) -> dict[str, Precision]:
    """Name -> precision of each value whose range decides how the plan quantises; the finest scale wins."""
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
    """Every value that the plan quantises, the worst first."""
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
    """Compare a committed range with a fresh one, on values that were counted anew.

    Args:
        name: the name of the value.
        committed: the range of the baseline.
        histogram: the histogram of the values.
        precision: the precision of the value. The scale of FP8 follows the magnitude alone, so only that is compared;
            for INT8 the expected squared error is.
        label: the calibrator, such as "mse" or "percentile 99.9".
        symmetric: whether the scheme quantises activations around zero.
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
    """Share of the counted values outside of the range, right to within a bin."""
    bins = histogram.bins()
    outside = (bins.edges[1:] < span.low) | (bins.edges[:-1] > span.high)
    return float(bins.counts[outside].sum()) / max(histogram.count, 1)


def judge_drift(found: list[Drift], allowed: float, origin: str) -> Check:
    """Fine while no value loses more resolution than is allowed."""
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
            f"resolution, {allowed:g} allowed; tune the model again, which calibrates anew"
        ),
    )
