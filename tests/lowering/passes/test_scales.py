"""Scales that are the same number in every float type of the network."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprec.lowering.passes.scales import coarsest, round_scale
from autoprec.precision import Precision

FP32, FP16, BF16 = Precision.FP32, Precision.FP16, Precision.BF16


@given(st.lists(st.floats(2.0**-100, 2.0**14, width=32), min_size=1, max_size=8))
@pytest.mark.parametrize(("scale_type", "dtype"), [(FP16, np.float16), (BF16, ml_dtypes.bfloat16)])
def test_a_rounded_scale_is_exact_in_its_type_and_never_smaller(
    scale_type: Precision, dtype: type, values: list[float]
) -> None:
    exact = np.array(values, np.float32)
    rounded = round_scale(exact, scale_type)

    np.testing.assert_array_equal(rounded.astype(dtype).astype(np.float32), rounded)
    assert np.all(rounded >= exact)
    ulp = 2.0**-10 if scale_type is FP16 else 2.0**-7
    assert np.all(rounded <= np.maximum(exact, 2.0**-14) * (1 + ulp))


def test_fp32_scales_are_kept() -> None:
    assert round_scale(np.array([1e-30, 0.1], np.float32), FP32).tolist() == np.array([1e-30, 0.1], "f4").tolist()


def test_scales_below_fp16s_normal_numbers_are_lifted() -> None:
    assert round_scale(np.array([1e-9, 0.0], np.float32), FP16).tolist() == [2.0**-14, 2.0**-14]


@pytest.mark.parametrize(
    ("types", "expected"), [([FP32], FP32), ([], FP32), ([FP32, FP16], FP16), ([FP16, BF16, FP32], BF16)]
)
def test_the_coarsest_type_decides(types: list[Precision], expected: Precision) -> None:
    assert coarsest(types) is expected
