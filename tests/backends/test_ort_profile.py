"""ONNX Runtime's profile by unit: kernels are found whatever they are called, Q/DQ and layouts lie between units."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from autoprec.backends.ort import OrtBackend
from autoprec.backends.protocol import TimeProfile
from autoprec.backends.scheme import ORT_CPU
from autoprec.graph.model import to_bytes
from autoprec.precision import Precision
from autoprec.proof.inspect import time_profile_of

from ..helpers.lowering_bench import bench

FP32, INT8 = Precision.FP32, Precision.INT8
CNNS = ("resnet_block", "resnet_downsample", "depthwise_block", "concat_block", "pool_block", "silu_block")


def profiled(name: str, precision: Precision, **changed: Precision) -> TimeProfile:
    one = bench(name, ORT_CPU, FP32)
    model = to_bytes(one.lower(one.uniform(precision, **changed)).ir)
    return time_profile_of(one.partition, OrtBackend(threads=1), model, one.feed)


def oddly_named() -> bytes:
    """Convolutions alpha and gamma, product delta, whose tensors have numbers for names, as PyTorch gives them."""
    random = np.random.default_rng(0)
    weights = {
        "w1": random.normal(size=(32, 32, 3, 3)),
        "w2": random.normal(size=(32, 32, 3, 3)),
        "w3": random.normal(size=(32, 16)),
        "b3": random.normal(size=16),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["17"], "alpha", pads=[1] * 4),
        helper.make_node("Relu", ["17"], ["18"], "beta"),
        helper.make_node("Conv", ["18", "w2"], ["19"], "gamma", pads=[1] * 4),
        helper.make_node("ReduceMean", ["19"], ["20"], "mean", axes=[2, 3], keepdims=0),
        helper.make_node("Gemm", ["20", "w3", "b3"], ["21"], "delta"),
        helper.make_node("Relu", ["21"], ["y"], "epsilon"),
    ]
    graph = helper.make_graph(
        nodes,
        "odd",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 32, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 16])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


def odd_profile(home: Mapping[str, str]) -> TimeProfile:
    feed = {"x": np.ones((4, 32, 16, 16), np.float32)}
    return OrtBackend(threads=1).profile(oddly_named(), feed, home, {})


@pytest.mark.parametrize("precision", [FP32, INT8])
@pytest.mark.parametrize("name", CNNS)
def test_nearly_all_time_of_a_cnn_is_attributed(name: str, precision: Precision) -> None:
    found = profiled(name, precision)

    assert found.share >= 0.95, found.rest
    assert set(found.unit_ms) >= {unit.name for unit in bench(name, ORT_CPU, FP32).partition.units if unit.macs}


def test_a_change_of_precision_costs_time_between_the_units() -> None:
    """Q/DQ, and the layouts that ONNX Runtime changes with them, on both sides of a convolution in FP32."""
    found = profiled("resnet_block", INT8, conv1=FP32)

    assert found.boundary_ms["stem", "conv1"] > 0
    assert found.boundary_ms["conv1", "conv2"] > 0
    assert ("stem", "conv2") not in found.boundary_ms  # the residual, in INT8 on both sides
    assert all(before != after for before, after in found.boundary_ms)


def test_in_int8_only_the_ends_of_the_network_are_converted() -> None:
    found = profiled("resnet_block", INT8)

    assert set(found.boundary_ms) == {("", "stem"), ("conv2", "")}
    assert found.boundary_ms["", "stem"] > 0


def test_kernels_named_after_their_tensors_are_found() -> None:
    """Blocked convolutions take the name of their output, fused products have "fused" before theirs."""
    home = {"alpha": "a", "beta": "a", "gamma": "b", "mean": "pool", "delta": "c", "epsilon": "c"}
    found = odd_profile(home)

    assert set(found.unit_ms) == {"a", "b", "pool", "c"}
    assert min(found.unit_ms["a"], found.unit_ms["b"]) > 0
    assert found.rest == ()


def test_inspection_finds_them_too() -> None:
    found = OrtBackend(threads=1).inspect(oddly_named(), ["alpha", "beta", "gamma", "mean", "delta", "epsilon"])

    assert found.keys() & {"alpha", "beta"}
    assert found.keys() & {"delta", "epsilon"}
    assert {"gamma", "mean"} <= set(found)
    assert not any(ran.quantized for ran in found.values())


def test_a_fused_normalisation_is_known_by_what_it_writes() -> None:
    found = profiled("mha_block", FP32)

    assert {"norm", "out"} <= set(found.unit_ms)
    assert found.unit_ms["norm"] > 0


def test_the_time_of_a_body_is_not_counted_twice() -> None:
    """An If takes as long as the kernels in its branch, which are listed instead."""
    rest = [name for name, _ in profiled("if_body", FP32).rest]

    assert "if" not in rest
    assert any(name.startswith("then_branch.conv") for name in rest)
