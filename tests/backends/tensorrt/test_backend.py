"""The backend with NVIDIA's real builder for a GPU that is not here: engines are built, the clock is a model."""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoprec.backends.ort import OrtBackend
from autoprec.backends.protocol import Backend, Clock
from autoprec.backends.scheme import TENSORRT_RTX
from autoprec.backends.tensorrt import builder
from autoprec.backends.tensorrt.backend import TensorRtBackend
from autoprec.backends.tensorrt.cuda_errors import CudaError
from autoprec.backends.tensorrt.gpus import gpu_named
from autoprec.backends.tensorrt.modelled import ModelledEngine
from autoprec.backends.tensorrt.records import BuildOptions, ShapeProfile
from autoprec.errors import BackendError, UsageError
from autoprec.graph.model import to_bytes
from autoprec.precision import Precision
from autoprec.testing import BackendContract, tiny_data, tiny_model

from ...helpers.lowering_bench import bench

pytest.importorskip("tensorrt_rtx", reason="the real builder needs tensorrt-rtx: pip install tensorrt-rtx")

FP32, FP16, BF16, FP8, INT8 = (Precision(p) for p in ("fp32", "fp16", "bf16", "fp8", "int8"))
MXFP8, NVFP4 = Precision.MXFP8, Precision.NVFP4
NEVER = {
    Precision.FP64: "TensorRT has no FP64",
    Precision.INT8_DYNAMIC: "TensorRT quantises activations by ranges that are known when an engine is built",
} | {p: "TensorRT has no zero points" for p in Precision if p.has_zero_points}
BATCH = 2


