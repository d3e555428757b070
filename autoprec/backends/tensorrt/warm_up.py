"""A first build of a tiny network, by which a process loads what every build needs: it takes about 16 seconds."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import numpy as np
import onnx_ir as ir

from autoprec.backends.child_process import ChildProcess
from autoprec.backends.tensorrt.builder import EngineBuilder
from autoprec.backends.tensorrt.records import BuildOptions
from autoprec.errors import AutoprecError
from autoprec.precision import PRECISION_KEY

_CHANNELS = 8


def warm_up(bindings_name: str, hardware: str, process: ChildProcess) -> None:
    """Have a process build a network of one convolution in FP16; what comes of it does not matter."""
    with tempfile.TemporaryDirectory(prefix="autoprec-", ignore_cleanup_errors=True) as name:
        options = BuildOptions(timing_cache=False)
        with contextlib.suppress(AutoprecError, OSError):
            EngineBuilder(bindings_name, Path(name), options, hardware=hardware, process=process).build(tiny_network())


def tiny_network() -> bytes:
    """One convolution, serialised."""
    shape, kind = ir.Shape([1, _CHANNELS, _CHANNELS, _CHANNELS]), ir.TensorType(ir.DataType.FLOAT)
    x, y = (ir.Value(name=name, shape=shape, type=kind) for name in ("x", "y"))
    weight = ir.val("w", const_value=ir.tensor(np.ones((_CHANNELS, _CHANNELS, 1, 1), np.float32), name="w"))
    node = ir.Node("", "Conv", [x, weight], outputs=[y], name="conv", metadata_props={PRECISION_KEY: "fp16"})
    graph = ir.Graph([x], [y], nodes=[node], initializers=[weight], opset_imports={"": 17}, name="tiny")
    data: bytes = ir.to_proto(ir.Model(graph, ir_version=8)).SerializeToString()
    return data
