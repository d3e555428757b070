"""Small networks of torch, one for each kind that users bring, with example inputs."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn


class Cnn(nn.Module):
    """A convolutional classifier with a normalisation, dropout and a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        return self.head((self.body(x) + x).mean((2, 3)))


class UNet(nn.Module):
    """Down, up, and a shortcut between."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 8, 3, padding=1)
        self.inner = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.head = nn.Conv2d(16, 3, 1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        down = torch.relu(self.down(image))
        inner = torch.relu(self.inner(down))
        masks = self.head(torch.cat([self.up(inner), down], 1))
        return masks, inner


class Block(nn.Module):
    """A block of a transformer, with its attention as torch offers it."""

    def __init__(self, width: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(
        self,
        x: torch.Tensor,
        mask: torch.Tensor | None = None,
        past: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        batch, length, width = x.shape
        parts = self.qkv(self.norm1(x)).reshape(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        if past is not None:
            key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x)))), (key, value)


class Vit(nn.Module):
    """Patches of an image, a class token, and a named tuple as its result."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, 16))
        self.block = Block()
        self.head = nn.Linear(16, 10)

    def forward(self, pixels: torch.Tensor) -> Scores:
        x = self.patches(pixels).flatten(2).transpose(1, 2)
        x, _ = self.block(torch.cat([self.token.expand(len(x), -1, -1), x], 1))
        return Scores(self.head(x[:, 0]), x)


class Scores(NamedTuple):
    logits: torch.Tensor
    hidden: torch.Tensor


class Encoder(nn.Module):
    """Two inputs, an option, and a mapping as its result, as those of transformers have."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 16)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(16, 3)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, scale: float = 1.0
    ) -> dict[str, torch.Tensor]:
        x = self.words(input_ids) * scale
        mask = attention_mask[:, None, None].bool()
        for block in self.blocks:
            x, _ = block(x, mask)
        return {"logits": self.head(x[:, 0]), "hidden": x}


class Decoder(nn.Module):
    """Tokens and the keys and values of the tokens before them; returns those of all."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 16)
        self.block = Block()
        self.head = nn.Linear(16, 50)

    def forward(self, tokens: torch.Tensor, past: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, Any]:
        x, present = self.block(self.words(tokens), None, past[0])
        return {"logits": self.head(x), "present": [present]}


class Tagger(nn.Module):
    """A bidirectional LSTM over words of a sentence."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 8)
        self.rnn = nn.LSTM(8, 8, bidirectional=True, batch_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(self.words(words))[0])


def ids(*shape: int) -> torch.Tensor:
    return torch.randint(1, 50, shape, generator=torch.Generator().manual_seed(0))


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def made(kind: type[nn.Module], seed: int = 0) -> nn.Module:
    """A network of random weights, which are the same for the same seed."""
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        return kind()
    finally:
        torch.set_rng_state(state)


SEQUENCE = {1: torch.export.Dim("length")}
BATCH = {0: torch.export.Dim("batch")}
KINDS: dict[str, tuple[type[nn.Module], tuple[Any, ...], Any]] = {
    "cnn": (Cnn, (noise(2, 3, 8, 8),), None),
    "unet": (UNet, (noise(1, 1, 8, 8),), None),
    "vit": (Vit, (noise(2, 3, 8, 8),), None),
    "encoder": (Encoder, (ids(2, 6), torch.ones(2, 6, dtype=torch.int64)), ({**BATCH, **SEQUENCE},) * 2),
    "decoder": (Decoder, (ids(2, 3), [(noise(2, 2, 4, 8), noise(2, 2, 4, 8))]), None),
    "tagger": (Tagger, (ids(2, 6),), None),
}
"""Name -> the class, example inputs, and which axes may have any length; None for the batch only."""
