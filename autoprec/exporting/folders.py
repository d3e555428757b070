"""Folders of transformers models: what is asked for is checked before anything heavy is imported; texts are read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from autoprec.errors import DataError, ModelError, UsageError
from autoprec.files.parse import parse_json, read_text


class Kind(Enum):
    """What a model of a task reads."""

    TEXT = "texts"
    CACHED_TEXT = "texts, and the keys and values of the tokens before"
    IMAGE = "images"


TASKS: dict[str, tuple[str, Kind]] = {
    "text-classification": ("AutoModelForSequenceClassification", Kind.TEXT),
    "token-classification": ("AutoModelForTokenClassification", Kind.TEXT),
    "question-answering": ("AutoModelForQuestionAnswering", Kind.TEXT),
    "fill-mask": ("AutoModelForMaskedLM", Kind.TEXT),
    "feature-extraction": ("AutoModel", Kind.TEXT),
    "text-generation": ("AutoModelForCausalLM", Kind.CACHED_TEXT),
    "image-classification": ("AutoModelForImageClassification", Kind.IMAGE),
}
"""Task -> the class of transformers that loads a model for it, and what the model reads."""

_HEADS = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "fill-mask",
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "ForImageClassification": "image-classification",
}
_LARGEST_TEXT_BYTES = 1 << 28


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderRequest:
    """What is wanted of a folder.

    Attributes:
        folder: the folder of the model.
        task: one of `TASKS`.
        length: the most tokens of a sample.
        data: "calib" and "evaluate" -> the files of texts or folders of images to be prepared for the model.
    """

    folder: Path
    task: str
    length: int
    data: dict[str, Path]

    @property
    def kind(self) -> Kind:
        """What the model reads."""
        return TASKS[self.task][1]


def is_model_folder(path: Path) -> bool:
    """Return whether a path is the folder of a transformers model."""
    return path.is_dir() and (path / "config.json").is_file()


def request_of(folder: Path, task: str | None, length: int, data: dict[str, Any]) -> FolderRequest:
    """Return what is wanted of a folder, checked.

    Args:
        folder: the folder of the model.
        task: the task, None to take the one that the model's configuration names.
        length: the most tokens of a sample.
        data: "calib" and "evaluate" -> what the user gave; what is no file of texts or folder of images is left alone.

    Raises:
        ModelError: the configuration is damaged, names code of its own, or there are no weights in safetensors.
        UsageError: the task or the length is none.
    """
    config = _config(folder)
    if config.get("auto_map"):
        raise ModelError(
            f"{folder} needs Python code that lies in it (auto_map in config.json), which autoprec does not run; write "
            f"a function that loads the model, and give it as module:function"
        )
    if not list(folder.glob("*.safetensors")):
        raise ModelError(f"{folder} has no weights in safetensors; save the model by save_pretrained(folder)")
    named = " ".join(map(str, config.get("architectures") or []))
    found = task or next((name for end, name in _HEADS.items() if named.endswith(end)), None)
    if found not in TASKS:
        what = task or f"none for {named or 'a model that names no class'}"
        raise UsageError(f"--task must be one of {', '.join(TASKS)}, got {what}")
    if length < 4:
        raise UsageError(f"--length must be at least 4 tokens, got {length}")
    images = TASKS[found][1] is Kind.IMAGE
    prepared = {
        name: Path(source)
        for name, source in data.items()
        if isinstance(source, (str, Path)) and (_holds_images(Path(source)) if images else _is_text(Path(source)))
    }
    return FolderRequest(folder=folder, task=found, length=length, data=prepared)


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = parse_json(read_text(folder / "config.json"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'} cannot be read: {error}; save the model again") from error
    if not isinstance(config, dict):
        raise ModelError(f"{folder / 'config.json'} must hold an object; save the model again")
    return config


def _is_text(path: Path) -> bool:
    return path.suffix.lower() in (".txt", ".tsv") and path.is_file()


def _holds_images(path: Path) -> bool:
    return path.is_dir() and not list(path.glob("*.np[yz]"))


def texts_of(path: Path) -> tuple[list[str], list[str] | None]:
    """Return the texts of a file, one a line, and their labels where each line has one behind its last tab.

    Raises:
        DataError: the file cannot be read, is not UTF-8, or has no text.
    """
    try:
        if path.stat().st_size > _LARGEST_TEXT_BYTES:
            raise DataError(f"{path} has more than {_LARGEST_TEXT_BYTES:,} bytes; give fewer texts")
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} must be a text file in UTF-8, one text a line: {error}") from error
    if not lines:
        raise DataError(f"{path} has no texts; give one a line")
    parts = [line.rpartition("\t") for line in lines]
    if all(tab for _, tab, _ in parts):
        return [text for text, _, _ in parts], [label.strip() for _, _, label in parts]
    return lines, None
