"""Why activations of a unit cannot be quantised at run time."""

from __future__ import annotations

from autoprec.backends.scheme import ORT_CPU, TENSORRT_8, TENSORRT_RTX, Scheme
from autoprec.lowering.possible import why_not
from autoprec.precision import Precision

from ..helpers.networks import conv_relu, cut, lookup
from ..helpers.onnx_builder import Builder


def reasons(builder: Builder, scheme: Scheme = ORT_CPU) -> dict[str, str | None]:
    topology, partition = cut(builder.model())
    return {unit.name: why_not(topology, unit, Precision.INT8_DYNAMIC, scheme) for unit in partition.units}


def products() -> Builder:
    """Weights on the left, weights of one dimension, and a Gemm whose first operand is transposed."""
    b = Builder()
    left = b.node("MatMul", "left", [b.const("w", b.random.normal(size=(24, 8))), b.input("x", ["N", 8, 32])])
    b.node("MatMul", "vector", [left, b.const("v", b.random.normal(size=32))])
    b.output("vector_out", ["N", 24])
    turned = [b.input("y", [32, "M"]), b.const("u", b.random.normal(size=(32, 24)))]
    b.node("Gemm", "turned", turned, transA=1)
    b.output("turned_out", ["M", 24])
    return b


def test_each_product_that_no_kernel_takes_has_its_reason() -> None:
    assert reasons(products()) == {
        "left": "only its second operand may be the weights",
        "vector": "its weights must have two dimensions or more",
        "turned": "its first operand is transposed",
    }


def test_a_runtime_without_such_kernels_refuses_all() -> None:
    said = "this runtime has no kernels that quantise activations at run time"
    assert set(reasons(products(), TENSORRT_RTX).values()) == {said}


def test_convolutions_are_no_products() -> None:
    topology, partition = cut(conv_relu())
    said = why_not(topology, partition.units[0], Precision.INT8_DYNAMIC, ORT_CPU)
    assert said == "it is for matrix products with constant weights, not for conv"


def test_tables_of_four_bits_are_looked_up_on_onnx_runtime_alone() -> None:
    topology, partition = cut(lookup())
    table = next(unit for unit in partition.units if unit.kind == "embedding")
    tried = ((Precision.INT4_32, ORT_CPU), (Precision.INT4_128, ORT_CPU), (Precision.INT4_32, TENSORRT_RTX))
    said = [why_not(topology, table, p, scheme) for p, scheme in tried]

    assert said[0] is None
    assert "are not a multiple of the block" in str(said[1])
    assert said[2] == "this runtime looks nothing up in tables of 4 bits"


def test_weights_of_eight_bits_alone_are_of_products_on_runtimes_that_have_such_kernels() -> None:
    topology, partition = cut(lookup())
    table, product = (next(u for u in partition.units if u.kind == kind) for kind in ("embedding", "matmul"))
    alone = Precision.INT8_WEIGHTS

    assert why_not(topology, product, alone, ORT_CPU) is None
    assert why_not(topology, product, alone, TENSORRT_RTX) is None
    assert "no kernels for products of weights in codes" in str(why_not(topology, product, alone, TENSORRT_8))
    assert why_not(topology, table, alone, ORT_CPU) == "a table of embeddings is stored in 8 bits by int8"
