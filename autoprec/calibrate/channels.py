"""What the channels of values hold that products read: one streaming pass over calibration samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from autoprec.calibrate.job import CalibrationJob
from autoprec.calibrate.observe import exposing
from autoprec.graph.model import to_bytes
from autoprec.metrics.running import run_whole
from autoprec.precision import Array

_CAPTURED = 2
"""So many samples are run at once, as all values of the model are kept meanwhile."""


@dataclass(frozen=True, slots=True)
class Channels:
    """The channels of one value.

    Attributes:
        largest: the largest magnitude of each channel, float64[channels].
        power: the mean square of each channel, float64[channels].
    """

    largest: Array
    power: Array


def observe_channels(job: CalibrationJob, axes: Mapping[str, int]) -> dict[str, Channels]:
    """Run the FP32 model once over the samples.

    Args:
        job: the calibration.
        axes: the name of each value -> the axis that holds its channels.

    Raises:
        OutOfTimeError: the time is up.
    """
    model = exposing(job.lowerer.model.ir, axes)
    largest: dict[str, Array] = {}
    power: dict[str, Array] = {}
    seen = 0
    with job.engine(to_bytes(model)) as engine:
        for batch, feed, outputs in run_whole(engine, job.dataset, job.lowerer.model.interface, _CAPTURED):
            known = {**feed, **outputs}
            for name, axis in axes.items():
                rows = np.moveaxis(known[name], axis, 0).reshape(known[name].shape[axis], -1)
                found = np.abs(rows).max(axis=1).astype(np.float64)
                square = np.einsum("cn,cn->c", rows, rows, dtype=np.float64) / max(rows.shape[1], 1) * batch.count
                largest[name] = np.maximum(largest[name], found) if name in largest else found
                power[name] = power[name] + square if name in power else square
            seen += batch.count
    return {name: Channels(largest[name], power[name] / max(seen, 1)) for name in axes}
