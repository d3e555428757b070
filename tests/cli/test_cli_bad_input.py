"""Whatever a user can get wrong is one line that says what to do, and exit code 2."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from autoprec.errors import EXIT_USAGE
from autoprec.files import json as records

from .conftest import Invoke, refused

Spoil = Callable[[Path], None]

TUNE = ("tune", "tiny.onnx", "--calib", "data.npz", "--trials", "4", "--threads", "1", "--out", "run", "--quiet")
UNLABELLED = np.zeros((8, 24, 8, 8), np.float32)


def files(folder: Path) -> set[str]:
    """Every file of `folder` outside the run directory, and what Python keeps of imported modules."""
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {name for name in found if not name.startswith("run/") and "__pycache__" not in name}


def put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def in_a_folder(folder: Path) -> None:
    (folder / "tiny.onnx").unlink()
    (folder / "tiny.onnx").mkdir()


def save(**arrays: Any) -> Spoil:
    """Write data.npz with these arrays."""
    return lambda folder: np.savez(folder / "data.npz", **arrays)


def edit_model(change: Callable[[onnx.ModelProto], None]) -> Spoil:
    def spoil(folder: Path) -> None:
        model = onnx.load(folder / "tiny.onnx")
        change(model)
        onnx.save(model, folder / "tiny.onnx")

    return spoil


def set_weight(name: str, value: float) -> Spoil:
    def change(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == name)
        array = numpy_helper.to_array(tensor).copy()
        array.flat[0] = value
        tensor.CopyFrom(numpy_helper.from_array(array, name))

    return edit_model(change)


def external(folder: Path) -> None:
    model = onnx.load(folder / "tiny.onnx")
    onnx.save(model, folder / "tiny.onnx", save_as_external_data=True, location="tiny.data", size_threshold=0)
    (folder / "tiny.data").unlink()


def truncated(folder: Path) -> None:
    data = (folder / "tiny.onnx").read_bytes()
    (folder / "tiny.onnx").write_bytes(data[: len(data) // 2])


def divides(model: onnx.ModelProto) -> None:
    """Scores / relu(scores - 1e9): a number over zero."""
    model.graph.node[-1].output[0] = "before"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.0), "zero"))
    model.graph.node.append(helper.make_node("Mul", ["before", "zero"], ["nothing"], name="nothing"))
    model.graph.node.append(helper.make_node("Div", ["before", "nothing"], ["scores"], name="divide"))


def module(body: str) -> Spoil:
    """Write measure.py."""
    return lambda folder: put(folder / "measure.py", f"import numpy as np\n{body}\n".encode())


@pytest.fixture(autouse=True)
def _forget_modules() -> None:
    sys.modules.pop("measure", None)


MODELS: dict[str, tuple[Spoil, str]] = {
    "no such file": (lambda f: (f / "tiny.onnx").unlink(), r"no such file: tiny\.onnx; give the path of an ONNX model"),
    "a folder": (in_a_folder, "is a folder; give the"),
    "not ONNX": (lambda f: put(f / "tiny.onnx", b"hello"), "not an ONNX model, .* export it again"),
    "empty": (lambda f: put(f / "tiny.onnx", b""), "not an ONNX model, .* export it again"),
    "truncated": (truncated, "not an ONNX model, or it is truncated .*; export it again"),
    "external data missing": (external, r"in the file 'tiny\.data', which is missing; put it beside the model"),
    "NaN in a weight": (set_weight("conv2.weight", np.nan), "'conv2.weight' .* holds NaN or infinity; train or export"),
    "infinity in a weight": (set_weight("head.weight", np.inf), "'head.weight' .* holds NaN or infinity; train or"),
    "a division by zero": (
        edit_model(divides),
        "'scores' of the FP32 model holds NaN or infinity on .*data.npz; correct the model or the data",
    ),
}


@pytest.mark.parametrize("case", MODELS)
def test_a_bad_model(work: Path, invoke: Invoke, case: str) -> None:
    spoil, words = MODELS[case]
    spoil(work)
    before = files(work)

    refused(invoke(*TUNE), words)
    assert files(work) == before


DATA: dict[str, tuple[Spoil, str]] = {
    "no such file": (lambda f: (f / "data.npz").unlink(), r"no such file or folder: 'data\.npz'; give a \.npz file"),
    "not an archive": (lambda f: put(f / "data.npz", b"x"), "must be a .npz archive .* write it again"),
    "a wrong name": (save(image=UNLABELLED), "names its array 'image', but the model's only input is 'x'; store"),
    "a wrong shape": (save(x=UNLABELLED[:, :, :4]), r"must have shape \(samples, 24, 8, 8\), got \(8, 24, 4, 8\)"),
    "a wrong rank": (save(x=UNLABELLED[..., 0]), "give 4 axes, the first of them samples"),
    "a wrong type": (save(x=UNLABELLED.astype(np.uint8)), "must be float32, got uint8 .* apply the preprocessing"),
    "complex numbers": (save(x=UNLABELLED.astype(np.complex64)), "must be float32, got complex64 .* convert it first"),
    "pickled objects": (save(x=np.array([{}], object)), "holds pickled Python objects, which are never loaded"),
    "too few labels": (save(x=UNLABELLED, labels=np.zeros(3, int)), "same number of samples .* 'labels' has 3"),
    "NaN": (save(x=np.where(np.arange(8).reshape(8, 1, 1, 1) == 5, np.nan, UNLABELLED)), "holds NaN in sample 5"),
    "infinity": (save(x=np.full_like(UNLABELLED, -np.inf)), r"holds infinity in sample 0 \(8 samples .* remove or rep"),
    "no samples": (save(x=UNLABELLED[:0]), "has no samples; give at least one"),
    "the same sample again": (save(x=UNLABELLED), "at least 3 different samples, .* give more data"),
    "labels that are no classes": (
        save(x=np.random.default_rng(0).normal(size=(40, 24, 8, 8)).astype(np.float32), labels=np.full(40, 99)),
        "label",
    ),
}


@pytest.mark.parametrize("case", DATA)
def test_bad_data(work: Path, invoke: Invoke, case: str) -> None:
    spoil, words = DATA[case]
    spoil(work)
    before = files(work)

    refused(invoke(*TUNE), words)
    assert files(work) == before


def test_no_data(work: Path, invoke: Invoke) -> None:
    refused(invoke("tune", "tiny.onnx"), "tuning needs data .*; give --calib and --eval, or one of them to be split")
    assert files(work) == {"tiny.onnx", "data.npz"}


def test_a_metric_and_a_seed_are_looked_at_before_the_data(work: Path, invoke: Invoke) -> None:
    (work / "data.npz").write_bytes(b"no archive")

    refused(invoke(*TUNE, "--metric", "nosuch"), "a metric must be one of .*, got 'nosuch'")
    refused(invoke(*TUNE, "--seed", "-5"), "--seed must be 0 or more, got -5")


def test_a_metric_that_needs_labels_without_any(work: Path, invoke: Invoke) -> None:
    x = np.random.default_rng(0).normal(size=(9, 24, 8, 8)).astype(np.float32)
    save(x=x)(work)

    refused(invoke(*TUNE, "--metric", "top1"), "top1 needs labels, but the data has none; add labels .* or choose agr")


METRICS: dict[str, tuple[str, str]] = {
    "raises": ("def m(outputs, labels): raise KeyError('logits')", "raised KeyError: 'logits'; it is called as functi"),
    "too few": (
        "def m(outputs, labels): return np.zeros(2)",
        r"expected \d+ scores, got 2 .* do not average over the ba",
    ),
    "NaN": (
        "def m(outputs, labels): return np.full(len(labels), np.nan)",
        "must return finite scores, got nan for sam",
    ),
    "words": ("def m(outputs, labels): return ['good'] * len(labels)", "must return numbers, got <U4"),
    "no direction": ("def m(outputs, labels): return np.zeros(len(labels))", "must say which direction is better: set"),
    "absent": ("", "module 'measure' has no 'm'; name a function that it defines"),
    "broken": ("def m(:", "cannot import 'measure' .* SyntaxError: .* run from the folder that holds the module"),
}


@pytest.mark.parametrize("case", METRICS)
def test_a_bad_metric(work: Path, invoke: Invoke, case: str) -> None:
    body, words = METRICS[case]
    direction = () if case == "no direction" else ("--direction", "higher")
    module(body)(work)

    refused(invoke(*TUNE, "--metric", "measure:m", *direction), words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--metric", "top5"], r"a metric must be one of top1, agreement, .*, got 'top5'; did you mean 'top1'\?"),
        (["--metric", "kl", "--direction", "higher"], "for the metric kl, lower is better; leave the direction out"),
        (["--space", "cpp"], r"no search space 'cpp'; did you mean 'cpu'\?"),
        (["--recipe", "percentil"], r"no calibration recipe 'percentil'; did you mean 'percentile'\?"),
        (["--backend", "ort"], "a backend must be one of ort-cpu, tensorrt, tensorrt-rtx, got 'ort'"),
        (["--backend", "fake"], "a backend must be one of ort-cpu, tensorrt, tensorrt-rtx, got 'fake'"),
        (["--pin", "conv1"], "a pin must have the form REGEX=PRECISION, such as '.*', got 'conv1'"),
        (
            ["--pin", "conv1=int4"],
            "a precision must be one of fp32, fp16, bf16, fp8, int8, int8-dynamic, int4-32, .* got 'int4'",
        ),
        (["--pin", "conv(=int8"], r"valid regular expression, got 'conv\('"),
        (["--pin", "^covn1$=int8"], r"'\^covn1\$' fits no unit; .*`autoprec units` lists them"),
        (["--pin", "conv1=fp8"], "unit 'conv1' cannot be pinned to fp8: ONNX Runtime has no FP8 kernels on a CPU"),
        (["--max-drop", "-0.1"], "--max-drop must be 0 or more, got -0.1; FP32 itself has drop 0"),
        (["--max-drop", "nan"], "--max-drop must be 0 or more, got nan"),
        (["--timeout", "0"], "--timeout must be more than 0 seconds, got 0; leave it out for no limit"),
        (["--timeout", "nan"], "--timeout must be more than 0 seconds, got nan"),
        (["--eval", "module:absent"], "cannot import 'module' .* install it"),
    ],
)
def test_a_bad_option(work: Path, invoke: Invoke, options: list[str], words: str) -> None:
    refused(invoke(*TUNE, *options), words)
    assert not (work / "run").exists()


@pytest.mark.parametrize("option", [["--trials", "0"], ["--batch", "x"], ["--direction", "up"], ["--calibrate", "x"]])
def test_an_option_that_click_refuses(work: Path, invoke: Invoke, option: list[str]) -> None:
    result = invoke(*TUNE, *option)

    assert result.exit_code == EXIT_USAGE
    assert "Error: " in result.stderr
    assert "--help" in result.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('precisions = ["fp32", "int8"]\ncarrier = "fp32"\ncarier = "fp16"\n', "'carier'.*carrier"),
        ('precisions = ["fp32", "int4"]\ncarrier = "fp32"\n', "'?precisions'? .*fp32, fp16, bf16, fp8, int8"),
        ('precisions = ["fp16", "int8"]\ncarrier = "fp32"\n', "carrier"),
        ("precisions = [", "space.toml"),
        (
            'precisions = ["fp16"]\ncarrier = "fp16"\n',
            "none of the precisions .* can be timed on ort-cpu; choose another",
        ),
    ],
)
def test_a_bad_space(work: Path, invoke: Invoke, text: str, words: str) -> None:
    (work / "space.toml").write_text(text, encoding="utf-8")

    refused(invoke(*TUNE, "--space", "space.toml"), words)


def test_a_recipe_with_an_unknown_key(work: Path, invoke: Invoke) -> None:
    (work / "recipe.toml").write_text('methd = "mse"\n', encoding="utf-8")

    refused(invoke(*TUNE, "--recipe", "recipe.toml"), "'methd'.*method")


def test_a_file_in_place_of_the_run_directory(work: Path, invoke: Invoke) -> None:
    (work / "run").write_text("mine")

    refused(invoke(*TUNE), "the run directory run cannot be made: run is a file; choose another by --out")
    assert (work / "run").read_text() == "mine"


def test_a_run_directory_that_cannot_be_written(work: Path, invoke: Invoke) -> None:
    refused(invoke(*TUNE, "--out", "/proc/autoprec"), "/proc/autoprec cannot be made: .*; choose another by --out")


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk(work: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(records.os, call, full)

    refused(
        invoke(*TUNE), "cannot write .*: No space left on device; choose a writable folder with free space by --out"
    )
    assert os.listdir(work / "run") == []


@pytest.mark.parametrize("limit", [3_000, 10_000])
def test_a_disk_that_fills_up_while_files_are_written(work: Path, limit: int) -> None:
    """The system itself refuses what is longer than `limit` bytes: the study's journal, or the lowered model."""
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        f"from autoprec.cli import main; main({list(TUNE)!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False)

    assert done.returncode == EXIT_USAGE, done.stderr
    assert re.fullmatch(r"autoprec: .*(File too large.*--out|free space .*TMPDIR)\n", done.stderr), done.stderr
    assert not list((work / "run").glob(".*"))
