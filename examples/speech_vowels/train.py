"""Train the recogniser and write vowels.onnx beside this file: `python train.py`.

It needs `pip install '.[torch]'` and takes a few minutes on two CPU cores. All randomness is seeded; another version of
torch or another CPU still moves the last digits of the weights.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from vowels import BANDS, FRAMES, VOWELS, speak

HERE = Path(__file__).resolve().parent
TRAINING, EPOCHS, BATCH = 3000, 14, 50


class Recogniser(nn.Module):
    """Two convolutions that halve the bands, a linear layer, a convolution over time, and scores for each frame."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.front = nn.Sequential(
            nn.Conv2d(1, 16, 3, (1, 2), 1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, (1, 2), 1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
        )
        self.mix = nn.Sequential(nn.Linear(32 * BANDS // 4, width), nn.ReLU())
        self.time = nn.Sequential(nn.Conv1d(width, width, 7, padding=3, bias=False), nn.BatchNorm1d(width), nn.ReLU())
        self.scores = nn.Linear(width, 1 + len(VOWELS))

    def forward(self, features: Tensor) -> Tensor:
        """Map features [n, frames, bands] to logits [n, frames, 6], the blank first."""
        x = self.front(features[:, None] / 20).transpose(1, 2).flatten(2)
        x = self.mix(x)
        return self.scores(x + self.time(x.transpose(1, 2)).transpose(1, 2))


def main() -> None:
    """Train and export."""
    torch.manual_seed(0)
    model, criterion = Recogniser(), nn.CTCLoss(zero_infinity=True)
    spoken, wanted = speak(TRAINING, seed=1)
    features, labels = torch.from_numpy(spoken), torch.from_numpy(wanted)
    lengths = (labels >= 0).sum(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=EPOCHS * TRAINING // BATCH)
    for epoch in range(EPOCHS):
        total = 0.0
        for picks in torch.randperm(TRAINING).split(BATCH):
            scores = model(features[picks]).log_softmax(-1).transpose(0, 1)
            times = torch.full((len(picks),), FRAMES)
            loss = criterion(scores, labels[picks].clamp(min=0), times, lengths[picks])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(picks) / TRAINING
        print(f"epoch {epoch + 1} of {EPOCHS}: loss {total:.3f}", flush=True)
    torch.onnx.export(
        model.eval(),
        (features[:2],),
        HERE / "vowels.onnx",
        input_names=["features"],
        output_names=["logits"],
        dynamic_shapes={"features": {0: torch.export.Dim("batch")}},
        opset_version=18,
        dynamo=True,
        external_data=False,
    )


if __name__ == "__main__":
    main()
