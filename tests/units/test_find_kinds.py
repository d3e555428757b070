"""Parts of networks that people know by a name: rotary attention, GELU behind a Reshape, squeeze-and-excitation."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from autoprec.graph.preparation import prepare
from autoprec.units.find import find_units
from autoprec.units.records import Partition
from tests.helpers.onnx_builder import Builder

WIDTH, TOKENS = 8, 5


def units_of(b: Builder, output: str, shape: list[int | str]) -> Partition:
    b.output(output, shape)
    return find_units(prepare(ir.from_proto(b.model())).graph)


def cut(b: Builder, name: str, x: str, low: int, high: int, *, step: int = 1) -> str:
    bounds = [b.const(f"{name}.{part}", [number], np.int64) for part, number in (("low", low), ("high", high))]
    return b.node(
        "Slice", name, [x, *bounds, b.const(f"{name}.axis", [-1], np.int64), b.const(f"{name}.step", [step], np.int64)]
    )


def by_halves(b: Builder, name: str, x: str) -> str:
    """X * cos + (second half with its sign changed, first half) * sin."""
    first, second = cut(b, f"{name}.first", x, 0, WIDTH // 2), cut(b, f"{name}.second", x, WIDTH // 2, WIDTH)
    turned = b.node("Concat", f"{name}.turned", [b.node("Neg", f"{name}.neg", [second]), first], axis=-1)
    parts = [b.node("Mul", f"{name}.cos", [x, "cos"]), b.node("Mul", f"{name}.sin", [turned, "sin"])]
    return b.node("Add", f"{name}.add", parts)


def by_columns(b: Builder, name: str, x: str) -> str:
    """Even and odd columns are rotated as real and imaginary parts."""
    even, odd = cut(b, f"{name}.even", x, 0, WIDTH, step=2), cut(b, f"{name}.odd", x, 1, WIDTH, step=2)

    def product(what: str, value: str, table: str) -> str:
        return b.node("Mul", f"{name}.{what}", [value, cut(b, f"{name}.{what}.half", table, 0, WIDTH // 2)])

    real = b.node("Sub", f"{name}.real", [product("a", even, "cos"), product("b", odd, "sin")])
    imaginary = b.node("Add", f"{name}.imaginary", [product("c", odd, "cos"), product("d", even, "sin")])
    return b.node("Concat", f"{name}.joined", [real, imaginary], axis=-1)


def attention(rotate: Any) -> Partition:
    b = Builder()
    x = b.input("x", ["N", TOKENS, WIDTH])
    for table in ("cos", "sin"):  # they come from positions, so they are known only at run time
        b.input(table, [TOKENS, WIDTH])
    q, k, v = (b.node("MatMul", name, [x, b.weight(f"{name}.w", WIDTH, WIDTH)]) for name in "qkv")
    keys = b.node("Transpose", "keys", [rotate(b, "rk", k)], perm=[0, 2, 1])
    scores = b.node("Softmax", "softmax", [b.node("MatMul", "qk", [rotate(b, "rq", q), keys])], axis=-1)
    return units_of(b, b.node("MatMul", "av", [scores, v]), ["N", TOKENS, WIDTH])


@pytest.mark.parametrize("rotate", [by_halves, by_columns])
def test_rotations_of_queries_and_keys_belong_to_their_attention(rotate: Any) -> None:
    found = attention(rotate)

    assert [(unit.name, str(unit.kind)) for unit in found.units] == [("v", "matmul"), ("av", "attention")]
    assert found.unit("av").anchors == ("qk", "av")


def test_a_sum_of_products_that_rotates_nothing_is_no_part_of_an_attention() -> None:
    def scaled(b: Builder, name: str, x: str) -> str:
        parts = [b.node("Mul", f"{name}.cos", [x, "cos"]), b.node("Mul", f"{name}.sin", [x, "sin"])]
        return b.node("Add", f"{name}.add", parts)

    assert "rq.add" not in attention(scaled).unit("av").nodes


def gelu(b: Builder, x: str) -> str:
    """GELU by tanh, as GPT-2 has it."""
    cube = b.node("Mul", "by", [b.node("Pow", "cube", [x, b.const("three", 3.0)]), b.const("c", 0.044715)])
    inner = b.node("Mul", "scale", [b.node("Add", "sum", [x, cube]), b.const("root", 0.79788)])
    one = b.node("Add", "plus", [b.node("Tanh", "tanh", [inner]), b.const("one", 1.0)])
    return b.node("Mul", "gelu", [b.node("Mul", "half", [x, b.const("h", 0.5)]), one])


@pytest.mark.parametrize("reshaped", [False, True])
def test_gelu_by_tanh_belongs_to_its_product_even_behind_a_reshape(reshaped: bool) -> None:
    b = Builder()
    x = b.input("x", ["N", WIDTH])
    x = b.node("Gemm", "fc", [x, b.weight("w", WIDTH, 4), b.weight("bias", 4)])
    if reshaped:
        x = b.node("Reshape", "view", [x, b.const("shape", [-1, 2, 2], np.int64)])
    found = units_of(b, gelu(b, x), ["N", 2, 2] if reshaped else ["N", 4])

    assert [unit.name for unit in found.units] == ["fc"]
    assert len(found.units[0].nodes) == 9 + reshaped
    assert found.reasons == {}


def test_a_reshape_at_the_end_of_a_product_stays_outside() -> None:
    b = Builder()
    fc = b.node("Gemm", "fc", [b.input("x", ["N", WIDTH]), b.weight("w", WIDTH, 4)])
    view = b.node("Reshape", "view", [fc, b.const("shape", [-1, 2, 2], np.int64)])

    assert units_of(b, view, ["N", 2, 2]).unit("fc").nodes == ("fc",)


@pytest.mark.parametrize("pool", ["GlobalAveragePool", "ReduceMean"])
def test_the_product_of_a_squeeze_and_excitation_block_is_called_so(pool: str) -> None:
    b = Builder()
    x = b.node("Relu", "relu", [b.conv("stem", b.input("x", ["N", 3, 8, 8]), 3, 16)])
    pooled = b.node(pool, "pool", [x], **({"axes": [2, 3]} if pool == "ReduceMean" else {}))
    inner = b.node("Relu", "act", [b.conv("fc1", pooled, 16, 4, 1)])
    gate = b.node("HardSigmoid", "gate", [b.conv("fc2", inner, 4, 16, 1)])
    product = b.node("Mul", "se", [gate, x])
    other = b.node("Mul", "other", [product, b.conv("aside", product, 16, 16)])
    kinds = {unit.name: str(unit.kind) for unit in units_of(b, b.conv("last", other, 16, 4), ["N", 4, 8, 8]).units}

    assert (kinds["se"], kinds["other"]) == ("se_product", "add")


@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrent_layers_are_called_by_their_kind(op: str, gates: int) -> None:
    b = Builder()
    weights = [b.weight("w", 1, gates * 4, WIDTH), b.weight("r", 1, gates * 4, 4)]
    found = units_of(b, b.node(op, "layer", [b.input("x", [6, 1, WIDTH]), *weights], hidden_size=4), [6, 1, 1, 4])

    assert [(str(unit.kind), unit.macs) for unit in found.units] == [(op.lower(), 6 * gates * 4 * (WIDTH + 4))]
