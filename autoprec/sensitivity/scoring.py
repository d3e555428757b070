"""The scores of an entry on one chunk of samples, against the outputs of FP32."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoprec.data.dataset import Batch
from autoprec.errors import MetricError
from autoprec.metrics.metric import Metric, load_metric
from autoprec.metrics.scores import finite_samples
from autoprec.precision import Array
from autoprec.sensitivity.job import SensitivityJob
from autoprec.sensitivity.table import Sensitivity
from autoprec.units.sizes import elements_in

Outputs = dict[str, Array]

_KL_ELEMENTS = 1 << 8
"""KL divergence takes longer than the network itself where each sample gives many distributions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """Sums over samples, of which a sensitivity holds the means.

    Attributes:
        noise: the sum of noise-to-signal power ratios.
        kl: the sum of KL divergences, None where it was not measured on all samples.
        drop: the sum of losses of the user's metric.
        squares: the sum of the squares of the noise ratios.
        count: the number of samples.
    """

    noise: float = 0.0
    kl: float | None = 0.0
    drop: float = 0.0
    squares: float = 0.0
    count: int = 0

    def plus(self, part: Total) -> Total:
        """The sums over these samples and others."""
        return Total(
            noise=self.noise + part.noise,
            kl=None if self.kl is None or part.kl is None else self.kl + part.kl,
            drop=self.drop + part.drop,
            squares=self.squares + part.squares,
            count=self.count + part.count,
        )

    @property
    def noise_error(self) -> float | None:
        """The standard error of the mean noise, None where it is not known: of one sample, or not finite."""
        if self.count < 2 or not math.isfinite(self.squares):
            return None
        variance = (self.squares - self.noise**2 / self.count) / (self.count - 1)
        return math.sqrt(max(variance, 0.0) / self.count)

    def mean(self) -> Sensitivity:
        """The means over the samples."""
        kl = None if self.kl is None else self.kl / self.count
        return Sensitivity(self.noise / self.count, kl, self.drop / self.count, self.noise_error)


def of_one_shape(parts: Sequence[tuple[Batch, Outputs]], finals: Sequence[str]) -> list[list[tuple[Batch, Outputs]]]:
    """Batches with their outputs, those in one list whose samples have outputs and labels of one shape."""
    groups: dict[object, list[tuple[Batch, Outputs]]] = {}
    for batch, made in parts:
        arrays = [made[name] for name in finals] + ([] if batch.labels is None else [batch.labels])
        groups.setdefault(tuple(array.shape[1:] for array in arrays), []).append((batch, made))
    return list(groups.values())


class ScoredChunk:
    """The outputs of one chunk, its labels, and FP32's own scores."""

    def __init__(self, parts: Sequence[tuple[Batch, Outputs]], finals: Sequence[str], metric: Metric) -> None:
        self._parts = [made for _, made in parts]
        self.expected = self.outputs(dict(zip(finals, finals, strict=True)))
        self.count = sum(batch.count for batch, _ in parts)
        labels = [batch.labels for batch, _ in parts if batch.labels is not None]
        self.labels: Array | None = np.concatenate(labels) if labels else None
        self.scores = metric.scores(self.expected, self.labels, self.expected, self.count)

    def outputs(self, names: Mapping[str, str]) -> Outputs:
        """Output of the model -> what the engine's output of this name holds, over all batches."""
        return {final: np.concatenate([part[name] for part in self._parts]) for final, name in names.items()}


class Scorer:
    """Scores outputs by the user's metric, by noise, and by KL divergence as long as they are distributions."""

    def __init__(self, job: SensitivityJob) -> None:
        self._metric, self._noise = job.metric, load_metric("sqnr")
        shapes = job.lowerer.partition.shapes
        few = sum(elements_in(value, shapes) for value in job.lowerer.model.graph.outputs) <= _KL_ELEMENTS
        self._kl: Metric | None = load_metric("kl") if few else None

    def score(self, chunk: ScoredChunk, outputs: Outputs) -> Total:
        """The sums over the samples of a chunk."""
        ratios = self._noise.scores(outputs, None, chunk.expected, chunk.count).astype(np.float64)
        noise, squares = float(ratios.sum()), float(np.square(ratios).sum())
        kl = self._divergence(chunk, outputs)
        drop = math.inf
        if finite_samples(outputs).all():
            scores = self._metric.scores(outputs, chunk.labels, chunk.expected, chunk.count)
            drop = chunk.count * self._metric.drop(chunk.scores, scores)
        return Total(noise=noise, kl=kl, drop=drop, squares=squares, count=chunk.count)

    def _divergence(self, chunk: ScoredChunk, outputs: Outputs) -> float | None:
        if self._kl is None:
            return None
        try:
            return float(self._kl.scores(outputs, None, chunk.expected, chunk.count).sum())
        except MetricError:  # one value per sample is no distribution, and will not be one in the next chunk
            self._kl = None
            return None
