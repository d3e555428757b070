"""The table of GPUs: complete, dense, each figure with its source."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from autoprec.backends.tensorrt.gpus import Gpu, all_gpus, default_gpu, gpu_named, gpus_of_capability, parse_gpus
from autoprec.errors import RecipeError, UsageError

PROMISED = ("t4", "a10", "a100", "l4", "l40s", "h100", "h200", "rtx4090", "rtx5090", "orin")
KEYS = [gpu.key for gpu in all_gpus()]

TABLE = """
[[source]]
key = "sheet"
title = "A datasheet"
url = "https://example.com/sheet.pdf"

[[gpu]]
key = "x1"
name = "X1"
capability = "sm89"
default = true
sm_count = { value = 10, source = "sheet" }
l2_mib = { value = 2, source = "sheet" }
bandwidth_gb_s = { value = 100, source = "sheet" }

[gpu.peak]
fp32 = { value = 1.5, source = "sheet" }
int8 = { value = 12, source = "sheet", note = "24 with sparsity" }
"""


@pytest.fixture(name="gpu", params=KEYS)
def _gpu(request: pytest.FixtureRequest) -> Gpu:
    return gpu_named(request.param)


def test_the_promised_gpus_are_there() -> None:
    assert set(PROMISED) <= set(KEYS)


def test_the_table_is_installed_with_the_package() -> None:
    """Data files are packaged only where pyproject.toml says so; an editable install does not notice."""
    project = (Path(__file__).resolve().parents[3] / "pyproject.toml").read_text(encoding="utf-8")

    assert '"autoprec.backends.tensorrt" = ["*.toml"]' in project.partition("[tool.setuptools.package-data]")[2]


def test_every_figure_has_a_published_source(gpu: Gpu) -> None:
    figures = {"sm_count", "l2_mib", "bandwidth_gb_s", *(f"peak.{name}" for name in gpu.peak_tflops)}

    assert set(gpu.sources) == figures
    for source in gpu.sources.values():
        assert re.search(r"(datasheet|whitepaper|brief).*, https://\S+nvidia\.com/\S+", source), source


def test_no_figure_is_zero(gpu: Gpu) -> None:
    """What a GPU lacks is absent: a peak of zero would price a layer at infinity."""
    assert min(gpu.sm_count, gpu.l2_bytes, gpu.bandwidth_gb_s, *gpu.peak_tflops.values()) > 0


def test_tensor_cores_double_with_each_halving_of_the_type(gpu: Gpu) -> None:
    """True of every dense figure; a peak with sparsity beside one without breaks it.

    On GeForce, FP32 accumulation halves the rates of floats, so that INT8 is four times FP16.
    """
    peak = gpu.peak_tflops
    factor = 4 if "GeForce" in gpu.name else 2

    assert peak["int8"] == pytest.approx(factor * peak["fp16"], rel=0.02)
    if "tf32" in peak:
        assert peak["fp16"] == pytest.approx(2 * peak["tf32"], rel=0.02)
        assert peak["bf16"] == peak["fp16"]
    if "fp8" in peak:
        assert peak["fp8"] == pytest.approx(2 * peak["fp16"], rel=0.02)


def test_types_come_with_their_generation(gpu: Gpu) -> None:
    number = int(gpu.capability[2:])

    assert ("fp8" in gpu.peak_tflops) == (number >= 89)
    assert ("bf16" in gpu.peak_tflops) == ("tf32" in gpu.peak_tflops) == (number >= 80)


@pytest.mark.parametrize(
    ("key", "figure", "value"),
    [
        ("t4", "int8", 130),
        ("a100", "fp16", 312),
        ("l4", "int8", 242.5),
        ("l4", "tf32", 60),
        ("l40s", "fp16", 362.05),
        ("h100", "fp8", 1978.9),
        ("h200", "fp16", 989.5),
        ("rtx4090", "fp8", 330.3),
        ("rtx5090", "fp16", 209.5),
        ("orin", "int8", 85),
    ],
)
def test_peaks_are_dense(key: str, figure: str, value: float) -> None:
    assert gpu_named(key).peak_tflops[figure] == value


@pytest.mark.parametrize(
    ("target", "key"),
    [
        ("sm75", "t4"),
        ("sm80", "a100"),
        ("sm86", "a10"),
        ("sm87", "orin"),
        ("sm89", "l4"),
        ("sm90", "h100"),
        ("sm120", "rtx5090"),
    ],
)
def test_every_target_has_its_default(target: str, key: str) -> None:
    assert default_gpu(target).key == key


def test_a_target_without_figures_is_refused() -> None:
    with pytest.raises(UsageError, match=r"sm121 cannot be modelled: there are .* for sm75, .*sm120 only"):
        default_gpu("sm121")


def test_a_capability_may_have_several_gpus() -> None:
    assert [gpu.key for gpu in gpus_of_capability("SM89")] == ["l4", "l40s", "rtx4090"]
    assert gpus_of_capability("sm100") == ()


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ("L4", "l4"),
        ("NVIDIA L40S", "l40s"),
        ("Tesla T4", "t4"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("h200", "h200"),
    ],
)
def test_a_gpu_is_found_by_what_people_and_drivers_call_it(said: str, key: str) -> None:
    assert gpu_named(said).key == key


def test_an_unknown_gpu_gets_a_hint() -> None:
    with pytest.raises(UsageError, match=r"called 'rtx4091'; did you mean 'rtx4090'\? There are t4, a10"):
        gpu_named("rtx4091")


def test_a_table_is_read() -> None:
    (gpu,) = parse_gpus(TABLE, "x.toml")

    assert (gpu.sm_count, gpu.l2_bytes, gpu.bandwidth_gb_s) == (10, 2 * 2**20, 100.0)
    assert gpu.peak_tflops == {"fp32": 1.5, "int8": 12.0}
    assert gpu.sources["peak.int8"] == "A datasheet, https://example.com/sheet.pdf (24 with sparsity)"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('value = 12, source = "sheet"', 'value = 12, source = "hearsay"', "'source' in .*must be one of 'sheet'"),
        ('value = 12, source = "sheet"', "value = 12", "'source' is missing"),
        ("value = 1.5,", "value = 0,", "'value' in .*must be a number above 0, got 0"),
        ("value = 1.5, ", "", "'value' is missing in .*a number above 0"),
        ("fp32 = ", "fp23 = ", "unknown key 'fp23'.*did you mean 'fp32'"),
        ('fp32 = { value = 1.5, source = "sheet" }', "", "'fp32' is missing"),
        ("fp32 = {", "fp32 = 3 #", "'fp32' .*must be a table, got 3"),
        ('"sm89"', '"8.9"', "'capability' .*must be written like \"sm89\", got '8.9'"),
        ("default = true", "default = 1", "'default' .*must be true or false, got 1"),
    ],
)
def test_a_broken_table_is_refused(old: str, new: str, words: str) -> None:
    assert old in TABLE

    with pytest.raises(RecipeError, match=words):
        parse_gpus(TABLE.replace(old, new), "x.toml")


@pytest.mark.parametrize(
    ("key", "default", "words"),
    [
        ("x1", "false", "'key' .*must be unlike that of every other GPU, got 'x1'"),
        ("x2", "true", "'default' .*must be false: there is a default for sm89 already, got True"),
    ],
)
def test_two_gpus_do_not_share_a_key_or_a_default(key: str, default: str, words: str) -> None:
    other = (
        TABLE[TABLE.index("[[gpu]]") :].replace('"x1"', f'"{key}"').replace("default = true", f"default = {default}")
    )

    with pytest.raises(RecipeError, match=words):
        parse_gpus(TABLE + other, "x.toml")
