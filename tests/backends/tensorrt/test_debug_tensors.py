"""Unfused debug tensors: which of them holds which value, and what a run hands over."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from autoprec.backends.tensorrt.builder import EngineBuilder
from autoprec.backends.tensorrt.debug_tensors import ShowingEngine, address_of, has_debug_tensors, tensors_of
from autoprec.backends.tensorrt.records import BuildOptions, EngineLayer, LayerTensor

from ...helpers.tensorrt.fake_cuda import FakeCuda
from ...helpers.tensorrt.fake_tensorrt import FakeTensorRt, doubling, engine_file
from ...helpers.tensorrt.precision_models import quantized_matmul


def layer(nodes: str, *outputs: str) -> EngineLayer:
    tensors = tuple(LayerTensor(name, (1,), "int8") for name in outputs)
    return EngineLayer(name=nodes, kind="kgen", nodes=tuple(nodes.split()), inputs=(), outputs=tensors)


def test_a_tensor_is_known_by_its_name_or_by_the_only_layer_that_computes_its_node() -> None:
    layers = [
        layer("conv relu quantize_a", "_mye417"),
        layer("split", "b", "c"),
        layer("two quantize_d", "_mye1", "_mye2"),
        layer("quantize_e", "_mye3"),
        layer("quantize_e", "_mye4"),
    ]
    values = {"a/q": "quantize_a", "b": "split", "d/q": "quantize_d", "e/q": "quantize_e", "f": "gone"}

    assert tensors_of(layers, values) == {"_mye417": "a/q", "b": "b"}


def test_a_run_also_returns_what_the_debug_tensors_hold(tmp_path: Path) -> None:
    cuda = FakeCuda()
    module = FakeTensorRt(doubling(), cuda, "tensorrt_rtx", "1.7.0")
    x = np.arange(6, dtype=np.float32).reshape(2, 3)

    with ShowingEngine(engine_file(tmp_path), module, {"x copy": "value"}, cuda) as engine:
        found = engine.run({"x": x})

    np.testing.assert_array_equal(found["value"], x)
    np.testing.assert_array_equal(found["y"], 2 * x)


def test_an_address_is_read_from_a_capsule() -> None:
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]

    assert address_of(new(4096, None, None)) == address_of(4096) == 4096


def test_a_release_without_them_is_known() -> None:
    assert not has_debug_tensors(SimpleNamespace(module=SimpleNamespace()))


def test_the_engine_is_the_same_layer_by_layer_with_debug_tensors(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="the real builder needs tensorrt-rtx: pip install tensorrt-rtx")

    def built(**options: Any) -> Any:
        builder = EngineBuilder("tensorrt_rtx", tmp_path, BuildOptions(targets=("sm89",), **options))
        assert has_debug_tensors(builder.bindings)
        return builder.build(quantized_matmul())

    plain, showing = built(), built(debug_tensors=True)

    assert showing.path != plain.path
    assert [row.nodes for row in showing.layers] == [row.nodes for row in plain.layers]
    assert showing.engine_bytes == plain.engine_bytes
