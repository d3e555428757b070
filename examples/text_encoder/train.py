"""Train the tokenizer and the encoder, and write model/, calib.txt and eval.tsv beside this file: `python train.py`.

It needs `pip install '.[hf]'` and takes a minute on two CPU cores. All randomness is seeded; another version of torch
or another CPU still moves the last digits of the weights.
"""

from __future__ import annotations

from pathlib import Path

import torch
from messages import PARTS, texts
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

HERE = Path(__file__).resolve().parent
LENGTH = 40
TRAINING, STEPS, BATCH = 4000, 700, 64


def tokenizer_of(lines: list[str]) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer of 400 pieces."""
    inner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    inner.train_from_iterator(lines, trainers.WordPieceTrainer(vocab_size=400, special_tokens=special))
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, inner.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def main() -> None:
    """Train and save."""
    torch.manual_seed(0)
    training = texts(TRAINING, seed=1, errors=0.15)
    tokenizer = tokenizer_of([text for text, _ in training])
    names = list(PARTS)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=LENGTH,
        type_vocab_size=1,
        id2label=dict(enumerate(names)),
        label2id={name: number for number, name in enumerate(names)},
    )
    model = BertForSequenceClassification(config)
    fed = tokenizer(
        [text for text, _ in training], padding=True, truncation=True, max_length=LENGTH, return_tensors="pt"
    )
    labels = torch.tensor([names.index(label) for _, label in training])
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=STEPS)
    for step in range(STEPS):
        picks = torch.randint(TRAINING, (BATCH,))
        loss = model(
            input_ids=fed["input_ids"][picks], attention_mask=fed["attention_mask"][picks], labels=labels[picks]
        ).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1} of {STEPS}: loss {float(loss.detach()):.3f}", flush=True)
    model.save_pretrained(HERE / "model")
    tokenizer.save_pretrained(HERE / "model")
    (HERE / "calib.txt").write_text("".join(f"{text}\n" for text, _ in texts(64, seed=2, errors=0.15)))
    (HERE / "eval.tsv").write_text("".join(f"{text}\t{label}\n" for text, label in texts(500, seed=3, errors=0.3)))


if __name__ == "__main__":
    main()
