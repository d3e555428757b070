"""A product of a Concat becomes the sum of the products of the Concat's inputs."""

from __future__ import annotations

import onnx
import pytest

from autoprec.graph.model import check_model
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.split_products import SplitProductsPass

from ...helpers.lowering_bench import loaded, node_named, ops, run, sqnr_db
from ...helpers.networks import random_feed
from ...helpers.onnx_builder import Builder


def joined(
    op: str = "Conv", parts: int = 2, *, group: int = 1, axis: int = 1, read_twice: bool = False
) -> onnx.ModelProto:
    b = Builder()
    if op == "Conv":
        x = b.image()
        made = [b.conv(f"c{i}", x, 32, 4 + 4 * i) for i in range(parts)]
        value = b.node("Concat", "v", made if axis == 1 else [made[0], made[0]], axis=axis)
        channels = sum(4 + 4 * i for i in range(parts)) if axis == 1 else 4
        out = b.node("Relu", "relu", [b.conv("reader", value, channels, 12, group=group)])
        shape: list[int | str | None] = ["N", 12, None, None]
    else:
        x = b.input("x", ["N", 5, 16])
        value = b.node("Concat", "v", [b.linear(f"l{i}", x, 16, 8) for i in range(parts)], axis=-1)
        out, shape = b.linear("reader", value, 8 * parts, 6), ["N", 5, 6]
    if read_twice:
        b.output(b.node("Exp", "exp", [value]), [None] * len(shape))  # type: ignore[list-item]
    b.output(out, shape)  # type: ignore[arg-type]
    return b.model()


@pytest.mark.parametrize("read_twice", [True, False])
@pytest.mark.parametrize(("op", "parts"), [("Conv", 2), ("Conv", 3), ("MatMul", 2)])
def test_the_sum_of_the_parts_computes_the_same(op: str, parts: int, read_twice: bool) -> None:
    proto = joined(op, parts, read_twice=read_twice)
    model, feed = loaded(proto).ir, random_feed(proto, 3)
    before = run(model, feed)
    result = SplitProductsPass(GraphEditor(model), ["v_out"]).call(model)
    check_model(model)
    assert len(result.products["v_out"]) == parts
    assert len(ops(model, "Concat")) == read_twice
    assert node_named(model, "reader").inputs[0] is not None
    assert sqnr_db(before, run(model, feed)) > 110


@pytest.mark.parametrize(
    ("proto", "why"),
    [
        (joined(group=2, parts=3), "groups"),
        (joined(axis=2), "does not join channels"),
        (joined(parts=5), "at most 4"),
    ],
)
def test_what_cannot_be_split_is_refused_and_left(proto: onnx.ModelProto, why: str) -> None:
    model = loaded(proto).ir
    result = SplitProductsPass(GraphEditor(model), ["v_out", "x", "nowhere"]).call(model)
    assert not result.modified
    assert why in result.refused["v_out"]
    assert "no such value" in result.refused["nowhere"]
    assert len(ops(model, "Concat")) == 1
