"""Six small classifiers, trained with numpy in under a second, and plans that run their layers with a few bits.

They stand for classifiers that no constant of autoprec was tuned on. Their data is drawn from distributions, so there
are as many labelled samples as a test wants, and the true drop of a plan is known as exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Data = tuple[Array, npt.NDArray[np.int64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a plan computes.

    Attributes:
        bits: of weights and activations of every layer.
        reach: the share of the largest activation that the range holds; what lies beyond is clipped.
    """

    bits: int
    reach: float = 1.0


@dataclass(frozen=True, slots=True)
class Network:
    """A trained perceptron: the weights and the bias of each layer, and data that it was not trained on."""

    layers: tuple[tuple[Array, Array], ...]
    inputs: Array
    labels: npt.NDArray[np.int64]

    def logits(self, plan: Plan | None = None) -> Array:
        """The outputs on all samples, float64[samples, classes]."""
        value = self.inputs
        for number, (weight, bias) in enumerate(self.layers):
            value = np.maximum(value, 0) if number else value
            if plan is not None:
                value, weight = rounded(value, plan.bits, plan.reach), rounded(weight, plan.bits, 1.0)
            value = value @ weight + bias
        return value


def rounded(values: Array, bits: int, reach: float) -> Array:
    """Values on a symmetric grid of so many bits."""
    limit = 2 ** (bits - 1) - 1
    step = reach * np.abs(values).max() / limit
    result: Array = np.clip(np.round(values / step), -limit, limit) * step
    return result


def trained(name: str, samples: int) -> Network:
    """A network of `NAMES` with so many samples that it was not trained on."""
    draw, widths, steps = _TASKS[name]
    generator = np.random.default_rng(sorted(_TASKS).index(name))
    inputs, labels = draw(generator, 1500 + samples)
    classes = int(labels.max()) + 1
    sizes = [inputs.shape[1], *widths, classes]
    layers = [
        (generator.normal(size=(before, after)) * np.sqrt(2 / before), np.zeros(after))
        for before, after in pairwise(sizes)
    ]
    _train(layers, inputs[:1500], labels[:1500], steps, generator)
    return Network(tuple(layers), inputs[1500:], labels[1500:])


def _train(
    layers: list[tuple[Array, Array]], inputs: Array, labels: Array, steps: int, draw: np.random.Generator
) -> None:
    """Stochastic gradients of the cross entropy with Adam (Kingma and Ba 2015), in place."""
    flat = [array for layer in layers for array in layer]
    moments = [(np.zeros_like(array), np.zeros_like(array)) for array in flat]
    for step in range(1, steps + 1):
        batch = draw.integers(0, len(inputs), 128)
        values = [inputs[batch]]
        for weight, bias in layers:
            values.append((np.maximum(values[-1], 0) if len(values) > 1 else values[-1]) @ weight + bias)
        odds = np.exp(values[-1] - values[-1].max(axis=1, keepdims=True))
        slope = odds / odds.sum(axis=1, keepdims=True)
        slope[np.arange(128), labels[batch]] -= 1
        gradients: list[Array] = []
        for number in reversed(range(len(layers))):
            entered = np.maximum(values[number], 0) if number else values[number]
            gradients = [entered.T @ slope / 128, slope.mean(axis=0), *gradients]
            slope = (slope @ layers[number][0].T) * (values[number] > 0)
        for array, gradient, (first, second) in zip(flat, gradients, moments, strict=True):
            first += 0.1 * (gradient - first)
            second += 0.01 * (gradient**2 - second)
            array -= 0.01 * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.99**step)) + 1e-8)


def _blobs(classes: int, size: int, distance: float, wrong: float = 0.0) -> Callable[[np.random.Generator, int], Data]:
    """Classes of two clusters each; a share of the labels is drawn at random."""

    def draw(generator: np.random.Generator, count: int) -> Data:
        centres = generator.normal(size=(classes, 2, size)) * distance
        labels = generator.integers(0, classes, count)
        inputs = centres[labels, generator.integers(0, 2, count)] + generator.normal(size=(count, size))
        lost = generator.random(count) < wrong
        return inputs, np.where(lost, generator.integers(0, classes, count), labels)

    return draw


def _spirals(generator: np.random.Generator, count: int) -> Data:
    """Two classes that wind round each other."""
    labels, turn = generator.integers(0, 2, count), generator.random(count)
    angle = 5 * turn + np.pi * labels
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1) * (0.3 + 2 * turn[:, None])
    return points + 0.12 * generator.normal(size=points.shape), labels


def _strokes(generator: np.random.Generator, count: int) -> Data:
    """Noisy images of 8 x 8 points with a stroke in one of eight directions, as what sixteen fixed filters see."""
    labels = generator.integers(0, 8, count)
    angle = (labels + generator.normal(size=count) * 0.22) * np.pi / 8
    grid = np.linspace(-1, 1, 8)
    across = grid[:, None] * np.cos(angle)[:, None, None] + grid[None, :] * np.sin(angle)[:, None, None]
    images = np.exp(-8 * across**2) + 0.4 * generator.normal(size=(count, 8, 8))
    windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(1, 2)).reshape(count, 36, 9)
    seen = np.maximum(windows @ generator.normal(size=(9, 16)), 0)
    return seen.reshape(count, 3, 2, 3, 2, 16).max(axis=(2, 4)).reshape(count, -1), labels


def _outliers(generator: np.random.Generator, count: int) -> Data:
    """Blobs, a few of whose inputs are far larger than the others, as in transformers."""
    inputs, labels = _blobs(20, 24, 0.9)(generator, count)
    inputs[:, :3] *= 8 * np.exp(0.7 * generator.normal(size=(count, 3)))
    return inputs / 2, labels


_TASKS: dict[str, tuple[Callable[[np.random.Generator, int], Data], tuple[int, ...], int]] = {
    "clear": (_blobs(6, 16, 1.0), (32,), 150),
    "usual": (_blobs(10, 12, 0.7), (48, 32), 250),
    "wrong labels": (_blobs(4, 10, 0.8, wrong=0.45), (32,), 150),
    "spirals": (_spirals, (32, 32, 16), 400),
    "strokes": (_strokes, (32,), 200),
    "outliers": (_outliers, (48, 32), 250),
}
NAMES = tuple(_TASKS)
PLANS = tuple(
    Plan(bits=bits, reach=reach)
    for bits, reach in ((8, 1.0), (8, 0.5), (8, 0.25), (6, 1.0), (5, 1.0), (4, 1.0), (3, 1.0), (2, 1.0))
)
"""Plans whose drops are small, large and collapses, in each network."""
