"""autoprec doctor: what is installed, what it can do, what is missing."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version

import click

_NEEDED = ("numpy", "onnx", "onnx-ir", "onnxruntime", "optuna", "scipy")
_OPTIONAL = {
    "pillow": ("folders of images as data", "pip install 'autoprec[images]'"),
    "tensorrt-rtx": ("building TensorRT-RTX engines", "pip install 'autoprec[rtx]'"),
    "tensorrt": ("building TensorRT engines", "pip install 'autoprec[tensorrt]'"),
}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """Say which runtimes are installed and which precisions they run here."""
    from autoprec.api import make_backend

    backend = make_backend("ort-cpu")
    record = {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in ("autoprec", *_NEEDED)},
        "optional": {name: _version(name) for name in _OPTIONAL},
        "backends": {
            backend.name: {
                "machine": backend.describe(),
                "precisions": {p.value: why for p, why in sorted(backend.support().items())},
            }
        },
    }
    if as_json:
        click.echo(json.dumps(record))
        return
    click.echo(f"python {record['python']}")
    for name in ("autoprec", *_NEEDED):
        click.echo(f"{name} {_version(name) or 'MISSING: pip install autoprec'}")
    for name, (use, mend) in _OPTIONAL.items():
        found = _version(name)
        click.echo(f"{name} {found}" if found else f"{name} not installed, needed for {use}: {mend}")
    click.echo(f"\nbackend {backend.name}")
    for key, value in backend.describe().items():
        click.echo(f"  {key}: {value}")
    for precision, why in sorted(backend.support().items()):
        click.echo(f"  {precision}: {'runs natively' if why is None else why}")
    if "vnni" not in backend.describe()["cpu"] and "amx" not in backend.describe()["cpu"]:
        click.echo("  this CPU has no 8-bit dot product, so INT8 is rarely faster and x86 kernels may saturate")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
