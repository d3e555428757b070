"""The rows that a layer multiplies its weights with give what the layer gives."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from autoprec.lowering.reading import reading_of

from ..helpers.lowering_bench import array_of, run
from ..helpers.onnx_builder import Builder

ALL = 10**6


def lone(op: str, x: list[int], weight: tuple[int, ...], **attributes: object) -> ir.Model:
    b = Builder()
    random = np.random.default_rng(4)
    b.node(op, "lone", [b.input("x", ["N", *x]), b.const("w", random.normal(size=weight))], **attributes)
    b.output("lone_out", [f"d{axis}" for axis in range(len(x) + 1)])
    return ir.from_proto(b.model())


@pytest.mark.parametrize(
    ("op", "x", "weight", "attributes"),
    [
        ("Conv", [6, 7, 8], (4, 6, 3, 2), {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
        ("Conv", [6, 9, 9], (6, 1, 3, 3), {"group": 6, "dilations": [2, 1], "pads": [2, 1, 2, 1]}),
        ("Conv", [4, 11], (8, 2, 4), {"group": 2, "strides": [3], "auto_pad": "VALID"}),
        ("MatMul", [5, 8], (8, 3), {}),
        ("Gemm", [8], (3, 8), {"transB": 1}),
    ],
)
def test_rows_times_matrices_are_the_result(
    op: str, x: list[int], weight: tuple[int, ...], attributes: dict[str, object]
) -> None:
    model = lone(op, x, weight, **attributes)
    node, random = model.graph[0], np.random.default_rng(2)
    value = random.normal(size=(3, *x)).astype(np.float32)
    reading, stored = reading_of(node), array_of(node.inputs[1])
    assert reading is not None

    rows, matrices = reading.rows(value, ALL, random), reading.matrices(stored)
    result = np.concatenate(rows @ matrices, axis=-1)  # [rows, columns]
    wanted = run(model, {"x": value})["lone_out"]
    columns = np.moveaxis(wanted, 1, -1) if op == "Conv" else wanted

    np.testing.assert_allclose(result, columns.reshape(result.shape), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(reading.stored(matrices, stored.shape), stored)
    if op == "Conv":
        assert reading.rows(value, 2, random).shape[1] == 3 * 2


def test_convolutions_that_read_one_value_differently_have_keys_of_their_own() -> None:
    keys = {
        reading.key
        for attributes in ({}, {"strides": [2, 2]}, {"pads": [1, 1, 1, 1]}, {"dilations": [2, 2]})
        if (reading := reading_of(lone("Conv", [4, 8, 8], (4, 4, 3, 3), **attributes).graph[0])) is not None
    }
    assert len(keys) == 4


def test_what_is_not_read_so_has_no_reading() -> None:
    assert reading_of(lone("Conv", [4, 8, 8], (4, 4, 3, 3), auto_pad="SAME_UPPER").graph[0]) is None
    assert reading_of(lone("ConvTranspose", [4, 8, 8], (4, 4, 3, 3)).graph[0]) is None
    assert reading_of(lone("Gemm", [4], (4, 3), transA=1).graph[0]) is None
