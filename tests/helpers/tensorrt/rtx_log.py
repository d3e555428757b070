"""What the real TensorRT-RTX builder writes into its log about the layers of an engine; no GPU needed."""

from __future__ import annotations

from typing import Any

import pytest

BATCHES = (1, 4, 16)


def layers_text(model: bytes, capability: str = "SM89", *, detailed: bool = True, profiles: int = 1) -> str:
    """The message that lists the layers; skips the test where tensorrt-rtx is not installed."""
    trt: Any = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx: pip install tensorrt-rtx")

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            self.messages.append(message)

    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    assert parser.parse(model), [parser.get_error(number).desc() for number in range(parser.num_errors)]
    config = builder.create_builder_config()
    for _ in range(profiles):
        profile = builder.create_optimization_profile()
        for number in range(network.num_inputs):
            tensor = network.get_input(number)
            shape = list(tensor.shape)
            if -1 in shape:
                profile.set_shape(tensor.name, *[[n if d < 0 else d for d in shape] for n in BATCHES])
        config.add_optimization_profile(profile)
    names = trt.ProfilingVerbosity
    config.profiling_verbosity = names.DETAILED if detailed else names.LAYER_NAMES_ONLY
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0)
    engine = builder.build_serialized_network(network, config)
    assert engine is not None, log.messages[-1]
    heads = ("Layers:\n", "Engine Layer Information:")
    return next(message for message in reversed(log.messages) if message.startswith(heads))
