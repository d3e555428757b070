"""Random networks over tokens: values with many readers, dead branches, and operators of several outputs."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper

from .onnx_builder import Builder

LENGTH = 4
WIDE = 32


class _Growing:
    """A network that grows by one block at a time; every value has the shape [N, LENGTH, WIDE]."""

    def __init__(self, seed: int) -> None:
        self.draw, self.b = random.Random(seed), Builder(seed)
        self.values = [self.b.input("x", ["N", LENGTH, WIDE])]

    def recent(self) -> str:
        return self.values[-1] if self.draw.random() < 0.5 else self.any()

    def any(self) -> str:
        return self.draw.choice(self.values)

    def linear(self, n: str) -> None:
        self.values.append(self.b.linear(n, self.recent(), WIDE, WIDE))

    def relu(self, n: str) -> None:
        self.values.append(self.b.node("Relu", n, [self.recent()]))

    def gated(self, n: str) -> None:
        gate = self.b.node("Sigmoid", f"{n}.gate", [self.any()])
        self.values.append(self.b.node("Mul", n, [self.recent(), gate]))

    def add(self, n: str) -> None:
        self.values.append(self.b.node("Add", n, [self.recent(), self.any()]))

    def norm_of_sum(self, n: str) -> None:
        """The sum stays in use beside its norm, as in pre-norm transformers."""
        total = self.b.node("Add", f"{n}.sum", [self.recent(), self.any()])
        scale = self.b.const(f"{n}.scale", self.b.random.uniform(0.5, 1.5, WIDE))
        norm = self.b.node("LayerNormalization", n, [total, scale, self.b.const(f"{n}.bias", np.zeros(WIDE))], axis=-1)
        self.values += [total, norm]

    def split(self, n: str) -> None:
        self.b.node("Split", n, [self.b.linear(f"{n}.up", self.recent(), WIDE, 2 * WIDE)], 2, axis=-1)
        self.values += [f"{n}_out", f"{n}_out1"]

    def attention(self, n: str) -> None:
        turned = self.b.node("Transpose", f"{n}.t", [self.any()], perm=[0, 2, 1])
        weights = self.b.node("Softmax", f"{n}.s", [self.b.node("MatMul", f"{n}.p", [turned, self.recent()])], axis=-1)
        self.values.append(self.b.node("MatMul", n, [self.any(), weights]))

    def lstm(self, n: str) -> None:
        """The sequence is used, and so is the last state."""
        b, half = self.b, WIDE // 2
        x = b.node("Transpose", f"{n}.t", [self.recent()], perm=[1, 0, 2])
        weights = [(f"{n}.W", (2, 4 * half, WIDE)), (f"{n}.R", (2, 4 * half, half))]
        drawn = [b.const(name, b.random.normal(0, 0.2, shape)) for name, shape in weights]
        made = b.node("LSTM", n, [x, *drawn], 3, hidden_size=half, direction="bidirectional")
        sequence = b.node("Transpose", f"{n}.y", [made], perm=[2, 0, 1, 3])
        self.values.append(b.node("Reshape", f"{n}.r", [sequence, b.const(f"{n}.r.to", [0, LENGTH, WIDE], np.int64)]))
        state = b.node("Transpose", f"{n}.h", [f"{n}_out2"], perm=[1, 0, 2])
        state = b.node("Reshape", f"{n}.hr", [state, b.const(f"{n}.hr.to", [0, 1, WIDE], np.int64)])
        self.values.append(b.node("Add", f"{n}.ha", [state, self.any()]))

    def branch(self, n: str) -> None:
        """An If whose bodies read two values of the graph; one of them makes nothing of its own."""
        b, other, value = self.b, self.any(), self.recent()

        def body(name: str, op: str, read: list[str]) -> onnx.GraphProto:
            made = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", LENGTH, WIDE])
            return helper.make_graph([helper.make_node(op, read, [name], name=f"{name}.op")], name, [], [made])

        size = b.node("ReduceSum", f"{n}.size", [b.node("Shape", f"{n}.shape", [value])], keepdims=0)
        condition = b.node("Greater", f"{n}.if", [size, b.const(f"{n}.zero", 0, np.int64)])
        bodies = body(f"{n}/then", "Mul", [value, other]), body(f"{n}/else", "Identity", [other])
        self.values.append(b.node("If", n, [condition], then_branch=bodies[0], else_branch=bodies[1]))

    def model(self) -> onnx.ModelProto:
        """One to four of the values leave the network, and nobody reads some of the others."""
        made = self.values[1:]
        leaving = {made[-1], *self.draw.sample(made, min(len(made), self.draw.randint(0, 3)))}
        for name in sorted(leaving):
            self.b.output(name, ["N", LENGTH, WIDE])
        return self.b.model()


_BLOCKS: tuple[Callable[[_Growing, str], None], ...] = (
    _Growing.linear,
    _Growing.linear,
    _Growing.relu,
    _Growing.gated,
    _Growing.add,
    _Growing.norm_of_sum,
    _Growing.norm_of_sum,
    _Growing.split,
    _Growing.attention,
    _Growing.lstm,
    _Growing.branch,
)


def random_network(seed: int, blocks: int = 8) -> onnx.ModelProto:
    """A network of so many random blocks."""
    growing = _Growing(seed)
    for number in range(blocks):
        growing.draw.choice(_BLOCKS)(growing, f"b{number}")
    return growing.model()
