"""The engine that cannot run: its clock says where its figures come from."""

from __future__ import annotations

import numpy as np
import pytest

from autoprec.backends.protocol import Clock, Engine
from autoprec.backends.tensorrt.gpus import gpu_named
from autoprec.backends.tensorrt.modelled import ModelledEngine
from autoprec.backends.tensorrt.records import EngineLayer, LayerTensor
from autoprec.backends.tensorrt.roofline import engine_ms
from autoprec.errors import BackendError
from autoprec.timing.compare import compare

L4 = gpu_named("l4")


def layers(batch: int = 4) -> list[EngineLayer]:
    x, middle, y = (LayerTensor(name, (batch, 8, 16, 16), "fp16") for name in ("x", "middle", "y"))
    return [
        EngineLayer(name="a", kind="kgen", nodes=(), inputs=(x,), outputs=(middle,)),
        EngineLayer(name="b", kind="kgen", nodes=(), inputs=(middle,), outputs=(y,)),
    ]


def feed(batch: int = 4) -> dict[str, np.ndarray]:
    return {"x": np.zeros((batch, 8, 16, 16), np.float32)}


def test_its_clock_is_the_model() -> None:
    with ModelledEngine(layers(), L4) as engine:
        assert engine.time_ms(feed(), 3) == [engine_ms(layers(), L4).total_ms] * 3
        assert engine.clock.text == "modelled for L4"


def test_it_is_an_engine_like_others() -> None:
    """`compare` needs nothing more, and finds no noise."""
    engines: dict[str, Engine] = {"small": ModelledEngine(layers(), L4), "same": ModelledEngine(layers(), L4)}
    timings = compare(engines, feed(), rounds=(3, 5))

    ratio = timings["same"].ratio_to(timings["small"])
    assert ratio.low == ratio.estimate == ratio.high == 1.0


def test_it_does_not_run() -> None:
    with pytest.raises(
        BackendError, match=r"built for sm89 \(L4\) cannot run on this machine; its accuracy comes from"
    ):
        ModelledEngine(layers(), L4).run(feed())


def test_another_batch_has_another_latency() -> None:
    with pytest.raises(BackendError, match=r"modelled for \[4, 8, 16, 16\] in 'x', the batch has \[1, 8, 16, 16\]"):
        ModelledEngine(layers(), L4).time_ms(feed(1), 1)


def test_inputs_that_the_layers_do_not_name_are_ignored() -> None:
    """The builder renames and drops inputs; a tensor between layers is none, even under an input's name."""
    engine = ModelledEngine(layers(), L4)

    assert len(engine.time_ms({"ids": np.zeros(3), "middle": np.zeros(5)}, 2)) == 2


def test_engines_without_fixed_shapes_are_refused() -> None:
    with pytest.raises(BackendError, match="build with one shape for each input"):
        ModelledEngine(layers(-1), L4)


def test_figures_say_whether_they_were_measured() -> None:
    assert Clock("measured", "NVIDIA H200").text == "measured on NVIDIA H200"
