"""What a layer computes and moves, on layers as engines list them."""

from __future__ import annotations

import pytest

from autoprec.backends.tensorrt.records import EngineLayer, LayerTensor
from autoprec.backends.tensorrt.workload import Product, bytes_of, products_of, role_of
from autoprec.errors import BackendError

Spec = tuple[tuple[int, ...], str]


def layer(
    kind: str,
    inputs: list[Spec],
    outputs: list[Spec],
    constants: list[Spec] | None = None,
    *,
    name: str = "it",
    operation: str = "",
) -> EngineLayer:
    def tensors(role: str, specs: list[Spec]) -> tuple[LayerTensor, ...]:
        return tuple(LayerTensor(f"{name}.{role}{i}", shape, dtype) for i, (shape, dtype) in enumerate(specs))

    return EngineLayer(
        name=name,
        kind=kind,
        nodes=(),
        inputs=tensors("in", inputs),
        outputs=tensors("out", outputs),
        constants=tensors("const", constants or []),
        operation=operation,
    )


IMAGE = ((4, 32, 8, 8), "fp16")
PIXELS = 4 * 8 * 8


def test_a_convolution() -> None:
    """As TensorRT-RTX lists it: weights, two scales, bias."""
    one = layer(
        "correlation",
        [IMAGE],
        [((4, 48, 8, 8), "fp16")],
        [((48, 32, 3, 3), "fp16"), ((1,), "fp32"), ((1,), "fp32"), ((1, 48, 1, 1), "fp16")],
    )

    assert products_of(one) == (Product(rows=PIXELS, columns=48, depth=32 * 9, count=1, dtype="fp16"),)
    assert products_of(one)[0].flops == 2 * PIXELS * 48 * 32 * 9


def test_a_depthwise_convolution_has_a_product_for_each_channel() -> None:
    one = layer("correlation", [IMAGE], [IMAGE], [((32, 1, 3, 3), "fp16"), ((1, 32, 1, 1), "fp16")])

    assert products_of(one) == (Product(rows=PIXELS, columns=1, depth=9, count=32, dtype="fp16"),)


def test_padded_groups_count_what_is_computed() -> None:
    """TensorRT-RTX pads each channel of a depthwise INT8 convolution to four."""
    one = layer("correlation", [((4, 128, 8, 8), "int8")], [((4, 32, 8, 8), "fp32")], [((32, 4, 3, 3), "int8")])

    assert products_of(one) == (Product(rows=PIXELS, columns=1, depth=36, count=32, dtype="int8"),)


def test_a_grouped_convolution() -> None:
    one = layer("correlation", [IMAGE], [((4, 64, 4, 4), "fp16")], [((64, 16, 3, 3), "fp16")])

    assert products_of(one) == (Product(rows=4 * 16, columns=32, depth=16 * 9, count=2, dtype="fp16"),)


def test_weights_that_an_earlier_layer_made() -> None:
    """As on compute capability 7.5: the constants are scales and bias only; the third input is a residual."""
    one = layer(
        "correlation", [IMAGE, ((32, 32, 3, 3), "fp16"), IMAGE], [IMAGE], [((1,), "fp32"), ((1, 32, 1, 1), "fp16")]
    )

    assert products_of(one) == (Product(rows=PIXELS, columns=32, depth=32 * 9, count=1, dtype="fp16"),)


def test_weights_given_by_their_count() -> None:
    """As the inspectors of TensorRT 8.6 and 10 list them."""
    one = layer(
        "CaskConvolution",
        [IMAGE],
        [((4, 48, 8, 8), "fp16")],
        [((48 * 32 * 9,), "fp16"), ((48,), "fp16")],
        operation="Convolution",
    )

    assert products_of(one) == (Product(rows=PIXELS, columns=48, depth=32 * 9, count=1, dtype="fp16"),)


def test_a_transposed_convolution() -> None:
    one = layer("deconv", [((4, 64, 8, 8), "fp16")], [((4, 32, 16, 16), "fp16")], [((64, 32, 2, 2), "fp16")])
    counted = layer("CaskDeconvolutionV2", [((4, 64, 8, 8), "fp16")], [((4, 32, 16, 16), "fp16")], [((8192,), "fp16")])

    assert (
        products_of(one)
        == products_of(counted)
        == (Product(rows=PIXELS, columns=32 * 4, depth=64, count=1, dtype="fp16"),)
    )


@pytest.mark.parametrize(
    ("inputs", "output", "weight", "expected"),
    [
        pytest.param([(1584, 64)], (1584, 192), (64, 192), (1584, 192, 64), id="q, k and v at once"),
        pytest.param([(16, 64, 100)], (16, 64, 100), (64, 64), (1600, 64, 64), id="weight on the left"),
        pytest.param([(1, 768, 1)], (1, 1000, 1), (1, 1000, 768), (1, 1000, 768), id="a vector"),
        pytest.param([(8, 512)], (8, 1000), (512000,), (8, 1000, 512), id="weights by their count"),
        pytest.param([(8, 512)], (8, 1), (512, 1), (8, 1, 512), id="one column"),
    ],
)
def test_a_product_with_weights(
    inputs: list[tuple[int, ...]], output: tuple[int, ...], weight: tuple[int, ...], expected: tuple[int, int, int]
) -> None:
    one = layer("gemm", [(shape, "fp16") for shape in inputs], [(output, "fp16")], [(weight, "fp16"), ((1,), "fp32")])

    rows, columns, depth = expected
    assert products_of(one) == (Product(rows=rows, columns=columns, depth=depth, count=1, dtype="fp16"),)


