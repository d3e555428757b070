"""Attention cores as units, in the spellings of exporters."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from ..helpers.networks import (
    HEADS,
    TOKENS,
    mha_block,
    partition,
    units,
)
from ..helpers.onnx_builder import Builder

COPY = "moves data without arithmetic"
SHAPE = "shape arithmetic"


def test_attention_is_one_unit_between_its_projections() -> None:
    assert units(mha_block()) == {
        "v": ("matmul", "q q.add k k.add v v.add"),
        "av": ("attention", "qk scale masked softmax av"),
        "out": ("matmul", "out out.add residual"),
        "norm": ("norm", "norm"),
    }
    found = partition(mha_block())
    assert found.unit("v").anchors == ("q", "k", "v")
    assert found.unit("av").anchors == ("qk", "av")
    moved = {"q.split", "q.heads", "k.split", "k.heads", "v.split", "v.heads", "merge.t", "merge"}
    assert set(found.reasons) == moved
    assert all(reason.startswith(COPY) for reason in found.reasons.values())


def attention(b: Builder, scores: str, v: str) -> None:
    b.node("MatMul", "av", [scores, v])
    b.output("av_out", ["N", HEADS, TOKENS, 16])


def heads(b: Builder) -> tuple[str, str, str]:
    q, v = (b.input(name, ["N", HEADS, TOKENS, 16]) for name in "qv")
    return q, b.input("k", ["N", HEADS, 16, TOKENS]), v


def test_scales_on_queries_and_keys_belong_to_the_attention() -> None:
    b = Builder()
    q, k, v = heads(b)
    root = b.const("root", 0.5)
    scores = b.node("MatMul", "qk", [b.node("Mul", "sq", [q, root]), b.node("Mul", "sk", [k, root])])
    attention(b, b.node("Softmax", "softmax", [scores]), v)
    assert units(b.model()) == {"av": ("attention", "sq sk qk softmax av")}


def test_a_scale_computed_from_shapes_belongs_to_the_attention() -> None:
    b = Builder()
    q, k, v = heads(b)
    width = b.node("Gather", "width", [b.node("Shape", "shape", [q]), b.const("last", 3, np.int64)])
    root = b.node("Sqrt", "root", [b.node("Cast", "float", [width], to=TensorProto.FLOAT)])
    scores = b.node("Div", "scaled", [b.node("MatMul", "qk", [q, k]), root])
    attention(b, b.node("Softmax", "softmax", [scores]), v)
    found = partition(b.model())
    assert [unit.nodes for unit in found.units] == [("qk", "scaled", "softmax", "av")]
    assert SHAPE in found.reasons["root"]
    assert SHAPE in found.reasons["float"]
    assert SHAPE in found.reasons["width"]


def test_a_mask_by_where_and_a_guard_against_nan_belong_to_the_attention() -> None:
    b = Builder()
    q, k, v = heads(b)
    mask, low, zero = b.input("mask", ["N", 1, 1, TOKENS], TensorProto.BOOL), b.const("low", -1e9), b.const("zero", 0.0)
    masked = b.node("Where", "masked", [mask, b.node("MatMul", "qk", [q, k]), low])
    soft = b.node("Softmax", "softmax", [masked])
    attention(b, b.node("Where", "guard", [b.node("IsNaN", "nan", [soft]), zero, soft]), v)
    found = partition(b.model())
    assert [(unit.kind, set(unit.nodes)) for unit in found.units] == [
        ("attention", {"qk", "masked", "softmax", "nan", "guard", "av"})
    ]
    assert found.reasons == {}


def test_a_softmax_whose_scores_are_read_elsewhere_is_no_attention() -> None:
    b = Builder()
    q, k, v = heads(b)
    scores = b.node("MatMul", "qk", [q, k])
    attention(b, b.node("Softmax", "softmax", [scores]), v)
    b.output("qk_out", ["N", HEADS, TOKENS, TOKENS])
    assert units(b.model()) == {
        "qk": ("matmul", "qk"),
        "softmax": ("norm", "softmax"),
        "av": ("matmul", "av"),
    }
