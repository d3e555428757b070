"""The engine on a GPU that is made up: shapes, memory, graphs, clocks and the words of what goes wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from autoprec.backends.protocol import Engine
from autoprec.backends.tensorrt.cuda_errors import CudaError
from autoprec.backends.tensorrt.engine import TensorRtEngine
from autoprec.backends.tensorrt.stopwatch import IN_FLIGHT
from autoprec.errors import BackendError, DataError

from ...helpers.tensorrt import fake_tensorrt
from ...helpers.tensorrt.engine_bench import Bench, rows
from ...helpers.tensorrt.fake_cuda import FakeCuda
from ...helpers.tensorrt.fake_tensorrt import (
    DataType,
    FakeTensorRt,
    Tensor,
    TensorFormat,
    TensorLocation,
    doubling,
)

VERSION_TAG = (
    "Error Code 1: Serialization (Serialization assertion stdVersionRead == serializationVersion failed."
    "Version tag does not match. Note: Current Version: 232, Serialized Engine Version: 228)"
)
MAGIC_TAG = (
    "Error Code 1: Serialization (Serialization assertion magicTagRead == kMAGIC_TAG failed.Magic tag does not match)"
)


def test_it_is_an_engine(tmp_path: Path) -> None:
    bench = Bench(tmp_path, doubling())
    engine: Engine = bench.engine

    with engine as same:
        assert same is engine
        np.testing.assert_array_equal(engine.run({"x": rows(4)})["y"], 2 * rows(4))


@pytest.mark.parametrize("count", [1, 4, 8])
def test_a_batch_within_the_profile_runs_at_its_own_shape(tmp_path: Path, count: int) -> None:
    bench = Bench(tmp_path, doubling())

    np.testing.assert_array_equal(bench.engine.run({"x": rows(count)})["y"], 2 * rows(count))
    assert bench.context.shapes == {"x": (count, 3)}


def test_a_short_batch_is_padded_and_its_results_are_cut(tmp_path: Path) -> None:
    bench = Bench(tmp_path, doubling(least=8, best=8, largest=8))

    np.testing.assert_array_equal(bench.engine.run({"x": rows(3)})["y"], 2 * rows(3))
    assert bench.context.shapes == {"x": (8, 3)}


def test_a_large_batch_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="feed at most 8 samples at once"):
        Bench(tmp_path, doubling()).engine.run({"x": rows(9)})


def test_results_are_the_callers_own(tmp_path: Path) -> None:
    engine = Bench(tmp_path, doubling()).engine
    first = engine.run({"x": rows(2)})["y"]
    engine.run({"x": rows(2, 100)})

    np.testing.assert_array_equal(first, 2 * rows(2))


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [(DataType.HALF, np.float16), (DataType.BF16, ml_dtypes.bfloat16), (DataType.FLOAT, np.float32)],
)
def test_float_types_are_cast_on_the_way_in_and_out(tmp_path: Path, kind: DataType, dtype: Any) -> None:
    engine = Bench(tmp_path, doubling(dtype=kind)).engine
    found = engine.run({"x": rows(2) / 3})["y"]

    assert found.dtype == np.float32
    once = (rows(2) / 3).astype(dtype)
    np.testing.assert_array_equal(found, (once + once).astype(np.float32))


def test_fp8_results_are_widened(tmp_path: Path) -> None:
    spec = dataclasses.replace(
        doubling(),
        outputs={"y": Tensor(DataType.FP8)},
        compute=lambda arrays: {"y": arrays["x"].astype(ml_dtypes.float8_e4m3fn)},
    )
    found = Bench(tmp_path, spec).engine.run({"x": rows(1)})["y"]

    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, rows(1))


def test_int64_feeds_go_into_int32_engines(tmp_path: Path) -> None:
    engine = Bench(tmp_path, doubling(dtype=DataType.INT32)).engine
    found = engine.run({"x": rows(2).astype(np.int64)})["y"]

    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, 2 * rows(2).astype(np.int32))


def test_buffers_are_used_again_and_grow_when_they_must(tmp_path: Path) -> None:
    bench = Bench(tmp_path, doubling())
    bench.engine.run({"x": rows(4)})
    allocated = bench.cuda.calls.count("allocate")
    for count in (4, 2, 1, 4):
        np.testing.assert_array_equal(bench.engine.run({"x": rows(count)})["y"], 2 * rows(count))

    assert bench.cuda.calls.count("allocate") == allocated == 2
    np.testing.assert_array_equal(bench.engine.run({"x": rows(8)})["y"], 2 * rows(8))
    assert bench.cuda.calls.count("allocate") == 4
    assert len(bench.cuda.memory) == 2


def test_an_output_without_elements_runs(tmp_path: Path) -> None:
    spec = dataclasses.replace(
        doubling(), shape_of=lambda shapes: {"y": (0, 3)}, compute=lambda arrays: {"y": np.zeros((0, 3), np.float32)}
    )

    assert Bench(tmp_path, spec).engine.run({"x": rows(1)})["y"].shape == (0, 3)


def test_everything_is_freed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, doubling())
    with bench.engine as engine:
        engine.run({"x": rows(1)})
        engine.time_ms({"x": rows(8)}, 20)
        engine.measure({"x": rows(2)}, warmup_ms=0, duration_s=0, include_transfers=True)
        assert bench.cuda.leaks == {"memory": 2, "streams": 1, "graphs": 1}
        engine.profile_ms({"x": rows(4)})
        assert bench.cuda.leaks == {"streams": 1}
        engine.time_ms({"x": rows(8)}, 20)

    assert bench.cuda.leaks == {}
    engine.close()
    for use in (lambda: engine.run({"x": rows(1)}), lambda: engine.time_ms({"x": rows(1)}, 1), engine.inspector_text):
        with pytest.raises(BackendError, match="was closed; load it again"):
            use()


def test_everything_is_freed_when_the_context_cannot_be_made(tmp_path: Path) -> None:
    cuda = FakeCuda()
    with pytest.raises(
        BackendError, match=r"needs 3.0 MiB of GPU memory for activations: .*could not be allocated; free GPU memory"
    ):
        Bench(tmp_path, doubling(no_context="Requested amount of GPU memory could not be allocated"), cuda)

    assert cuda.leaks == {}


def test_out_of_memory_while_running_leaves_the_engine_usable(tmp_path: Path) -> None:
    bench = Bench(tmp_path, doubling(), FakeCuda(room=120))
    np.testing.assert_array_equal(bench.engine.run({"x": rows(4)})["y"], 2 * rows(4))
    with pytest.raises(CudaError, match="could not allocate") as caught:
        bench.engine.run({"x": rows(8)})

    assert caught.value.code == "cudaErrorMemoryAllocation"
    np.testing.assert_array_equal(bench.engine.run({"x": rows(4)})["y"], 2 * rows(4))
    bench.engine.close()
    assert bench.cuda.leaks == {}


def test_closing_after_a_lost_context_does_not_hide_the_first_error(tmp_path: Path) -> None:
    bench = Bench(tmp_path, doubling())
    lost = CudaError("CUDA could not finish: cudaErrorIllegalAddress", "cudaErrorIllegalAddress")
    bench.engine.run({"x": rows(1)})
    bench.cuda.refuse = {"synchronize": lost, "free": CudaError("CUDA could not free", "cudaErrorIllegalAddress")}
    with pytest.raises(CudaError, match="could not finish: cudaErrorIllegalAddress"), bench.engine as engine:
        engine.run({"x": rows(1)})


def test_time_is_the_gpus(tmp_path: Path) -> None:
    """The first two runs are the eager one and none of the counted; all are launches of one graph."""
    bench = Bench(tmp_path, doubling(times_ms=(9.0, 1.0, 2.0, 3.0)))

    assert bench.engine.time_ms({"x": rows(4)}, 3) == pytest.approx([1.0, 2.0, 3.0])
    assert bench.cuda.launches == 3


@pytest.mark.parametrize("runs", [1, IN_FLIGHT - 1, IN_FLIGHT, IN_FLIGHT + 1, 5 * IN_FLIGHT + 3])
def test_every_run_is_timed_once_and_in_order(tmp_path: Path, runs: int) -> None:
    times = tuple(float(n) for n in range(100))
    bench = Bench(tmp_path, doubling(times_ms=times))

    assert bench.engine.time_ms({"x": rows(4)}, runs) == pytest.approx(times[1 : runs + 1])


def test_a_graph_is_captured_once_for_each_shape(tmp_path: Path) -> None:
    bench = Bench(tmp_path, doubling())
    for count in (4, 4, 2, 2, 4):
        bench.engine.time_ms({"x": rows(count)}, 2)
        assert len(bench.cuda.graphs) == 1

    assert bench.cuda.calls.count("begin_capture") == 3
    assert bench.engine.warnings == []


def test_a_graph_does_not_outlive_a_run_of_another_shape(tmp_path: Path) -> None:
    """It was captured with the context's shapes and addresses of then."""
    bench = Bench(tmp_path, doubling())
    bench.engine.time_ms({"x": rows(4)}, 1)
    bench.engine.run({"x": rows(8)})

    assert bench.cuda.graphs == []
    bench.engine.time_ms({"x": rows(4)}, 1)
    np.testing.assert_array_equal(bench.engine.run({"x": rows(4)})["y"], 2 * rows(4))


