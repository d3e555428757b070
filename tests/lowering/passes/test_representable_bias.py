"""A channel with next to no weights keeps its bias, in 8-bit kernels too."""

from __future__ import annotations

from typing import Any

import numpy as np

from autoprec.backends.scheme import ORT_CPU_7BIT
from autoprec.graph.topology import const_array
from autoprec.precision import Precision

from ...helpers.lowering_bench import Bench, run, sqnr_db
from ...helpers.onnx_builder import CHANNELS, SIDE, Builder

SHUT = (1, 5)
"""The channels with next to no weights."""


def network(scale: float) -> Any:
    b = Builder()
    x = b.input("x", ["N", CHANNELS, SIDE, SIDE])
    weights = b.random.normal(0, 0.1, (CHANNELS, CHANNELS, 3, 3))
    weights[list(SHUT)] *= scale
    bias = np.full(CHANNELS, 0.3)
    bias[list(SHUT)] = [-4.0, 3.0]
    inputs = [x, b.const("w", weights), b.const("b", bias)]
    b.output(b.node("Relu", "relu", [b.node("Conv", "conv", inputs, pads=[1] * 4)]), ["N", CHANNELS, SIDE, SIDE])
    return b.model()


def test_a_channel_that_is_shut_is_computed_as_the_model_says() -> None:
    one = Bench(network(1e-9), ORT_CPU_7BIT, Precision.FP32)
    plan = one.uniform(Precision.INT8)

    real = run(one.lower(plan).ir, one.feed, exact=False)
    simulated = run(one.lower(plan, simulate=True).ir, one.feed)

    assert sqnr_db(simulated, real) > 45  # without the pass 8: the second of these channels is 0
    for channel, expected in zip(SHUT, (0.0, 3.0), strict=True):
        np.testing.assert_allclose(real["relu_out"][:, channel], expected, atol=0.05)


def test_scales_stay_where_the_bias_fits() -> None:
    one = Bench(network(1.0), ORT_CPU_7BIT, Precision.FP32)
    lowered = one.lower(one.uniform(Precision.INT8)).ir
    conv = next(node for node in lowered.graph if node.op_type == "Conv")
    weights = conv.inputs[1].producer()  # type: ignore[union-attr]

    assert weights is not None
    assert np.abs(const_array(weights.inputs[0])).max(axis=(1, 2, 3)).min() == 64  # type: ignore[arg-type]
