"""autoprec doctor on machines with and without GPUs and TensorRT."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import Result

from autoprec.backends.tensorrt import bindings, machine
from autoprec.backends.tensorrt.bindings import Bindings
from autoprec.backends.tensorrt.machine import InstalledGpu, InstalledGpus
from autoprec.backends.tensorrt.records import Flavour
from autoprec.cli import doctor
from autoprec.errors import BackendError

Invoke = Callable[..., Result]
Pretend = Callable[..., None]

L4 = InstalledGpu("NVIDIA L4", "8.9", "550.54.15", 23034)
H200 = InstalledGpu("NVIDIA H200", "9.0", "580.65.06", 143771)
RTX = SimpleNamespace(ComputeCapability=SimpleNamespace(__members__={"NONE": 0, "SM89": 89, "SM80": 80}))


@pytest.fixture(name="pretend")
def _pretend(monkeypatch: pytest.MonkeyPatch) -> Pretend:
    """Make this machine another one: its GPUs, runtimes (module -> version and flavour) and distributions."""
    real = doctor._version

    def pretend(
        *gpus: InstalledGpu,
        trouble: str = "",
        runtimes: dict[str, tuple[str, Flavour]] | None = None,
        packages: dict[str, str] | None = None,
        broken: str = "",
    ) -> None:
        installed, distributions = runtimes or {}, packages or {}

        def find(name: str) -> Bindings:
            if broken:
                raise BackendError(broken)
            version, flavour = installed[name]
            module: Any = RTX if flavour == "rtx" else SimpleNamespace()
            return Bindings(module, name, tuple(map(int, version.split("."))), flavour)

        def version(name: str) -> str | None:
            nvidia = name.startswith(("tensorrt", "cuda"))
            return distributions.get(name) if nvidia else real(name)

        monkeypatch.setattr(machine, "find_gpus", lambda: InstalledGpus(gpus, trouble))
        monkeypatch.setattr(bindings, "find_bindings", find)
        monkeypatch.setattr(doctor, "find_spec", lambda name: object() if name in installed else None)
        monkeypatch.setattr(doctor, "_version", version)

    return pretend


def test_neither_a_gpu_nor_tensorrt_is_a_problem(invoke: Invoke, pretend: Pretend) -> None:
    pretend()
    result = invoke("doctor")

    assert result.exit_code == 0
    assert "no NVIDIA GPU found\n" in result.stdout
    assert "tensorrt-rtx not installed, needed for building TensorRT-RTX engines: pip install" in result.stdout


def test_a_gpu_with_all_that_it_needs(invoke: Invoke, pretend: Pretend) -> None:
    pretend(
        L4,
        runtimes={"tensorrt": ("10.13.0.35", "strong"), "tensorrt_rtx": ("1.7.1.116", "rtx")},
        packages={"cuda-bindings": "12.9.1", "tensorrt-cu12": "10.13.0.35"},
    )
    result = invoke("doctor")

    assert result.exit_code == 0
    assert "GPU NVIDIA L4: compute capability 8.9, driver 550.54.15, 23034 MiB\n" in result.stdout
    native = "bf16, fp16, fp32, fp8, int4-128, int4-32, int4-64, int8, int8-weights"
    assert f"runtime tensorrt 10.13.0.35\n  on NVIDIA L4 (8.9): {native}\n" in result.stdout
    assert "  builds without a GPU for sm80, sm89\n" in result.stdout


def test_what_a_runtime_cannot_do_there_has_its_reason(invoke: Invoke, pretend: Pretend) -> None:
    """One sentence, not five, where the runtime refuses the GPU altogether."""
    pretend(
        H200,
        runtimes={"tensorrt": ("8.6.0", "weak"), "tensorrt_rtx": ("1.7.1.116", "rtx")},
        packages={"cuda-bindings": "12.9.1"},
    )
    said = invoke("doctor").stdout

    assert "on NVIDIA H200 (9.0): fp16, fp32, int8\n    TensorRT 8.6 has no BF16: use TensorRT 10" in said
    assert "on NVIDIA H200 (9.0): nothing\n    TensorRT-RTX refuses compute capability 9.0" in said
    assert said.count("TensorRT-RTX refuses") == 1


def test_json_holds_the_same(invoke: Invoke, pretend: Pretend) -> None:
    pretend(H200, runtimes={"tensorrt": ("8.6.0", "weak")}, packages={"cuda-bindings": "12.9.1"})
    record = json.loads(invoke("doctor", "--json").stdout)

    assert record["gpus"] == [{"name": "NVIDIA H200", "capability": "9.0", "driver": "580.65.06", "memory_mib": 143771}]
    precisions = record["runtimes"]["tensorrt"]["precisions"]["NVIDIA H200 (9.0)"]
    assert {name: why for name, why in precisions.items() if "-" not in name} == {
        "bf16": "TensorRT 8.6 has no BF16: use TensorRT 10 or newer",
        "fp16": None,
        "fp32": None,
        "fp8": "TensorRT 8.6 has no FP8: use TensorRT 10 or newer",
        "int8": None,
        "mxfp8": "TensorRT 8.6 has no MXFP8: use TensorRT 10 or newer",
        "nvfp4": "TensorRT 8.6 has no NVFP4: use TensorRT 10 or newer",
    }
    assert precisions["int4-32"] == "TensorRT 8.6 has no INT4: use TensorRT 10 or newer"
    assert record["problems"] == []


def test_missing_cuda_bindings_are_those_that_the_driver_runs(invoke: Invoke, pretend: Pretend) -> None:
    pretend(L4, runtimes={"tensorrt": ("10.13.0.35", "strong")})
    result = invoke("doctor")

    assert result.exit_code == 2
    assert (
        "problem: cuda-bindings is missing, so engines cannot be run or timed: pip install 'cuda-bindings==12.*'"
        in result.stdout
    )


def test_packages_newer_than_the_driver(invoke: Invoke, pretend: Pretend) -> None:
    pretend(
        L4,
        runtimes={"tensorrt_rtx": ("1.7.1.116", "rtx")},
        packages={"cuda-bindings": "13.0.1", "tensorrt-rtx-cu13": "1.7.1.116"},
    )
    words = "the NVIDIA driver must be 580 or newer for CUDA 13, and is 550.54.15: update it, or install packages made"

    problems = json.loads(invoke("doctor", "--json").stdout)["problems"]
    assert [
        problem.startswith(f"{name} cannot run: {words}")
        for name, problem in zip(("cuda-bindings", "tensorrt-rtx"), problems, strict=True)
    ] == [True, True]


def test_a_runtime_that_does_not_load_is_a_problem(invoke: Invoke, pretend: Pretend) -> None:
    pretend(runtimes={"tensorrt": ("10.0.1", "strong")}, broken="TensorRT is installed and does not load: libnvinfer")
    result = invoke("doctor")

    assert result.exit_code == 2
    assert "problem: TensorRT is installed and does not load: libnvinfer\n" in result.stdout


def test_a_broken_driver_troubles_only_those_who_need_it(invoke: Invoke, pretend: Pretend) -> None:
    pretend(trouble="nvidia-smi fails")
    without = invoke("doctor")
    pretend(trouble="nvidia-smi fails", runtimes={"tensorrt_rtx": ("1.7.1", "rtx")})
    with_runtime = invoke("doctor")

    assert (without.exit_code, with_runtime.exit_code) == (0, 2)
    assert "no NVIDIA GPU found: nvidia-smi fails\n" in without.stdout
    assert "problem: nvidia-smi fails\n" in with_runtime.stdout


def test_a_gpu_of_unknown_capability_is_listed(invoke: Invoke, pretend: Pretend) -> None:
    pretend(
        InstalledGpu("Orin (nvgpu)", "", "540.3.0", None),
        runtimes={"tensorrt": ("8.6.2", "weak")},
        packages={"cuda-python": "12.2.0"},
    )
    result = invoke("doctor")

    assert result.exit_code == 0
    assert "GPU Orin (nvgpu): unknown compute capability, driver 540.3.0\n" in result.stdout


def test_a_backend_without_its_runtime_says_what_to_do(
    invoke: Invoke, pretend: Pretend, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autoprec.backends import make

    def missing(name: str) -> None:
        raise BackendError("TensorRT is not installed; run: pip install 'autoprec[tensorrt]'")

    pretend()
    monkeypatch.setattr(make, "make_backend", missing)
    result = invoke("doctor")

    assert result.exit_code == 0
    assert "backend ort-cpu\n  TensorRT is not installed; run: pip install" in result.stdout