def rtx(folder: Path, *targets: str, **options: Any) -> TensorRtBackend:
    return TensorRtBackend(
        "tensorrt-rtx", BuildOptions(targets=targets or ("sm89",), **options), 1, folder, batch=BATCH
    )


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where engines of all tests of this file are kept, so that each is built once."""
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(name="backend", scope="module")
def _backend(folder: Path) -> TensorRtBackend:
    return rtx(folder)


@pytest.fixture(name="int8", scope="module")
def _int8() -> bytes:
    """resnet_block with all its convolutions in INT8."""
    one = bench("resnet_block")
    return to_bytes(one.lower(one.uniform(INT8)).ir)


NODES = ["stem", "stem.relu", "conv1", "relu1", "conv2", "add", "relu2"]
HOME = {name: name for name in NODES}


class TestContract(BackendContract):
    """All of it but running, which takes the GPU: that is refused in words."""

    @pytest.fixture(autouse=True)
    def _keep(self, folder: Path) -> None:
        self.folder = folder

    def backend(self) -> Backend:
        return rtx(self.folder)

    def test_run_returns_every_output(self, tmp_path: Path) -> None:
        model = tiny_model(tmp_path)
        with (
            self.backend().build(model.read_bytes()) as engine,
            pytest.raises(BackendError, match=r"built for sm89 \(L4\) cannot run on this machine; its accuracy comes"),
        ):
            engine.run({"x": tiny_data(model, BATCH)["x"]})


# --- what it says of itself ------------------------------------------------------------------------------


def test_it_says_what_it_builds_with_and_for_whom_and_that_its_clock_is_a_model(backend: TensorRtBackend) -> None:
    described = backend.describe()

    assert described["backend"] == "tensorrt-rtx"
    assert described["runtime"].startswith("TensorRT-RTX 1.")
    assert (described["hardware"], described["clock"]) == ("sm89", "modelled for L4")
    assert described["onnxruntime"]  # computes the accuracy
    assert backend.scheme is TENSORRT_RTX
    assert not backend.runs_here
    assert backend.clock == Clock("modelled", gpu_named("l4").name)


def test_several_targets_are_described_and_the_first_is_modelled(folder: Path) -> None:
    both = rtx(folder, "sm120", "sm89")

    assert both.describe()["hardware"] == "sm120,sm89"
    assert both.clock.text == "modelled for GeForce RTX 5090"


@pytest.mark.parametrize("target", ["sm89", "sm120"])
def test_newer_gpus_compute_in_everything(folder: Path, target: str) -> None:
    four_bits = {NVFP4: "NVFP4 needs compute capability 10.0 or more, this is 8.9"} if target == "sm89" else {}

    assert rtx(folder, target).support() == dict.fromkeys(Precision) | NEVER | four_bits


def test_fp8_is_refused_on_ampere_in_words(folder: Path) -> None:
    words = {
        FP8: "FP8 needs compute capability 8.9 or more, this is 8.0",
        MXFP8: "MXFP8 needs compute capability 8.9 or more, this is 8.0",
        NVFP4: "NVFP4 needs compute capability 10.0 or more, this is 8.0",
    }

    assert rtx(folder, "sm80").support() == dict.fromkeys(Precision) | NEVER | words


@pytest.mark.parametrize("targets", [("sm89", "sm80"), ("sm80", "sm89")])
def test_what_one_target_lacks_all_lack(folder: Path, targets: tuple[str, str]) -> None:
    assert rtx(folder, *targets).support()[FP8] == "FP8 needs compute capability 8.9 or more, this is 8.0"


# --- what cannot be --------------------------------------------------------------------------------------


def test_an_unknown_target_is_refused_with_those_that_there_are(folder: Path) -> None:
    with pytest.raises(BackendError, match=r"ahead of time for sm75, .*sm89.*, not for 'sm90'; choose targets among"):
        rtx(folder, "sm90")


def test_a_target_without_figures_cannot_be_timed(tmp_path: Path, int8: bytes) -> None:
    """That is said before an engine is built."""
    backend = rtx(tmp_path / "engines", "sm121")
    uses = (
        lambda: backend.clock,
        lambda: backend.build(int8),
        lambda: backend.profile(int8, {}, HOME, {}),
        backend.describe,
        lambda: backend.for_run({"x": (2, 32, 8, 8)}, tmp_path),
    )
    for use in uses:
        with pytest.raises(
            UsageError, match="latency of an engine for sm121 cannot be modelled: there are figures of GPU"
        ):
            use()

    assert list(tmp_path.iterdir()) == []


def test_a_target_without_figures_can_be_built_for_and_inspected(folder: Path, int8: bytes) -> None:
    backend = rtx(folder, "sm121")

    assert backend.build_file(int8).hardware == "sm121"
    assert backend.inspect(int8, ["conv1"])["conv1"].quantized
    assert backend.support()[INT8] is None
    with backend.build(int8, exact=True) as engine:
        assert engine.run(bench("resnet_block").feed)
    assert not backend.runs_here


@pytest.mark.parametrize("why", ["CUDA finds no NVIDIA GPU here", "running engines needs NVIDIA's cuda-bindings"])
def test_without_targets_and_gpu_it_says_what_is_missing_and_that_targets_would_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    def missing() -> Any:
        raise CudaError(why, "cudaErrorNoDevice")

    monkeypatch.setattr(builder, "load_cuda", missing)
    with pytest.raises(
        BackendError, match=rf"must know what to build for: name targets, such as --target sm.*\({why}\)"
    ):
        TensorRtBackend("tensorrt-rtx", folder=folder)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"time_limit_s": 0}, "time limit of a build must be more than 0 s"), ({"workspace_mib": 0}, "must be 1 MiB")],
)
def test_options_that_no_build_can_meet_are_refused_before_any_build(
    folder: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(BackendError, match=words):
        rtx(folder, **options)


def test_a_runtime_that_is_not_installed_is_told_with_the_command(folder: Path) -> None:
    try:
        import tensorrt  # noqa: F401
    except ImportError:
        with pytest.raises(BackendError, match=r"TensorRT is not installed; run: pip install 'autoprec\[tensorrt\]'"):
            TensorRtBackend("tensorrt", BuildOptions(targets=("sm89",)), folder=folder)
    else:
        pytest.skip("TensorRT is installed here")


def test_an_fp8_model_is_refused_for_ampere_by_the_builder_itself(folder: Path) -> None:
    one = bench("mlp")
    with pytest.raises(BackendError, match="sm80 lacks the precision fp8; leave it out of the plan, or build for newe"):
        rtx(folder, "sm80").build(to_bytes(one.lower(one.uniform(FP8)).ir))


# --- engines ---------------------------------------------------------------------------------------------


def test_an_engine_is_modelled(backend: TensorRtBackend, int8: bytes) -> None:
    with backend.build(int8) as engine:
        assert isinstance(engine, ModelledEngine)
        times = engine.time_ms({}, 5)

    assert engine.clock == backend.clock
    assert len(times) == 5
    assert len(set(times)) == 1
    assert 0.001 < times[0] < 1


def large(folder: Path) -> TensorRtBackend:
    """With a batch that outweighs the launches of kernels."""
    return TensorRtBackend("tensorrt-rtx", BuildOptions(targets=("sm89",)), 1, folder, batch=2048)


def test_int8_is_modelled_faster_than_fp32(folder: Path, int8: bytes) -> None:
    many = large(folder)
    with many.build(int8) as fast, many.build(to_bytes(bench("resnet_block").model.ir)) as slow:
        assert fast.time_ms({}, 1)[0] < 0.7 * slow.time_ms({}, 1)[0]


def test_open_dimensions_take_the_batch(folder: Path, int8: bytes) -> None:
    with rtx(folder).build(int8) as few, large(folder).build(int8) as many:
        assert many.time_ms({}, 1)[0] > 2 * few.time_ms({}, 1)[0]
        with pytest.raises(BackendError, match=r"the engine is modelled for \[2048, 32, 8, 8\] in 'x', the batch has"):
            many.time_ms({"x": np.zeros((2, 32, 8, 8), np.float32)}, 1)


def test_given_shapes_go_before_the_batch(folder: Path, int8: bytes) -> None:
    shape = (5, 32, 8, 8)
    fixed = rtx(folder, shapes={"x": ShapeProfile(shape, shape, shape)})
    with fixed.build(int8) as engine:
        assert engine.time_ms({"x": np.zeros(shape, np.float32)}, 1)


def test_exact_arithmetic_is_onnx_runtimes(backend: TensorRtBackend, int8: bytes) -> None:
    """The CPU has FP16 kernels for it, so the very model that is built can be run."""
    one = bench("resnet_block")
    twin = to_bytes(one.lower(one.uniform(INT8), simulate=True).ir)
    with backend.build(twin, exact=True) as engine, OrtBackend(threads=1).build(twin, exact=True) as expected:
        found, right = engine.run(one.feed), expected.run(one.feed)

    np.testing.assert_array_equal(found["relu2_out"], right["relu2_out"])
    assert not np.array_equal(found["relu2_out"], one.reference["relu2_out"])


def test_the_second_build_is_the_first_engine(folder: Path) -> None:
    one = bench("mlp")
    model = to_bytes(one.lower(one.uniform(FP16)).ir)
    first, again, anew = (
        rtx(folder).build_file(model),
        rtx(folder).build_file(model),
        rtx(folder).build_file(model, anew=True),
    )

    assert [first.reused, again.reused, anew.reused] == [False, True, False]
    assert again.path == first.path
    assert again.layers == first.layers
    assert again.build_s == first.build_s
    assert (first.runtime, first.hardware) == ("tensorrt_rtx", "sm89")
    assert first.path.stat().st_size == first.engine_bytes


# --- what ran --------------------------------------------------------------------------------------------


def test_inspection_says_which_convolutions_compute_on_codes(backend: TensorRtBackend, int8: bytes) -> None:
    found = backend.inspect(int8, NODES)

    for name in ("stem", "conv1", "conv2"):
        assert found[name].quantized, name
        assert found[name].precision is INT8
        assert found[name].layer
        assert found[name].operator
    assert set(found) <= set(NODES)


def test_inspection_tells_a_float_convolution_from_one_on_codes(backend: TensorRtBackend) -> None:
    one = bench("resnet_block")
    found = backend.inspect(to_bytes(one.lower(one.uniform(INT8, conv1=FP16)).ir), ["stem", "conv1", "conv2"])

    assert {name: (ran.quantized, ran.precision) for name, ran in found.items()} == {
        "stem": (True, INT8),
        "conv1": (False, FP16),
        "conv2": (True, INT8),
    }


def test_profiled_times_add_up_to_the_engine(backend: TensorRtBackend, int8: bytes) -> None:
    found = backend.profile(int8, {}, HOME, {})
    with backend.build(int8) as engine:
        (whole,) = engine.time_ms({}, 1)

    assert found.total_ms == pytest.approx(whole, rel=1e-9)
    assert min(found.unit_ms[name] for name in ("stem", "conv1", "conv2")) > 0
    assert sum(found.unit_ms.values()) > 0.3 * whole


# --- for one run -----------------------------------------------------------------------------------------


def test_a_run_has_engines_of_its_shapes_in_its_folder(backend: TensorRtBackend, tmp_path: Path, int8: bytes) -> None:
    shape = (3, 32, 8, 8)
    run = backend.for_run({"x": shape}, tmp_path / "run")
    with run.build(int8) as engine:
        assert engine.time_ms({"x": np.zeros(shape, np.float32)}, 1)
        with pytest.raises(BackendError, match=r"modelled for \[3, 32, 8, 8\] in 'x', the batch has \[2, 32, 8, 8\]"):
            engine.time_ms({"x": np.zeros((2, 32, 8, 8), np.float32)}, 1)

    assert run.describe() == backend.describe()
    assert (run.threads, run.clock, run.runs_here) == (backend.threads, backend.clock, False)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["engines"]
    kept = run.build_file(int8)
    assert kept.reused
    assert (tmp_path / "run" / "engines") in kept.path.parents


def test_shapes_of_one_build_are_not_those_of_the_next(tmp_path: Path) -> None:
    """What was filled in for one model is no option of the backend."""
    backend = rtx(tmp_path)
    before = backend.options
    one, other = (backend.build_file(to_bytes(bench(name).model.ir)) for name in ("mlp", "resnet_block"))

    assert backend.options is before
    assert before == BuildOptions(targets=("sm89",))
    assert one.path != other.path


def test_no_folder_is_made_where_nothing_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    passing = TensorRtBackend("tensorrt-rtx", BuildOptions(targets=("sm89",)), 1)
    passing.describe()
    del passing
    gc.collect()

    assert list(tmp_path.iterdir()) == []


def test_a_backend_without_a_folder_keeps_engines_for_its_own_life(int8: bytes) -> None:
    passing = TensorRtBackend("tensorrt-rtx", BuildOptions(targets=("sm89",)), 1, batch=BATCH)
    made = passing.build_file(int8)

    assert made.path.is_file()
    assert passing.build_file(int8).reused
    del passing
    gc.collect()
    assert not made.path.parent.exists()
