"""A small classifier of handwritten digits, as a torch user writes one: `build` trains it, in a few seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DATA = Path(__file__).resolve().parent / "digits.npz"
TRAINING = 900
"""So many images train the network; it never sees the others."""


class Separable(nn.Module):
    """A depthwise and a pointwise convolution, with a shortcut around both."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.pointwise = nn.Conv2d(width, width, 1)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.pointwise(torch.relu(self.depthwise(x)))) + x)


class Digits(nn.Module):
    """Full convolutions, two separable blocks, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.body = nn.Sequential(Separable(32), nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU(), Separable(64))
        self.head = nn.Linear(64 * 7 * 7, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.stem(image)).flatten(1))


def loader(*, training: bool) -> DataLoader[tuple[torch.Tensor, ...]]:
    """The images and labels that train the network, or those that judge it."""
    with np.load(DATA) as arrays:
        images = torch.from_numpy(arrays["image"]).float()[:, None] / 255
        labels = torch.from_numpy(arrays["labels"]).long()
    part = slice(TRAINING) if training else slice(TRAINING, None)
    return DataLoader(TensorDataset(images[part], labels[part]), batch_size=32, shuffle=training)


def build() -> nn.Module:
    """A trained network, the same each time on one machine."""
    torch.manual_seed(0)
    module = Digits()
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3)
    for _ in range(6):
        for images, labels in loader(training=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(images), labels).backward()
            optimizer.step()
    return module.eval()


@torch.no_grad()
def accuracy(module: nn.Module) -> float:
    """The share of digits that are recognised: an evaluation loop that knows nothing of autoprec."""
    right = [module(images).argmax(1) == labels for images, labels in loader(training=False)]
    return float(torch.cat(right).float().mean())


def example() -> tuple[nn.Module, torch.Tensor]:
    """The network and an input for it, for `autoprec tune network:example`."""
    return build(), torch.zeros(2, 1, 28, 28)


def images() -> DataLoader[tuple[torch.Tensor, ...]]:
    """Images and labels, for `--calib network:images`."""
    return loader(training=False)
