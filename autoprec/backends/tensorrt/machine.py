"""Which NVIDIA GPUs and driver this machine has, and which precisions a runtime has on a compute capability."""

from __future__ import annotations

import csv
import re
import subprocess
from dataclasses import dataclass

from autoprec.backends.tensorrt.records import Flavour
from autoprec.errors import UsageError
from autoprec.precision import Precision

Capability = tuple[int, int]

_QUERY = "name,compute_cap,driver_version,memory.total"
_LEAST_DRIVER = {11: 450, 12: 525, 13: 580}
"""Major version of CUDA -> of the driver for Linux (CUDA Toolkit release notes, minor-version compatibility)."""

_PRODUCTS: dict[Flavour, str] = {"rtx": "TensorRT-RTX", "strong": "TensorRT", "weak": "TensorRT 8.6"}
_RTX: tuple[Capability, ...] = ((7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1))
_LEAST: dict[Precision, Capability] = {
    Precision.FP16: (5, 3),
    Precision.INT8: (6, 1),
    Precision.BF16: (8, 0),
    Precision.FP8: (8, 9),
    **{p: (8, 0) for p in Precision if p.weights_only},
    Precision.MXFP8: (10, 0),
    Precision.NVFP4: (10, 0),
}
_RTX_LEAST: Capability = (8, 9)
"""TensorRT-RTX 1.7 builds MXFP8 from here on, though it computes it in a float type."""


@dataclass(frozen=True, slots=True)
class InstalledGpu:
    """One GPU of this machine.

    Attributes:
        name: NVIDIA's, such as "NVIDIA L4".
        capability: compute capability, such as "8.9"; "" where the driver is too old to say.
        driver: version of the driver.
        memory_mib: None where the GPU shares the memory of the CPU.
    """

    name: str
    capability: str
    driver: str
    memory_mib: int | None


@dataclass(frozen=True, slots=True)
class InstalledGpus:
    """What nvidia-smi says.

    Attributes:
        gpus: found, in nvidia-smi's order.
        trouble: one sentence on why none could be listed; "" where there simply is no NVIDIA GPU.
    """

    gpus: tuple[InstalledGpu, ...]
    trouble: str = ""


def find_gpus(timeout_s: float = 10.0) -> InstalledGpus:
    """Ask nvidia-smi; a machine without it has no NVIDIA driver, which is no trouble."""
    command = ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False)
    except FileNotFoundError:
        return InstalledGpus(())
    except subprocess.TimeoutExpired:
        return InstalledGpus(
            (), f"nvidia-smi did not answer within {timeout_s:g} s; the driver or a GPU hangs: restart"
        )
    except OSError as error:
        return InstalledGpus((), f"nvidia-smi cannot be started: {error.strerror or error}")
    return read_smi(done.stdout, done.stderr, done.returncode)


def read_smi(output: str, errors: str = "", code: int = 0) -> InstalledGpus:
    """Read what nvidia-smi printed.

    Args:
        output: lines of name, compute capability, driver and memory, separated by commas.
        errors: the text that it wrote to standard error.
        code: its exit status.
    """
    said = " ".join((output if code else "").split() + errors.split()).rstrip(".")
    if "No devices were found" in output + errors:
        return InstalledGpus(())
    if "compute_cap" in said and "not a valid field" in said:
        return InstalledGpus((), "the NVIDIA driver is too old to name the compute capability; install 525 or newer")
    if code:
        return InstalledGpus(
            (),
            f"nvidia-smi fails (exit status {code}): {said[:300] or 'it says nothing'}; "
            "install or repair the NVIDIA driver",
        )
    gpus = []
    for row in csv.reader(output.splitlines(), skipinitialspace=True):
        if not row:
            continue
        if len(row) != 4:
            return InstalledGpus((), f"nvidia-smi printed a line that cannot be read: {', '.join(row)[:200]!r}")
        name, capability, driver, memory = (field.strip() for field in row)
        size = re.match(r"(\d+) MiB", memory)
        known = capability if re.fullmatch(r"\d+\.\d+", capability) else ""
        gpus.append(InstalledGpu(name, known, driver, int(size[1]) if size else None))
    return InstalledGpus(tuple(gpus))


