"""Nodes are found in the layer that does their arithmetic, and that layer's tensors say on which numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from autoprec.backends.protocol import RanAs
from autoprec.backends.scheme import TENSORRT_RTX
from autoprec.backends.tensorrt.inspector import parse_layers
from autoprec.backends.tensorrt.nodes import fill_nodes, is_conversion, precision_of, ran_as
from autoprec.backends.tensorrt.records import EngineLayer, LayerTensor
from autoprec.graph.model import to_bytes
from autoprec.precision import Precision

from ...helpers.lowering_bench import Bench, bench
from ...helpers.onnx_builder import Builder
from ...helpers.tensorrt.rtx_log import layers_text

RECORDED = Path(__file__).parent / "recorded"
FP32, FP16, BF16, FP8, INT8 = (Precision(p) for p in ("fp32", "fp16", "bf16", "fp8", "int8"))


def ran(name: str, *nodes: str) -> Mapping[str, RanAs]:
    return ran_as(parse_layers((RECORDED / name).read_text(encoding="utf-8")), nodes)


def layer(
    kind: str, inputs: str, outputs: str, weights: str = "", *, name: str = "made", nodes: tuple[str, ...] = ("n",)
) -> EngineLayer:
    """Types by words: "int8 fp16" are two tensors; weights are a matrix, behind them a float scale."""
    ins = tuple(LayerTensor(f"i{place}", (4, 32), dtype) for place, dtype in enumerate(inputs.split()))
    outs = tuple(LayerTensor(f"o{place}", (4, 32), dtype) for place, dtype in enumerate(outputs.split()))
    held = (LayerTensor("s", (1, 32), "fp32"), LayerTensor("w", (32, 32), weights)) if weights else ()
    return EngineLayer(name=name, kind=kind, nodes=nodes, inputs=ins, outputs=outs, constants=held)


@pytest.mark.parametrize("block", [32, 64, 128])
def test_a_product_that_dequantises_weights_in_blocks_has_as_many_scales(block: int) -> None:
    made = layer("runtime_fusion", "fp16", "fp16", name="__myl_ReplCastMulCastFc_myl0_1")
    codes, scales = LayerTensor("w", (256, 512), "int4"), LayerTensor("s", (256 // block, 512), "fp16")

    assert precision_of(replace(made, constants=(codes, scales))) is Precision(f"int4-{block}")
    assert precision_of(replace(made, constants=(replace(codes, dtype="fp16"),))) is FP16


@pytest.mark.parametrize("capability", ["SM80", "SM89", "SM120"])
def test_tensorrt_rtx_keeps_codes_of_weights_inside_the_product(capability: str) -> None:
    b = Builder()
    hidden = b.linear("fc", b.input("x", ["N", 32, 256]), 256, 256)
    b.output(b.linear("last", hidden, 256, 128), ["N", 32, 128])
    one = Bench(b.model(), TENSORRT_RTX, FP16)
    plan = {"fc": Precision.INT4_64, "last": Precision.INT8_WEIGHTS}

    found = ran_as(parse_layers(layers_text(to_bytes(one.lower(plan).ir), capability)), list(plan))

    assert {name: ran.precision for name, ran in found.items()} == plan


def test_tensorrt_rtx_computes_nvfp4_in_four_bits_and_mxfp8_in_float() -> None:
    """TensorRT-RTX 1.7 dequantises MXFP8 in kernels of their own; a later one that does not makes this fail."""
    b = Builder()
    hidden = b.linear("fc", b.input("x", ["N", 32, 64]), 64, 64)
    b.output(b.linear("last", hidden, 64, 96), ["N", 32, 96])
    lowered = Bench(b.model(), TENSORRT_RTX, FP16).lower({"fc": Precision.NVFP4, "last": Precision.MXFP8}).ir

    found = ran_as(parse_layers(layers_text(to_bytes(lowered), "SM120")), ["fc", "last"])

    assert {name: ran.precision for name, ran in found.items()} == {"fc": Precision.NVFP4, "last": FP16}


@pytest.mark.parametrize(
    "name",
    [
        "documented-8.6-resnet_block-int8.json",
        "documented-10.x-resnet_block-int8.json",
        "documented-11.x-resnet_block-int8.json",
        "rtx-1.7.1-resnet_block-int8.txt",
    ],
)
def test_convolutions_are_int8_in_every_form(name: str) -> None:
    found = ran(name, "stem", "conv1", "conv2", "absent")

    assert {node: one.precision for node, one in found.items()} == {"stem": INT8, "conv1": INT8, "conv2": INT8}
    assert all(one.quantized and one.layer and one.tactic for one in found.values())
    assert all("conv2" in one.layer for node, one in found.items() if node == "conv2")


@pytest.mark.parametrize(("plan", "expected"), [("int8", INT8), ("fp16", FP16), ("fp8", FP8)])
def test_the_product_counts_and_not_the_kernel_that_adds_its_bias(plan: str, expected: Precision) -> None:
    """The builder names an 8-bit convolution in a "correlation" and in the float kernel that scales its result."""
    found = ran(f"rtx-1.7.1-resnet_block-{plan}.txt", "stem", "conv1", "conv2", "add")

    assert {found[name].operator for name in ("stem", "conv1", "conv2")} == {"correlation"}
    assert {found[name].precision for name in ("stem", "conv1", "conv2")} == {expected}
    assert found["stem"].layer == "stem_myl0_2"


def test_a_kernel_before_the_product_does_not_count_either() -> None:
    """The depthwise convolution is named in the kernel that quantises its input, which comes first."""
    found = ran("rtx-1.7.1-depthwise_block-int8.txt", "dw", "pw")

    assert (found["dw"].layer, found["dw"].precision) == ("dw_myl0_2", INT8)
    assert found["pw"].precision is INT8


def test_a_transposed_convolution_asked_for_in_int8_runs_in_fp16() -> None:
    found = ran("rtx-1.7.1-conv_transpose_block-int8.txt", "conv", "up", "after")["up"]

    assert found == RanAs(
        operator="deconv",
        quantized=False,
        precision=FP16,
        layer="up_myl0_5",
        tactic="__myelin_CASK_STUB",
        beside=("up.relu",),
    )


def test_pools_run_in_the_type_that_they_read() -> None:
    found = ran("rtx-1.7.1-pool_block-int8.txt", "maxpool", "avgpool", "gap")

    assert (found["maxpool"].precision, found["avgpool"].precision) == (INT8, FP16)
    assert found["gap"].precision is None  # in a kernel that quantises on both sides
    assert "conv3" in found["gap"].beside


def test_attention_in_one_kernel() -> None:
    """The fused kernel writes int8 but multiplies in FP16."""
    found = ran("rtx-1.7.1-mha_block-int8.txt", "q", "k", "v", "qk", "softmax", "av", "out")

    assert found["qk"].layer == found["av"].layer == "_gemm_mha_v2_myl0_7"
    assert (found["qk"].precision, found["q"].precision, found["out"].precision) == (FP16, INT8, INT8)
    assert {one.precision for one in ran("rtx-1.7.1-mha_block-fp8.txt", "qk", "av").values()} == {FP8}


def test_a_table_says_what_a_lookup_reads() -> None:
    assert ran("rtx-1.7.1-embedding_mlp-int8.txt", "embed")["embed"].precision is INT8


def test_a_convolution_that_became_a_matrix_product_is_found() -> None:
    found = ran("rtx-1.7.1-mobilenet_v1_075-fp16-end.txt", "conv_preds")["conv_preds"]

    assert (found.precision, found.operator) == (FP16, "runtime_fusion")


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (layer("CaskConvolution", "int8", "int8", "int8"), INT8),
        (layer("CaskConvolution", "int8", "fp32", "fp16"), FP16),  # the input is converted inside
        (layer("CaskConvolution", "int8 fp16", "int8", "int8"), INT8),  # the second input is the residual
        (layer("CaskConvolution", "fp16", "int8", "fp16"), FP16),
        (layer("CaskConvolution", "fp16", "fp16", "int8"), FP16),  # 8-bit storage is not 8-bit arithmetic
        (layer("CaskConvolution", "fp32", "fp32", "fp32"), FP32),
        (layer("CaskConvolution", "", "fp32", "fp32"), None),
        (layer("CaskDeconvolutionV2", "int8 fp16", "fp16"), FP16),
        (layer("deconv", "fp16 fp16", "fp16"), FP16),
        (layer("gemm", "int8 int8", "fp16"), INT8),
        (layer("gemm", "int8 fp16", "fp16"), FP16),
        (layer("gemm", "fp8", "fp16", "fp8"), FP8),
        (layer("CaskGemmMatrixMultiply", "bf16", "bf16", "bf16"), BF16),
        (layer("runtime_fusion", "int8 fp16", "fp16", "int8", name="__myl_FcAdd_myl0_1"), INT8),
        (layer("kgen", "fp16", "fp16", "fp16", name="__myl_CorrMulCast_myl0_1"), FP16),
        (layer("kgen", "fp16", "fp16"), FP16),
        (layer("kgen", "fp16", "fp32"), None),
        (layer("kgen", "fp32", "fp32", name="__myl_CastMeanCast_myl0_1"), None),  # in what is the mean?
        (layer("kgen", "fp16", "fp16", nodes=("n", "n_out/quantize")), None),
        (layer("PointWiseV2", "int8 int8", "int8"), INT8),
        (layer("CaskPooling", "int8", "fp32"), INT8),
        (layer("Reduce", "int32", "int32"), None),
        (layer("Myelin", "fp16", "fp16", name="{ForeignNode[a...b]}", nodes=("a", "b")), None),
        (layer("Myelin", "fp16", "fp16", name="{ForeignNode[a...a]}", nodes=("a", "a/to_fp16")), FP16),
        (layer("Myelin", "fp16", "fp16", name="{ForeignNode[a...b]}", nodes=()), None),
    ],
)
def test_tensors_decide(made: EngineLayer, expected: Precision | None) -> None:
    assert precision_of(made) is expected


def test_tf32_is_fp32() -> None:
    """A kernel for TF32 reads tensors that TensorRT lists as Float; only its own name tells."""
    text = (RECORDED / "documented-8.6-no-metadata.json").read_text(encoding="utf-8")
    layers = parse_layers(text.replace("FP16", "FP32").replace("Half", "Float").replace("f16f16", "tf32f32"))

    assert ran_as(layers, ["conv1"])["conv1"].precision is FP32


# --- where the inspector names no nodes ----------------------------------------------------------------------

NODES = ("conv1", "relu1", "conv2", "sigmoid", "mul", "q", "k", "qk", "norm", "after")


def test_names_of_layers_stand_in_for_metadata() -> None:
    layers = fill_nodes(parse_layers((RECORDED / "documented-8.6-no-metadata.json").read_text(encoding="utf-8")), NODES)

    assert [found.nodes for found in layers] == [
        (),
        ("conv1", "relu1"),
        ("conv2",),
        ("sigmoid", "mul"),
        ("q", "k", "qk", "norm"),
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("conv1", ("conv1",)),
        ("conv1 + relu1 || conv2", ("conv1", "relu1", "conv2")),
        ("conv1/Relu", ()),
        ("conv10", ()),
        ("conv1_myl0_4", ("conv1",)),
        ("v+conv1+k_myl0_1", ("conv1", "k")),
        ("PWN(PWN(sigmoid), mul)", ("sigmoid", "mul")),
        ("{ForeignNode[conv2...mul]}", ("conv2", "sigmoid", "mul")),
        ("(Unnamed Layer* 3) [Constant]", ()),
        ("/model/conv (1) + relu1", ("/model/conv (1)", "relu1")),
        ("Reformatting CopyNode for Input Tensor 0 to conv1 + relu1", ()),
    ],
)
def test_a_node_is_found_by_its_whole_name(name: str, expected: tuple[str, ...]) -> None:
    made = EngineLayer(name=name, kind="Anything", nodes=(), inputs=(), outputs=())

    assert fill_nodes([made], [*NODES, "/model/conv (1)"])[0].nodes == expected


def test_what_the_inspector_names_is_not_overruled() -> None:
    given = EngineLayer(name="conv1 + relu1", kind="CaskConvolution", nodes=("conv2",), inputs=(), outputs=())
    block = EngineLayer(name="{ForeignNode[relu1...qk]}", kind="Myelin", nodes=(), inputs=(), outputs=())

    assert fill_nodes([given, block], NODES)[0].nodes == ("conv2",)
    assert fill_nodes([given, block], NODES)[1].nodes == ("relu1", "sigmoid", "mul", "q", "k", "qk")
    assert fill_nodes([block], ()) == (block,)


def test_one_block_from_a_constant_to_a_helper_is_all_that_no_other_layer_speaks_of() -> None:
    """As TensorRT 8.6 calls a transformer: neither end is a node of the model."""
    (block,) = parse_layers((RECORDED / "8.6.0-kwt1-int8-b128.json").read_text(encoding="utf-8"))
    given = EngineLayer(name="conv1 + relu1", kind="CaskConvolution", nodes=(), inputs=(), outputs=())

    alone, _ = fill_nodes([block, given], NODES)

    assert alone.name.startswith("{ForeignNode[block0.v.weight/int8.float...(Unnamed Layer* ")
    assert alone.nodes == tuple(name for name in NODES if name not in ("conv1", "relu1"))
    assert {ran.precision for ran in ran_as([block], NODES).values()} == {None}, "what it computes in, it does not say"
    assert [made.nodes for made in fill_nodes([block, block], NODES)] == [(), ()], "of two, each may be in either"


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (layer("Reformat", "fp32", "fp16"), True),
        (layer("kgen", "fp32", "int8", nodes=("x/quantize",)), True),
        (layer("kgen", "fp32", "int8", nodes=("x/quantize", "conv")), False),
        (layer("kgen", "fp16", "fp16", nodes=()), True),
        (layer("kgen", "fp16", "fp16", name="__myl_SlicReshTran_myl0_3", nodes=("cut",)), True),
        (layer("kgen", "fp16", "fp16", name="__myl_SlicMul_myl0_3", nodes=("cut",)), False),
        (layer("kgen", "fp16", "fp8", name="__myl_MulCastTran_myl0_3", nodes=("cut", "x/quantize.fp8")), True),
        (layer("CaskConvolution", "fp16", "fp16"), False),
    ],
)
def test_conversions_compute_nothing(made: EngineLayer, expected: bool) -> None:
    assert is_conversion(made) is expected


# --- the real builder ----------------------------------------------------------------------------------------

CNNS = ("conv_relu", "resnet_block", "resnet_downsample", "silu_block", "depthwise_block", "concat_block", "pool_block")


@pytest.mark.parametrize(
    ("precision", "capability"),
    [(FP32, "SM89"), (FP16, "SM89"), (BF16, "SM89"), (INT8, "SM89"), (FP8, "SM89"), (INT8, "SM120")],
)
@pytest.mark.parametrize("name", CNNS)
def test_the_real_builder_runs_every_convolution_as_asked(name: str, precision: Precision, capability: str) -> None:
    one = bench(name)
    plan = one.uniform(precision)
    anchors = {node: unit.name for unit in one.partition.units if unit.macs for node in unit.anchors}
    found = ran_as(parse_layers(layers_text(to_bytes(one.lower(plan).ir), capability)), list(anchors))

    assert anchors
    assert {node: one.precision for node, one in found.items()} == {node: plan[unit] for node, unit in anchors.items()}
