"""The number formats a unit can run in, and exact rounding to them."""

from __future__ import annotations

from enum import Enum
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from autoprec.errors import UsageError

Array = npt.NDArray[Any]


class Precision(str, Enum):
    """One precision; the value is its name in plan files and on the command line."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    FP8 = "fp8"
    INT8 = "int8"

    def __str__(self) -> str:
        return self.value

    @property
    def bits(self) -> int:
        """Bits per stored weight."""
        return {"fp32": 32, "fp16": 16, "bf16": 16, "fp8": 8, "int8": 8}[self.value]

    @property
    def is_quantized(self) -> bool:
        """Whether values need a scale: INT8 and FP8 do, float types do not."""
        return self in (Precision.INT8, Precision.FP8)

    @property
    def largest(self) -> float:
        """The largest finite value; for INT8 the largest code."""
        return {
            "fp32": 3.4028234663852886e38,
            "fp16": 65504.0,
            "bf16": 3.3895313892515355e38,
            "fp8": 448.0,  # E4M3FN: no infinities, one NaN pattern
            "int8": 127.0,
        }[self.value]


PRECISION_KEY = "autoprec.precision"
"""The key of an ONNX node's metadata that says in which precision a weakly typed runtime must run it."""

FLOATS = (Precision.FP32, Precision.FP16, Precision.BF16)


def parse_precision(text: str) -> Precision:
    """The precision called `text`, in any case.

    Raises:
        UsageError: `text` names no precision.
    """
    try:
        return Precision(text.strip().lower())
    except ValueError:
        names = ", ".join(p.value for p in Precision)
        raise UsageError(f"a precision must be one of {names}, got {text!r}") from None


def float_dtype(precision: Precision) -> np.dtype[Any]:
    """The NumPy type of a float precision or of FP8 codes.

    Raises:
        UsageError: INT8, which is an integer type with a scale.
    """
    table = {
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
    """`values` in the float type `precision`, finite values clamped to its largest instead of overflowing."""
    limit = precision.largest
    clamped = np.where(np.isfinite(values), np.clip(values, -limit, limit), values)
    result: Array = clamped.astype(float_dtype(precision))
    return result
