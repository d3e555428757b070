"""Constants made and folded."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto

from autoprec.graph.constants import add_initializer, drop_unused, fold_rearranged
from autoprec.graph.topology import const_array

from ..helpers.networks import conv_relu, prepared
from ..helpers.onnx_builder import Builder


def one_node(op: str, weight: np.ndarray, *more: np.ndarray, output_rank: int = 2, **attributes: object) -> ir.Graph:
    """The graph of x * op(weight, ...), whose op on constants is to be folded."""
    b = Builder()
    b.input("x", ["N"] + [1] * max(0, output_rank - 1))
    inputs = [b.const("w", weight, weight.dtype)]
    inputs += [b.const(f"extra{place}", array, array.dtype) for place, array in enumerate(more)]
    folded = b.node(op, "folded", inputs, **attributes)
    b.node("Mul", "mul", ["x", b.node("Cast", "to_float", [folded], to=TensorProto.FLOAT)])
    b.output("mul_out", None)
    return prepared(b.model(check=False)).graph


WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)
INT = np.int64


@pytest.mark.parametrize(
    ("op", "weight", "more", "attributes", "expected"),
    [
        ("Transpose", WEIGHT, (), {"perm": [1, 0]}, WEIGHT.T),
        ("Transpose", WEIGHT, (), {}, WEIGHT.T),
        ("Reshape", WEIGHT, (np.array([3, -1], INT),), {}, WEIGHT.reshape(3, 2)),
        ("Reshape", WEIGHT, (np.array([0, 3, 1], INT),), {}, WEIGHT[..., None]),
        ("Identity", WEIGHT, (), {}, WEIGHT),
        ("Squeeze", WEIGHT[:, None], (np.array([1], INT),), {}, WEIGHT),
        ("Squeeze", WEIGHT[None, :, None], (), {}, WEIGHT),
        ("Unsqueeze", WEIGHT, (np.array([0, -1], INT),), {}, WEIGHT[None, ..., None]),
        ("Cast", WEIGHT.astype(INT), (), {"to": TensorProto.FLOAT}, WEIGHT),
        ("Cast", WEIGHT.astype(np.float16), (), {"to": TensorProto.FLOAT}, WEIGHT),
        ("Cast", WEIGHT.astype(ml_dtypes.bfloat16), (), {"to": TensorProto.FLOAT}, WEIGHT),
        ("Flatten", WEIGHT[None], (), {"axis": 2}, WEIGHT),
        ("Cast", WEIGHT - 2.5, (), {"to": TensorProto.INT32}, np.trunc(WEIGHT - 2.5)),
    ],
)
def test_a_node_that_rearranges_an_initializer_becomes_one(
    op: str,
    weight: np.ndarray,
    more: tuple[np.ndarray, ...],
    attributes: dict[str, object],
    expected: np.ndarray,
) -> None:
    graph = one_node(op, weight, *more, **attributes)
    assert fold_rearranged(graph) == 2  # the op and the Cast behind it
    (mul,) = graph
    array = const_array(mul.inputs[1])
    assert array is not None
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, expected)
    assert len(graph.initializers) == 1


def test_a_cast_of_what_does_not_fit_is_left_to_the_runtime() -> None:
    graph = one_node("Cast", np.array([1.0, np.inf], np.float32), to=TensorProto.INT32, output_rank=1)
    assert fold_rearranged(graph) == 0


def test_a_half_precision_cast_is_not_folded() -> None:
    assert fold_rearranged(one_node("Cast", WEIGHT, to=TensorProto.FLOAT16)) == 0


def test_an_identity_shares_the_weight_instead_of_copying_it() -> None:
    b = Builder()
    b.input("x", ["N", 3])
    weight = b.const("w", np.ones((3, 3)))
    first = b.node("MatMul", "a", ["x", weight])
    b.node("MatMul", "b", [first, b.node("Identity", "again", [weight])])
    b.output("b_out", ["N", 3])
    graph = prepared(b.model()).graph
    assert fold_rearranged(graph) == 1
    assert list(graph.initializers) == ["w"]


def test_a_graph_output_and_a_dynamic_value_are_not_folded() -> None:
    b = Builder()
    b.input("x", ["N", 3])
    b.node("Transpose", "moved", ["x"])
    b.node("Transpose", "constant", [b.const("w", WEIGHT)])
    b.output("moved_out", [3, "N"])
    b.output("constant_out", [3, 2])
    assert fold_rearranged(prepared(b.model()).graph) == 0


def test_no_initializer_is_replaced_by_another_of_its_name() -> None:
    graph = prepared(conv_relu()).graph
    first = add_initializer(graph, "s", np.float32(1))
    with pytest.raises(ValueError, match="there is an initializer 's' already"):
        add_initializer(graph, "s", np.float32(2))
    assert graph.initializers["s"] is first
    assert first.shape == ir.Shape([])


def test_only_initializers_that_nothing_reads_are_dropped() -> None:
    graph = prepared(conv_relu()).graph
    used = set(graph.initializers)
    add_initializer(graph, "idle", np.zeros(3, np.float32))
    drop_unused(graph)
    assert set(graph.initializers) == used
