"""What is said of each node is what its kernel in ONNX Runtime's optimised graph computes on."""

from __future__ import annotations

import numpy as np
import pytest

from autoprec.backends.ort import OrtBackend
from autoprec.backends.protocol import RanAs
from autoprec.backends.scheme import ORT_CPU
from autoprec.graph.model import to_bytes
from autoprec.precision import Precision
from autoprec.proof.inspect import verified
from autoprec.proof.verification import UnitStatus

from ..helpers.lowering_bench import Bench
from ..helpers.onnx_builder import Builder

FP32, INT8 = Precision.FP32, Precision.INT8


def pools() -> Bench:
    """A convolution, a Resize, two pools with a Sigmoid between them, and a convolution."""
    b = Builder()
    first = b.node("Relu", "relu", [b.conv("first", b.image(), 32, 32)])
    nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    larger = b.node("Resize", "larger", [first, "", b.const("scales", [1, 1, 2, 2])], **nearest)
    pool = b.node("MaxPool", "pool", [larger], kernel_shape=[3, 3], pads=[1] * 4)
    gate = b.node("Sigmoid", "gate", [pool])
    smaller = b.node("AveragePool", "smaller", [gate], kernel_shape=[2, 2], strides=[2, 2])
    b.output(b.conv("last", smaller, 32, 32), ["N", 32, 8, 8])
    return Bench(b.model(), ORT_CPU, FP32)


def ran(one: Bench, plan: dict[str, Precision]) -> dict[str, RanAs]:
    names = [node for unit in one.partition.units for node in unit.nodes]
    return OrtBackend(threads=1).inspect(to_bytes(one.lower(plan).ir), names)


def test_pools_and_resizes_on_codes_are_known_by_their_tensors() -> None:
    one = pools()
    found = ran(one, one.uniform(INT8))

    assert {name: found[name].quantized for name in ("first", "pool", "larger", "smaller", "last")} == dict.fromkeys(
        ("first", "pool", "larger", "smaller", "last"), True
    )
    assert not any(each.quantized for each in ran(one, one.uniform(FP32)).values())


def test_a_light_operator_that_computes_on_the_codes_of_its_neighbours_is_not_called_wrong() -> None:
    """A Sigmoid between two pairs is a table of 256 codes."""
    one = pools()
    plan = one.uniform(INT8)
    checked = {u.unit: u for u in verified(one.lowerer, plan, OrtBackend(1), to_bytes(one.lower(plan).ir)).units}

    assert plan["gate"] is FP32
    assert checked["gate"].status is UnitStatus.FUSED
    assert "computes on the 8-bit codes of its neighbours, which gives the same values" in checked["gate"].describe()
    assert {u.status for u in checked.values()} == {UnitStatus.FUSED, UnitStatus.HONOURED}


@pytest.mark.parametrize("behind", ["Relu", "LeakyRelu", "HardSigmoid", "Sigmoid"])
def test_a_float_kernel_that_computes_an_activation_too_is_the_product_s(behind: str) -> None:
    """Blocked convolutions and fused Gemms are called after the last of their nodes."""
    b = Builder()
    value = b.node(behind, "behind", [b.conv("conv", b.image(), 32, 32)])
    pooled = b.node("Flatten", "flatten", [b.node("GlobalAveragePool", "pool", [value])])
    b.output(b.node(behind, "end", [b.gemm("fc", pooled, 32, 16)]), ["N", 16])
    one = Bench(b.model(), ORT_CPU, FP32)
    found = ran(one, one.uniform(FP32))

    assert not found["conv"].quantized
    assert not found["fc"].quantized
    assert not np.isnan(one.sqnr(one.model.ir))
