"""What is refused of the options before the graph of the model is read."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoprec.errors import AutoprecError
from autoprec.run.check_options import check_options
from autoprec.run.settings import Settings

# An ONNX file by its outermost fields: a version, and a graph that no reader of ONNX could make anything of.
MODEL = bytes([0x08, 9, 0x3A, 4]) + b"junk"


def one_argument(outputs: Mapping[str, np.ndarray]) -> np.ndarray:
    return next(iter(outputs.values()))[:, 0]


async def asynchronous(outputs: Mapping[str, np.ndarray], labels: np.ndarray | None) -> list[float]:
    return []


def settings_of(folder: Path, **changed: Any) -> Settings:
    model, data = folder / "model.onnx", folder / "data.npz"
    if not model.exists():
        model.write_bytes(MODEL)
        np.savez(data, x=np.zeros((8, 4), np.float32))
    return Settings(**{"model": model, "calib": str(data), **changed})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"metric": one_argument, "direction": "higher"}, r"called as function\(outputs, labels\), but it takes \(out"),
        ({"metric": asynchronous, "direction": "higher"}, "it is asynchronous"),
        ({"metric": "accuracy"}, "a metric must be one of"),
        ({"metric": "top1"}, "needs labels, but the data has none"),
        ({"metric": "kl", "direction": "higher"}, "lower is better"),
        ({"direction": "lower"}, "for the metric agreement, higher is better"),
        ({"max_drop": 5.0}, "--max-drop must be at most 1 for the metric agreement"),
        ({"metric": "cosine", "max_drop": 2.0}, "--max-drop must be at most 1"),
        ({"pins": ("head",)}, "must have the form REGEX=PRECISION"),
        ({"pins": ("head=int3",)}, "int3"),
        ({"space": "nowhere"}, "there is no search space 'nowhere'"),
        ({"recipe": "nowhere"}, "there is no calibration recipe 'nowhere'"),
        ({"calib": None}, "give --calib and --eval"),
        ({"calib": "nowhere.npz"}, "no such file or folder"),
        ({"calib": "os.path:join"}, "the data function 'os.path:join' is called without arguments, but it takes"),
        ({"model": "nowhere.onnx"}, "no such file: nowhere.onnx"),
        ({"confidence": 2.0}, "--confidence"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_option_is_told_beside_a_model_that_nobody_could_read(
    changed: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(AutoprecError, match=said):
        check_options(settings_of(tmp_path, **changed))


def test_right_options_pass(tmp_path: Path) -> None:
    check_options(settings_of(tmp_path, pins=("head=fp32",), space="cpu", metric="sqnr", max_drop=0.01))


def test_labels_in_the_archive_are_seen(tmp_path: Path) -> None:
    np.savez(tmp_path / "labelled.npz", x=np.zeros((8, 4), np.float32), labels=np.zeros(8, np.int64))

    check_options(settings_of(tmp_path, evaluate=str(tmp_path / "labelled.npz"), metric="top1"))


def test_an_archive_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "junk.npz").write_bytes(b"junk" * 10)

    with pytest.raises(AutoprecError, match=r"must be a \.npz archive"):
        check_options(settings_of(tmp_path, evaluate=str(tmp_path / "junk.npz")))


def test_a_run_directory_with_files_of_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.onnx").write_bytes(b"mine")

    with pytest.raises(AutoprecError, match=r"model\.onnx"):
        check_options(settings_of(tmp_path), tmp_path / "run")


def test_a_run_directory_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AutoprecError, match=r"model\.onnx is a file"):
        check_options(settings_of(tmp_path), tmp_path / "model.onnx" / "run")


def test_nothing_heavy_is_imported_for_a_refusal(tmp_path: Path) -> None:
    """Seconds depend on the machine; what is loaded does not."""
    code = (
        "import json, sys; from autoprec.run.check_options import check_options; from autoprec.run.settings import "
        "Settings\ntry: check_options(Settings(model=sys.argv[1], calib=sys.argv[1]))\nexcept Exception: pass\n"
        "print(json.dumps(sorted({n.split('.')[0] for n in sys.modules})))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)

    assert {"onnxruntime", "optuna", "scipy", "sqlalchemy", "sympy"} & set(json.loads(done.stdout)) == set()
