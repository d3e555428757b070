"""Sessions of models whose large weights lie in files, in exact arithmetic: what is not folded there must still run."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from autoprec.backends.ort_sessions import open_session, session_options


def test_a_cubic_resize_behind_a_transpose_runs_where_constants_are_not_folded() -> None:
    """ONNX Runtime would move the Transpose over it, and has no kernel for what that makes."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Resize", ["first", "", "", "sizes"], ["smaller"], mode="cubic"),
        helper.make_node("Transpose", ["smaller"], ["y"], perm=[0, 2, 3, 1]),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, size, size, 2]) for n, size in (("x", 6), ("y", 3)))
    sizes = numpy_helper.from_array(np.array([1, 2, 3, 3]), "sizes")
    model = helper.make_model(
        helper.make_graph(nodes, "resize", [x], [y], [sizes]), opset_imports=[helper.make_opsetid("", 14)], ir_version=8
    )
    options = session_options(1, exact=True, in_files=True)
    session = open_session(model.SerializeToString(), options, exact=True, in_files=True)
    rows = np.broadcast_to(np.arange(6, dtype=np.float32)[:, None, None], (6, 6, 2))
    made = session.run(None, {"x": rows[None]})[0]

    np.testing.assert_allclose(made[0, :, 0, 0], [0.5, 2.5, 4.5], atol=0.15)
