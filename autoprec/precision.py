"""The number formats that a unit can run in, and the rounding of arrays to them."""

from __future__ import annotations

from enum import Enum
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from autoprec.errors import UsageError

Array = npt.NDArray[Any]


class Precision(str, Enum):
    """A number format; the value of each member is its name in plan files and on the command line.

    FP64 is what some models are given in. A unit may keep it, and no other unit gets it. In INT8_DYNAMIC a product
    reads INT8 weights, and activations whose range is found anew in each run, over the whole tensor. In INT4 only the
    weights are quantised: each block of 32, 64 or 128 of them has a scale and, where the name says "zp", a zero point.
    In INT8_WEIGHTS too only the weights are, each column with a scale. In MXFP8 and NVFP4 products read weights and
    activations of 8 and 4 bits in blocks of 32 and 16, whose scales are small floats; those of activations are found
    at run time.
    """

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    FP8 = "fp8"
    INT8 = "int8"
    FP64 = "fp64"
    INT8_DYNAMIC = "int8-dynamic"  # new ones come last, so that the numbers of the others in stored programs stay
    INT4_32 = "int4-32"
    INT4_64 = "int4-64"
    INT4_128 = "int4-128"
    INT4_32_ZP = "int4-32-zp"
    INT4_64_ZP = "int4-64-zp"
    INT4_128_ZP = "int4-128-zp"
    INT8_WEIGHTS = "int8-weights"
    MXFP8 = "mxfp8"
    NVFP4 = "nvfp4"

    def __str__(self) -> str:
        return self.value

    @property
    def bits(self) -> int:
        """The number of bits of one stored weight."""
        return {"fp64": 64, "fp32": 32, "fp16": 16, "bf16": 16}.get(
            self.value, 4 if self.block or self is Precision.NVFP4 else 8
        )

    @property
    def block(self) -> int:
        """The number of weights that share a scale, for the formats of four bits; 0 for all others."""
        return int(self.value.split("-")[1]) if self.value.startswith("int4") else 0

    @property
    def scaled_block(self) -> int:
        """The number of values that share a scale that is a small float, in MXFP8 and NVFP4; 0 for all others."""
        return {"mxfp8": 32, "nvfp4": 16}.get(self.value, 0)

    @property
    def weights_only(self) -> bool:
        """Whether weights are stored as codes, and activations stay float."""
        return self is Precision.INT8_WEIGHTS or self.block > 0

    @property
    def has_zero_points(self) -> bool:
        """Whether each block of weights has a zero point."""
        return self in (Precision.INT4_32_ZP, Precision.INT4_64_ZP, Precision.INT4_128_ZP)

    @property
    def of_weights(self) -> Precision:
        """The format that weights are stored in, which is INT8 whatever the ranges of activations are."""
        return Precision.INT8 if self is Precision.INT8_DYNAMIC else self

    @property
    def is_quantized(self) -> bool:
        """Whether weights are stored as codes with a scale, as in INT8, FP8 and INT4."""
        eight = (Precision.INT8, Precision.FP8, Precision.INT8_DYNAMIC)
        return self in eight or self.weights_only or self.scaled_block > 0

    @property
    def needs_ranges(self) -> bool:
        """Whether activations are quantised by calibrated ranges, so that units hand each other codes."""
        return self in (Precision.INT8, Precision.FP8)

    @property
    def largest(self) -> float:
        """The largest finite value of a float format; the largest code of INT8 and of INT4 without zero points.

        The float values follow from IEEE 754 and, for FP8, from Micikevicius et al., "FP8 Formats for Deep
        Learning", 2022.
        """
        return {
            "fp64": float(np.finfo(np.float64).max),
            "fp32": 3.4028234663852886e38,
            "fp16": 65504.0,
            "bf16": 3.3895313892515355e38,
            "fp8": 448.0,  # E4M3FN has no infinities and gives only one bit pattern of each sign to NaN
            "int8": 127.0,  # the code -128 is not used, so that the codes are symmetric around 0
            "int8-dynamic": 127.0,
            "int8-weights": 127.0,
            "mxfp8": 448.0,
            "nvfp4": 6.0,
        }.get(self.value, 7.0)


PRECISION_KEY = "autoprec.precision"
"""The key in the metadata of an ONNX node under which a weakly typed runtime finds the precision to run it in."""
LIMITS_KEY = "autoprec.limits"
"""The key in the metadata of an ONNX model that leaves precisions to the builder of a weakly typed runtime.

It holds the largest magnitude of each value, as a JSON object of numbers by value names."""

CARRIERS = (Precision.FP32, Precision.FP16, Precision.BF16)
"""The float types that may be chosen: for units, and for what is around 8-bit arithmetic."""
FLOATS = (*CARRIERS, Precision.FP64)
"""The precisions that hold values without a scale."""
CHOSEN = tuple(p for p in Precision if p is not Precision.FP64)
"""The precisions that a search may give to any unit."""


def parse_precision(text: str) -> Precision:
    """Return the precision that `text` names; capital and small letters are the same.

    Raises:
        UsageError: `text` names no precision.
    """
    try:
        return Precision(text.strip().lower())
    except ValueError:
        names = ", ".join(CHOSEN)
        raise UsageError(f"a precision must be one of {names}, got {text!r}") from None


def float_dtype(precision: Precision) -> np.dtype[Any]:
    """Return the NumPy type that stores values of a float precision, or codes of FP8.

    Raises:
        UsageError: the precision is INT8, whose codes are integers.
    """
    table = {
        Precision.FP64: np.float64,
        Precision.FP32: np.float32,
        Precision.FP16: np.float16,
        Precision.BF16: ml_dtypes.bfloat16,
        Precision.FP8: ml_dtypes.float8_e4m3fn,
    }
    if precision not in table:
        raise UsageError(f"{precision} is not a float type")
    result: np.dtype[Any] = np.dtype(table[precision])
    return result


def cast_clamped(values: Array, precision: Precision) -> Array:
    """Cast `values` to the float type `precision`, and clamp finite values to its largest instead of overflowing.

    NaN and infinity are left as they are: an infinity is written into a model on purpose, for example in an
    attention mask.
    """
    limit = precision.largest
    clamped = np.where(np.isfinite(values), np.clip(values, -limit, limit), values)
    result: Array = clamped.astype(float_dtype(precision))
    return result
