"""Train the detector and write shapes.onnx beside this file: `python train.py`.

It needs `pip install '.[torch]'` and takes a few minutes on two CPU cores. All randomness is seeded; another version of
torch or another CPU still moves the last digits of the weights.
"""

from __future__ import annotations

from pathlib import Path

import torch
from shapes import CLASSES, SIZE, draw
from torch import Tensor, nn
from torch.nn import functional

HERE = Path(__file__).resolve().parent
STRIDE = 4
GRID = SIZE // STRIDE
TRAINING, EPOCHS, BATCH = 2000, 14, 50


class Residual(nn.Module):
    """A full convolution with a shortcut around it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + functional.silu(self.norm(self.conv(x)))


class Detector(nn.Module):
    """A stem, a separable block, three full convolutions, and one place for each 4 x 4 pixels that may be a centre."""

    def __init__(self, stem: int = 16, width: int = 48) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, stem, 3, 2, 1, bias=False), nn.BatchNorm2d(stem), nn.SiLU())
        self.depthwise = nn.Sequential(
            nn.Conv2d(stem, stem, 3, padding=1, groups=stem, bias=False), nn.BatchNorm2d(stem), nn.SiLU()
        )
        self.down = nn.Sequential(nn.Conv2d(stem, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.SiLU())
        self.body = nn.Sequential(Residual(width), Residual(width))
        self.classes, self.sides = nn.Conv2d(width, len(CLASSES), 1), nn.Conv2d(width, 4, 1)
        nn.init.constant_(self.classes.bias, -4.0)
        rows, columns = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
        self.register_buffer("places", (torch.stack([columns, rows]).float() + 0.5).flatten(1) * STRIDE)

    def raw(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of classes [n, classes, places], and distances to the four sides in pixels [n, 4, places]."""
        x = self.body(self.down(self.depthwise(self.stem(image / 64 - 2))))
        return self.classes(x).flatten(2), functional.softplus(self.sides(x)).flatten(2) * STRIDE

    def forward(self, image: Tensor) -> Tensor:
        """The form of YOLOv8: [n, 4 + classes, places], centre and size in pixels, then the scores of classes."""
        classes, sides = self.raw(image)
        before, behind = sides[:, :2], sides[:, 2:]
        return torch.cat([self.places + (behind - before) / 2, before + behind, torch.sigmoid(classes)], 1)


def targets(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each place the class that it should see [n, classes, places], the corners [n, 4, places], and whether any."""
    n, places = len(boxes), GRID * GRID
    classes, corners = torch.zeros(n, len(CLASSES), places), torch.zeros(n, 4, places)
    found = torch.zeros(n, places, dtype=torch.bool)
    for sample, rows in enumerate(boxes):
        for kind, left, top, right, bottom in rows[rows[:, 0] >= 0].tolist():
            column, row = (min(GRID - 1, int((a + b) / 2 / STRIDE)) for a, b in ((left, right), (top, bottom)))
            place = row * GRID + column
            classes[sample, int(kind), place] = 1
            corners[sample, :, place] = torch.tensor([left, top, right, bottom])
            found[sample, place] = True
    return classes, corners, found


def loss_of(model: Detector, images: Tensor, wanted: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Focal loss of the classes, and one less the overlap of the boxes."""
    logits, sides = model.raw(images)
    classes, corners, found = wanted
    chance = torch.sigmoid(logits)
    right = torch.where(classes > 0, chance, 1 - chance)
    focal = (functional.binary_cross_entropy_with_logits(logits, classes, reduction="none") * (1 - right) ** 2).sum()
    low, high = (model.places - sides[:, :2]), (model.places + sides[:, 2:])
    both = (torch.minimum(high, corners[:, 2:]) - torch.maximum(low, corners[:, :2])).clamp(min=0).prod(1)
    one, other = (high - low).prod(1), (corners[:, 2:] - corners[:, :2]).prod(1)
    overlap = both / (one + other - both + 1e-6)
    return (focal + 2 * (1 - overlap)[found].sum()) / found.sum()


def main() -> None:
    """Train and export."""
    torch.manual_seed(0)
    model = Detector()
    drawn, boxes = draw(TRAINING, seed=1)
    images, wanted = torch.from_numpy(drawn), targets(torch.from_numpy(boxes))
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-3)
    steps = EPOCHS * TRAINING // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for epoch in range(EPOCHS):
        total = 0.0
        for picks in torch.randperm(TRAINING).split(BATCH):
            loss = loss_of(model, images[picks], (wanted[0][picks], wanted[1][picks], wanted[2][picks]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(picks) / TRAINING
        print(f"epoch {epoch + 1} of {EPOCHS}: loss {total:.3f}", flush=True)
    torch.onnx.export(
        model.eval(),
        (images[:2],),
        HERE / "shapes.onnx",
        input_names=["image"],
        output_names=["boxes"],
        dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
        opset_version=18,
        dynamo=True,
        external_data=False,
    )


if __name__ == "__main__":
    main()