@pytest.mark.parametrize("how", ["enqueue", "begin", "end"])
def test_without_capture_runs_are_enqueued_and_the_reason_is_kept(tmp_path: Path, how: str) -> None:
    bench = Bench(tmp_path, doubling(times_ms=(2.0,), refuses_capture=how == "enqueue"))
    if how != "enqueue":
        refusal = CudaError("cudaErrorStreamCaptureUnsupported", "cudaErrorStreamCaptureUnsupported")
        bench.cuda.refuse = {f"{how}_capture": refusal}

    assert bench.engine.time_ms({"x": rows(4)}, 3) == [2.0] * 3
    assert bench.engine.time_ms({"x": rows(2)}, 3) == [2.0] * 3
    assert bench.cuda.launches == 0
    assert bench.cuda.capturing is None
    assert bench.cuda.calls.count("begin_capture") == 1
    (warning,) = bench.engine.warnings
    assert warning.startswith("timed without a CUDA graph, since this engine cannot be captured: ")
    assert ("not permitted when stream is capturing" if how == "enqueue" else "CaptureUnsupported") in warning


def test_no_graph_when_none_is_wanted(tmp_path: Path) -> None:
    bench = Bench(tmp_path, doubling(), cuda_graph=False)
    bench.engine.time_ms({"x": rows(4)}, 3)

    assert "begin_capture" not in bench.cuda.calls
    assert not bench.engine.measure({"x": rows(4)}, warmup_ms=0, duration_s=0).cuda_graph
    assert bench.engine.warnings == []


