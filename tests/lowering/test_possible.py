"""What each runtime has no good 8-bit kernel for, in the words that the user reads."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto

from autoprec.backends.scheme import ORT_CPU, SCHEMES, TENSORRT, TENSORRT_RTX, Scheme, scheme_named
from autoprec.errors import UsageError
from autoprec.graph.topology import Topology
from autoprec.lowering.possible import has_type, why_not
from autoprec.lowering.weight_axis import axis_of_weight
from autoprec.precision import CARRIERS, Precision
from autoprec.units.find import find_units

from ..helpers.lowering_bench import bench, loaded
from ..helpers.networks import BUILDERS, cut
from ..helpers.onnx_builder import Builder

INT8, FP8, BF16 = Precision.INT8, Precision.FP8, Precision.BF16


def refusal(proto: onnx.ModelProto, unit: str, precision: Precision, scheme: Scheme = TENSORRT) -> str | None:
    model = loaded(proto)
    return why_not(Topology(model.graph), find_units(model.graph).unit(unit), precision, scheme)


def conv_model(
    cin: int, cout: int, kernel: tuple[int, int] = (3, 3), group: int = 1, *, inside: bool = True, op: str = "Conv"
) -> onnx.ModelProto:
    """One convolution; `inside` puts an op before it, so that it does not read a graph input."""
    b = Builder()
    x = b.input("x", ["N", cin, 8, 8])
    x = b.node("Tanh", "tanh", [x]) if inside else x
    first, second = (cout, cin // group) if op == "Conv" else (cin, cout // group)
    b.node(op, "conv", [x, b.weight("w", first, second, *kernel)], group=group)
    b.output("conv_out", ["N", cout, None, None])
    return b.model()


# cin, cout, kernel, group, behind another op -> INT8 allowed: Model Optimizer's table of small convolutions
SMALL = [
    (32, 32, (3, 3), 1, True, True),
    (16, 16, (1, 3), 1, True, True),
    (8, 16, (3, 3), 1, True, True),
    (16, 8, (3, 3), 1, True, True),
    (8, 16, (1, 3), 1, True, False),
    (8, 8, (3, 3), 1, True, False),
    (8, 8, (3, 3), 1, False, True),
    (3, 8, (3, 3), 1, False, True),
    (3, 12, (3, 3), 1, False, False),
    (3, 16, (3, 3), 1, True, True),
    (12, 12, (3, 3), 1, True, False),
    (12, 20, (3, 3), 1, True, False),
    (32, 32, (3, 3), 32, True, True),
    (32, 32, (1, 1), 32, True, False),
    (32, 32, (3, 1), 32, True, False),
    (12, 12, (3, 3), 12, True, False),
    (12, 24, (5, 5), 12, True, True),
    (64, 64, (1, 1), 2, True, True),
]


@pytest.mark.parametrize(("cin", "cout", "kernel", "group", "inside", "allowed"), SMALL)
def test_small_convolutions_stay_float(
    cin: int, cout: int, kernel: tuple[int, int], group: int, inside: bool, allowed: bool
) -> None:
    words = refusal(conv_model(cin, cout, kernel, group, inside=inside), "conv", INT8)

    assert (words is None) is allowed, words
    if words is not None:
        assert words == (
            f"too small for INT8 kernels: {cin // group} input channels per group, {cout} output channels, "
            f"kernel {kernel[0]}x{kernel[1]}"
        )


def test_the_cpu_takes_any_convolution() -> None:
    assert refusal(conv_model(3, 5, (1, 3)), "conv", INT8, ORT_CPU) is None


@pytest.mark.parametrize(
    ("cin", "cout", "kernel", "group", "allowed"),
    [
        (32, 32, (3, 3), 1, True),
        (17, 17, (1, 1), 1, True),
        (16, 32, (3, 3), 1, False),
        (32, 16, (3, 3), 1, False),
        (32, 32, (5, 6), 1, True),
        (32, 32, (4, 8), 1, True),
        (32, 32, (6, 6), 1, False),
        (64, 64, (3, 3), 4, False),
        (64, 64, (3, 3), 2, True),
    ],
)
def test_fp8_convolutions_have_limits(cin: int, cout: int, kernel: tuple[int, int], group: int, allowed: bool) -> None:
    words = refusal(conv_model(cin, cout, kernel, group), "conv", FP8)

    assert (words is None) is allowed, words
    assert words is None or words.startswith("FP8 convolutions need more than 16 input channels per group")


def test_weights_that_are_stored_in_half_precision_may_be_quantised() -> None:
    b = Builder()
    wide = b.node("Cast", "cast", [b.const("w", np.ones((32, 32, 3, 3)), np.float16)], to=TensorProto.FLOAT)
    b.node("Conv", "conv", [b.image(), wide])
    b.output("conv_out", ["N", 32, 6, 6])

    assert refusal(b.model(), "conv", INT8) is None


def test_fp8_has_no_transposed_convolution() -> None:
    proto = conv_model(32, 32, op="ConvTranspose")

    assert refusal(proto, "conv", INT8) is None
    assert refusal(proto, "conv", FP8) == "FP8 kernels exist for Conv, not for ConvTranspose"


def test_weights_computed_at_run_time_stay_float() -> None:
    b = Builder()
    x = b.image()
    weight = b.node("Tanh", "tanh", [b.input("w", [32, 32, 3, 3])])
    b.node("Conv", "conv", [x, weight])
    b.output("conv_out", ["N", 32, 6, 6])
    proto = b.model()

    assert refusal(proto, "conv", INT8) == "its weights are computed at run time"
    assert refusal(proto, "conv", INT8, ORT_CPU) == "its weights are computed at run time"


def matmul_model(m: int | str, k: int, n: int, constant: bool = True) -> onnx.ModelProto:
    b = Builder()
    right = b.weight("w", k, n) if constant else b.input("w", [k, n])
    b.node("MatMul", "mm", [b.input("x", [m, k]), right])
    b.output("mm_out", [m, n])
    return b.model()


@pytest.mark.parametrize("precision", [INT8, FP8])
@pytest.mark.parametrize(
    ("m", "k", "n", "words"),
    [
        ("N", 16, 16, None),
        (64, 64, 64, None),
        ("N", 64, 1, "a matrix-vector product: reading the weights costs more than the arithmetic"),
        (1, 64, 64, "a matrix-vector product: reading the weights costs more than the arithmetic"),
        ("N", 15, 64, "too small for 8-bit kernels: K=15, N=64, both must be at least 16"),
        ("N", 64, 15, "too small for 8-bit kernels: K=64, N=15, both must be at least 16"),
    ],
)
def test_tiny_products_stay_float(m: int | str, k: int, n: int, words: str | None, precision: Precision) -> None:
    assert refusal(matmul_model(m, k, n), "mm", precision) == words


def test_the_cpu_takes_tiny_products_too() -> None:
    assert refusal(matmul_model("N", 15, 3), "mm", INT8, ORT_CPU) is None


@pytest.mark.parametrize(("trans_a", "trans_b"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_the_size_of_a_gemm_counts_its_transpositions(trans_a: int, trans_b: int) -> None:
    b = Builder()
    m, k, n = 1, 64, 32
    weight = b.weight("w", *((n, k) if trans_b else (k, n)))
    x = b.input("x", [k, m] if trans_a else [m, k])
    b.node("Gemm", "fc", [x, weight], transA=trans_a, transB=trans_b)
    b.output("fc_out", [m, n])

    assert str(refusal(b.model(), "fc", INT8)).startswith("a matrix-vector product")


@pytest.mark.parametrize(("m", "words"), [(512, None), (513, "longer than 512 (513x64)")])
def test_long_products_of_two_activations_stay_float(m: int, words: str | None) -> None:
    found = refusal(matmul_model(m, 64, 64, constant=False), "mm", INT8)

    assert found is None if words is None else str(found).endswith(words)


def test_a_tensor_of_fewer_than_8_elements_is_not_quantised() -> None:
    b = Builder()
    x = b.input("x", [7])
    b.node("MatMul", "mm", [x, b.weight("w", 7, 16)])
    b.output("mm_out", [16])

    assert refusal(b.model(), "mm", INT8, ORT_CPU) == "its input has fewer than 8 elements"


def test_the_attention_core_stays_float_in_int8() -> None:
    one = bench("mha_block")

    assert one.possible["av"][INT8] == "the attention core loses too much in INT8 and has no fused kernel there"
    assert one.possible["av"][FP8] is None


def attention(head: int, tap: bool = False) -> onnx.ModelProto:
    """softmax(q @ k) @ v; `tap` lets the scores leave the network, so that nothing can be fused."""
    b = Builder()
    q, k, v = (
        b.input(n, shape) for n, shape in zip("qkv", (["N", 32, head], ["N", head, 32], ["N", 32, head]), strict=True)
    )
    scores = b.node("MatMul", "qk", [q, k])
    scaled = b.node("Mul", "scale", [scores, b.const("factor", head**-0.5)])
    b.node("MatMul", "av", [b.node("Softmax", "softmax", [scaled], axis=-1), v])
    b.output("av_out", ["N", 32, head])
    if tap:
        b.output("scale_out", ["N", 32, 32])
    return b.model()


@pytest.mark.parametrize(("head", "allowed"), [(8, False), (9, True), (256, True), (257, False)])
def test_fp8_attention_has_a_range_of_head_sizes(head: int, allowed: bool) -> None:
    words = refusal(attention(head), "av", FP8)

    assert (words is None) is allowed
    assert allowed or words == f"FP8 attention needs a head size above 8 and at most 256, this has {head}"


@pytest.mark.parametrize("unit", ["qk", "av"])
def test_products_around_a_softmax_that_is_no_fused_attention_stay_float_in_int8(unit: str) -> None:
    proto = attention(64, tap=True)
    model = loaded(proto)
    partition = find_units(model.graph)
    home = partition.unit_of()[unit]

    assert why_not(Topology(model.graph), home, INT8, TENSORRT) is not None


def test_fp8_is_for_convolutions_products_and_attention_only() -> None:
    one = bench("pool_block")

    assert one.possible["gap"][FP8] == "FP8 kernels exist for convolutions, matrix products and attention, not for pool"


def test_the_cpu_has_no_fp8() -> None:
    one = bench("conv_relu", ORT_CPU, Precision.FP32)

    assert one.possible["conv"][FP8] == "ONNX Runtime has no FP8 kernels on a CPU"


def test_the_cpu_has_no_8_bit_transposed_convolution() -> None:
    one = bench("conv_transpose_block", ORT_CPU, Precision.FP32)

    assert one.possible["up"][INT8] == "ONNX Runtime has no 8-bit ConvTranspose on a CPU"


def test_tensorrt_has_no_bf16_transposed_convolution() -> None:
    assert bench("conv_transpose_block").possible["up"][BF16] == "TensorRT has no BF16 ConvTranspose"
    assert bench("conv_transpose_block", ORT_CPU, Precision.FP32).possible["up"][BF16] is None


@pytest.mark.parametrize("op", ["LayerNormalization", "Softmax", "ReduceMean", "InstanceNormalization"])
def test_normalisations_and_reductions_stay_float(op: str) -> None:
    b = Builder()
    x = b.node("Tanh", "tanh", [b.image()])
    extra = [b.const("s", np.ones(32)), b.const("b", np.zeros(32))] if op == "InstanceNormalization" else []
    extra = [b.const("s", np.ones(8))] if op == "LayerNormalization" else extra
    value = b.node(op, "norm", [x, *extra])
    b.conv("after", value, 32, 32)
    b.output("after_out", ["N", 32, None, None])
    model = loaded(b.model(check=False))
    home = find_units(model.graph).unit_of()["norm"]

    words = why_not(Topology(model.graph), home, INT8, TENSORRT)
    assert words == f"8-bit kernels exist for convolutions and matrix products, not for {home.kind} work"


def test_every_unit_can_run_in_fp32_and_the_cpu_simulates_every_float() -> None:
    for name in BUILDERS:
        one = bench(name, ORT_CPU, Precision.FP32)
        for unit, found in one.possible.items():
            assert [found[p] for p in CARRIERS] == [None] * 3, (name, unit)


def test_an_op_without_a_half_form_says_so() -> None:
    b = Builder()
    b.node("Celu", "celu", [b.node("Softmax", "softmax", [b.input("x", ["N", 4])])])
    b.output("celu_out", ["N", 4])
    topology, partition = cut(b.model())

    words = why_not(topology, partition.unit_of()["celu"], Precision.FP16, TENSORRT)
    assert words == "Celu has no fp16 form in ONNX"


@pytest.mark.parametrize(
    ("op", "domain", "opset", "precision", "expected"),
    [
        ("Relu", "", 17, BF16, True),
        ("Relu", "somebody", 17, BF16, False),
        ("RMSNormalization", "", 23, BF16, True),
        ("RMSNormalization", "", 22, BF16, False),
        ("TopK", "", 22, BF16, False),
        ("TopK", "", 24, BF16, True),
        ("CumSum", "", 11, Precision.FP16, False),
        ("CumSum", "", 14, Precision.FP16, True),
        ("NoSuchOp", "", 17, Precision.FP16, False),
    ],
)
def test_the_types_of_an_operator_are_those_of_the_models_own_opset_and_domain(
    op: str, domain: str, opset: int, precision: Precision, expected: bool
) -> None:
    made = ir.Value(name="y", type=ir.TensorType(ir.DataType.FLOAT))
    node = ir.node(op, [ir.Value(name="x", type=made.type)], outputs=[made], domain=domain)
    ir.Graph([], [], nodes=[node], opset_imports={"": opset, "somebody": 1})

    assert has_type(node, precision) is expected


@pytest.mark.parametrize(
    ("op", "shape", "attributes", "axis"),
    [
        ("Conv", (32, 16, 3, 3), {"group": 2}, 0),
        ("ConvTranspose", (32, 16, 3, 3), {}, 1),
        ("ConvTranspose", (32, 16, 3, 3), {"group": 2}, None),
        ("Gemm", (16, 32), {"transB": 1}, 0),
        ("Gemm", (32, 16), {}, 1),
        ("MatMul", (32, 16), {}, 1),
        ("MatMul", (4, 32, 16), {}, None),
    ],
)
def test_weights_are_scaled_along_their_output_channels(
    op: str, shape: tuple[int, ...], attributes: dict[str, int], axis: int | None
) -> None:
    b = Builder()
    x = b.input("x", {4: ["N", 32, 8, 8], 2: ["N", 32], 3: ["N", 4, 8, 32]}[len(shape)])
    b.node(op, "op", [x, b.weight("w", *shape)], **attributes)
    b.output("op_out", ["N", *[None] * (len(shape) if len(shape) != 3 else 4)][: 1 + {4: 3, 2: 1, 3: 3}[len(shape)]])
    node = next(iter(loaded(b.model()).graph))

    assert axis_of_weight(node, 1) == axis


def test_biases_have_no_axis_and_no_scale() -> None:
    node = next(n for n in loaded(BUILDERS["mlp"]()).graph if n.op_type == "Gemm")

    assert axis_of_weight(node, 2) is None


def test_token_ids_are_never_weights() -> None:
    b = Builder()
    b.node("Gather", "embed", [b.weight("table", 64, 32), b.input("ids", ["N"], TensorProto.INT64)])
    b.output("embed_out", ["N", 32])

    assert refusal(b.model(), "embed", INT8) is None


def test_an_unknown_scheme_is_refused_by_name() -> None:
    assert scheme_named("tensorrt") is TENSORRT
    assert set(SCHEMES) == {"tensorrt", "tensorrt-8", "tensorrt-rtx", "ort-cpu", "ort-cpu-7bit"}
    with pytest.raises(
        UsageError,
        match="a scheme must be one of tensorrt, tensorrt-8, tensorrt-rtx, ort-cpu, ort-cpu-7bit, got 'cuda'",
    ):
        scheme_named("cuda")


def test_tensorrt_rtx_keeps_transposed_convolutions_float() -> None:
    """Its builder turns them into float `deconv` layers, whatever Q/DQ says."""
    proto = conv_model(32, 32, op="ConvTranspose")

    assert refusal(proto, "conv", INT8, TENSORRT_RTX) == (
        "TensorRT-RTX computes ConvTranspose in float whatever its operands are stored in"
    )
    assert refusal(proto, "conv", INT8, TENSORRT) is None


def test_sizes_that_the_model_leaves_open_are_judged_by_those_of_a_run() -> None:
    b = Builder()
    x = b.input("x", ["N", "T", 32])
    keys = b.node("Transpose", "keys", [b.node("Tanh", "tanh", [x])], perm=[0, 2, 1])
    b.output(b.node("MatMul", "scores", [x, keys]), ["N", "T", "T"])
    model = loaded(b.model())
    unit = find_units(model.graph).unit("scores")

    def judged(length: int) -> str | None:
        shapes = {"x": (1, length, 32), "keys_out": (1, 32, length)}
        return why_not(Topology(model.graph), unit, INT8, TENSORRT, shapes)

    assert why_not(Topology(model.graph), unit, INT8, TENSORRT) is None
    assert judged(1) is None  # a length of one sample may be the number of samples
    assert judged(128) is None
    assert "N=10, both must be at least 16" in str(judged(10))
    assert "longer than 512 (1000x1000)" in str(judged(1000))


def test_sizes_that_are_computed_are_no_data_of_a_resize() -> None:
    b = Builder()
    x = b.input("x", ["N", 16, "H", "W"])
    sizes = b.node("Shape", "sizes", [x])
    up = b.node("Resize", "up", [b.conv("conv", x, 16, 16), "", "", sizes], mode="nearest")
    b.output(b.conv("last", up, 16, 16), ["N", 16, "H", "W"])

    assert refusal(b.model(), "up", INT8, ORT_CPU) is None
