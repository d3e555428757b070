"""The times of an engine's layers, as TensorRT's own profiler reports them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autoprec.stats.intervals import median


def layer_profiler(module: Any) -> Any:
    """TensorRT's abstract profiler, made concrete; its `rows` grow by a pair for each layer."""

    def __init__(self: Any) -> None:
        module.IProfiler.__init__(self)  # pybind11 wants it called by name
        self.rows = []

    def report_layer_time(self: Any, name: str, milliseconds: float) -> None:
        self.rows.append((name, float(milliseconds)))

    return type("Profiler", (module.IProfiler,), {"__init__": __init__, "report_layer_time": report_layer_time})()


def median_times(reports: Sequence[Sequence[tuple[str, float]]]) -> list[tuple[str, float]]:
    """Each layer with the median of its milliseconds over the reports of several runs.

    Where runs did not report the same layers, such as with loops, a layer's times in one run are added up.
    """
    orders = {tuple(name for name, _ in report) for report in reports}
    if len(orders) == 1:
        columns = zip(*reports, strict=True)
        return [(column[0][0], median([time for _, time in column])) for column in columns]
    sums: dict[str, list[float]] = {}
    for number, report in enumerate(reports):
        for name, time in report:
            sums.setdefault(name, [0.0] * len(reports))[number] += time
    return [(name, median(times)) for name, times in sums.items()]
