"""A folder of a transformers model: the model as a module with example inputs, and its samples as arrays.

Nothing is fetched from a network, and no code that lies in the folder is run. Models are exported by torch's exporter
like every other module: optimum's uses the earlier one, which does not tell the paths of modules.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autoprec.data.images import is_image
from autoprec.errors import DataError, ModelError
from autoprec.exporting.folders import TASKS, FolderRequest, Kind, texts_of
from autoprec.files.json import as_json
from autoprec.precision import Array

_FEW = 2
_NO_LABEL = -100


class FolderModel:
    """A model of a folder, with what prepares its samples.

    Args:
        request: what is wanted of the folder.

    Raises:
        ModelError: transformers cannot load the model, or what prepares its samples.
    """

    def __init__(self, request: FolderRequest) -> None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        self._request = request
        try:
            import transformers
        except ImportError as error:
            raise ModelError(
                f"{request.folder} is the folder of a transformers model: pip install 'autoprec[hf]' ({error})"
            ) from error
        name, kind = TASKS[request.task]
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        # Masks of the other kinds of attention are made in a way that the exporter cannot follow for every model.
        load = {**options, "use_safetensors": True, "attn_implementation": "eager"}
        folder = str(request.folder)
        try:
            self._inner = getattr(transformers, name).from_pretrained(folder, **load)
            maker = transformers.AutoImageProcessor if kind is Kind.IMAGE else transformers.AutoTokenizer
            self._prepare: Any = maker.from_pretrained(folder, **options)
        except Exception as error:  # of many kinds
            raise ModelError(
                f"transformers cannot load {folder} for {request.task}: {type(error).__name__}: "
                f"{(str(error).splitlines() or [''])[0]}"
            ) from error
        self._inner.eval()
        self.module: torch.nn.Module = CachedModel(self._inner, transformers) if self._cached else self._inner
        if not self._cached:
            self._inner.config.use_cache = False

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self._request.folder.resolve().name

    @property
    def _cached(self) -> bool:
        return self._request.kind is Kind.CACHED_TEXT

    def samples(self, path: Path) -> dict[str, Array]:
        """Return the samples of a file of texts or a folder of images, as arrays by the names of the inputs.

        Raises:
            DataError: there are none, or the model cannot be fed with them.
        """
        if self._request.kind is Kind.IMAGE:
            return self._images(path)
        texts, labels = texts_of(path)
        return self._windows(texts, path) if self._cached else self._padded(texts, labels, path)

    def example(self) -> dict[str, Any]:
        """Return the arguments of one call."""
        if self._request.kind is Kind.IMAGE:
            from PIL import Image

            blank = [Image.new("RGB", (64, 48), (90, 120, 30 * n)) for n in range(_FEW)]
            return {
                "pixel_values": torch.from_numpy(np.asarray(self._prepare(blank, return_tensors="np").pixel_values))
            }
        if self._cached:
            tokens = torch.arange(6 * _FEW).reshape(_FEW, 6) % self._inner.config.vocab_size
            past = self._past(tokens[:, :4])
            return {"input_ids": tokens[:, 3:], "attention_mask": torch.ones(_FEW, 7, dtype=torch.int64)} | {
                "past_key_values": past
            }
        fed = self._prepare(["one two three", "four"], padding=True, return_tensors="pt")
        return {name: fed[name] for name in self._text_inputs()}

    def dynamic_shapes(self, example: Mapping[str, Any]) -> Any:
        """Return which axes may have any length: samples and, of texts, tokens."""
        if self._request.kind is Kind.IMAGE:
            return None
        batch, free = torch.export.Dim("batch"), torch.export.Dim.DYNAMIC
        if not self._cached:
            length = torch.export.Dim("sequence")
            return {name: {0: batch, 1: length} for name in example}
        shapes: dict[str, Any] = {name: {0: batch, 1: free} for name in ("input_ids", "attention_mask")}
        shapes["past_key_values"] = [({0: batch, 2: free},) * 2 for _ in example["past_key_values"]]
        return shapes

    def axes(self, example: Mapping[str, Any]) -> dict[str, dict[int, str]]:
        """Return the names of axes of a language model's inputs, by which situations tell their lengths."""
        if not self._cached:
            return {}
        pasts = [f"past_key_values.{n}.{part}" for n in range(len(example["past_key_values"])) for part in (0, 1)]
        return {"input_ids": {1: "length"}, "attention_mask": {1: "past + length"}} | {p: {2: "past"} for p in pasts}

    def _text_inputs(self) -> list[str]:
        import inspect

        taken = inspect.signature(self._inner.forward).parameters
        return [name for name in self._prepare.model_input_names if name in taken]

    def _padded(self, texts: Sequence[str], labels: list[str] | None, path: Path) -> dict[str, Array]:
        if self._prepare.pad_token is None:
            raise DataError(f"the tokenizer of {self._request.folder} has no token for padding; set pad_token in it")
        fed = self._prepare(
            list(texts), padding=True, truncation=True, max_length=self._request.length, return_tensors="np"
        )
        arrays = {name: np.asarray(fed[name], np.int64) for name in self._text_inputs()}
        return arrays if labels is None else arrays | {"labels": self._numbers(labels, path)}

    def _numbers(self, labels: Sequence[str], path: Path) -> Array:
        known = {str(name): int(number) for name, number in (self._inner.config.label2id or {}).items()}
        wrong = next((label for label in labels if label not in known and not label.lstrip("-").isdigit()), None)
        if wrong is not None:
            raise DataError(
                f"{path} has the label {wrong!r}, but the model knows {as_json(known)[:200]}; give one of these, or "
                f"numbers"
            )
        return np.array([known[label] if label in known else int(label) for label in labels], np.int64)

    def _windows(self, texts: Sequence[str], path: Path) -> dict[str, Array]:
        """Return windows of tokens: those of the first half are in the cache, the rest are inputs and labels."""
        end = self._prepare.eos_token_id
        tokens: list[int] = []
        for text in texts:
            tokens += [*self._prepare(text, add_special_tokens=False)["input_ids"], *([] if end is None else [end])]
        length = self._request.length
        count, half = (len(tokens) - 1) // length, length // 2
        if not count:
            raise DataError(f"{path} has {len(tokens)} tokens, fewer than a sample of {length}; give more, or --length")
        ids = torch.tensor(tokens[: count * length]).reshape(count, length)
        after = np.array(tokens[1 : count * length + 1], np.int64).reshape(count, length)
        arrays = {
            "input_ids": ids[:, half:].numpy(),
            "attention_mask": np.ones((count, length), np.int64),
            "labels": after[:, half:],
        }
        for number, (keys, values) in enumerate(self._past(ids[:, :half])):
            arrays |= {f"past_key_values.{number}.{part}": t.numpy() for part, t in enumerate((keys, values))}
        return arrays

    def _past(self, tokens: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        with torch.no_grad():
            parts = [self._inner(input_ids=part, use_cache=True).past_key_values.layers for part in tokens.split(16)]
        return [
            (torch.cat([layer.keys for layer in layers]), torch.cat([layer.values for layer in layers]))
            for layers in zip(*parts, strict=True)
        ]

    def _images(self, folder: Path) -> dict[str, Array]:
        from PIL import Image

        paths = sorted(path for path in folder.rglob("*") if is_image(path))
        if not paths:
            raise DataError(f"{folder} has no images; give a folder of images, or of sub-folders named by their labels")
        found = []
        for path in paths:
            try:
                with Image.open(path) as image:
                    found.append(self._prepare(image.convert("RGB"), return_tensors="np").pixel_values[0])
            except OSError as error:
                raise DataError(f"{path} cannot be read as an image: {error}") from error
        arrays: dict[str, Array] = {"pixel_values": np.stack([np.asarray(image, np.float32) for image in found])}
        names = [path.parent.name for path in paths]
        if all(path.parent != folder for path in paths):
            arrays["labels"] = self._numbers(names, folder)
        return arrays


class CachedModel(torch.nn.Module):  # type: ignore[misc]
    """A language model that takes the keys and values of earlier tokens as tensors, and returns those of all."""

    def __init__(self, lm: torch.nn.Module, transformers: Any) -> None:
        super().__init__()
        self.lm, self._cache = lm, transformers.DynamicCache

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        past_key_values: list[tuple[torch.Tensor, torch.Tensor]],
    ) -> dict[str, Any]:
        """Return the logits, and the keys and values of each layer."""
        cache = self._cache(past_key_values)
        out = self.lm(input_ids=input_ids, attention_mask=attention_mask, past_key_values=cache, use_cache=True)
        return {"logits": out.logits, "present": [(layer.keys, layer.values) for layer in out.past_key_values.layers]}
