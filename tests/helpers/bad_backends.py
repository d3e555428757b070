"""Backends that behave badly in one respect, around `autoprec.testing.FakeBackend`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx

from autoprec.backends.protocol import RanAs
from autoprec.errors import BackendError
from autoprec.precision import Array
from autoprec.testing import FakeBackend, FakeEngine


def quantized_convolutions(model: bytes) -> frozenset[str]:
    """Convolutions whose weights are dequantised."""
    graph = onnx.load_from_string(model).graph
    made = {output for node in graph.node if node.op_type == "DequantizeLinear" for output in node.output}
    return frozenset(node.name for node in graph.node if node.op_type == "Conv" and node.input[1] in made)


class _Wrapped(FakeBackend):
    def for_run(self, shapes: Mapping[str, tuple[int, ...]], folder: Path) -> FakeBackend:
        return self


class Refusing(_Wrapped):
    """Builds no engine of a model whose quantised convolutions `refuse` does not like; exact arithmetic is fine."""

    def __init__(self, refuse: Callable[[frozenset[str]], bool]) -> None:
        super().__init__()
        self._refuse = refuse
        self.refusals = 0

    def build(self, model: bytes, *, exact: bool = False, threads: int | None = None) -> FakeEngine:
        if not exact and self._refuse(quantized_convolutions(model)):
            self.refusals += 1
            names = ", ".join(sorted(quantized_convolutions(model))) or "no convolution"
            raise BackendError(f"no kernel computes {names} in int8; choose another precision")
        return super().build(model, exact=exact, threads=threads)


class Disobedient(_Wrapped):
    """Its account of the engine says that some nodes ran in float."""

    def __init__(self, *nodes: str) -> None:
        super().__init__()
        self._nodes = nodes

    def inspect(self, model: bytes, nodes: Sequence[str]) -> dict[str, RanAs]:
        found = super().inspect(model, nodes)
        return {name: replace(ran, quantized=ran.quantized and name not in self._nodes) for name, ran in found.items()}


class _WrongEngine(FakeEngine):
    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        return {name: -array for name, array in super().run(feed).items()}


class Miscalculating(_Wrapped):
    """Engines of quantised models give every output the wrong sign; exact arithmetic is right."""

    def __init__(self, *, wrong: bool = True) -> None:
        super().__init__()
        self._wrong = wrong

    def build(self, model: bytes, *, exact: bool = False, threads: int | None = None) -> FakeEngine:
        engine = super().build(model, exact=exact, threads=threads)
        if exact or not self._wrong or not quantized_convolutions(model):
            return engine
        return _WrongEngine(engine, engine._latency_ms, 0.0, 0)
