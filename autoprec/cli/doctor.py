"""autoprec doctor: what is installed, what it can do, what is missing."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from autoprec.cli.screen import print_json
from autoprec.errors import EXIT_OK, EXIT_USAGE

_NEEDED = ("autoprec", "numpy", "ml_dtypes", "onnx", "onnx-ir", "onnxruntime", "optuna", "rich", "scipy")
_OPTIONAL = {
    "pillow": ("folders of images as data", "pip install 'autoprec[images]'"),
    "tensorrt-rtx": ("building TensorRT-RTX engines", "pip install 'autoprec[rtx]'"),
    "tensorrt": ("building TensorRT engines", "pip install 'autoprec[tensorrt]'"),
}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """Say which runtimes are installed and which precisions they run here."""
    backends, problems = _backends()
    packages = {name: _version(name) for name in _NEEDED}
    problems += [f"{name} is missing: pip install {name}" for name, found in packages.items() if found is None]
    record = {
        "python": platform.python_version(),
        "packages": packages,
        "optional": {name: _version(name) for name in _OPTIONAL},
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
    from autoprec.api import BACKENDS, make_backend

    found, problems = {}, []
    for name in BACKENDS:
        try:
            backend = make_backend(name)
            precisions = {p.value: why for p, why in sorted(backend.support().items())}
            found[name] = {"machine": backend.describe(), "precisions": precisions}
        except ImportError as error:  # a runtime that is missing, or whose libraries do not load
            problems.append(f"the backend {name} cannot be loaded: {error}")
    return found, problems


def _print(record: dict[str, Any]) -> None:
    click.echo(f"python {record['python']}")
    for name, found in record["packages"].items():
        click.echo(f"{name} {found or 'MISSING'}")
    for name, (use, mend) in _OPTIONAL.items():
        found = record["optional"][name]
        click.echo(f"{name} {found}" if found else f"{name} not installed, needed for {use}: {mend}")
    for name, backend in record["backends"].items():
        click.echo(f"\nbackend {name}")
        for key, value in backend["machine"].items():
            click.echo(f"  {key}: {value}")
        for precision, why in backend["precisions"].items():
            click.echo(f"  {precision}: {'runs natively' if why is None else why}")
        cpu = backend["machine"].get("cpu", "vnni")
        if not any(word in cpu for word in ("vnni", "amx", "i8mm", "asimddp")):
            click.echo("  this CPU has no 8-bit dot product, so INT8 is rarely faster and may saturate")
    for problem in record["problems"]:
        click.echo(f"\nproblem: {problem}")
    click.echo("" if record["problems"] else "\nno problem found")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
