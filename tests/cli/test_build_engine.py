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

from autoprec.cli import main
from autoprec.errors import EXIT_NOT_HONOURED, EXIT_OK, EXIT_USAGE, BackendError
from autoprec.precision import Precision
from autoprec.testing import tiny_data

from ..plans import tiny_plan

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
        "model.onnx", "model.engine", "model.json"
    }  # fmt: skip
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
    assert said[3].startswith("units as they will run: ")
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
    assert [path.name for path in (folder / "out").iterdir()] == ["model.onnx"]


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


def test_targets_of_a_backend_that_builds_for_this_machine_only(build: Build) -> None:
    """Whether TensorRT is installed here or not, a target for it is bad input."""
    result = build("--backend", "tensorrt", "--target", "sm89")

    assert result.exit_code == EXIT_USAGE
    assert "TensorRT is not installed; run: " in result.stderr or "leave the targets out" in result.stderr


def test_tune_refuses_targets_without_rtx(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    words = ["tune", "tiny.onnx", "--calib", "absent.npz", "--backend", "ort-cpu", "--target", "sm89"]

    refused(
        CliRunner().invoke(main, words), "--target is for the backend tensorrt-rtx, got it with 'ort-cpu'; leave it out"
    )
