"""Small transformers models in folders, with weights and tokenizers of their own, are models with samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from PIL import Image

from autoprec.errors import DataError
from autoprec.exporting.folders import request_of
from autoprec.exporting.models import Example, exported
from autoprec.exporting.torch_hugging_face import FolderModel
from autoprec.exporting.torch_planned import planned_module

WORDS = ["[PAD]", "[UNK]", "[EOS]", "the", "cat", "sat", "film", "was", "good", "bad"]
SMALL: dict[str, Any] = {
    "vocab_size": 16,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}


@pytest.fixture(name="folders", scope="module")
def _folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder, a decoder and a vision model, and data for each."""
    root = tmp_path_factory.mktemp("folders")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: n for n, w in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="[UNK]",
        pad_token="[PAD]",
        eos_token="[EOS]",
        model_input_names=["input_ids", "attention_mask"],
    )
    names = {"id2label": {0: "neg", 1: "pos"}, "label2id": {"neg": 0, "pos": 1}}
    encoder = transformers.BertForSequenceClassification(transformers.BertConfig(**SMALL, **names))
    decoder = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL, num_key_value_heads=1))
    for name, model in (("encoder", encoder), ("decoder", decoder)):
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    config = transformers.ViTConfig(**{**SMALL, "image_size": 16, "patch_size": 8}, **names)
    transformers.ViTForImageClassification(config).save_pretrained(root / "vision")
    transformers.ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(root / "vision")
    (root / "texts.tsv").write_text("the film was good\tpos\nbad\tneg\n")
    (root / "texts.txt").write_text("the cat sat\nthe film was good\nthe cat was bad\n")
    for number, label in enumerate(("neg", "pos")):
        (root / "images" / label).mkdir(parents=True)
        Image.new("RGB", (20, 30), (90 * number, 8, 8)).save(root / "images" / label / "one.png")
    return root


def model_of(folders: Path, name: str, length: int = 8) -> FolderModel:
    return FolderModel(request_of(folders / name, None, length, {}))


def test_texts_are_padded_and_their_labels_are_numbers(folders: Path) -> None:
    samples = model_of(folders, "encoder").samples(folders / "texts.tsv")

    assert samples["input_ids"].tolist() == [[3, 6, 7, 8], [9, 0, 0, 0]]
    assert samples["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]]
    assert samples["labels"].tolist() == [1, 0]


def test_a_label_that_the_model_does_not_know_is_named(folders: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.tsv").write_text("good\tsplendid\n")

    with pytest.raises(DataError, match=r"the label 'splendid', but the model knows .*neg"):
        model_of(folders, "encoder").samples(tmp_path / "texts.tsv")


def test_images_are_prepared_as_the_model_was_trained_with(folders: Path) -> None:
    samples = model_of(folders, "vision").samples(folders / "images")

    assert samples["pixel_values"].shape == (2, 3, 16, 16)
    assert samples["labels"].tolist() == [0, 1]
    assert np.allclose(samples["pixel_values"][:, 0, 0, 0], [-1, 90 / 127.5 - 1], atol=0.01)


def test_a_decoder_computes_with_its_cache_what_it_computes_without(folders: Path) -> None:
    """The cache of a window is that of its first half; each label is the token behind its input."""
    from autoprec.backends.ort_sessions import open_session, session_options

    tokens = torch.tensor([[3, 4, 5, 2, 3, 6, 7, 8]])
    lm = transformers.LlamaForCausalLM.from_pretrained(folders / "decoder").eval()
    with exported(folders / "decoder", Example(data=(folders / "texts.txt",), length=8)) as written:
        assert written.signature is not None
        samples = dict(np.load(written.data["calib"]))
        plan = planned_module(open_session(str(written.path), session_options(1)), written.signature)

    assert samples["input_ids"].tolist() == [[3, 6, 7, 8]]
    assert samples["labels"].tolist() == [[6, 7, 8, 2]]
    past = [tuple(torch.from_numpy(samples[f"past_key_values.0.{part}"]) for part in range(2))]
    with torch.no_grad():
        whole = lm(tokens).logits[:, 4:]
        cached = plan(
            input_ids=torch.from_numpy(samples["input_ids"]),
            attention_mask=torch.from_numpy(samples["attention_mask"]),
            past_key_values=past,
        )
    assert torch.allclose(cached["logits"], whole, atol=1e-4)
    assert cached["present"][0][0].shape == (1, 1, 8, 8)
