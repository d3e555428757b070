"""COCO's mean average precision, against figures of COCO's own program."""

from __future__ import annotations

import numpy as np
import pytest

from autoprec.metrics.detection.average_precision import mean_average_precision
from autoprec.metrics.over_set import SetScore

Array = np.ndarray


def images(seed: int, count: int = 12, classes: int = 3) -> tuple[Array, list[Array]]:
    """Labels [images, 6, 6] with crowds among them, and detections near and far from them, with equal scores too."""
    generator = np.random.default_rng(seed)
    labels = np.full((count, 6, 6), -1.0)
    found = []
    for image in range(count):
        boxes = generator.integers(0, 6)
        for row in range(boxes):
            (x, y), (w, h) = generator.uniform(0, 200, 2).round(1), generator.uniform(40, 80, 2).round(1)
            labels[image, row] = [generator.integers(classes), x, y, x + w, y + h, float(generator.random() < 0.15)]
        rows = []
        for row in range(boxes):
            for _ in range(generator.integers(0, 3)):
                corners = labels[image, row, 1:5] + generator.normal(0, 4, 4)
                kind = labels[image, row, 0] if generator.random() < 0.85 else generator.integers(classes)
                rows.append([kind, round(generator.random(), 2), *corners])
        for _ in range(generator.integers(0, 3)):
            x, y = generator.uniform(0, 200, 2)
            rows.append([generator.integers(classes), round(generator.random(), 2), x, y, x + 30, y + 30])
        found.append(np.array(rows, float).reshape(-1, 6))
    return labels, found


def scored(labels: Array, found: list[Array], thresholds: range = range(10)) -> SetScore:
    tally = mean_average_precision(lambda outputs: found, thresholds).tally()
    tally.add({"y": np.zeros(len(labels))}, labels, len(labels))
    return tally.score()


@pytest.mark.parametrize(
    ("seed", "mean", "at_half"),
    [(1, 0.315264526453, 0.438543854385), (2, 0.240086199096, 0.362732939961), (9, 0.363566921818, 0.558540412865)],
)
def test_the_figures_are_those_of_pycocotools(seed: int, mean: float, at_half: float) -> None:
    """The program pycocotools 2.0.11 gave these figures for the same boxes, `iscrowd` included."""
    labels, found = images(seed)

    assert scored(labels, found).figure == pytest.approx(mean, abs=1e-10)
    assert scored(labels, found, range(1)).figure == pytest.approx(at_half, abs=1e-10)


def test_a_draw_of_images_costs_no_new_matching_and_gives_the_figure_of_these_images() -> None:
    labels, found = images(3)
    score = scored(labels, found)
    assert score.rows is not None
    picks = np.array([0, 0, 2, 5, 5, 5, 7, 8, 9, 11, 11, 4])
    weights = np.bincount(picks, minlength=12).astype(float)[None]
    drawn = mean_average_precision(lambda outputs: found).figures(score.rows, weights)

    # An image that stands twice is no other than two images, but for the order of equal scores.
    assert drawn[0] == pytest.approx(scored(labels[picks], [found[i] for i in picks]).figure, abs=2e-3)


def test_perfect_detections_have_one_and_none_have_zero() -> None:
    labels, _ = images(1)
    perfect = [np.insert(rows[rows[:, 0] >= 0][:, :5], 1, 0.9, axis=1) for rows in labels]

    assert scored(labels, perfect).figure == pytest.approx(1.0)
    assert scored(labels, [np.zeros((0, 6))] * 12).figure == 0.0