def test_measure_counts_the_fewest_runs_and_no_warm_up(tmp_path: Path) -> None:
    bench = Bench(tmp_path, doubling(times_ms=(9.0, *(1.0,) * 40)))
    samples = bench.engine.measure({"x": rows(4)}, warmup_ms=0, iterations=17, duration_s=0)

    assert samples.gpu_ms == pytest.approx((1.0,) * 17)
    assert len(samples.enqueue_ms) == 17
    assert (samples.to_device_ms, samples.to_host_ms) == ((), ())
    assert samples.batch == 4
    assert samples.cuda_graph
    assert samples.wall_s > 0


def test_measure_goes_on_for_the_time_asked(tmp_path: Path) -> None:
    samples = Bench(tmp_path, doubling()).engine.measure({"x": rows(4)}, warmup_ms=0, iterations=1, duration_s=0.05)

    assert samples.wall_s >= 0.05
    assert len(samples.gpu_ms) > 1


def test_warm_up_runs_before_what_is_counted(tmp_path: Path) -> None:
    bench = Bench(tmp_path, doubling())
    samples = bench.engine.measure({"x": rows(4)}, warmup_ms=20, iterations=5, duration_s=0)

    assert len(samples.gpu_ms) == 5
    assert bench.cuda.launches > 5


def test_transfers_are_timed_apart(tmp_path: Path) -> None:
    bench = Bench(tmp_path, doubling(times_ms=(2.0,)), FakeCuda(copy_ms=0.25))
    samples = bench.engine.measure({"x": rows(4)}, warmup_ms=0, iterations=12, duration_s=0, include_transfers=True)

    assert samples.to_device_ms == pytest.approx((0.25,) * 12)
    assert samples.gpu_ms == pytest.approx((2.0,) * 12)
    assert samples.to_host_ms == pytest.approx((0.25,) * 12)
    assert bench.cuda.pinned == []


def test_a_padded_batch_counts_its_own_samples_only(tmp_path: Path) -> None:
    engine = Bench(tmp_path, doubling(least=8, best=8, largest=8)).engine

    assert engine.measure({"x": rows(3)}, warmup_ms=0, duration_s=0).batch == 3


