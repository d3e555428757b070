"""What is wrong with the folder of a transformers model is said before anything heavy is imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autoprec.errors import AutoprecError, DataError
from autoprec.exporting.folders import Kind, is_model_folder, request_of, texts_of


def folder_of(root: Path, **config: Any) -> Path:
    root.mkdir(exist_ok=True)
    (root / "config.json").write_text(json.dumps(config))
    (root / "model.safetensors").write_bytes(b"weights")
    return root


def test_the_task_is_taken_from_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("one\n")
    folder = folder_of(tmp_path / "bert", architectures=["BertForSequenceClassification"])
    data = {"calib": str(tmp_path / "texts.txt"), "evaluate": "eval.npz"}

    request = request_of(folder, None, 16, data)

    assert is_model_folder(folder)
    assert (request.task, request.kind) == ("text-classification", Kind.TEXT)
    assert request.data == {"calib": tmp_path / "texts.txt"}
    assert request_of(folder, "text-generation", 16, {}).kind is Kind.CACHED_TEXT


@pytest.mark.parametrize(
    ("config", "task", "length", "message"),
    [
        (
            {"architectures": ["FooModel"]},
            None,
            16,
            "--task must be one of .*got none for FooModel",
        ),
        ({}, "translation", 16, "got translation"),
        ({"auto_map": {"AutoModel": "code.Model"}}, "fill-mask", 16, "needs Python code .* does not run"),
        ({"architectures": ["GPT2LMHeadModel"]}, None, 2, "--length must be at least 4 tokens, got 2"),
    ],
)
def test_a_folder_that_cannot_be_taken(
    tmp_path: Path, config: dict[str, Any], task: str | None, length: int, message: str
) -> None:
    with pytest.raises(AutoprecError, match=message):
        request_of(folder_of(tmp_path / "model", **config), task, length, {})


def test_weights_must_be_in_safetensors_and_the_configuration_whole(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(AutoprecError, match="has no weights in safetensors"):
        request_of(folder, "fill-mask", 16, {})
    (folder / "config.json").write_text("{")
    with pytest.raises(AutoprecError, match=r"config\.json cannot be read"):
        request_of(folder, "fill-mask", 16, {})


def test_labels_lie_behind_the_last_tab_of_each_line(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("good\tfilm\tpos\n\nbad\tneg\n")
    (tmp_path / "b.txt").write_text("good\tfilm\nbad\n")
    (tmp_path / "c.txt").write_text("\n")

    assert texts_of(tmp_path / "a.tsv") == (["good\tfilm", "bad"], ["pos", "neg"])
    assert texts_of(tmp_path / "b.txt") == (["good\tfilm", "bad"], None)
    with pytest.raises(DataError, match=r"c\.txt has no texts"):
        texts_of(tmp_path / "c.txt")
