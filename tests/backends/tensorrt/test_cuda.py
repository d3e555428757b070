"""CUDA's calls and the words of its errors; the names against the real cuda-python where it is installed."""

from __future__ import annotations

import ast
import builtins
import inspect
import sys
from enum import IntEnum
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from autoprec.backends.tensorrt import cuda as module
from autoprec.backends.tensorrt import cuda_errors
from autoprec.backends.tensorrt.cuda import Cuda, CudaRuntime, load_cuda
from autoprec.backends.tensorrt.cuda_errors import CudaError
from autoprec.errors import BackendError


class cudaError_t(IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureInvalidated = 901


class Api:
    """cuda.bindings.runtime: every call succeeds and is noted, unless `answers` says otherwise."""

    cudaError_t = cudaError_t
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice="in", cudaMemcpyDeviceToHost="out")
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal="thread")
    cudaStreamNonBlocking = 1
    cudaEventDefault = 0

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.calls: list[tuple[Any, ...]] = []

    def cudaGetErrorName(self, error: cudaError_t) -> tuple[int, bytes]:
        return 0, error.name.encode()

    def cudaGetErrorString(self, error: cudaError_t) -> tuple[int, bytes]:
        return 0, b"words of " + error.name.encode() + b"\0"

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> tuple[Any, ...]:
            self.calls.append((name, *arguments))
            answer = self.answers.get(name, (cudaError_t.cudaSuccess, 0))
            if isinstance(answer, Exception):
                raise answer
            return answer if isinstance(answer, tuple) else (answer,)

        if not name.startswith("cuda"):
            raise AttributeError(name)
        return call

    @property
    def names(self) -> list[str]:
        return [call[0] for call in self.calls]


PROPERTIES = SimpleNamespace(name=b"NVIDIA H200\0\0", major=9, minor=0, totalGlobalMem=150_000_000_000)


def api(**answers: Any) -> Api:
    ok = cudaError_t.cudaSuccess
    known = {
        "cudaDriverGetVersion": (ok, 13000),
        "cudaRuntimeGetVersion": (ok, 12040),
        "cudaGetDeviceProperties": (ok, PROPERTIES),
        "cudaMalloc": (ok, 4096),
    }
    return Api(**{**known, **answers})


def test_the_device_is_described() -> None:
    found = CudaRuntime(api()).device()

    assert (found.name, found.capability, found.memory_bytes) == ("NVIDIA H200", "9.0", 150_000_000_000)
    assert (found.driver_cuda, found.runtime_cuda) == ("13.0", "12.4")


def test_no_driver_is_told_although_cuda_calls_it_success() -> None:
    with pytest.raises(CudaError, match="needs an NVIDIA driver, and none is installed here; install or update"):
        CudaRuntime(api(cudaDriverGetVersion=(cudaError_t.cudaSuccess, 0))).device()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (cudaError_t.cudaErrorNoDevice, "needs an NVIDIA GPU; check nvidia-smi and the variable CUDA_VISIBLE_DEVICES"),
        (cudaError_t.cudaErrorInsufficientDriver, "update the driver .* or pip install an older cuda-bindings"),
    ],
)
def test_no_device_and_an_old_driver_say_what_to_do(error: cudaError_t, words: str) -> None:
    with pytest.raises(
        CudaError, match=rf"^CUDA could not find a GPU: {error.name} \(words of {error.name}\); .*"
    ) as e:
        CudaRuntime(api(cudaGetDevice=(error,))).device()

    assert e.value.code == error.name
    assert e.match(words)


def test_a_missing_libcuda_of_older_cuda_python_is_no_traceback() -> None:
    with pytest.raises(CudaError, match=r"Failed to dlopen libcuda.so.1; install or update the driver"):
        CudaRuntime(api(cudaDriverGetVersion=RuntimeError("Failed to dlopen libcuda.so.1"))).device()


def test_out_of_memory_says_how_much_and_what_to_do() -> None:
    with pytest.raises(
        BackendError,
        match=r"allocate 1,024.0 MiB of GPU memory: cudaErrorMemoryAllocation \(.*\); free GPU memory .*smaller batch",
    ):
        CudaRuntime(api(cudaMalloc=(cudaError_t.cudaErrorMemoryAllocation, 0))).allocate(1 << 30)


def test_a_lost_context_says_so() -> None:
    fake = api(cudaStreamSynchronize=cudaError_t.cudaErrorIllegalAddress)
    with pytest.raises(CudaError, match=r"finish the work on the GPU: cudaErrorIllegalAddress .* start the command"):
        CudaRuntime(fake).synchronize(1)

    assert fake.names[-1] == "cudaGetLastError"


def test_copies_know_their_direction_and_size() -> None:
    fake = api()
    cuda, array = CudaRuntime(fake), np.zeros((2, 3), np.float16)
    cuda.copy_in(4096, array, 7)
    cuda.copy_out(array, 4096, 7)

    assert fake.calls == [
        ("cudaMemcpyAsync", 4096, array.ctypes.data, 12, "in", 7),
        ("cudaMemcpyAsync", array.ctypes.data, 4096, 12, "out", 7),
    ]


