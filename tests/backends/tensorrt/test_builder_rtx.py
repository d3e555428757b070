"""Engines built by the real TensorRT-RTX, which needs no GPU to build."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from autoprec.backends.tensorrt import builder as module
from autoprec.backends.tensorrt.builder import EngineBuilder
from autoprec.backends.tensorrt.cuda_errors import CudaError
from autoprec.backends.tensorrt.gpus import gpus_of_capability
from autoprec.backends.tensorrt.records import BuildOptions, ShapeProfile
from autoprec.errors import BackendError

from ...helpers.tensorrt.fake_cuda import DeviceOnly
from ...helpers.tensorrt.precision_models import (
    bfloat_conv_transpose,
    bfloat_matmul,
    conv_relu,
    node,
    quantized_matmul,
    serialised,
    value,
)

BATCHES = {"x": ShapeProfile((1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))}


@pytest.fixture(name="rtx")
def _rtx(tmp_path: Path) -> Any:
    """Make a builder of TensorRT-RTX for some targets."""
    pytest.importorskip("tensorrt_rtx", reason="the real builder needs tensorrt-rtx: pip install tensorrt-rtx")

    def make_builder(*targets: str, **options: Any) -> EngineBuilder:
        return EngineBuilder("tensorrt_rtx", tmp_path, BuildOptions(targets=targets, **options))

    return make_builder


@pytest.mark.parametrize("target", ["sm80", "sm89", "sm120"])
def test_a_convolution_is_built_for_a_gpu_that_is_not_here(rtx: Any, target: str) -> None:
    made = rtx(target).build(conv_relu())

    assert made.hardware == target
    assert made.engine_bytes == made.path.stat().st_size > 10_000
    assert made.activation_bytes > 0
    assert (made.runtime, made.reused, made.warm_timing_cache) == ("tensorrt_rtx", False, False)
    assert 0 < made.build_s < 60
    assert "conv" in {name for layer in made.layers for name in layer.nodes}


def test_one_engine_serves_several_targets(rtx: Any) -> None:
    one, both = rtx("sm89").build(conv_relu()), rtx("sm89", "sm120").build(conv_relu())

    assert both.hardware == "sm89,sm120"
    assert both.engine_bytes > one.engine_bytes
    assert both.path != one.path
    assert [layer.name for layer in both.layers] == [layer.name for layer in one.layers]


def test_eight_bits_show_in_the_layers(rtx: Any) -> None:
    made = rtx("sm89").build(quantized_matmul())
    (product,) = [layer for layer in made.layers if "mm" in layer.nodes]

    assert "int8" in {tensor.dtype for tensor in product.inputs + product.constants}


def test_dynamic_shapes_are_built_with_a_profile(rtx: Any) -> None:
    assert rtx("sm89", shapes=BATCHES).build(conv_relu("N")).layers


def test_fp8_is_refused_for_ampere_and_built_for_ada(rtx: Any) -> None:
    with pytest.raises(BackendError) as refusal:
        rtx("sm80").build(quantized_matmul("fp8"))

    words = str(refusal.value)
    assert words.startswith("sm80 lacks the precision fp8; leave it out of the plan, or build for newer GPUs only")
    assert "Cannot compile for target(s) sm80, because the model contains HW-specific datatypes: fp8_e4m3" in words
    assert rtx("sm89").build(quantized_matmul("fp8")).engine_bytes > 0


def unsupported() -> bytes:
    return serialised([node("Det", "det", ["x"], "y")], [value("x", [1, 3, 3])], [value("y", [1])])


def unknown_domain() -> bytes:
    foo = node("Foo", "foo", ["x"], "y", domain="my.domain")
    return serialised([foo], [value("x", [4])], [value("y", [4])])


@pytest.mark.parametrize(
    ("target", "model", "words"),
    [
        ("sm75", bfloat_matmul(), "sm75 lacks the precision bf16"),
        (
            "sm89",
            bfloat_conv_transpose(),
            r"no kernel computes the node 'up' \(deconv\) in bf16; give its unit another",
        ),
        ("sm89", unsupported(), "does not have the operator Det, as the node 'det' uses it; export the model without"),
        ("sm89", unknown_domain(), "does not have the operator Foo, as the node 'foo' uses it"),
        ("sm89", quantized_matmul(offset=3), r"refuses the node 'x.q' \(QuantizeLinear\): .*zero point is not supp"),
        ("sm89", conv_relu()[:500], "the ONNX model cannot be read, it is damaged or cut short; export it again"),
        ("sm89", b"", "the ONNX model must have nodes and outputs, and TensorRT finds none"),
        ("sm89", conv_relu("N"), r"the input 'x' has the dynamic shape \(\?, 3, 8, 8\), so the shapes .* to be said"),
    ],
    ids=["bf16-turing", "bf16-deconv", "operator", "domain", "asymmetric", "truncated", "empty", "dynamic"],
)
def test_what_tensorrt_refuses_is_one_line_that_says_what_to_do(
    rtx: Any, tmp_path: Path, target: str, model: bytes, words: str
) -> None:
    with pytest.raises(BackendError, match=words) as refusal:
        rtx(target).build(model)

    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_shapes_that_do_not_fit_together_name_the_node(rtx: Any) -> None:
    add = serialised(
        [node("Add", "add", ["a", "b"], "y")], [value("a", ["N", 3]), value("b", ["M", 3])], [value("y", ["K", 3])]
    )
    shapes = {name: ShapeProfile(*((size, 3),) * 3) for name, size in (("a", 2), ("b", 3))}

    with pytest.raises(BackendError, match="the shapes do not fit the node 'add'; give the inputs shapes"):
        rtx("sm89", shapes=shapes).build(add)


def test_a_tiny_time_limit_stops_the_real_builder(rtx: Any, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"did not build the engine within 0\.01 s and was stopped; allow it more"):
        rtx("sm89", time_limit_s=0.01).build(conv_relu())
    assert list(tmp_path.iterdir()) == []
    assert rtx("sm89").build(conv_relu()).engine_bytes > 0, "the same folder serves a build with more time"


def test_a_target_that_rtx_lacks_is_refused_before_building(rtx: Any) -> None:
    with pytest.raises(BackendError, match=r"builds ahead of time for .*sm89.*, not for 'sm90'; choose targets"):
        rtx("sm90")


def test_neither_target_nor_gpu_is_refused_with_an_example(rtx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load_cuda", lambda: DeviceOnly(CudaError("no driver", "cudaErrorInsufficientDriver")))

    with pytest.raises(
        BackendError, match=r"must know what to build for: name targets, such as --target sm\d+, or .*\(no driver\)"
    ) as refusal:
        rtx()
    (example,) = re.findall(r"--target (sm\d+)", str(refusal.value))
    assert gpus_of_capability(example), "the example must be one that can be timed too"