@pytest.mark.parametrize(
    ("left", "right"),
    [((64, 16, 24), (64, 24, 40)), ((64, 24, 16), (64, 24, 40)), ((64, 16, 24), (1, 24, 40)), ((64, 16, 24), (24, 40))],
)
def test_a_product_of_activations(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    """Plain, with a transposed operand, and with an operand that all matrices share."""
    one = layer("gemm", [(left, "fp16"), (right, "fp16")], [((64, 16, 40), "fp16")], [((1,), "fp32")])

    assert products_of(one) == (Product(rows=16, columns=40, depth=24, count=64, dtype="fp16"),)


@pytest.mark.parametrize("keys", [(16, 64, 99), (16, 99, 64)])
def test_attention(keys: tuple[int, ...]) -> None:
    one = layer(
        "kgen",
        [((16, 98, 64), "fp8"), (keys, "fp8"), ((16, 99, 32), "fp8")],
        [((16, 98, 32), "fp8")],
        name="_gemm_mha_v2_myl0_7",
    )

    assert products_of(one) == (
        Product(rows=98, columns=99, depth=64, count=16, dtype="fp8"),
        Product(rows=98, columns=32, depth=99, count=16, dtype="fp8"),
    )


def test_a_product_is_computed_in_its_wider_type() -> None:
    one = layer("gemm", [((8, 64), "fp16")], [((8, 32), "fp16")], [((64, 32), "int8")])

    assert products_of(one)[0].dtype == "fp16"


@pytest.mark.parametrize(
    ("kind", "name", "operation", "role"),
    [
        ("correlation", "conv1_myl0_1", "", "convolution"),
        ("runtime_fusion", "__myl_CorrMulAddRelu_myl0_2", "", "convolution"),
        ("runtime_fusion", "__myl_FcAdd_myl0_1", "", "matmul"),
        ("kgen", "_gemm_mha_v2_myl0_8", "", "attention"),
        ("kgen", "__myl_Cast_myl0_0", "", "other"),
        ("CaskGemmConvolution", "conv1", "Convolution", "convolution"),
        ("CaskDeconvolutionV2", "up", "", "deconvolution"),
        ("MatrixMultiply", "fc", "", "matmul"),
        ("Reformat", "Reformatting CopyNode for Input Tensor 0 to conv1", "", "other"),
        ("maxpool", "pool", "", "other"),
        ("signal", "__mye380_myl0_2", "", "none"),
        ("NoOp", "squeeze", "", "none"),
    ],
)
def test_roles(kind: str, name: str, operation: str, role: str) -> None:
    assert role_of(layer(kind, [], [], name=name, operation=operation)) == role


def test_bytes_are_those_of_every_tensor_in_its_type() -> None:
    one = layer("correlation", [((1, 4, 8, 8), "int8")], [((1, 8, 8, 8), "fp32")], [((8, 4, 3, 3), "int8")])

    assert bytes_of(one) == 256 + 4 * 512 + 288


def test_of_a_table_only_what_is_gathered_counts() -> None:
    one = layer("kgen", [((16,), "int64")], [((16, 32), "fp16")], [((6040, 32), "fp16")], name="__myl_CastGath_myl0_0")

    assert bytes_of(one) == 8 * 16 + 2 * 512 + 2 * 512


def test_weights_count_in_full() -> None:
    """Of a classifier at batch 1 they are nearly all that moves."""
    one = layer("gemm", [((1, 4096), "fp16")], [((1, 1000), "fp16")], [((4096, 1000), "fp16")])

    assert bytes_of(one) == 2 * (4096 + 1000 + 4096 * 1000)


def test_a_layer_without_operands_has_no_product() -> None:
    """A name and a kind is all that some engines say."""
    assert products_of(layer("CaskConvolution", [], [])) == ()
    assert products_of(layer("gemm", [((8, 8), "fp16")], [((8, 8), "fp16")])) == ()
    assert bytes_of(layer("gemm", [], [])) == 0


@pytest.mark.parametrize("ask", [products_of, bytes_of])
def test_a_free_dimension_is_refused(ask: object) -> None:
    one = layer("kgen", [((-1, 32, 8, 8), "fp32")], [((-1, 32, 8, 8), "fp16")], name="cast")
    assert callable(ask)

    with pytest.raises(BackendError, match=r"only for fixed shapes, but 'cast.in0' of layer 'cast' has .*\[-1, 32, 8"):
        ask(one)