def test_sizes_and_warnings_are_told(tmp_path: Path) -> None:
    bench = Bench(
        tmp_path,
        doubling(warnings=("built on another GPU", "CUDA lazy loading is not enabled", "built on another GPU")),
    )

    assert bench.engine.warnings == ["built on another GPU"]
    assert bench.engine.size_bytes == len(b"an engine")
    assert bench.engine.activation_bytes == 3 << 20
    assert bench.engine.runtime == "TensorRT 8.6.0"
    assert bench.module.plugins == 1


def test_the_newer_name_of_the_activation_size_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setattr(fake_tensorrt.FakeEngine, "device_memory_size_v2", 5 << 20, raising=False)
    monkeypatch.delattr(fake_tensorrt.FakeEngine, "device_memory_size")

    assert Bench(tmp_path, doubling()).engine.activation_bytes == 5 << 20


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "The engine plan file is generated on an incompatible device, expecting compute 8.6 got compute 8.9",
            "built for another GPU; build it again on this machine",
        ),
        (
            VERSION_TAG,
            "built by another version of TensorRT 8.6.0; build it again with this one",
        ),
        (
            "The engine plan file is not compatible with this version of TensorRT, expecting library version 8.2.1.8",
            "built by another version",
        ),
        ("Target GPU SM 90 is not supported by this TensorRT release.", "does not support the GPU; use a runtime"),
        ("Platform specific tag mismatch detected.", "built on another platform"),
        (
            MAGIC_TAG,
            "it is not an engine of TensorRT 8.6.0, or it is damaged",
        ),
        ("Assertion bufferSize >= minBufferSize failed.  In readHeader", "it is not an engine of TensorRT"),
        ("Error Code 2: OutOfMemory (no further information)", "too little free memory"),
        ("CUDA initialization failure with error: 35", "install or update the NVIDIA driver"),
        ("something new", "build it again"),
    ],
)
def test_an_engine_that_cannot_be_loaded_says_why(tmp_path: Path, said: str, words: str) -> None:
    cuda = FakeCuda()
    with pytest.raises(BackendError) as caught:
        Bench(tmp_path, doubling(errors=(said, "and then more")), cuda)

    text = str(caught.value)
    assert words in text
    assert f"TensorRT 8.6.0 says: {said[:30]}" in text
    assert "Fake GPU (compute capability 9.0)" in text
    assert "model.engine" in text
    assert "\n" not in text
    assert cuda.leaks == {}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    cuda = FakeCuda()
    with pytest.raises(BackendError, match=r"cannot read the engine .*nothing.engine: No such file"):
        TensorRtEngine(tmp_path / "nothing.engine", FakeTensorRt(doubling(), cuda), cuda)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (Tensor(DataType.FLOAT, location=TensorLocation.HOST), "as a shape on the host"),
        (Tensor(DataType.FLOAT, format=TensorFormat.CHW32), "in the memory layout CHW32; build it with linear"),
        (Tensor(DataType.INT4), "'y' in INT4, which cannot be fed"),
    ],
)
def test_tensors_that_cannot_be_fed_are_told(tmp_path: Path, tensor: Tensor, words: str) -> None:
    spec = dataclasses.replace(doubling(), outputs={"y": tensor})
    with pytest.raises(BackendError, match=words):
        Bench(tmp_path, spec)


def test_an_output_whose_shape_depends_on_the_data_is_told(tmp_path: Path) -> None:
    spec = dataclasses.replace(doubling(), shape_of=lambda shapes: {"y": (-1, 3)})
    with pytest.raises(BackendError, match=r"the output 'y' depends on the data \(\[-1, 3\]\)"):
        Bench(tmp_path, spec).engine.run({"x": rows(1)})


def test_tensorrts_refusals_are_quoted(tmp_path: Path) -> None:
    refused = Bench(tmp_path, doubling(refused_shape=(2, 3))).engine
    with pytest.raises(BackendError, match=r"refuses the shape \[2, 3\] for the input 'x': setInputShape: not in"):
        refused.run({"x": rows(2)})
    np.testing.assert_array_equal(refused.run({"x": rows(3)})["y"], 2 * rows(3))
    with pytest.raises(BackendError, match=r"could not run the engine: myelin failed$"):
        Bench(tmp_path, doubling(fails="myelin failed")).engine.run({"x": rows(2)})


def test_no_gpu_is_told_before_the_engine_is_touched(tmp_path: Path) -> None:
    cuda = FakeCuda(refuse={"device": CudaError("no GPU here", "cudaErrorNoDevice")})
    with pytest.raises(CudaError, match="no GPU here"):
        Bench(tmp_path, doubling(), cuda)
