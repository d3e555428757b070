"""The user's metrics over a data set: objects with update and compute, and functions over all samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autoprec.errors import MetricError, UsageError
from autoprec.metrics.contract import as_it_scores, check_contract
from autoprec.metrics.metric import Metric, load_metric
from autoprec.metrics.over_set import SetScore

Array = np.ndarray
GENERATOR = np.random.default_rng(1)
LABELS = np.arange(40) % 4
OUTPUTS = {"y": (np.eye(4)[LABELS] + GENERATOR.normal(0, 0.7, (40, 4))).astype(np.float32)}


class Recall:
    """The share of right answers of the class that has the fewest, as an object that is updated."""

    higher_is_better = True

    def __init__(self) -> None:
        self.right, self.all = np.zeros(4), np.zeros(4)

    def update(self, outputs: dict[str, Array], labels: Array) -> None:
        made = outputs["y"].argmax(axis=1)
        self.right += np.bincount(labels[made == labels], minlength=4)
        self.all += np.bincount(labels, minlength=4)

    def compute(self) -> float:
        return float((self.right / np.maximum(self.all, 1)).min())


class Forgetful(Recall):
    """It keeps the last batch only."""

    def update(self, outputs: dict[str, Array], labels: Array) -> None:
        self.right, self.all = np.zeros(4), np.zeros(4)
        super().update(outputs, labels)


class Writing(Recall):
    def update(self, outputs: dict[str, Array], labels: Array) -> None:
        outputs["y"][:] = 0


class Summary(Recall):
    def compute(self) -> Any:
        return {"worst": 1.0, "mean": 2.0}


def worst_recall(outputs: dict[str, Array], labels: Array) -> float:
    metric = Recall()
    metric.update(outputs, labels)
    return metric.compute()


def gathered(metric: Metric, *, batch: int = 7) -> SetScore:
    assert metric.over_set is not None
    tally = metric.over_set.tally()
    for start in range(0, 40, batch):
        part = slice(start, start + batch)
        metric.tell(tally, {"y": OUTPUTS["y"][part]}, LABELS[part], len(LABELS[part]))
    return tally.score()


def settled(function: Any) -> Metric:
    return as_it_scores(load_metric(function, "higher"), OUTPUTS, LABELS)


def test_an_object_and_a_function_over_all_samples_say_the_same() -> None:
    by_object, by_function = gathered(load_metric(Recall())), gathered(settled(worst_recall))

    assert by_object.figure == pytest.approx(worst_recall(OUTPUTS, LABELS))
    assert by_object.groups == by_function.groups == 16
    np.testing.assert_allclose(by_object.contributions, by_function.contributions, atol=1e-12)


def test_a_class_and_a_function_that_makes_an_object_are_taken_too() -> None:
    def made() -> Recall:
        return Recall()

    assert gathered(load_metric(Recall)).figure == gathered(load_metric(made, "higher")).figure


def test_the_object_of_the_user_is_not_changed() -> None:
    metric = Recall()
    gathered(load_metric(metric))

    assert metric.all.sum() == 0


def test_a_function_that_scores_samples_stays_one() -> None:
    metric = settled(lambda outputs, labels: np.zeros(len(labels)))

    assert metric.over_set is None


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (Forgetful, "a data set that scored .* when it was scored in .* batches"),
        (Writing, "read-only; outputs and labels cannot be written to"),
        (Summary, "must return one number for all samples, got a dict with worst, mean"),
    ],
)
def test_an_object_that_breaks_the_contract_is_refused(metric: type, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        check_contract(load_metric(metric), OUTPUTS, LABELS)


def test_a_function_that_depends_on_the_order_is_refused() -> None:
    with pytest.raises(MetricError, match="in another order of the samples"):
        check_contract(settled(lambda outputs, labels: float(outputs["y"][:5].sum())), OUTPUTS, LABELS)


def test_an_object_must_say_which_direction_is_better() -> None:
    class Silent(Recall):
        higher_is_better = None  # type: ignore[assignment]

    with pytest.raises(UsageError, match="must say which direction is better"):
        load_metric(Silent())


def test_two_setups_of_one_class_have_two_fingerprints() -> None:
    class Scaled(Recall):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.scale = scale

    assert load_metric(Scaled(1.0)).fingerprint != load_metric(Scaled(2.0)).fingerprint
