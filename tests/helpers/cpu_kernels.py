"""What the 8-bit kernels of this CPU compute."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper


@cache
def products_are_exact() -> bool:
    """Whether ONNX Runtime's 8-bit products are exact on this CPU.

    Without VNNI, x86 adds two products of an unsigned and a signed byte in 16 bits, where 2 * 255 * 127 does not fit,
    so that the sum saturates (ONNX Runtime's documentation on quantisation, "U8S8 and saturation").
    """
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"])],
        "largest_products",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [4, 64])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [4, 16])],
        [helper.make_tensor("b", TensorProto.INT8, [64, 16], np.full((64, 16), 127, np.int8).tobytes(), raw=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"a": np.full((4, 64), 255, np.uint8)})
    return bool((found == 64 * 255 * 127).all())


needs_exact_products = pytest.mark.skipif(
    not products_are_exact(),
    reason="this CPU's 8-bit products saturate at 16 bits, so real kernels and exact arithmetic differ",
)
