"""Sessions of ONNX Runtime, in this process and in the one that tries models out, and what their products are."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NotImplemented_

from autoprec.backends.ort_types import computed_in_fp32, has_odd_types
from autoprec.files.onnx_message import ROOT

_LOG_ERRORS_ONLY = 3
# They drop a Relu or Clip before QuantizeLinear as if FP8 had no negative numbers (ONNX Runtime 1.31).
_WRONG_FOR_FP8 = ("ReluQuantRewrite", "ClipQuantRewrite")
# It moves a Transpose over a cubic Resize, which has no kernel for channels in the last place (ONNX Runtime 1.23 and
# 1.32). Where constants are folded, the Resize of a constant is gone before that.
_WRONG_FOR_RESIZE = "TransposeOptimizer_CPUExecutionProvider"


def session_options(
    threads: int, *, exact: bool = False, in_files: bool = False, folder: str = ROOT
) -> ort.SessionOptions:
    """Options for runs of so many threads.

    Args:
        threads: the number of threads.
        exact: whether Q/DQ pairs are kept from becoming 8-bit kernels.
        in_files: whether large weights of the model lie in files. In exact arithmetic, whose clock nobody reads,
            they are read from there and not packed, so that sessions share them.
        folder: the folder that weights in files are placed relative to.
    """
    options = ort.SessionOptions()
    options.log_severity_level = _LOG_ERRORS_ONLY
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Engines run in turns: threads of one that spin on after its run take the cores of the next. With
    # that, the same model measured against itself came out at 0.5 times its own latency.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # Weights in files are placed relative to the root where the model is no file. ONNX Runtime maps them, and lets go
    # of each as it packs it.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    if exact and in_files:
        options.add_session_config_entry("session.disable_prepacking", "1")
    if exact:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


def open_session(
    model: bytes | str, options: ort.SessionOptions, *, exact: bool = False, in_files: bool = False
) -> ort.InferenceSession:
    """A session of a serialised model or of a file; raises whatever ONNX Runtime raises.

    What is in a type that it has no kernels for, such as BF16, is computed in FP32 and rounded.
    """
    disabled = list(_WRONG_FOR_FP8) if exact else []
    if exact and in_files:
        disabled.append("ConstantFolding")  # which would write every 8-bit weight out as FP32
        disabled.append(_WRONG_FOR_RESIZE)

    def opened(content: bytes | str) -> ort.InferenceSession:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled)

    try:
        session = opened(model)
    except NotImplemented_:
        return opened(computed_in_fp32(model))
    return opened(computed_in_fp32(model)) if has_odd_types(session) else session


@cache
def products_are_exact() -> bool:
    """Return whether the largest products of an unsigned and a signed byte add up exactly.

    x86 CPUs without VNNI add two of them in 16 bits, where 2 * 255 * 127 does not fit, so that the sum saturates (ONNX
    Runtime's documentation on quantisation, section on U8S8 and saturation).
    """
    rows, inner, columns = 4, 64, 16
    weights = ir.tensor(np.full((inner, columns), 127, np.int8), name="b")
    a = ir.Value(name="a", type=ir.TensorType(ir.DataType.UINT8), shape=ir.Shape((rows, inner)))
    b = ir.Value(name="b", const_value=weights)
    product = ir.node("MatMulInteger", [a, b], outputs=[ir.Value(name="y", type=ir.TensorType(ir.DataType.INT32))])
    graph = ir.Graph(
        [a], list(product.outputs), nodes=[product], initializers=[b], name="largest_products", opset_imports={"": 13}
    )
    model = ir.to_proto(ir.Model(graph, ir_version=8)).SerializeToString()
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"a": np.full((rows, inner), 255, np.uint8)})
    return bool((found == inner * 255 * 127).all())
