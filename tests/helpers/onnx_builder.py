"""Writing ONNX models node by node, with seeded weights of the scale of trained ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = Sequence[int | str]

CHANNELS = 32
SIDE = 8


class Builder:
    """Collects nodes; every method that adds one returns the name of its output."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def input(self, name: str, shape: Shape, elem_type: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, elem_type, shape))
        return name

    def output(self, name: str, shape: Shape, elem_type: int = TensorProto.FLOAT) -> str:
        self.outputs.append(helper.make_tensor_value_info(name, elem_type, shape))
        return name

    def const(self, name: str, array: Any, dtype: Any = np.float32) -> str:
        self.initializers.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def weight(self, name: str, *shape: int, fan_in: int | None = None) -> str:
        fan = fan_in or int(np.prod(shape[1:])) or 1
        return self.const(name, self.random.normal(0, (2 / fan) ** 0.5, shape))

    def node(self, op: str, name: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> str:
        """Add node `name`; its outputs are `name`_out, `name`_out1, ..."""
        made = [f"{name}_out{number or ''}" for number in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), made, name=name, **attributes))
        return made[0]

    def conv(self, name: str, x: str, cin: int, cout: int, kernel: int = 3, **attributes: Any) -> str:
        group = attributes.get("group", 1)
        weight = self.weight(f"{name}.w", cout, cin // group, kernel, kernel)
        bias = self.const(f"{name}.b", self.random.normal(0, 0.1, cout))
        return self.node("Conv", name, [x, weight, bias], pads=[kernel // 2] * 4, **attributes)

    def bn(self, name: str, x: str, channels: int) -> str:
        def draw(part: str, low: float, high: float) -> str:
            return self.const(f"{name}.{part}", self.random.uniform(low, high, channels))

        scale, bias = draw("scale", 0.5, 1.5), draw("bias", -0.3, 0.3)
        mean, variance = draw("mean", -0.3, 0.3), draw("var", 0.5, 1.5)
        return self.node("BatchNormalization", name, [x, scale, bias, mean, variance])

    def linear(self, name: str, x: str, cin: int, cout: int) -> str:
        """MatMul `name` and Add `name`.add, as exporters write a linear layer over tokens."""
        product = self.node("MatMul", name, [x, self.weight(f"{name}.w", cin, cout, fan_in=cin)])
        bias = self.const(f"{name}.b", self.random.normal(0, 0.1, cout))
        return self.node("Add", f"{name}.add", [product, bias])

    def gemm(self, name: str, x: str, cin: int, cout: int) -> str:
        bias = self.const(f"{name}.b", self.random.normal(0, 0.1, cout))
        return self.node("Gemm", name, [x, self.weight(f"{name}.w", cout, cin), bias], transB=1)

    def image(self, channels: int = CHANNELS, name: str = "x") -> str:
        return self.input(name, ["N", channels, SIDE, SIDE])

    def model(self, functions: Sequence[onnx.FunctionProto] = (), check: bool = True) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "tiny", self.inputs, self.outputs, self.initializers)
        domains = sorted({node.domain for node in self.nodes} - {""})
        opsets = [helper.make_opsetid("", 17)] + [helper.make_opsetid(domain, 1) for domain in domains]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=functions)
        if check:
            onnx.checker.check_model(model, full_check=True)
        return model
