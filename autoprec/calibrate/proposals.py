"""Repairs that promise less rounding noise behind products, from what their channels hold on a few samples.

A promise is made from variances of rounding, as if it were independent and nothing were clipped; what a repair really
buys is measured afterwards, on other samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import onnx_ir as ir

from autoprec.calibrate.channels import Channels
from autoprec.graph.topology import Topology, attribute_int, const_array
from autoprec.lowering.passes.split_products import part_sizes, why_not_split
from autoprec.lowering.scaling import Readers, input_axis, readers_of
from autoprec.plan import Repair, RepairKind
from autoprec.precision import Array
from autoprec.units.keys import value_keys

ALPHAS = (0.25, 0.5, 0.65, 0.8, 1.0)
"""How much of the spread of activations goes into the weights: 1 is all of it, and 0.5 shares it equally."""
_PROMISED = 0.7
"""At most this share of the noise must be left by the promise."""
_SPLIT = 0.5
"""A split writes one more result, so it must promise so much less noise than factors."""
_LEVELS = 127.0
_LEAST_SHARE = 1e-5
"""A channel is taken to be at least this share of the largest one, so that factors of dead channels stay moderate."""


@dataclass(frozen=True, slots=True)
class _Product:
    """The weights of one product as a matrix of [outputs, inputs, positions], with the input channel of each column."""

    weight: Array
    column: Array

    @classmethod
    def of(cls, node: ir.Node) -> _Product:
        weight = const_array(node.inputs[1])
        assert weight is not None
        groups = attribute_int(node, "group", 1)
        rows = np.moveaxis(weight.astype(np.float64), input_axis(node), 1 if weight.ndim > 2 else -1)
        if node.op_type == "Conv":
            made = rows.reshape(rows.shape[0], rows.shape[1], -1)
            first = np.repeat(np.arange(groups) * made.shape[1], made.shape[0] // groups)
            return cls(made, first[:, None] + np.arange(made.shape[1])[None])
        if node.op_type == "ConvTranspose":
            made = weight.astype(np.float64).reshape(weight.shape[0], weight.shape[1], -1).transpose(1, 0, 2)
        else:
            made = rows.reshape(-1, rows.shape[-1])[:, :, None] if weight.ndim == 2 else _batched(weight)
        return cls(made, np.broadcast_to(np.arange(made.shape[1]), made.shape[:2]))

    def noise(self, channels: Channels, factor: Array, parts: Sequence[slice]) -> float:
        """Return the noise-to-signal ratio of its results where each part of the channels has a range of its own."""
        scaled = self.weight * factor[self.column][:, :, None]
        power = (channels.power / factor**2)[self.column]
        signal = (np.square(scaled).sum(axis=2) * power).sum()
        noise = 0.0
        for part in parts:
            step = (channels.largest / factor)[part].max() / _LEVELS
            inside = (self.column >= part.start) & (self.column < part.stop)
            kept = scaled * inside[:, :, None]
            codes = np.abs(kept).max(axis=(1, 2)) / _LEVELS
            noise += np.square(kept).sum() * step**2 / 12
            noise += ((power * inside).sum(axis=1) * scaled.shape[2] * codes**2).sum() / 12
        return float(noise / signal) if signal > 0 else 0.0


def _batched(weight: Array) -> Array:
    rows: Array = np.moveaxis(weight.astype(np.float64), -2, 0).reshape(weight.shape[-2], -1)
    found: Array = rows.T[:, :, None]
    return found


def candidates(topology: Topology) -> dict[str, Readers]:
    """Return the values that products read, with these products."""
    values = [v for node in topology.nodes for v in node.outputs] + list(topology.graph.inputs)
    found = {str(value.name): readers_of(topology, value) for value in values if value not in topology.constants}
    return {name: readers for name, readers in found.items() if readers is not None}


def propose(topology: Topology, channels: Mapping[str, Channels], wanted: Sequence[RepairKind]) -> tuple[Repair, ...]:
    """Return for each value the repair that promises most, where one promises enough.

    Args:
        topology: the topology of the model.
        channels: the channels of the values of `candidates`.
        wanted: the kinds that may be proposed.
    """
    keys, readers = value_keys(topology), candidates(topology)
    values = {str(v.name): v for node in topology.nodes for v in node.outputs}
    found = []
    for name, seen in channels.items():
        if name not in readers or seen.largest.shape != (readers[name].channels,) or not seen.largest.max() > 0:
            continue
        products = [_Product.of(node) for node in readers[name].nodes]
        floored = Channels(np.maximum(seen.largest, _LEAST_SHARE * seen.largest.max()), seen.power)
        whole = [slice(0, readers[name].channels)]
        plain = _noise(products, floored, np.ones(readers[name].channels), whole)
        kind = RepairKind.EQUALISE if readers[name].nodes[0].op_type.startswith("Conv") else RepairKind.SMOOTH
        tried = [
            (_noise(products, floored, factor, whole), kind, factor)
            for factor in (_factors(readers[name], floored) if kind in wanted else ())
        ]
        if RepairKind.SPLIT in wanted and name in values and why_not_split(topology, values[name]) is None:
            bounds = np.cumsum([0, *(part_sizes(values[name]) or ())]).tolist()
            parts = [slice(a, b) for a, b in pairwise(bounds)]
            split = _noise(products, floored, np.ones(readers[name].channels), parts)
            tried.append((split / _SPLIT, RepairKind.SPLIT, np.zeros(0)))
        least, kind, factor = min(tried, key=lambda each: each[0], default=(np.inf, kind, np.zeros(0)))
        if least <= _PROMISED * plain:
            found.append(Repair(kind=kind, value=name, key=keys[name], factors=tuple(factor.tolist())))
    return tuple(found)


def _noise(products: Sequence[_Product], channels: Channels, factor: Array, parts: Sequence[slice]) -> float:
    return sum(product.noise(channels, factor, parts) for product in products)


def _factors(readers: Readers, channels: Channels) -> list[Array]:
    """Return the factors to try, whose geometric mean is 1, as floats of 24 bits that a file keeps exactly."""
    weights = np.maximum(readers.largest_weights(), np.finfo(np.float32).tiny)
    spread = [channels.largest] if readers.are_depthwise else []
    if not readers.are_depthwise:
        spread = [channels.largest**alpha / weights ** (1 - alpha) for alpha in ALPHAS]
    return [(each / np.exp(np.log(each).mean())).astype(np.float32).astype(np.float64) for each in spread]
