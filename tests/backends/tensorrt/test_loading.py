"""What is used of TensorRT exists in a real one, and a real one's words arrive."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest

from autoprec.backends.tensorrt import engine, execution, layer_times, loading
from autoprec.backends.tensorrt.layer_times import layer_profiler
from autoprec.backends.tensorrt.loading import Messages, load, messages_of, runtime_label
from autoprec.errors import BackendError

from ...helpers.tensorrt.fake_cuda import DEVICE, FakeCuda
from ...helpers.tensorrt.fake_tensorrt import FakeTensorRt, Severity, doubling

OWNERS = {
    "module": "",
    "_module": "",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "inspector": "EngineInspector",
}
"""What a variable is called -> TensorRT's class that it holds, "" for the module itself."""


def used_names() -> set[tuple[str, ...]]:
    """(class, member) pairs, and (enum, member) pairs of the module, as the modules write them."""
    found: set[tuple[str, ...]] = set()
    for source in (engine, execution, layer_times, loading):
        for node in ast.walk(ast.parse(inspect.getsource(source))):
            if not isinstance(node, ast.Attribute):
                continue
            owner = node.value
            name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", None)
            if name in OWNERS and not node.attr.startswith("__"):
                found.add(tuple(filter(None, (OWNERS[name], node.attr))))
            elif isinstance(owner, ast.Attribute) and getattr(owner.value, "id", getattr(owner.value, "attr", "")) in (
                "module",
                "_module",
            ):
                found.add((owner.attr, node.attr))
    return found


# Each is asked for in one runtime only, after the other name was not found.
ONLY_SOMEWHERE = {("ICudaEngine", "device_memory_size")}


def test_every_name_exists_in_tensorrt_rtx() -> None:
    trt: Any = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx: pip install tensorrt-rtx")
    names = used_names()

    assert {
        ("Runtime",),
        ("ILogger",),
        ("IProfiler",),
        ("TensorIOMode", "INPUT"),
        ("LayerInformationFormat", "JSON"),
        ("TensorLocation", "HOST"),
        ("TensorFormat", "LINEAR"),
        ("Runtime", "deserialize_cuda_engine"),
        ("ICudaEngine", "num_io_tensors"),
        ("ICudaEngine", "get_tensor_profile_shape"),
        ("ICudaEngine", "create_engine_inspector"),
        ("IExecutionContext", "execute_async_v3"),
        ("IExecutionContext", "enqueue_emits_profile"),
        ("EngineInspector", "get_engine_information"),
    } <= names
    for path in sorted(names - ONLY_SOMEWHERE):
        owner = trt
        for part in path:
            assert hasattr(owner, part), ".".join(path)
            owner = getattr(owner, part)
    assert hasattr(trt.ICudaEngine, "device_memory_size_v2")
    for kind in {*loading.DTYPES}:
        assert hasattr(trt.DataType, kind), kind


def test_a_real_logger_takes_messages_and_real_refusals_arrive(tmp_path: Path) -> None:
    """Without a GPU and without an engine in the file, TensorRT-RTX refuses in words of its own."""
    trt: Any = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx: pip install tensorrt-rtx")
    path = tmp_path / "broken.engine"
    path.write_bytes(b"no engine at all")
    with pytest.raises(BackendError, match=r"^the engine .*broken.engine cannot be loaded by TensorRT-RTX \d.* says: "):
        load(path, trt, DEVICE)

    assert messages_of(trt).errors


def test_a_real_profiler_keeps_rows() -> None:
    trt: Any = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx: pip install tensorrt-rtx")
    profiler = layer_profiler(trt)
    profiler.report_layer_time("conv", 0.25)

    assert isinstance(profiler, trt.IProfiler)
    assert profiler.rows == [("conv", 0.25)]


def test_one_logger_serves_a_runtime_for_the_whole_process() -> None:
    module = FakeTensorRt(doubling(), FakeCuda())

    assert messages_of(module) is messages_of(module)
    assert messages_of(module) is not messages_of(FakeTensorRt(doubling(), FakeCuda()))


def test_messages_are_kept_by_severity_and_bounded() -> None:
    messages = Messages(FakeTensorRt(doubling(), FakeCuda()))
    for severity in Severity:
        messages.note(severity.name, f"a {severity.name.lower()}\n  message")

    assert messages.why == "a internal_error message"
    assert list(messages.warnings) == ["a warning\n  message"]
    assert len(messages.errors) == 2
    for number in range(10_000):
        messages.logger.log(Severity.ERROR, str(number))
    assert len(messages.errors) == 200
    messages.clear()
    assert messages.why == "it does not say why"
    assert not messages.out_of_memory


@pytest.mark.parametrize(("name", "words"), [("tensorrt", "TensorRT 8.6.0"), ("tensorrt_rtx", "TensorRT-RTX 8.6.0")])
def test_runtimes_are_called_by_their_names(name: str, words: str) -> None:
    assert runtime_label(FakeTensorRt(doubling(), FakeCuda(), name)) == words


@pytest.mark.parametrize("failure", [TypeError("factory function returned nullptr"), RuntimeError("no")])
def test_a_runtime_that_cannot_be_made_is_no_traceback(tmp_path: Path, failure: Exception) -> None:
    class Failing(FakeTensorRt):
        def Runtime(self, logger: Any) -> Any:
            logger.log(Severity.ERROR, "CUDA initialization failure with error: 35")
            raise failure

    path = tmp_path / "model.engine"
    path.write_bytes(b"an engine")
    with pytest.raises(BackendError, match="install or update the NVIDIA driver"):
        load(path, Failing(doubling(), FakeCuda()), DEVICE)
