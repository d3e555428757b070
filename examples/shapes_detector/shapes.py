"""Images with discs, squares and triangles on them, and the boxes around these: drawn by NumPy, the same each time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SIZE = 64
CLASSES = ("disc", "square", "triangle")
MOST = 4
"""The most shapes on one image."""

Images = npt.NDArray[np.float32]
Boxes = npt.NDArray[np.float32]


def draw(count: int, seed: int) -> tuple[Images, Boxes]:
    """Return images float32[count, 3, 64, 64] from 0 to 255, and boxes float32[count, 4, 5]: class (or -1), corners."""
    generator = np.random.default_rng(seed)
    images = np.empty((count, 3, SIZE, SIZE), np.float32)
    labels = np.full((count, MOST, 5), -1, np.float32)
    for image, boxes in zip(images, labels, strict=True):
        image[:] = _background(generator)
        taken = np.zeros((SIZE, SIZE), bool)
        for number in range(generator.integers(1, MOST + 1)):
            shape = int(generator.integers(len(CLASSES)))
            radius = generator.uniform(4, 13)
            x, y = generator.uniform(radius + 1, SIZE - radius - 1, 2)
            inside = _inside(shape, x, y, radius, generator.uniform(-0.4, 0.4))
            if (inside & taken).any():  # shapes do not cover each other
                continue
            taken |= inside
            image[:, inside] = generator.uniform(0, 255, (3, 1)) + generator.normal(0, 10, (3, int(inside.sum())))
            rows, columns = np.nonzero(inside)
            boxes[number] = shape, columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return np.clip(images, 0, 255).round(), labels


def calibration() -> dict[str, Images]:
    """Images without labels, for `--calib shapes:calibration`."""
    return {"image": draw(32, seed=2)[0]}


def evaluation() -> dict[str, Images]:
    """Other images and their boxes, for `--eval shapes:evaluation`."""
    images, labels = draw(64, seed=3)
    return {"image": images, "labels": labels}


def _background(generator: np.random.Generator) -> Images:
    """Return a smooth slope between two colours, with noise."""
    first, second = generator.uniform(40, 215, (2, 3, 1, 1))
    angle = generator.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[:SIZE, :SIZE] / SIZE - 0.5
    slope = 0.5 + (np.cos(angle) * columns + np.sin(angle) * rows) / 1.5
    noise = generator.normal(0, 10, (3, SIZE, SIZE))
    return np.asarray(first + (second - first) * slope + noise, np.float32)


def _inside(shape: int, x: float, y: float, radius: float, angle: float) -> npt.NDArray[np.bool_]:
    """Return which pixels lie in a shape that is turned by an angle."""
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    across = np.cos(angle) * (columns - x) + np.sin(angle) * (rows - y)
    down = np.cos(angle) * (rows - y) - np.sin(angle) * (columns - x)
    if shape == 0:
        return np.asarray(np.hypot(across, down) < radius)
    if shape == 1:
        return np.asarray(np.maximum(abs(across), abs(down)) < radius * 0.75)
    return np.asarray((down < radius * 0.6) & (abs(across) < (down + radius) * 0.55))
