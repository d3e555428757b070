"""What a model is fed for a batch of samples, and the outputs of each sample out of what it then gives.

In data the first axis of every array is the samples. A model may have its samples on another axis, or on none.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from autoprec.data.dataset import Dataset
from autoprec.errors import DataError
from autoprec.graph.interface import Batch, Interface, TensorSpec
from autoprec.precision import Array


def feed_of(batch: Batch, interface: Interface, size: int | None = None) -> dict[str, Array]:
    """Return the arrays that the model takes for a batch.

    Args:
        batch: the samples. There is one of them if some input has no axis for samples.
        interface: the interface of the model.
        size: the number of samples that the model takes; missing ones are copies of the last one. None: any number.
    """
    feed = {}
    for spec in interface.inputs:
        array = batch.inputs[spec.name]
        if spec.takes_whole(array):
            feed[spec.name] = np.ascontiguousarray(array[0]) if array.ndim > 1 else np.asarray(array[0])
            continue
        missing = (size or 0) - len(array)
        if missing > 0:
            array = np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
        feed[spec.name] = np.ascontiguousarray(np.moveaxis(array, 0, spec.sample_axis)) if spec.sample_axis else array
    return feed


def batch_feed(interface: Interface, data: Dataset, batch_size: int) -> dict[str, Array]:
    """The first `batch_size` samples, repeated if there are fewer; a model with a fixed batch size takes that many.

    Where samples differ in length, they are the first ones of the shape that most samples have.
    """
    wanted = interface.batch_size or batch_size
    batch = next(iter(data.largest_bucket().batches(wanted)))
    whole = any(spec.takes_whole(batch.inputs[spec.name]) for spec in interface.inputs)
    indices = np.arange(1 if whole else wanted) % batch.count
    repeated = Batch({name: array[indices] for name, array in batch.inputs.items()}, None)
    feed = feed_of(repeated, interface, interface.batch_size)
    return {name: np.ascontiguousarray(array) if array.ndim else array for name, array in feed.items()}


def samples_fed(feed: Mapping[str, Array], batch: Batch, interface: Interface) -> int:
    """Return the number of samples, copies included, in what `feed_of` made of a batch."""
    for spec in interface.inputs:
        if spec.sample_axis is not None and not spec.takes_whole(batch.inputs[spec.name]):
            return int(feed[spec.name].shape[spec.sample_axis])
    return 1


def outputs_of_samples(outputs: Mapping[str, Array], interface: Interface, fed: int, count: int) -> dict[str, Array]:
    """Return the outputs for the first `count` of the `fed` samples, each with the samples on its first axis.

    An axis that is a multiple of the samples long, such as batch * heads, is split; a single number holds for each
    sample. Outputs that depend on no input are left out: no precision changes them, so there is nothing to score.

    Args:
        outputs: output name -> what the model gave. Names that are not the model's are further copies of its outputs.
        interface: the interface of the model.
        fed: the number of samples that the model was fed.
        count: how many of them, the first ones, are meant.

    Raises:
        DataError: an output has no axis whose length is a multiple of the samples, or all of them are sequences.
    """
    given, outputs = outputs, {name: array for name, array in outputs.items() if hasattr(array, "shape")}
    if given and not outputs:
        raise DataError(
            f"an output must be a tensor to be scored, but {', '.join(map(repr, given))} gives sequences; "
            f"give the model an output that is a tensor"
        )
    specs = {spec.name: spec for spec in interface.outputs}
    scored = [spec for spec in interface.outputs if spec.name in outputs and spec.sample_axis is not None]
    by_shape = {outputs[spec.name].shape: spec for spec in scored}
    found = {}
    for name, array in outputs.items():
        spec = specs.get(name) or by_shape.get(array.shape)
        if spec is None or spec.sample_axis is not None:
            found[name] = _samples_first(name, array, 0 if spec is None else _axis(spec), fed)[:count]
    return found


def _axis(spec: TensorSpec) -> int:
    return spec.sample_axis or 0


def _samples_first(name: str, array: Array, axis: int, fed: int) -> Array:
    if array.ndim == 0:
        return np.full(fed, array)
    moved = np.moveaxis(array, axis, 0) if axis and axis < array.ndim else array
    if len(moved) == fed:
        return moved
    if len(moved) % fed or (fed > 1 and not len(moved)):
        raise DataError(
            f"output {name!r} must have one entry per sample on axis {axis}, or a multiple of them, got shape "
            f"{array.shape} for {fed} samples; give the model an output with a batch axis, or run one sample at a "
            f"time by --batch 1"
        )
    return moved.reshape(fed, len(moved) // fed, *moved.shape[1:])