def driver_trouble(driver: str, cuda_major: int) -> str | None:
    """Why a driver such as "535.104.05" is too old for libraries of one major version of CUDA, or None."""
    major, least = _leading(driver), _LEAST_DRIVER.get(cuda_major)
    if major is None or least is None or major >= least:
        return None
    fits = cuda_that_fits(driver)
    instead = f", or install packages made for CUDA {fits}" if fits else ""
    return f"the NVIDIA driver must be {least} or newer for CUDA {cuda_major}, and is {driver}: update it{instead}"


def cuda_that_fits(driver: str) -> int | None:
    """The newest major version of CUDA that a driver runs, None where that is not known."""
    major = _leading(driver)
    return max((cuda for cuda, least in _LEAST_DRIVER.items() if major is not None and major >= least), default=None)


def parse_capability(text: str) -> Capability:
    """A compute capability written "8.9" or "sm89".

    Raises:
        UsageError: it is neither.
    """
    found = re.fullmatch(r"(\d{1,2})\.(\d)", text.strip()) or re.fullmatch(r"sm_?(\d{1,2})(\d)a?", text.strip().lower())
    if found is None:
        raise UsageError(f'a compute capability must be written like "8.9" or "sm89", got {text!r}')
    return int(found[1]), int(found[2])


def precisions_of(capability: str, flavour: Flavour) -> dict[Precision, str | None]:
    """For each precision None where a runtime computes in it on a compute capability, else why not.

    Sources: the support matrices of TensorRT 8.6, 10 and 11; for TensorRT-RTX what the builder of 1.7 does.

    Args:
        capability: such as "8.9" or "sm89".
        flavour: the flavour of the runtime.

    Raises:
        UsageError: `capability` is none.
    """
    wanted = parse_capability(capability)
    refused = _refusal(wanted, flavour)
    return {p: refused or _why_not(p, wanted, flavour) for p in Precision}


def _refusal(wanted: Capability, flavour: Flavour) -> str | None:
    """Why a runtime cannot use such a GPU at all, or None."""
    if flavour == "rtx" and wanted not in _RTX:
        return (
            f"TensorRT-RTX refuses compute capability {_dotted(wanted)} (it takes {', '.join(map(_dotted, _RTX))}): "
            "use TensorRT there, or build for a target among these"
        )
    if flavour == "strong" and wanted < (7, 5):
        return f"TensorRT 10 and newer need compute capability 7.5 or more, this is {_dotted(wanted)}: use TensorRT 8.6"
    if flavour == "weak" and wanted < (6, 0):
        return f"TensorRT 8.6 needs compute capability 6.0 or more, this is {_dotted(wanted)}"
    if flavour == "weak" and wanted > (9, 0):
        return f"TensorRT 8.6 has no kernels for compute capability {_dotted(wanted)}: use TensorRT 10 or newer"
    return None


def _why_not(precision: Precision, wanted: Capability, flavour: Flavour) -> str | None:
    least = _RTX_LEAST if flavour == "rtx" and precision is Precision.MXFP8 else _LEAST.get(precision, (0, 0))
    name = "INT4" if precision.block else precision.value.upper()
    if precision is Precision.FP64:
        return "TensorRT has no FP64"
    if precision is Precision.INT8_DYNAMIC:
        return "TensorRT quantises activations by ranges that are known when an engine is built"
    if precision.has_zero_points:
        return "TensorRT has no zero points"
    if flavour == "weak" and (
        precision.weights_only or precision.scaled_block or precision in (Precision.BF16, Precision.FP8)
    ):
        return f"TensorRT 8.6 has no {name}: use TensorRT 10 or newer"
    if wanted < least:
        return f"{name} needs compute capability {_dotted(least)} or more, this is {_dotted(wanted)}"
    if precision is Precision.FP16 and wanted == (6, 1):
        return "compute capability 6.1 has no fast FP16"
    if precision is Precision.INT8 and wanted == (6, 2):
        return "compute capability 6.2 has no INT8"
    if precision is Precision.INT8 and flavour == "rtx" and wanted == (7, 5):
        return "TensorRT-RTX runs INT8 convolutions as FP16 on compute capability 7.5: use TensorRT there"
    return None


def _leading(version: str) -> int | None:
    found = re.match(r"\d+", version)
    return int(found[0]) if found else None


def _dotted(capability: Capability) -> str:
    return f"{capability[0]}.{capability[1]}"
