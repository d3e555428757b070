"""Rounding that minimises the error of a product's outputs, by the second moments of what it reads.

Frantar, Ashkboos, Hoefler and Alistarh 2023, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers": rows are rounded one after the other, and the rows behind take over what each one loses.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from autoprec.precision import Array
from autoprec.ranges.moments import Moments
from autoprec.ranges.weight_blocks import BlockGrid

_DAMPING = 0.01
"""The share of the mean of the diagonal that is added to it, as in the paper."""
_ROWS = 64
"""So many rows are rounded before what they lost is handed to all rows behind them."""
_COLUMNS = 4096
"""So many columns are rounded at once, so that memory is bounded; they do not depend on one another."""


def gptq_codes(weight: Array, grid: BlockGrid, moments: Moments) -> Array:
    """Return the codes of a matrix, int4 or uint4[K, N], that lose least at the outputs.

    Args:
        weight: the matrix, float[K, N].
        grid: the scales and zero points of its blocks.
        moments: those of the K channels that it is multiplied with.
    """
    return _codes(weight, grid, _factor(moments.matrix()))


def gptq_codes_of_columns(weight: Array, scales: Array, largest: int, moments: Moments) -> Array:
    """Return the codes of 8 bits of a layer whose output channels each have a scale, int8[groups, K, N].

    Args:
        weight: the matrix of each group, float[groups, K, N].
        scales: float32[groups, N].
        largest: the largest code; that of smallest weights is its negative.
        moments: those of the K channels that each group is multiplied with.
    """
    depth = weight.shape[1]
    grids = (BlockGrid(depth, each[None], None, largest) for each in scales)
    codes = [
        _codes(part, grid, _factor(moments.matrix(group)))
        for group, (part, grid) in enumerate(zip(weight, grids, strict=True))
    ]
    return np.stack(codes)


def _codes(weight: Array, grid: BlockGrid, factor: Array) -> Array:
    parts = []
    for first in range(0, weight.shape[1], _COLUMNS):
        part = slice(first, first + _COLUMNS)
        zeros = None if grid.zeros is None else grid.zeros[:, part]
        parts.append(_rounded(weight[:, part], replace(grid, scales=grid.scales[:, part], zeros=zeros), factor))
    return np.concatenate(parts, axis=1)


def _factor(matrix: Array) -> Array:
    """Return the upper Cholesky factor of the inverse of damped moments, float64[K, K]."""
    damped = np.diag_indices(len(matrix))
    matrix[damped] += _DAMPING * float(np.mean(np.diag(matrix))) or 1.0
    found: Array = np.linalg.cholesky(np.linalg.inv(matrix)).T
    return found


def _rounded(weight: Array, grid: BlockGrid, factor: Array) -> Array:
    left = weight.astype(np.float32)
    codes = np.empty(weight.shape, grid.code_type)
    factor = factor.astype(np.float32)
    low, high = grid.limits
    for start in range(0, len(left), _ROWS):
        end = min(start + _ROWS, len(left))
        lost = np.empty((end - start, left.shape[1]), np.float32)
        for row in range(start, end):
            scale = grid.scales[row // grid.block]
            zero = 0.0 if grid.zeros is None else grid.zeros[row // grid.block].astype(np.float32)
            code = np.clip(np.rint(left[row] / scale) + zero, low, high)
            codes[row] = code
            error = (left[row] - (code - zero) * scale) / factor[row, row]
            left[row + 1 : end] -= np.outer(factor[row, row + 1 : end], error)
            lost[row - start] = error
        left[end:] -= factor[start:end, end:].T @ lost
    return codes
