"""An engine for a GPU that is not here: it cannot run, and its clock is the roofline model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from types import TracebackType

from autoprec.backends.protocol import Clock
from autoprec.backends.tensorrt.gpus import Gpu
from autoprec.backends.tensorrt.records import EngineLayer, LayerTensor
from autoprec.backends.tensorrt.roofline import Modelled, engine_ms
from autoprec.errors import BackendError
from autoprec.precision import Array


class ModelledEngine:
    """An engine built ahead of time, with the model for a clock.

    Args:
        layers: the layers of the built engine, with fixed shapes.
        gpu: the GPU that it is modelled for.
        size_bytes: the size of the built engine.

    Raises:
        BackendError: a layer has no fixed shapes, or computes in a type that the GPU lacks.
    """

    def __init__(self, layers: Sequence[EngineLayer], gpu: Gpu, size_bytes: int = 0) -> None:
        self.size_bytes = size_bytes
        self.modelled: Modelled = engine_ms(layers, gpu)
        self.clock = Clock("modelled", gpu.name)
        self._gpu = gpu
        self._inputs = _network_inputs(layers)

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """Never possible.

        Raises:
            BackendError: always.
        """
        raise BackendError(
            f"an engine built for {self._gpu.capability} ({self._gpu.name}) cannot run on this machine; its accuracy "
            "comes from simulation, its latency from a model"
        )

    def time_ms(self, feed: Mapping[str, Array], runs: int) -> list[float]:
        """The modelled milliseconds, the same for each of `runs` runs.

        Raises:
            BackendError: the batch is not of the shapes that the engine was built for.
        """
        for name, array in feed.items():
            expected = self._inputs.get(name)
            if expected is not None and prod(expected.shape) != array.size:
                raise BackendError(
                    f"the engine is modelled for {list(expected.shape)} in {name!r}, the batch has "
                    f"{list(array.shape)}; build for that shape"
                )
        return [self.modelled.total_ms] * runs

    def __enter__(self) -> ModelledEngine:
        """The engine itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held."""


def _network_inputs(layers: Sequence[EngineLayer]) -> dict[str, LayerTensor]:
    """Tensors that no layer before their first reader has written."""
    written: set[str] = set()
    found: dict[str, LayerTensor] = {}
    for layer in layers:
        for tensor in layer.inputs:
            if tensor.name not in written:
                found.setdefault(tensor.name, tensor)
        written |= {tensor.name for tensor in layer.outputs}
    return found
