"""nvidia-smi's words, and which precisions go with a compute capability."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import cast

import pytest

from autoprec.backends.tensorrt.machine import (
    InstalledGpu,
    InstalledGpus,
    cuda_that_fits,
    driver_trouble,
    find_gpus,
    parse_capability,
    precisions_of,
    read_smi,
)
from autoprec.backends.tensorrt.records import Flavour
from autoprec.errors import UsageError
from autoprec.precision import Precision


def test_gpus_are_read() -> None:
    said = "NVIDIA H200, 9.0, 570.86.15, 143771 MiB\nNVIDIA L4, 8.9, 570.86.15, 23034 MiB\n"

    assert read_smi(said) == InstalledGpus(
        (
            InstalledGpu("NVIDIA H200", "9.0", "570.86.15", 143771),
            InstalledGpu("NVIDIA L4", "8.9", "570.86.15", 23034),
        )
    )


def test_a_jetson_shares_its_memory() -> None:
    assert read_smi("Orin (nvgpu), [N/A], 540.3.0, [N/A]\n").gpus == (
        InstalledGpu("Orin (nvgpu)", "", "540.3.0", None),
    )


def test_a_driver_without_a_gpu_is_no_trouble() -> None:
    assert read_smi("No devices were found\n", code=6) == InstalledGpus(())


NO_DRIVER = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
MISMATCH = "Failed to initialize NVML: Driver/library version mismatch"
MEND = "install or repair the NVIDIA driver"


@pytest.mark.parametrize(
    ("output", "errors", "code", "words"),
    [
        (f"{NO_DRIVER}\n\n", "", 9, f"nvidia-smi fails (exit status 9): {NO_DRIVER[:-1]}; {MEND}"),
        ("", f"{MISMATCH}\n", 18, f"nvidia-smi fails (exit status 18): {MISMATCH}; {MEND}"),
        ("", "", 4, f"nvidia-smi fails (exit status 4): it says nothing; {MEND}"),
        ('Field "compute_cap" is not a valid field to query.\n\n', "", 2, "the NVIDIA driver is too old to name the "),
        ("what, is this\n", "", 0, "nvidia-smi printed a line that cannot be read: 'what, is this'"),
    ],
)
def test_troubles_come_in_words(output: str, errors: str, code: int, words: str) -> None:
    found = read_smi(output, errors, code)

    assert found.gpus == ()
    assert found.trouble.startswith(words)


def _smi(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    script = folder / "nvidia-smi"
    script.write_text(f"#!{sys.executable}\n{body}\n", encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_nvidia_smi_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _smi(
        tmp_path,
        monkeypatch,
        "import sys\nassert 'compute_cap' in sys.argv[1]\nprint('Tesla T4, 7.5, 550.1, 15360 MiB')",
    )

    assert find_gpus().gpus == (InstalledGpu("Tesla T4", "7.5", "550.1", 15360),)


def test_a_machine_without_nvidia_smi_has_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_gpus() == InstalledGpus(())


def test_a_hanging_driver_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _smi(tmp_path, monkeypatch, "import time\ntime.sleep(60)")

    assert "did not answer within 0.3 s" in find_gpus(timeout_s=0.3).trouble


@pytest.mark.parametrize(("text", "pair"), [("8.9", (8, 9)), ("sm89", (8, 9)), ("SM120", (12, 0)), ("sm_90a", (9, 0))])
def test_a_capability_has_two_spellings(text: str, pair: tuple[int, int]) -> None:
    assert parse_capability(text) == pair


@pytest.mark.parametrize("text", ["", "8", "ada", "sm8", "8.9.1"])
def test_other_spellings_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r'must be written like "8\.9" or "sm89"'):
        parse_capability(text)


@pytest.mark.parametrize(
    ("capability", "flavour", "native"),
    [
        ("6.0", "weak", "fp32 fp16"),
        ("6.1", "weak", "fp32 int8"),
        ("6.2", "weak", "fp32 fp16"),
        ("7.0", "weak", "fp32 fp16 int8"),
        ("7.5", "weak", "fp32 fp16 int8"),
        ("8.7", "weak", "fp32 fp16 int8"),
        ("9.0", "weak", "fp32 fp16 int8"),
        ("12.0", "weak", ""),
        ("7.0", "strong", ""),
        ("7.5", "strong", "fp32 fp16 int8"),
        ("8.0", "strong", "fp32 fp16 bf16 int8"),
        ("8.9", "strong", "fp32 fp16 bf16 fp8 int8"),
        ("9.0", "strong", "fp32 fp16 bf16 fp8 int8"),
        ("12.0", "strong", "fp32 fp16 bf16 fp8 int8 mxfp8 nvfp4"),
        ("7.5", "rtx", "fp32 fp16"),
        ("8.6", "rtx", "fp32 fp16 bf16 int8"),
        ("8.7", "rtx", ""),
        ("8.9", "rtx", "fp32 fp16 bf16 fp8 int8 mxfp8"),
        ("9.0", "rtx", ""),
        ("sm120", "rtx", "fp32 fp16 bf16 fp8 int8 mxfp8 nvfp4"),
    ],
)
def test_precisions_go_with_the_capability(capability: str, flavour: str, native: str) -> None:
    found = precisions_of(capability, cast("Flavour", flavour))

    assert set(found) == set(Precision)
    blocks = {p for p in Precision if found[p] is None and p.weights_only}
    assert {p.value for p, why in found.items() if why is None and p not in blocks} == set(native.split())
    assert blocks == ({p for p in Precision if p.weights_only and not p.has_zero_points} if "bf16" in native else set())


@pytest.mark.parametrize(
    ("capability", "flavour", "precision", "words"),
    [
        ("8.0", "strong", "fp8", "FP8 needs compute capability 8.9 or more, this is 8.0"),
        ("7.5", "strong", "bf16", "BF16 needs compute capability 8.0 or more, this is 7.5"),
        ("9.0", "weak", "fp8", "TensorRT 8.6 has no FP8: use TensorRT 10 or newer"),
        ("7.5", "rtx", "int8", "TensorRT-RTX runs INT8 convolutions as FP16 on compute capability 7.5"),
        ("9.0", "rtx", "fp32", "TensorRT-RTX refuses compute capability 9.0 (it takes 7.5, 8.0, 8.6, 8.9, 12.0, 12.1)"),
        ("10.0", "weak", "fp16", "TensorRT 8.6 has no kernels for compute capability 10.0"),
        ("5.3", "weak", "fp16", "TensorRT 8.6 needs compute capability 6.0 or more, this is 5.3"),
    ],
)
def test_what_is_not_native_has_a_reason(capability: str, flavour: str, precision: str, words: str) -> None:
    why = precisions_of(capability, cast("Flavour", flavour))[Precision(precision)]

    assert why is not None
    assert words in why


def test_an_old_driver_is_named_with_a_way_out() -> None:
    assert driver_trouble("535.104.05", 13) == (
        "the NVIDIA driver must be 580 or newer for CUDA 13, and is 535.104.05: update it, or install packages made "
        "for CUDA 12"
    )
    assert driver_trouble("580.65", 13) is None
    assert driver_trouble("[N/A]", 13) is None


@pytest.mark.parametrize(
    ("driver", "cuda"), [("610.1", 13), ("579.9", 12), ("470.82", 11), ("390.1", None), ("", None)]
)
def test_the_newest_cuda_that_a_driver_runs(driver: str, cuda: int | None) -> None:
    assert cuda_that_fits(driver) == cuda
