"""autoprec doctor: what is installed, what it can do, what is missing."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

from autoprec.cli.screen import print_json
from autoprec.errors import EXIT_OK, EXIT_USAGE, BackendError

if TYPE_CHECKING:
    from autoprec.backends.tensorrt.machine import InstalledGpus
    from autoprec.precision import Precision

_NEEDED = ("autoprec", "numpy", "ml_dtypes", "onnx", "onnx-ir", "onnxruntime", "optuna", "rich", "scipy")
_OPTIONAL = {
    "matplotlib": ("plots in the reports of runs", "pip install 'autoprec[report]'"),
    "pillow": ("folders of images as data", "pip install 'autoprec[images]'"),
    "tensorrt-rtx": ("building TensorRT-RTX engines", "pip install 'autoprec[rtx]'"),
    "tensorrt": ("building TensorRT engines", "pip install 'autoprec[tensorrt]'"),
    "cuda-bindings": ("running and timing engines on a GPU", "pip install cuda-bindings"),
}
_RUNTIMES = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}
"""NVIDIA's modules -> their distributions."""
_CUDA_MAJORS = (11, 12, 13)


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """Say which runtimes are installed and which precisions they run here.

    Without an NVIDIA GPU, or without TensorRT, all is well: only what is installed and cannot work is a problem.
    """
    from autoprec.backends.tensorrt.machine import find_gpus

    backends, problems = _backends()
    packages = {name: _version(name) for name in _NEEDED}
    problems += [f"{name} is missing: pip install {name}" for name, found in packages.items() if found is None]
    found = find_gpus()
    runtimes, troubles = _runtimes(found)
    problems += troubles
    record = {
        "python": platform.python_version(),
        "packages": packages,
        "optional": {name: _version(name) for name in _OPTIONAL},
        "gpus": [asdict(gpu) for gpu in found.gpus],
        "gpu_trouble": found.trouble or None,
        "runtimes": runtimes,
        "backends": backends,
        "problems": problems,
    }
    if as_json:
        print_json(record)
    else:
        _print(record)
    click.get_current_context().exit(EXIT_USAGE if problems else EXIT_OK)


def _backends() -> tuple[dict[str, Any], list[str]]:
    """Backend -> machine and precisions, and what keeps a backend from loading."""
    from autoprec.backends.make import BACKENDS, ENGINE_BUILDERS, make_backend

    found, problems = {}, []
    for name in (name for name in BACKENDS if name not in ENGINE_BUILDERS):  # `runtimes` speaks of those
        try:
            backend = make_backend(name)
            precisions = _offered(backend.support())
            saturates = backend.scheme.variant_of is not None
            found[name] = {"machine": backend.describe(), "precisions": precisions, "saturates": saturates}
        except ImportError as error:  # a runtime that is missing, or whose libraries do not load
            problems.append(f"the backend {name} cannot be loaded: {error}")
        except BackendError as error:  # TensorRT, which not everybody has
            found[name] = {"unavailable": str(error)}
    return found, problems


def _runtimes(found: InstalledGpus) -> tuple[dict[str, Any], list[str]]:
    """Each installed TensorRT, with what it can do on each GPU, and what keeps it from working."""
    from autoprec.backends.tensorrt.bindings import find_bindings
    from autoprec.backends.tensorrt.machine import precisions_of

    runtimes: dict[str, Any] = {}
    problems: list[str] = []
    installed = [module for module in _RUNTIMES if find_spec(module) is not None]
    for module in installed:
        try:
            bindings = find_bindings(module)
        except BackendError as error:
            problems.append(str(error))
            continue
        runtimes[module] = {
            "version": bindings.version_text,
            "targets": list(bindings.targets()),
            "precisions": {
                f"{gpu.name} ({gpu.capability})": _offered(precisions_of(gpu.capability, bindings.flavour))
                for gpu in found.gpus
                if gpu.capability
            },
        }
    return runtimes, problems + (_gpu_problems(found, installed) if installed else [])


def _offered(support: Mapping[Precision, str | None]) -> dict[str, str | None]:
    """Why each precision that can be chosen cannot run, None where it can."""
    from autoprec.precision import CHOSEN

    return {p.value: why for p, why in sorted(support.items()) if p in CHOSEN}


def _gpu_problems(found: InstalledGpus, installed: Sequence[str]) -> list[str]:
    """What keeps engines from running on the GPUs of this machine; nothing where there is none."""
    from autoprec.backends.tensorrt.machine import cuda_that_fits, driver_trouble

    problems = [found.trouble] if found.trouble else []
    if not found.gpus:
        return problems
    driver = found.gpus[0].driver
    cuda = _version("cuda-bindings") or _version("cuda-python")
    if cuda is None:
        fits = cuda_that_fits(driver)
        wanted = f"'cuda-bindings=={fits}.*'" if fits else "cuda-bindings"
        problems.append(f"cuda-bindings is missing, so engines cannot be run or timed: pip install {wanted}")
    made_for = [("cuda-bindings", int(cuda.split(".")[0]))] if cuda else []
    for distribution in (_RUNTIMES[module] for module in installed):
        made_for += [(distribution, major) for major in _CUDA_MAJORS if _version(f"{distribution}-cu{major}")]
    for name, major in made_for:
        if (trouble := driver_trouble(driver, major)) is not None:
            problems.append(f"{name} cannot run: {trouble}")
    return problems


def _print(record: dict[str, Any]) -> None:
    click.echo(f"python {record['python']}")
    for name, found in record["packages"].items():
        click.echo(f"{name} {found or 'MISSING'}")
    for name, (use, mend) in _OPTIONAL.items():
        found = record["optional"][name]
        click.echo(f"{name} {found}" if found else f"{name} not installed, needed for {use}: {mend}")
    _print_gpus(record)
    for name, backend in record["backends"].items():
        _print_backend(name, backend)
    for problem in record["problems"]:
        click.echo(f"\nproblem: {problem}")
    click.echo("" if record["problems"] else "\nno problem found")


def _print_gpus(record: dict[str, Any]) -> None:
    click.echo("")
    for gpu in record["gpus"]:
        capability = f"compute capability {gpu['capability']}" if gpu["capability"] else "unknown compute capability"
        memory = f", {gpu['memory_mib']} MiB" if gpu["memory_mib"] else ""
        click.echo(f"GPU {gpu['name']}: {capability}, driver {gpu['driver']}{memory}")
    if not record["gpus"]:
        trouble = record["gpu_trouble"]
        click.echo("no NVIDIA GPU found" + (f": {trouble}" if trouble else ""))
    for module, runtime in record["runtimes"].items():
        click.echo(f"\nruntime {_RUNTIMES[module]} {runtime['version']}")
        for gpu, precisions in runtime["precisions"].items():
            native = [precision for precision, why in precisions.items() if why is None]
            click.echo(f"  on {gpu}: {', '.join(native) or 'nothing'}")
            for why in dict.fromkeys(why for why in precisions.values() if why is not None):
                click.echo(f"    {why}")
        if runtime["targets"]:
            click.echo(f"  builds without a GPU for {', '.join(runtime['targets'])}")


def _print_backend(name: str, backend: dict[str, Any]) -> None:
    click.echo(f"\nbackend {name}")
    if "unavailable" in backend:
        click.echo(f"  {backend['unavailable']}")
        return
    for key, value in backend["machine"].items():
        click.echo(f"  {key}: {value}")
    for precision, why in backend["precisions"].items():
        click.echo(f"  {precision}: {'runs natively' if why is None else why}")
    if backend["saturates"]:
        click.echo("  sums of 8-bit products saturate on this CPU, so weights are written in 7 bits")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
