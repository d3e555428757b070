"""opset n  =>  opset m > n, by ONNX's own converter."""

from __future__ import annotations

import onnx
import onnx.version_converter
import onnx_ir as ir

from autoprec.errors import ModelError


def raise_opset(model: ir.Model, target: int) -> ir.Model:
    """Return `model` in opset `target`, or the same object if its opset is at least that.

    Raises:
        ModelError: the converter knows no way for one of the operators.
    """
    current = model.opset_imports.get("", model.opset_imports.get("ai.onnx", 1))
    if current >= target:
        return model
    try:
        converted = onnx.version_converter.convert_version(ir.to_proto(model), target)
    except Exception as error:  # the converter throws plain RuntimeErrors of its C++ part
        raise ModelError(
            f"the model must be raised from opset {current} to {target} for this plan, but the ONNX converter "
            f"refused: {error}; export it at opset {target}"
        ) from error
    raised = ir.from_proto(converted)
    raised.ir_version = max(model.ir_version, 10)
    return raised
