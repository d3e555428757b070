"""What a measurement of sensitivities needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from autoprec.backends.limited import OutOfTime, never
from autoprec.backends.protocol import Backend
from autoprec.data.dataset import Dataset
from autoprec.lowering.lowerer import Lowered, Lowerer
from autoprec.lowering.possible import Possible, uniform
from autoprec.metrics.metric import Metric
from autoprec.precision import Precision
from autoprec.ranges.table import RangeTable

Entry = tuple[str, Precision]
"""A unit, and a precision that it can run in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SensitivityJob:
    """One measurement of the sensitivities of a model.

    Attributes:
        lowerer: the lowerer of the model; its scheme is the one that is measured.
        possible: what each unit can run in.
        backend: the runtime that computes the simulated arithmetic.
        dataset: the samples that sensitivities are means over.
        metric: the user's metric.
        ranges: the calibrated ranges.
        batch_size: the largest number of samples of one run.
        known: the entries that an earlier run measured, which are left out.
        enough: the relative standard error of noises at which no further samples are measured; 0 measures all.
        journal: the file that gets a line for each measured part, so that a killed run goes on; None keeps nothing.
        progress: the function that is told the share that is done.
        out_of_time: says whether the time is up, so that the measurement ends with what is known; None where there is
            no limit.
        most_samples: the most samples of one run, so that no single run outlasts the time; None for any number.
    """

    lowerer: Lowerer
    possible: Possible
    backend: Backend
    dataset: Dataset
    metric: Metric
    ranges: RangeTable
    batch_size: int
    known: frozenset[Entry] = frozenset()
    enough: float = 0.0
    journal: Path | None = None
    progress: Callable[[float], None] = lambda share: None
    out_of_time: OutOfTime | None = None
    most_samples: int | None = None

    @property
    def cut(self) -> OutOfTime:
        """Says whether the time is up; never where there is no limit."""
        return self.out_of_time or never

    @property
    def output_names(self) -> list[str]:
        """The names of the model's outputs that depend on its inputs."""
        return [spec.name for spec in self.lowerer.model.interface.outputs if spec.sample_axis is not None]

    def entries(self, precisions: Iterable[Precision]) -> list[Entry]:
        """Each unit with each of the precisions that it can run in, unit by unit, but those that are known.

        FP32 and what the unit has in the model are left out, since they lose nothing.
        """
        wanted = [p for p in precisions if p is not Precision.FP32]
        pairs = [(u.name, p) for u in self.lowerer.partition.units for p in wanted if p is not u.source]
        able = [(u, p) for u, p in pairs if self.possible[u].get(p, "not offered") is None]
        return [entry for entry in able if entry not in self.known]

    def lowered(self, precision: Precision) -> Lowered:
        """The simulated model with every unit in `precision` that can run in it, and the others in FP32."""
        plan = uniform(self.lowerer.partition, precision, self.possible, Precision.FP32)
        return self.lowerer.lower(plan, self.ranges, simulate=True)
