"""A ResNet-50 with random weights: its speed is that of a trained one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def save(path: Path) -> None:
    """Write the network, opset 13, input x[N, 3, 224, 224], output y[N, 1000]."""
    generator = np.random.default_rng(0)
    nodes, weights = [], []

    def constant(name: str, array: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def conv(x: str, name: str, c_in: int, c_out: int, kernel: int, stride: int = 1, relu: bool = True) -> str:
        scale = (2 / (c_in * kernel * kernel)) ** 0.5
        weight = constant(f"{name}.weight", scale * generator.normal(size=(c_out, c_in, kernel, kernel)))
        bias = constant(f"{name}.bias", 0.1 * generator.normal(size=c_out))
        nodes.append(
            helper.make_node(
                "Conv",
                [x, weight, bias],
                [f"{name}.out"],
                name,
                kernel_shape=[kernel] * 2,
                strides=[stride] * 2,
                pads=[kernel // 2] * 4,
            )
        )
        if not relu:
            return f"{name}.out"
        nodes.append(helper.make_node("Relu", [f"{name}.out"], [f"{name}.relu"], f"{name}.act"))
        return f"{name}.relu"

    def block(x: str, name: str, c_in: int, width: int, stride: int) -> str:
        y = conv(x, f"{name}.a", c_in, width, 1)
        y = conv(y, f"{name}.b", width, width, 3, stride)
        y = conv(y, f"{name}.c", width, 4 * width, 1, relu=False)
        skip = conv(x, f"{name}.down", c_in, 4 * width, 1, stride, relu=False) if c_in != 4 * width else x
        nodes.append(helper.make_node("Add", [y, skip], [f"{name}.sum"], f"{name}.add"))
        nodes.append(helper.make_node("Relu", [f"{name}.sum"], [f"{name}.relu"], f"{name}.act"))
        return f"{name}.relu"

    x = conv("x", "stem", 3, 64, 7, 2)
    nodes.append(
        helper.make_node("MaxPool", [x], ["pooled"], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    )
    x, channels = "pooled", 64
    for stage, (count, width) in enumerate([(3, 64), (4, 128), (6, 256), (3, 512)]):
        for number in range(count):
            x = block(x, f"layer{stage}.{number}", channels, width, 2 if stage and number == 0 else 1)
            channels = 4 * width
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["mean"], "mean"))
    nodes.append(helper.make_node("Flatten", ["mean"], ["flat"], "flatten"))
    weight = constant("head.weight", 0.02 * generator.normal(size=(1000, channels)))
    bias = constant("head.bias", np.zeros(1000))
    nodes.append(helper.make_node("Gemm", ["flat", weight, bias], ["y"], "head", transB=1))
    graph = helper.make_graph(
        nodes,
        "resnet50",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 224, 224])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1000])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
