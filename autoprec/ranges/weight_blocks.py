"""Four-bit codes of weights, with a scale for each block of rows of each column.

A column of a matrix [K, N] is cut into blocks of B rows. Each block has a scale and, if asked for, a zero point, as
DequantizeLinear with a block size reads them (ONNX, opset 21).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from autoprec.errors import ModelError
from autoprec.precision import Array
from autoprec.ranges.affine import SMALLEST_HALF_SCALE

_LOW, _HIGH, _STEPS = -8, 7, 15
"""The smallest and the largest signed code of four bits, and the steps between the two ends."""
_SHARES = np.linspace(1.0, 0.7, 7)
"""The shares of the width of a block that are tried: what is clipped costs less than coarser steps for all others."""
_MOST_AT_ONCE = 1 << 21


@dataclass(frozen=True, slots=True)
class BlockGrid:
    """The values that the weights of each block can take: scale * (code - zero point).

    Attributes:
        block: the number of rows of a block.
        scales: float32[K / block, N].
        zeros: uint8[K / block, N] for unsigned codes, None for signed codes around zero.
        largest: the largest code of 8 bits, None for codes of 4 bits.
    """

    block: int
    scales: Array
    zeros: Array | None
    largest: int | None = None

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest code."""
        if self.largest is not None:
            return -self.largest, self.largest
        return (_LOW, _HIGH) if self.zeros is None else (0, _STEPS)

    @property
    def code_type(self) -> np.dtype[Any]:
        """The type of codes, of which each has a byte in memory."""
        small = ml_dtypes.int4 if self.zeros is None else ml_dtypes.uint4
        found: np.dtype[Any] = np.dtype(small if self.largest is None else np.int8)
        return found

    def codes(self, weight: Array) -> Array:
        """Return the nearest code of each weight of a matrix, int4 or uint4[K, N]."""
        scales, zeros = self._by_row()
        with np.errstate(over="ignore"):
            steps = np.rint(weight.astype(np.float32, copy=False) / scales) + zeros
        result: Array = np.clip(steps, *self.limits).astype(self.code_type)
        return result

    def values(self, codes: Array) -> Array:
        """Return what codes stand for, float32[K, N]."""
        scales, zeros = self._by_row()
        result: Array = (codes.astype(np.float32) - zeros) * scales
        return result

    def _by_row(self) -> tuple[Array, Array]:
        zeros = np.zeros_like(self.scales) if self.zeros is None else self.zeros
        return np.repeat(self.scales, self.block, axis=0), np.repeat(zeros, self.block, axis=0).astype(np.float32)


def block_grid(weight: Array, block: int, *, zero_points: bool) -> BlockGrid:
    """Return for each block the scale, and the zero point, of the least squared error of its weights.

    Args:
        weight: the matrix, float[K, N]; K is a multiple of `block`.
        block: the number of rows of a block.
        zero_points: whether a block may lie anywhere, and not only around zero.

    Raises:
        ModelError: the weights hold NaN or infinity.
    """
    rows, columns = weight.shape[0] // block, weight.shape[1]
    scales = np.empty((rows, columns), np.float32)
    zeros = np.empty((rows, columns), np.uint8) if zero_points else None
    step = max(1, _MOST_AT_ONCE // max(weight.shape[0], 1))
    for first in range(0, columns, step):
        part = weight[:, first : first + step].astype(np.float32, copy=False).reshape(rows, block, -1)
        if not np.isfinite(part).all():
            raise ModelError("weights must be finite, got NaN or infinity; repair the model before quantising it")
        found = _least_error(part, zero_points)
        scales[:, first : first + step] = found[0]
        if zeros is not None:
            zeros[:, first : first + step] = found[1]
    return BlockGrid(block, scales, zeros)


def _least_error(part: Array, zero_points: bool) -> tuple[Array, Array]:
    """Return scales and zero points, each [blocks, columns], of weights [blocks, rows, columns]."""
    low, high = np.minimum(part.min(axis=1), 0), np.maximum(part.max(axis=1), 0)
    width = (high - low) / _STEPS if zero_points else np.maximum(-low, high) / _HIGH
    best = np.full(width.shape, np.inf)
    scales, zeros = np.zeros_like(width), np.zeros_like(width)
    for share in _SHARES:
        scale = np.where(width > 0, np.maximum(width * np.float32(share), SMALLEST_HALF_SCALE), SMALLEST_HALF_SCALE)
        scale = scale.astype(np.float32)
        zero = np.clip(np.rint(-low / scale), 0, _STEPS) if zero_points else np.zeros_like(scale)
        ends = (0, _STEPS) if zero_points else (_LOW, _HIGH)
        codes = np.clip(np.rint(part / scale[:, None]) + zero[:, None], *ends)
        error = np.square((codes - zero[:, None]) * scale[:, None] - part).sum(axis=1)
        better = error < best
        best = np.where(better, error, best)
        scales, zeros = np.where(better, scale, scales), np.where(better, zero, zeros)
    return scales, zeros
