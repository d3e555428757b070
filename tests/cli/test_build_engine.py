"""`autoprec build --backend`: an engine and its proof beside the model, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from autoprec.backends.protocol import Clock, TimeProfile
from autoprec.cli import main
from autoprec.cli.text.unit_times import print_times
from autoprec.errors import EXIT_NOT_HONOURED, EXIT_OK, EXIT_USAGE, BackendError
from autoprec.precision import Precision
from autoprec.proof.unit_times import UnitTimes
from autoprec.proof.verification import UnitRan, UnitStatus, Verification
from autoprec.testing import tiny_data

from ..helpers.plan_files import tiny_plan

Build = Callable[..., Result]

INT8 = Precision.INT8
RTX = ("--backend", "tensorrt-rtx")


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny.onnx, plan.json, and engines once they are built."""
    folder = tmp_path_factory.mktemp("build")
    tiny_plan(folder, INT8)
    return folder


@pytest.fixture(name="build")
def _build(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """Run `autoprec build plan.json tiny.onnx --out out/model.onnx` with further words."""
    monkeypatch.chdir(folder)

    def run(*words: str, plan: str = "plan.json") -> Result:
        shutil.rmtree(folder / "out", ignore_errors=True)
        words = ("build", plan, "tiny.onnx", "--out", "out/model.onnx", *words)
        return CliRunner().invoke(main, list(words), catch_exceptions=False)

    return run


def refused(result: Result, words: str) -> None:
    assert result.exit_code == EXIT_USAGE, result.output
    assert result.stdout == ""
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.fixture(name="rtx")
def _rtx() -> None:
    pytest.importorskip("tensorrt_rtx", reason="the real builder needs tensorrt-rtx: pip install tensorrt-rtx")


@pytest.mark.usefixtures("rtx")
def test_an_engine_and_its_proof_lie_beside_the_model(folder: Path, build: Build) -> None:
    result = build(*RTX, "--target", "sm89,sm120")
    record = json.loads((folder / "out" / "model.json").read_text(encoding="utf-8"))

    assert result.exit_code == EXIT_OK, result.output
    assert {path.name for path in (folder / "out").iterdir() if path.is_file()} == {
        "autoprec-files.json",
        "model.onnx",
        "model.engine",
        "model.json",
    }
    assert (record["schema"], record["runtime"], record["hardware"]) == (1, "tensorrt_rtx", "sm89,sm120")
    assert record["layers"]
    assert record["verification"]["units"]["conv1"]["ran"] == "int8"
    assert record["engine_bytes"] == (folder / "out" / "model.engine").stat().st_size
    assert result.stderr == ""


@pytest.mark.usefixtures("rtx")
def test_what_was_built_is_said_in_a_few_lines(build: Build) -> None:
    said = build(*RTX, "--target", "sm89").stdout.splitlines()

    assert said[0].startswith("written: out/model.onnx: 5 int8; ")
    assert said[1].startswith("written: out/model.engine: ")
    assert "built in" in said[1]
    assert said[2].startswith("for sm89, by tensorrt_rtx 1.")
    assert said[3].startswith("units in the engine: ")
    assert any(line.endswith("% of the arithmetic in int8") for line in said[4:])


@pytest.mark.usefixtures("rtx")
def test_json_is_one_document_with_the_engine_in_it(build: Build) -> None:
    result = build(*RTX, "--target", "SM89 , sm120", "--json")
    record = json.loads(result.stdout)

    assert result.exit_code == EXIT_OK
    assert record["written"] == "out/model.onnx"
    assert record["engine"]["written"] == "out/model.engine"
    assert record["engine"]["hardware"] == "sm89,sm120"
    assert record["verification"]["refused"] == []
    assert record["units"] == {"int8": 5}


@pytest.mark.usefixtures("rtx")
def test_a_requested_precision_that_did_not_run_has_its_own_exit_code(
    build: Build, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are written, and standard error names the unit and TensorRT's layer."""
    from autoprec.backends.tensorrt.backend import TensorRtBackend

    plain = TensorRtBackend.inspect

    def inspect(self: TensorRtBackend, model: bytes, nodes: list[str]) -> dict[str, object]:
        found: dict[str, object] = dict(plain(self, model, nodes))
        found["conv2"] = replace(plain(self, model, nodes)["conv2"], quantized=False, precision=Precision.FP16)
        return found

    monkeypatch.setattr(TensorRtBackend, "inspect", inspect)
    for form in ((), ("--json",)):
        result = build(*RTX, "--target", "sm89", *form)

        assert result.exit_code == EXIT_NOT_HONOURED
        assert "1 of 4 units with such work run in another" in result.stderr
        assert "conv2 was asked for in int8 but runs in fp16: layer 'conv2" in result.stderr
        assert (folder / "out" / "model.engine").is_file()
    assert json.loads(result.stdout)["verification"]["refused"] == ["conv2"]
    record = json.loads((folder / "out" / "model.json").read_text(encoding="utf-8"))
    assert record["verification"]["refused"] == ["conv2"]


# --- where the time goes ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("rtx")
def test_a_profile_is_told_in_tables_behind_the_verification(folder: Path, build: Build) -> None:
    """Each figure under a heading that says that it is modelled."""
    tiny_plan(folder / "mixed", INT8, conv2=Precision.FP16)
    result = build(*RTX, "--target", "sm89", "--profile", plan="mixed/plan.json")
    said = result.stdout.splitlines()
    heads = [n for n, line in enumerate(said) if line.endswith(("modelled for L4:", "x 1x24x8x8:"))]

    assert result.exit_code == EXIT_OK, result.output
    assert said.index(next(line for line in said if line.startswith("units in the engine"))) < heads[0]
    assert said[heads[0]] == "time by unit, modelled for L4, for x 1x24x8x8:"
    assert said[heads[0] + 1].split("  ")[0] == "unit"
    assert "ms, modelled" in said[heads[0] + 1]
    assert "ms, modelled" in said[heads[1] + 1]
    row = next(line.split() for line in said if line.startswith("conv2 "))
    assert row[-1] == "fp16"
    assert float(row[1]) > 0
    assert row[2].endswith("%")
    assert any(line.startswith("(input) -> conv1 ") for line in said[heads[1] :])
    assert any(line.startswith("conv2 -> conv3 ") for line in said[heads[1] :])
    assert "the rest, of no unit and no boundary, modelled for L4: none" in said
    assert said[-2] == "100.0% of the time of layers is attributed to units and boundaries, modelled"
    assert said[-1].startswith("the layers add up to 0.")
    assert ", 1.00 of the whole engine's median of " in said[-1]
    assert said[-1].endswith("ms (modelled for L4)")


@pytest.mark.usefixtures("rtx")
def test_a_profile_is_in_both_records(folder: Path, build: Build) -> None:
    result = build(*RTX, "--target", "sm89", "--profile", "--json")
    profile = json.loads(result.stdout)["profile"]

    assert profile == json.loads((folder / "out" / "model.json").read_text(encoding="utf-8"))["profile"]
    assert profile["clock"] == "modelled for L4"
    assert {row["unit"] for row in profile["units"]} == {"conv1", "conv2", "conv3", "pool", "head"}


def test_onnx_runtime_profiles_too(folder: Path, build: Build) -> None:
    """It measures, and needs no engine."""
    tiny_plan(folder / "cpu", INT8, scheme="ort-cpu")
    result = build("--backend", "ort-cpu", "--profile", "--batch", "8", plan="cpu/plan.json")

    assert result.exit_code == EXIT_OK, result.output
    assert "\ntime by unit, measured on " in result.stdout
    assert ", for x 8x24x8x8:\n" in result.stdout
    assert "modelled" not in result.stdout
    assert "of the arithmetic in unknown" not in result.stdout
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["autoprec-files.json", "model.onnx"]


def test_units_without_time_are_named_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """What belongs to nothing has a table of its own, and a measured profile does not say "modelled"."""
    times = UnitTimes(Clock("measured", "NVIDIA H200"), {}, TimeProfile({"a": 3.0}, {}, (("odd", 1.0),)), 2.0)
    units = [
        UnitRan(unit=name, requested=INT8, written=INT8, ran=INT8, status=UnitStatus.HONOURED, heavy=True, macs=1)
        for name in ("a", "b", "c")
    ]
    print_times(times, Verification(tuple(units)))
    said = capsys.readouterr().out.splitlines()

    assert "without time of their own: b, c" in said
    assert "odd    1.0000  25.0%" in said
    assert said[-2:] == [
        "75.0% of the time of layers is attributed to units and boundaries",
        "the layers add up to 4.0000 ms, 2.00 of the whole engine's median of 2.0000 ms (measured on NVIDIA H200)",
    ]


# --- refused ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("rtx")
def test_an_fp8_plan_for_ampere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_plan(tmp_path, Precision.FP8)
    monkeypatch.chdir(tmp_path)
    words = ["build", "plan.json", "tiny.onnx", *RTX, "--target"]

    refused(CliRunner().invoke(main, [*words, "sm80"]), "sm80 lacks the precision fp8; leave it out of the plan, or ")
    assert CliRunner().invoke(main, [*words, "sm89"]).exit_code == EXIT_OK


@pytest.mark.usefixtures("rtx")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--target", "sm90"), "builds ahead of time for sm75, sm80, sm86, sm89"),
        (("--target", "hopper"), "not for 'hopper'; choose targets among these"),
        (("--target", "sm89", "--shapes", "x:1x24"), "has the shape (?, 24, 8, 8) in the model and cannot be (1, 24)"),
        (("--target", "sm89", "--shapes", "x:1x24x9x8"), "cannot be (1, 24, 9, 8)"),
        (("--target", "sm89", "--shapes", "y:1x24x8x8"), "shapes are given for 'y'; the model's inputs are x"),
        (("--target", "sm89", "--shapes", "x:1x2:3x4"), "or INPUT:LEAST:BEST:LARGEST in that form, got 'x:1x2:3x4'"),
        (("--target", "sm89", "--shapes", "24x8"), "--shapes must be INPUT:1x3x224x224, or INPUT:LEAST:BEST:LARGEST"),
        (("--target", "sm89", "--time-limit", "0"), "the time limit of a build must be more than 0 s, found 0"),
        (("--target", "sm89", "--time-limit", "0.01", "--batch", "3"), "within 0.01 s and was stopped; allow it more"),
    ],
)
def test_wishes_that_cannot_be_met(build: Build, options: tuple[str, ...], words: str) -> None:
    refused(build(*RTX, *options), words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--target", "sm89"), "--target must go with the engine's runtime: add --backend tensorrt-rtx or --backend "),
        (("--shapes", "x:1x24x8x8"), "--shapes must go with"),
        (("--batch", "4"), "--batch must go with"),
        (("--time-limit", "60"), "--time-limit must go with"),
        (("--no-timing-cache",), "--no-timing-cache must go with"),
        (("--profile",), "--profile must go with"),
        (("--profile", "--batch", "4"), "them out to have the model alone; --backend ort-cpu is enough for a profile"),
        (("--target", "sm89", "--batch", "4"), "--target and --batch must go with"),
    ],
)
def test_options_of_an_engine_without_a_runtime(
    build: Build, folder: Path, options: tuple[str, ...], words: str
) -> None:
    refused(build(*options), words)
    assert not (folder / "out").exists()


