"""How ONNX Runtime's sessions are opened, in this process and in the one that tries models out."""

from __future__ import annotations

import onnxruntime as ort

_LOG_ERRORS_ONLY = 3
# They drop a Relu or Clip before QuantizeLinear as if FP8 had no negative numbers (ONNX Runtime 1.31).
_WRONG_FOR_FP8 = ("ReluQuantRewrite", "ClipQuantRewrite")


def session_options(threads: int, *, exact: bool = False) -> ort.SessionOptions:
    """Options for runs of so many threads; `exact` keeps Q/DQ pairs from becoming 8-bit kernels."""
    options = ort.SessionOptions()
    options.log_severity_level = _LOG_ERRORS_ONLY
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Engines run in turns: threads of one that spin on after its run take the cores of the next. With
    # that, the same model measured against itself came out at 0.5 times its own latency.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if exact:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


def open_session(model: bytes | str, options: ort.SessionOptions, *, exact: bool = False) -> ort.InferenceSession:
    """A session of a serialised model or of a file; raises whatever ONNX Runtime raises."""
    disabled = list(_WRONG_FOR_FP8) if exact else []
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled)