def test_pinned_memory_is_the_allocation_itself() -> None:
    backing = np.arange(16, dtype=np.uint8)
    fake = api(cudaMallocHost=(cudaError_t.cudaSuccess, backing.ctypes.data))
    cuda = CudaRuntime(fake)
    array = cuda.allocate_pinned(16)

    np.testing.assert_array_equal(array, backing)
    array[3] = 99
    assert backing[3] == 99
    cuda.free_pinned(array)
    assert fake.calls[-1] == ("cudaFreeHost", backing.ctypes.data)


def test_a_captured_graph_is_made_executable_and_the_template_freed() -> None:
    ok = cudaError_t.cudaSuccess
    fake = api(cudaStreamEndCapture=(ok, 11), cudaGraphInstantiateWithFlags=(ok, 12))

    assert CudaRuntime(fake).end_capture(7) == 12
    assert ("cudaGraphDestroy", 11) in fake.calls

    fake = api(
        cudaStreamEndCapture=(ok, 11), cudaGraphInstantiateWithFlags=(cudaError_t.cudaErrorMemoryAllocation, None)
    )
    with pytest.raises(CudaError, match="make a CUDA graph executable"):
        CudaRuntime(fake).end_capture(7)
    assert ("cudaGraphDestroy", 11) in fake.calls


@pytest.mark.parametrize(
    ("answer", "freed"),
    [((0, 11), True), ((0, None), False), ((cudaError_t.cudaErrorStreamCaptureInvalidated, None), False)],
)
def test_an_abandoned_capture_is_ended_and_its_error_forgotten(answer: tuple[Any, ...], freed: bool) -> None:
    fake = api(cudaStreamEndCapture=answer)
    CudaRuntime(fake).abandon_capture(7)

    assert fake.names[0] == "cudaStreamEndCapture"
    assert fake.names[-1] == "cudaGetLastError"
    assert ("cudaGraphDestroy" in fake.names) is freed


def test_the_runtime_fills_the_seam() -> None:
    """Each method of the Protocol, with its parameters."""
    for name, wanted in inspect.getmembers(Cuda, inspect.isfunction):
        if not name.startswith("_"):
            assert inspect.signature(getattr(CudaRuntime, name)) == inspect.signature(wanted), name


def test_cuda_python_that_is_missing_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cuda", "cuda.bindings", "cuda.bindings.runtime", "cuda.cudart"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackendError, match="cuda-bindings, which is not installed; run: pip install cuda-bindings"):
        load_cuda()


def test_cuda_python_that_does_not_load_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def broken(name: str, *rest: Any) -> Any:
        if name.split(".")[0] == "cuda":
            raise ImportError("libnvrtc.so.12: cannot open shared object file")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(BackendError, match=r"which does not load \(libnvrtc.so.12: cannot open"):
        load_cuda()


def test_older_cuda_python_is_found_under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("cuda")
    package.cudart = api()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cuda", package)
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)

    assert load_cuda().device().name == "NVIDIA H200"


def used_names() -> tuple[set[str], set[tuple[str, str]]]:
    """Functions and constants of CUDA that the module calls for, and members of its enums."""
    names, members = set(), set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "_call":
            names.add(ast.literal_eval(node.args[0]))
        if isinstance(node, ast.Attribute):
            owner = node.value
            if isinstance(owner, ast.Attribute) and owner.attr.startswith("cuda"):
                members.add((owner.attr, node.attr))
            elif node.attr.startswith("cuda") and node.attr != "cudart":
                names.add(node.attr)
    return names, members


def test_every_name_exists_in_cuda_python() -> None:
    """Imports without a driver; the codes that have words of their own are real ones too."""
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-bindings: pip install cuda-bindings")
    names, members = used_names()

    assert {"cudaMalloc", "cudaGraphLaunch", "cudaGetLastError", "cudaEventDefault"} <= names
    assert ("cudaMemcpyKind", "cudaMemcpyHostToDevice") in members
    assert [name for name in sorted(names) if not hasattr(runtime, name)] == []
    assert [pair for pair in sorted(members) if not hasattr(getattr(runtime, pair[0]), pair[1])] == []
    codes = {*cuda_errors.ADVICE, "cudaErrorInsufficientDriver"}
    assert [code for code in sorted(codes) if not hasattr(runtime.cudaError_t, code)] == []
    assert [
        field for field in ("name", "major", "minor", "totalGlobalMem") if not hasattr(runtime.cudaDeviceProp(), field)
    ] == []


def test_real_cuda_python_without_a_driver_says_so() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-bindings: pip install cuda-bindings")
    if runtime.cudaDriverGetVersion() != (runtime.cudaError_t.cudaSuccess, 0):
        pytest.skip("there is a driver here")
    with pytest.raises(BackendError, match="none is installed here"):
        load_cuda().device()
    with pytest.raises(CudaError, match=r"cudaErrorInsufficientDriver \(CUDA driver version is insufficient"):
        load_cuda().allocate(16)
