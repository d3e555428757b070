"""The GPUs whose latency can be modelled: figures that NVIDIA published, read from gpus.toml."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from autoprec.errors import UsageError
from autoprec.files.toml import Table, parse_table

ARITHMETICS = ("fp32", "tf32", "fp16", "bf16", "fp8", "int8", "nvfp4")
"""Kinds of arithmetic: FP32 is that of CUDA cores, the others that of tensor cores."""

_GPU_KEYS = ("key", "name", "capability", "default", "sm_count", "l2_mib", "bandwidth_gb_s", "peak")
_BRANDS = re.compile(r"nvidia|geforce|tesla|jetson|agx|[^a-z0-9]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU.

    Attributes:
        key: short name, such as "l4".
        name: NVIDIA's name for it.
        capability: compute capability, such as "sm89".
        is_default: whether it stands for all GPUs of this capability where none is named.
        sm_count: streaming multiprocessors.
        l2_bytes: size of the L2 cache.
        bandwidth_gb_s: the bandwidth of the memory, in 10^9 bytes per second.
        peak_tflops: arithmetic -> dense peak in 10^12 operations per second, an addition and a multiplication
            being two; what the GPU lacks is absent.
        sources: figure ("sm_count", "peak.int8") -> title and address of where it was published.
    """

    key: str
    name: str
    capability: str
    is_default: bool
    sm_count: int
    l2_bytes: int
    bandwidth_gb_s: float
    peak_tflops: Mapping[str, float]
    sources: Mapping[str, str]


def gpu_named(name: str) -> Gpu:
    """The GPU called `name`, by key or by NVIDIA's name, in any case: "l4", "NVIDIA L4", "RTX 4090".

    Raises:
        UsageError: no such GPU in the table.
    """
    wanted = _plain(name)
    names = {_plain(alias): gpu for gpu in all_gpus() for alias in (gpu.name, gpu.key)}
    if wanted in names:
        return names[wanted]
    keys = [gpu.key for gpu in all_gpus()]
    close = difflib.get_close_matches(wanted, keys, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise UsageError(f"there are no figures of a GPU called {name!r}; {hint}There are {', '.join(keys)}")


def gpus_of_capability(capability: str) -> tuple[Gpu, ...]:
    """All GPUs of one compute capability, written "sm89", the default first; none if the table has none."""
    found = [gpu for gpu in all_gpus() if gpu.capability == capability.lower()]
    return tuple(sorted(found, key=lambda gpu: not gpu.is_default))


def default_gpu(capability: str) -> Gpu:
    """The GPU that stands for a build target such as "sm89" where the user named none.

    Raises:
        UsageError: the table has no GPU of this capability.
    """
    found = gpus_of_capability(capability)
    if not found:
        known = sorted({gpu.capability for gpu in all_gpus()}, key=lambda target: int(target[2:]))
        raise UsageError(
            f"the latency of an engine for {capability} cannot be modelled: there are figures of GPUs for "
            f"{', '.join(known)} only; choose one of these targets"
        )
    return found[0]


@cache
def all_gpus() -> tuple[Gpu, ...]:
    """Every GPU of the table that comes with the package."""
    file = resources.files("autoprec.backends.tensorrt") / "gpus.toml"
    return parse_gpus(file.read_text(encoding="utf-8"), "gpus.toml")


def parse_gpus(text: str, origin: str) -> tuple[Gpu, ...]:
    """The GPUs of a TOML table such as gpus.toml.

    Raises:
        RecipeError: an unknown key, a figure that is no positive number or names no source, a key or a default
            that occurs twice.
    """
    document = parse_table(text, origin)
    document.allow(("source", "gpu"))
    sources: dict[str, str] = {}
    for table in document.tables("source"):
        table.allow(("key", "title", "url"))
        sources[table.text("key")] = f"{table.text('title')}, {table.text('url')}"
    gpus: list[Gpu] = []
    defaults: set[str] = set()
    for table in document.tables("gpu"):
        gpu = _gpu(table, sources)
        if gpu.key in {other.key for other in gpus}:
            raise table.refuse("key", "unlike that of every other GPU")
        if gpu.is_default and gpu.capability in defaults:
            raise table.refuse("default", f"false: there is a default for {gpu.capability} already")
        if gpu.is_default:
            defaults.add(gpu.capability)
        gpus.append(gpu)
    return tuple(gpus)


def _gpu(table: Table, sources: Mapping[str, str]) -> Gpu:
    table.allow(_GPU_KEYS)
    if not re.fullmatch(r"sm\d{2,3}", table.text("capability")):
        raise table.refuse("capability", 'written like "sm89"')
    if not isinstance(table.value("default"), (bool, type(None))):
        raise table.refuse("default", "true or false")
    peaks = table.table("peak")
    peaks.allow(ARITHMETICS)
    figures = {key: _figure(table, key, sources) for key in ("sm_count", "l2_mib", "bandwidth_gb_s")}
    peak = {key: _figure(peaks, key, sources) for key in ARITHMETICS if key in peaks or key == "fp32"}
    return Gpu(
        key=table.text("key"),
        name=table.text("name"),
        capability=table.text("capability"),
        is_default=bool(table.value("default")),
        sm_count=int(figures["sm_count"][0]),
        l2_bytes=int(figures["l2_mib"][0] * 2**20),
        bandwidth_gb_s=figures["bandwidth_gb_s"][0],
        peak_tflops={key: value for key, (value, _) in peak.items()},
        sources={
            **{key: source for key, (_, source) in figures.items()},
            **{f"peak.{key}": source for key, (_, source) in peak.items()},
        },
    )


def _figure(table: Table, key: str, sources: Mapping[str, str]) -> tuple[float, str]:
    """A positive number and the words of its source."""
    figure = table.table(key)
    figure.allow(("value", "source", "note"))
    if "value" not in figure:
        raise figure.refuse("value", "a number above 0")
    value = figure.number("value", 0.0, 0.0)
    source = figure.choice("source", tuple(sources))
    note = figure.text("note", "")
    return value, sources[source] + (f" ({note})" if note else "")


def _plain(name: str) -> str:
    return _BRANDS.sub("", name.lower())
