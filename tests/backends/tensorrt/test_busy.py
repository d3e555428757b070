"""An engine on two streams of a GPU that is made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autoprec.backends.protocol import Engine
from autoprec.backends.tensorrt.busy import STREAMS, BusyEngine
from autoprec.backends.tensorrt.engine import TensorRtEngine
from autoprec.errors import BackendError

from ...helpers.tensorrt.fake_cuda import FakeCuda
from ...helpers.tensorrt.fake_tensorrt import FakeTensorRt, doubling, engine_file


def test_runs_are_launched_on_each_stream_and_waited_for_at_the_end(tmp_path: Path) -> None:
    cuda = FakeCuda()
    module, path = FakeTensorRt(doubling(), cuda), engine_file(tmp_path)
    with BusyEngine(lambda: TensorRtEngine(path, module, cuda)) as engine:
        engine.time_ms({"x": np.ones((4, 3), np.float32)}, 1)
        cuda.calls.clear()
        times = engine.time_ms({"x": np.ones((4, 3), np.float32)}, 5)
        work = [call for call in cuda.calls if call in ("launch", "synchronize")]

    assert len(module.engines) == STREAMS == 2
    assert work[-12:] == ["launch"] * 10 + ["synchronize"] * 2
    assert work.count("launch") == STREAMS * (5 + 1)  # one each to warm up
    assert len(times) == 5
    assert len(set(times)) == 1
    assert times[0] > 0


def test_it_is_an_engine_that_computes_and_frees_everything(tmp_path: Path) -> None:
    cuda = FakeCuda()
    module, path = FakeTensorRt(doubling(), cuda), engine_file(tmp_path)
    one = BusyEngine(lambda: TensorRtEngine(path, module, cuda))
    engine: Engine = one
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    with engine:
        np.testing.assert_array_equal(engine.run({"x": x})["y"], 2 * x)
        assert one.size_bytes > 0

    assert cuda.leaks == {}


def test_where_the_second_cannot_be_loaded_the_first_is_freed(tmp_path: Path) -> None:
    cuda = FakeCuda()
    module, path = FakeTensorRt(doubling(), cuda), engine_file(tmp_path)
    loaded: list[TensorRtEngine] = []

    def load() -> TensorRtEngine:
        if loaded:
            raise BackendError("no GPU memory left")
        loaded.append(TensorRtEngine(path, module, cuda))
        return loaded[0]

    with pytest.raises(BackendError, match="no GPU memory left"):
        BusyEngine(load)
    assert cuda.leaks == {}
