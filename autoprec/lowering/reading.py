"""What a product or a convolution multiplies its weights with, as rows of a matrix: of a value, or patches of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from autoprec.graph.topology import attribute_int, static_shape
from autoprec.precision import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How a convolution moves over a value; one number for each axis that it moves along.

    Attributes:
        kernel: the elements of a patch.
        strides: the steps from patch to patch.
        dilations: the steps from element to element of a patch.
        pads: the zeros before the value, then, for each axis again, those behind it.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]

    def __str__(self) -> str:
        parts = (("kernel", self.kernel), ("strides", self.strides), ("dilations", self.dilations), ("pads", self.pads))
        return ", ".join(f"{name} {'x'.join(map(str, numbers))}" for name, numbers in parts)

    def places(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Return the numbers of patches along the axes of a value."""
        ends = self.pads[len(self.kernel) :]
        each = zip(size, self.kernel, self.strides, self.dilations, self.pads, ends, strict=False)
        return tuple(max((n + low + high - d * (k - 1) - 1) // s + 1, 0) for n, k, s, d, low, high in each)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a layer multiplies its weights with.

    Attributes:
        value: the name of the value.
        channels: the number of rows of the matrix of weights, for each group.
        groups: the number of groups of a convolution.
        window: how a convolution moves, None for a product, which reads the last axis of the value.
        transposed: whether a product stores its weights with the columns first.
    """

    value: str
    channels: int
    groups: int = 1
    window: Window | None = None
    transposed: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """The name of the value, and how it is cut into patches, "" where it is not."""
        return self.value, "" if self.window is None else f"{self.window}, groups {self.groups}"

    @property
    def matrix_bytes(self) -> int:
        """The bytes of its second moments in FP32."""
        return 4 * self.groups * self.channels**2

    def rows(self, array: Array, most: int, random: np.random.Generator) -> Array:
        """Return rows that are multiplied with the weights, float[groups, rows, channels].

        Args:
            array: the value.
            most: the most patches of a sample, chosen at random; of a product it gives all rows.
            random: makes the choice.
        """
        if self.window is None:
            return array.reshape(1, -1, self.channels)
        window, size = self.window, array.shape[2:]
        places = window.places(size)
        total = math.prod(places)
        chosen = np.arange(total) if total <= most else np.sort(random.choice(total, most, replace=False))
        starts = [
            place * s - low
            for place, s, low in zip(np.unravel_index(chosen, places), window.strides, window.pads, strict=False)
        ]
        taps = []
        for offset in np.ndindex(*window.kernel):
            at = [start + o * d for start, o, d in zip(starts, offset, window.dilations, strict=True)]
            inside = np.all([(i >= 0) & (i < n) for i, n in zip(at, size, strict=True)], axis=0)
            clipped = [np.clip(i, 0, n - 1) for i, n in zip(at, size, strict=True)]
            index: tuple[Any, ...] = (slice(None), slice(None), *clipped)
            taps.append(array[index] * inside)
        found = np.stack(taps, axis=-1)  # [samples, channels of the value, patches, taps]
        count, width, patches, _ = found.shape
        cut = found.reshape(count, self.groups, width // self.groups, patches, -1).transpose(1, 0, 3, 2, 4)
        rows: Array = np.ascontiguousarray(cut).reshape(self.groups, count * patches, self.channels)
        return rows

    def matrices(self, weight: Array) -> Array:
        """Return weights as matrices, float[groups, channels, columns]."""
        if self.window is None:
            return (weight.T if self.transposed else weight)[None]
        matrices: Array = weight.reshape(self.groups, -1, self.channels).transpose(0, 2, 1)
        return matrices

    def stored(self, matrices: Array, shape: tuple[int, ...]) -> Array:
        """Return matrices in the shape in which the layer stores its weights."""
        if self.window is None:
            return np.ascontiguousarray(matrices[0].T if self.transposed else matrices[0])
        return np.ascontiguousarray(matrices.transpose(0, 2, 1)).reshape(shape)


def reading_of(node: ir.Node) -> Reading | None:
    """Return what a Conv, Gemm or MatMul of constant weights reads; None for others, and where no shape tells it."""
    source, shape = node.inputs[0], static_shape(node.inputs[1])
    if source is None or shape is None:
        return None
    if node.op_type == "Conv" and len(shape) > 2:
        window = _window(node, shape[2:])
        groups = attribute_int(node, "group", 1)
        depth = math.prod(shape[1:])
        return None if window is None else Reading(value=str(source.name), channels=depth, groups=groups, window=window)
    if node.op_type not in ("Gemm", "MatMul") or len(shape) != 2 or attribute_int(node, "transA", 0):
        return None
    turned = node.op_type == "Gemm" and bool(attribute_int(node, "transB", 0))
    return Reading(value=str(source.name), channels=shape[1 if turned else 0], transposed=turned)


def _window(node: ir.Node, kernel: tuple[int, ...]) -> Window | None:
    """Return how a convolution moves, None where its padding depends on the size of what it reads."""
    rank = len(kernel)

    def numbers(name: str, usual: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(node.attributes[name].as_ints()) if name in node.attributes else usual

    padding = node.attributes["auto_pad"].as_string() if "auto_pad" in node.attributes else "NOTSET"
    if padding not in ("NOTSET", "VALID"):
        return None
    none = (0,) * (2 * rank)
    return Window(
        kernel=kernel,
        strides=numbers("strides", (1,) * rank),
        dilations=numbers("dilations", (1,) * rank),
        pads=numbers("pads", none) if padding == "NOTSET" else none,
    )
