"""Profiles of a loaded engine, and what its inspector says: both leave the engine as it was."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoprec.backends.tensorrt.cuda_errors import CudaError
from autoprec.backends.tensorrt.engine import TensorRtEngine
from autoprec.errors import BackendError, DataError

from ...helpers.tensorrt import fake_tensorrt
from ...helpers.tensorrt.engine_bench import Bench, rows
from ...helpers.tensorrt.fake_tensorrt import (
    doubling,
    engine_file,
)


def layers(*times: float) -> tuple[tuple[str, float], ...]:
    return tuple(zip(("conv", "reformat", "conv"), times, strict=True))


def test_the_profile_is_the_median_of_each_layer_in_order(tmp_path: Path) -> None:
    """Layers of one name stay apart; the first runs, which are slow, do not count."""
    slow, fast = layers(90.0, 90.0, 90.0), [layers(1.0, 0.5, 3.0), layers(2.0, 0.1, 3.5), layers(1.5, 0.2, 9.0)]
    bench = Bench(tmp_path, doubling(layers=(slow, slow, slow, *fast)))

    assert bench.engine.profile_ms({"x": rows(4)}, 3) == [("conv", 1.5), ("reformat", 0.2), ("conv", 3.5)]


def test_a_profile_with_changing_layers_adds_up_by_name(tmp_path: Path) -> None:
    once, twice = (("loop", 1.0), ("end", 0.5)), (("loop", 1.0), ("loop", 2.0), ("end", 0.7))
    bench = Bench(tmp_path, doubling(layers=(once, once, once, once, twice, twice)))

    assert bench.engine.profile_ms({"x": rows(4)}, 3) == [("loop", 3.0), ("end", 0.7)]


def test_a_profile_has_the_only_execution_context_of_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT 8.6 gives an optimization profile to one context at a time: each is gone before the next is made."""
    bench = Bench(tmp_path, doubling())
    made, alive = [], []
    plain = fake_tensorrt.FakeEngine.create_execution_context

    def create(self: Any) -> Any:
        alive.append(sum(one() is not None for one in made))
        context = plain(self)
        self.contexts.clear()  # the made-up engine would keep it alive
        made.append(weakref.ref(context))
        return context

    bench.engine.close()
    monkeypatch.setattr(fake_tensorrt.FakeEngine, "create_execution_context", create)
    engine = TensorRtEngine(engine_file(tmp_path), bench.module, bench.cuda)
    engine.run({"x": rows(2)})
    engine.profile_ms({"x": rows(4)})
    engine.run({"x": rows(2)})
    engine.profile_ms({"x": rows(4)})
    engine.run({"x": rows(2)})
    gc.collect()

    assert alive == [0] * 5
    assert [one() is not None for one in made] == [False] * 4 + [True]


def test_after_a_profile_runs_and_times_are_what_they_were(tmp_path: Path) -> None:
    """In a new context without profiler; the CUDA graph, which went with the old one, is captured again."""
    bench = Bench(tmp_path, doubling(times_ms=(2.0,)))
    before = bench.engine.time_ms({"x": rows(4)}, 3)
    bench.engine.profile_ms({"x": rows(2)})

    assert bench.cuda.graphs == []
    assert bench.engine.time_ms({"x": rows(4)}, 3) == before
    contexts = bench.module.engines[0].contexts
    assert contexts[0] is not contexts[-1]
    assert contexts[-1].profiler is None
    assert len(bench.cuda.graphs) == 1
    np.testing.assert_array_equal(bench.engine.run({"x": rows(3)})["y"], 2 * rows(3))
    assert len(bench.cuda.memory) == 2


def test_a_profile_that_fails_leaves_the_engine_usable(tmp_path: Path) -> None:
    bench = Bench(tmp_path, doubling())
    bench.cuda.refuse = {"copy_in": CudaError("CUDA could not copy: cudaErrorUnknown", "cudaErrorUnknown")}
    with pytest.raises(CudaError, match="could not copy"):
        bench.engine.profile_ms({"x": rows(4)})
    bench.cuda.refuse = {}

    np.testing.assert_array_equal(bench.engine.run({"x": rows(4)})["y"], 2 * rows(4))
    bench.engine.close()
    assert bench.cuda.leaks == {}


OUT_OF_MEMORY = "Requested amount of GPU memory could not be allocated"


NO_ROOM = r"could not make an execution context, which needs 3.0 MiB .* free GPU memory \(nvidia-smi"


@pytest.mark.parametrize("fails", ["for the profile", "for runs after it"])
def test_without_memory_for_another_context_it_is_said_and_the_engine_stays_usable(tmp_path: Path, fails: str) -> None:
    bench = Bench(tmp_path, doubling())
    bench.engine.run({"x": rows(4)})
    if fails == "for runs after it":
        bench.engine.profile_ms({"x": rows(4)})
    bench.module.spec.no_context = OUT_OF_MEMORY
    for use in (bench.engine.profile_ms, bench.engine.run, lambda feed: bench.engine.time_ms(feed, 1)):
        with pytest.raises(BackendError, match=NO_ROOM):
            use({"x": rows(4)})
    bench.module.spec.no_context = ""

    np.testing.assert_array_equal(bench.engine.run({"x": rows(4)})["y"], 2 * rows(4))
    assert bench.engine.profile_ms({"x": rows(4)})
    bench.engine.close()
    assert bench.cuda.leaks == {}


def test_a_batch_that_does_not_fit_leaves_the_context_of_runs(tmp_path: Path) -> None:
    bench = Bench(tmp_path, doubling())
    bench.engine.time_ms({"x": rows(4)}, 1)
    with pytest.raises(DataError, match="feed at most 8 samples at once"):
        bench.engine.profile_ms({"x": rows(9)})

    assert len(bench.cuda.graphs) == len(bench.module.engines[0].contexts) == 1


def test_a_profile_of_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="reported no layer times"):
        Bench(tmp_path, doubling(layers=((),))).engine.profile_ms({"x": rows(4)})


def test_the_inspector_sees_concrete_shapes(tmp_path: Path) -> None:
    engine = Bench(tmp_path, doubling()).engine

    assert "'x': (4, 3)" in engine.inspector_text()
    engine.run({"x": rows(7)})
    assert "'x': (7, 3)" in engine.inspector_text()


def test_the_inspector_sees_the_shapes_of_the_last_batch_after_a_profile_too(tmp_path: Path) -> None:
    engine = Bench(tmp_path, doubling()).engine
    engine.run({"x": rows(7)})
    engine.profile_ms({"x": rows(6)})

    assert "'x': (6, 3)" in engine.inspector_text()
    engine.time_ms({"x": rows(2)}, 1)
    assert "'x': (2, 3)" in engine.inspector_text()


def test_running_after_the_inspector_set_shapes(tmp_path: Path) -> None:
    engine = Bench(tmp_path, doubling()).engine
    engine.inspector_text()

    np.testing.assert_array_equal(engine.run({"x": rows(4)})["y"], 2 * rows(4))