def test_without_options_of_an_engine_there_is_a_model_alone(build: Build, folder: Path) -> None:
    assert build("--json").exit_code == EXIT_OK
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["autoprec-files.json", "model.onnx"]


@pytest.mark.usefixtures("rtx")
def test_an_engine_for_a_gpu_without_figures_is_built(build: Build) -> None:
    """sm121 cannot be timed, which a build does not need."""
    result = build(*RTX, "--target", "sm121", "--json")

    assert result.exit_code == EXIT_OK, result.output
    assert json.loads(result.stdout)["engine"]["hardware"] == "sm121"


@pytest.mark.parametrize("form", [(), ("--dry-run",)])
@pytest.mark.usefixtures("rtx")
def test_tune_refuses_a_gpu_without_figures(
    folder: Path, monkeypatch: pytest.MonkeyPatch, form: tuple[str, ...]
) -> None:
    monkeypatch.chdir(folder)
    np.savez(folder / "data.npz", **tiny_data(folder / "tiny.onnx", 12))
    words = ["tune", "tiny.onnx", "--calib", "data.npz", "--out", "run", "--target", "sm121", "--quiet", *RTX, *form]

    refused(CliRunner().invoke(main, words), "the latency of an engine for sm121 cannot be modelled: there are figure")


@pytest.mark.usefixtures("rtx")
def test_without_target_and_gpu_the_way_out_is_named(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    from autoprec.backends.tensorrt import builder

    def missing() -> None:
        raise BackendError("running engines needs NVIDIA's cuda-bindings, which is not installed")

    monkeypatch.setattr(builder, "load_cuda", missing)
    refused(build(*RTX), "must know what to build for: name targets, such as --target sm")


@pytest.mark.parametrize("name", ["ort-cpu", "cuda"])
def test_a_backend_that_builds_no_engines(build: Build, name: str) -> None:
    refused(build("--backend", name), f"engines are built by tensorrt or tensorrt-rtx, got --backend {name}")


@pytest.mark.parametrize("option", [("--time-limit", "60"), ("--no-timing-cache",)])
def test_options_of_a_build_that_is_none(build: Build, folder: Path, option: tuple[str, ...]) -> None:
    words = f"{option[0]} must go with a backend that builds engines, not ort-cpu; leave it out"

    refused(build("--backend", "ort-cpu", "--profile", *option), words)
    assert not (folder / "out").exists()


def test_targets_of_a_backend_that_builds_for_this_machine_only(build: Build) -> None:
    """Whether TensorRT is installed here or not, a target for it is bad input."""
    result = build("--backend", "tensorrt", "--target", "sm89")

    assert result.exit_code == EXIT_USAGE
    assert "TensorRT is not installed; run: " in result.stderr or "leave the targets out" in result.stderr


def test_tune_refuses_targets_without_rtx(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    words = ["tune", "tiny.onnx", "--calib", "tiny.onnx", "--backend", "ort-cpu", "--target", "sm89"]

    refused(
        CliRunner().invoke(main, words), "--target is for the backend tensorrt-rtx, got it with 'ort-cpu'; leave it out"
    )
