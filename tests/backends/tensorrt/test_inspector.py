"""What TensorRT says of an engine is read alike from all its forms; what cannot be read is refused in words."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprec.backends.tensorrt.inspector import dtype_of, parse_layers, sources_of
from autoprec.backends.tensorrt.records import EngineLayer, LayerTensor
from autoprec.errors import BackendError
from autoprec.graph.model import to_bytes
from autoprec.precision import Precision

from ...helpers.lowering_bench import bench
from ...helpers.networks import BUILDERS
from ...helpers.tensorrt.rtx_log import layers_text

RECORDED = Path(__file__).parent / "recorded"
FORMS = ("documented-8.6", "documented-10.x", "documented-11.x", "rtx-1.7.1")
READABLE = sorted(path.name for path in RECORDED.glob("*.*") if "names-only" not in path.name and path.suffix != ".md")


def text(name: str) -> str:
    return (RECORDED / name).read_text(encoding="utf-8")


def recorded(name: str) -> dict[str, EngineLayer]:
    return {layer.name: layer for layer in parse_layers(text(name))}


def resnet(form: str) -> tuple[EngineLayer, ...]:
    return parse_layers(text(f"{form}-resnet_block-int8.{'txt' if form.startswith('rtx') else 'json'}"))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_tells_which_convolution_reads_int8(form: str) -> None:
    heads = [layer for layer in resnet(form) if layer.kind in ("CaskConvolution", "correlation")]

    assert [layer.nodes[0] for layer in heads] == ["stem", "conv1", "conv2"]
    assert [layer.inputs[0].dtype for layer in heads] == ["int8"] * 3
    assert [layer.inputs[0].shape[1:] for layer in heads] == [(32, 8, 8)] * 3
    assert all(layer.constants[0].dtype == "int8" for layer in heads)


@pytest.mark.parametrize("name", READABLE)
def test_nothing_of_a_recording_is_lost(name: str) -> None:
    """As many layers as the text names, each tensor with a type and none with the words of another."""
    layers = parse_layers(text(name))

    assert len(layers) == text(name).count('"LayerType"' if name.endswith(".json") else ", TacticName: ")
    assert sum(len(layer.inputs) + len(layer.outputs) + len(layer.constants) for layer in layers) > len(layers)
    for layer in layers:
        for tensor in (*layer.inputs, *layer.outputs, *layer.constants):
            assert tensor.dtype, (layer.name, tensor)
            assert tensor.name
            assert "Dimensions" not in tensor.name + tensor.format
        assert not any("ONNX Layer" in node or "\x1e" in node or "\x1f" in node for node in layer.nodes)


def test_a_layer_of_the_log_is_read_whole() -> None:
    layer = recorded("rtx-1.7.1-resnet_block-int8.txt")["__myl_MulCastAddReluMulMinMaxRounCast_myl0_3"]
    channels_last = "(NHWC) Channel major format"

    assert layer == EngineLayer(
        name="__myl_MulCastAddReluMulMinMaxRounCast_myl0_3",
        kind="kgen",
        nodes=("stem.relu", "stem", "stem.relu_out/quantize"),
        inputs=(LayerTensor("__myln_k_arg__bb1_8_myl0", (-1, 32, 8, 8), "fp32", channels_last),),
        outputs=(LayerTensor("__mye476bn1_out_before_bias.1_9_myl0", (-1, 32, 8, 8), "int8", channels_last),),
        constants=(
            LayerTensor("__mye2351_const-lit-in_myl0", (1,), "fp16", "(Linear) Row major linear format"),
            LayerTensor("__mye895_dconst_myl0", (1, 32, 1, 1), "fp16", channels_last),
            LayerTensor("__mye900_dconst_myl0", (1, 32, 1, 1), "fp32", channels_last),
        ),
        tactic="__myl_MulCastAddReluMulMinMaxRounCast_0xf500dd1049c3ba241cbd69a0877b2ed8",
    )


def test_a_layer_of_8_6_is_read_whole() -> None:
    name = "stem.w/int8/dequantize + stem + stem.relu"
    layer = recorded("documented-8.6-resnet_block-int8.json")[name]
    wide = "Thirty-two wide channel vectorized row major Int8 format"

    assert layer.nodes == ("stem", "stem.relu")
    assert layer.inputs == (LayerTensor("x/q", (4, 32, 8, 8), "int8", wide),)
    assert layer.outputs == (LayerTensor("stem.relu_out/q", (4, 32, 8, 8), "int8", wide),)
    assert layer.constants == (LayerTensor("Weights", (9216,), "int8"), LayerTensor("Bias", (32,), "fp32"))
    assert layer.operation == "Convolution"
    assert layer.tactic.startswith("sm80_xmma_fprop_implicit_gemm_interleaved_i8i8")


def test_8_6_writes_control_characters_that_strict_json_forbids() -> None:
    """Else the recording would not test what it is there for."""
    with pytest.raises(json.JSONDecodeError, match="Invalid control character"):
        json.loads(text("documented-8.6-resnet_block-int8.json"))


def test_a_number_stands_for_a_tactic_without_a_name() -> None:
    layer = recorded("documented-8.6-no-metadata.json")["PWN(PWN(sigmoid), mul)"]

    assert (layer.tactic, layer.operation, layer.nodes) == ("0x0000000000000008", "PointWise", ())


def test_jumps_do_not_hide_the_nodes() -> None:
    """Layers of control flow carry a jump target between stream and metadata."""
    layers = recorded("rtx-1.7.1-if_body-int8.txt")

    assert layers["jmp__mye218_myl0_9"].nodes == ("if",)
    assert layers["__mye212cbr_myl0_6"].kind == "cjmp"
    assert layers["__mye212cbr_myl0_6"].inputs[0].dtype == "bool"


def test_what_tensorrt_appends_to_a_name_is_left_out() -> None:
    layer = parse_layers(text("rtx-1.7.1-mobilenet_v1_075-fp16-end.txt"))[-2]

    assert "]__gemm_from_conv1x1" in text("rtx-1.7.1-mobilenet_v1_075-fp16-end.txt")
    assert layer.nodes == ("conv_preds",)


def test_each_profile_has_its_own_layers() -> None:
    convolutions = [
        layer for layer in parse_layers(text("rtx-1.7.1-conv_relu-fp16-two-profiles.txt")) if "conv" in layer.nodes
    ]

    assert [layer.name for layer in convolutions] == ["conv_myl0_2", "conv [profile 1]_myl1_2"]


def test_odd_names_do_not_mislead() -> None:
    """Brackets, commas, braces, line ends, and names that look like the list itself."""
    layers = [layer for layer in parse_layers(text("rtx-1.7.1-odd-names.txt")) if layer.kind == "correlation"]

    assert [layer.name.rpartition("_myl")[0] for layer in layers] == [
        "conv [1]",
        "a][ONNX Layer: b",
        "p, LayerType: kgen, q",
        "new\nline",
        "ü/ß } ], x",
    ]
    assert layers[0].nodes == ("conv [1]", "conv [1]/relu")
    assert layers[2].nodes == ("p, LayerType: kgen, q", "p, LayerType: kgen, q/relu")
    assert layers[3].nodes == ("new\nline", "new\nline/relu")
    assert layers[4].nodes == ("ü/ß } ], x", "ü/ß } ], x/relu")
    assert layers[0].inputs[0].name == "r0, Datatype: Float.1_4_myl0"
    assert layers[1].inputs[0].name == "r1, Datatype: Float.1_5_myl0"
    assert all(tensor.dtype == "fp16" for layer in layers for tensor in (*layer.inputs, *layer.outputs))


def test_the_list_is_found_inside_a_log() -> None:
    plain = text("rtx-1.7.1-resnet_block-fp16.txt")
    log = f"[08/21/2026] [TRT] [V] Building\n[08/21/2026] [TRT] [V] {plain}\n[08/21/2026] [TRT] [V] Layers:\nName: no"

    assert parse_layers(log) == parse_layers(plain)
    assert parse_layers(plain.replace("\n", "\r\n")) == parse_layers(plain)
    assert parse_layers("\ufeff" + text("documented-11.x-resnet_block-int8.json")) == resnet("documented-11.x")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Row major linear FP32", "fp32"),
        ("Row major linear FP32 format (kLINEAR)", "fp32"),
        ("Two wide channel vectorized row major FP16 format (kCHW2)", "fp16"),
        ("Channel major FP16 format where channel % 8 == 0", "fp16"),
        ("Thirty-two wide channel vectorized row major Int8 format", "int8"),
        ("Thirty-two wide channel vectorized row major INT8 format (kCHW32)", "int8"),
        ("Row major linear UINT8 format (kLINEAR)", "uint8"),
        ("Row major linear BF16 format (kLINEAR)", "bf16"),
        ("Sixteen channel FP8 format (kHWC16) where C is padded to a multiple of 16", "fp8"),
        ("Row major linear INT32", "int32"),
        ("Row major linear INT64 format (kLINEAR)", "int64"),
        ("Row major linear BOOL format (kLINEAR)", "bool"),
        ("Float", "fp32"),
        ("Half", "fp16"),
        ("BFloat16", "bf16"),
        ("Int8", "int8"),
        ("FP8", "fp8"),
        ("E4M3", "fp8"),
        ("Row major linear FP4 format (kLINEAR)", "nvfp4"),
        ("FP8UE8M0", "e8m0"),
        ("Row major linear INT4 format (kLINEAR)", "int4"),
        ("Format not available due to dynamic shapes", ""),
        ("(NHWC) Channel major format", ""),
    ],
)
def test_words_of_formats(words: str, expected: str) -> None:
    assert dtype_of(words) == expected


NAMES = st.text(st.characters(exclude_characters="\x1e\x1f[]", exclude_categories=("Cs",)), min_size=1)


@given(st.lists(NAMES, unique=True), st.sampled_from(["\x1e", "\x1f", ""]))
def test_joined_names_come_apart_again(names: list[str], joint: str) -> None:
    assert sources_of(joint.join(f"[ONNX Layer: {name}]" for name in names)) == tuple(names)


def test_brackets_in_names_survive_where_the_joints_do() -> None:
    joined = "\x1f".join(["[ONNX Layer: a[0]]", "[ONNX Layer: b]]__gemm_from_conv1x1", "[ONNX Layer: a[0]]"])

    assert sources_of(joined) == ("a[0]", "b]")
    assert sources_of("") == ()
    assert sources_of("made by a plugin") == ()


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_in_words(anything: str) -> None:
    for candidate in (
        anything,
        "{" + anything,
        "Layers:\nName: " + anything,
        '{"Layers": [' + json.dumps(anything) + "]}",
    ):
        with pytest.raises(BackendError):
            parse_layers(candidate)


@pytest.mark.parametrize(
    ("given_text", "words"),
    [
        ("", "this text is neither: it is empty"),
        ("hello", "it begins with 'hello'"),
        ('{"Layers": [', "must be JSON, but it is damaged: Expecting value"),
        ('{"Bindings": []}', 'must hold a list "Layers"; found Bindings'),
        ("{}", 'must hold a list "Layers"; found nothing'),
        ('{"Layers": []}', "built with profiling_verbosity = ProfilingVerbosity.DETAILED"),
        ('{"Layers": [{"LayerType": "Cask"}]}', "layer 0 of TensorRT's engine information must be an object"),
        ('{"Layers": [{"Name": "a", "Inputs": ["x"]}]}', "Inputs of layer 'a' must be objects"),
        ("Layers:\nName: a, LayerType: b", "this one cannot be read: 'Name: a, LayerType: b'"),
        (
            "Layers:\nName: a, LayerType: b, Inputs: [ { Name: x }], Constants: [], Outputs: [], StreamId: 0",
            "each tensor of layer 'a' in the log of TensorRT-RTX's builder must have a name, dimensions",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(given_text: str, words: str) -> None:
    with pytest.raises(BackendError, match=re.escape(words)):
        parse_layers(given_text)


@pytest.mark.parametrize("name", ["documented-8.6-names-only.json", "rtx-1.7.1-conv_relu-fp16-names-only.txt"])
def test_names_alone_are_not_enough(name: str) -> None:
    with pytest.raises(BackendError, match=r"ProfilingVerbosity\.DETAILED; this one lists only the names"):
        parse_layers(text(name))


# --- the real builder --------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("name", BUILDERS)
def test_the_real_log_is_read(name: str, precision: str) -> None:
    one = bench(name)
    written = layers_text(to_bytes(one.lower(one.uniform(Precision(precision))).ir))
    layers = parse_layers(written)

    assert len(layers) == written.count(", LayerType: ")
    assert all(t.dtype for layer in layers for t in (*layer.inputs, *layer.outputs, *layer.constants))


def test_the_real_log_without_details_is_refused() -> None:
    one = bench("conv_relu")

    with pytest.raises(BackendError, match="lists only the names of its layers"):
        parse_layers(layers_text(to_bytes(one.lower(one.uniform(Precision.FP16)).ir), detailed=False))
