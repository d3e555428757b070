"""Scores by hand-computed values, the direction of each metric, and the words for one that misbehaves."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoprec.errors import MetricError, UsageError
from autoprec.metrics.metric import Metric, choose_metric, load_metric

BUILT_IN = ("top1", "agreement", "cosine", "kl", "sqnr")
FIDELITY = BUILT_IN[1:]
LOGITS = np.array([[1.0, 2.0, 0.0], [3.0, 1.0, 2.0], [0.0, 0.5, 1.0]], dtype=np.float32)


def first_logit(outputs: dict[str, np.ndarray], labels: np.ndarray | None) -> np.ndarray:
    return outputs["y"][:, 0]


def returning(result: Any) -> Metric:
    return load_metric(lambda outputs, labels: result, "higher")


def test_a_drop_of_sqnr_reads_in_decibels() -> None:
    metric = load_metric("sqnr")
    drop = metric.drop(np.zeros(2), np.array([0.0015, 0.0005]))

    assert drop == pytest.approx(0.001)
    assert metric.describe(drop) == "30.0 dB"
    assert metric.describe(0.0) == "no noise"


def test_a_function_gets_outputs_and_labels_of_a_batch() -> None:
    seen: list[Any] = []

    def metric(outputs: dict[str, np.ndarray], labels: np.ndarray | None) -> list[float]:
        seen.append((outputs, labels))
        return [1, 2, 3]

    labels = np.array([4, 5, 6])
    scores = load_metric(metric, "lower").scores({"y": LOGITS}, labels, None)

    assert scores.tolist() == [1.0, 2.0, 3.0]
    assert type(seen[0][0]) is dict
    assert np.shares_memory(seen[0][0]["y"], LOGITS)
    assert np.shares_memory(seen[0][1], labels)


@pytest.mark.parametrize("target", ["outputs", "labels"])
def test_a_metric_that_writes_into_its_arguments_is_refused(target: str) -> None:
    def writes(outputs: dict[str, np.ndarray], labels: np.ndarray) -> np.ndarray:
        array = outputs["y"] if target == "outputs" else labels
        array[...] = 0
        return np.zeros(3)

    labels = np.array([4, 5, 6])
    with pytest.raises(
        MetricError, match=r"writes raised ValueError: .*read-only; outputs and labels cannot be written"
    ):
        load_metric(writes, "higher").scores({"y": LOGITS}, labels, None)

    assert labels.tolist() == [4, 5, 6]


@pytest.mark.parametrize("leaving", [SystemExit(0), GeneratorExit()])
def test_a_metric_that_ends_the_program_is_an_error(leaving: BaseException) -> None:
    def leaves(outputs: dict[str, np.ndarray], labels: None) -> np.ndarray:
        raise leaving

    with pytest.raises(MetricError, match=rf"leaves raised {type(leaving).__name__}"):
        load_metric(leaves, "higher").scores({"y": LOGITS}, None, None)


@pytest.fixture(name="module")
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Writes a module into a fresh current folder."""
    monkeypatch.chdir(tmp_path)
    return lambda name, text: (tmp_path / f"{name}.py").write_text(text) and None


def test_a_metric_is_found_in_the_current_folder_with_its_direction(
    module: Callable[[str, str], None],
) -> None:
    module(
        "my_metric_a",
        "def loss(outputs, labels):\n    return outputs['y'][:, 0]\nloss.higher_is_better = False\n",
    )
    metric = load_metric("my_metric_a:loss")

    assert (metric.name, metric.higher_is_better) == ("my_metric_a:loss", False)
    assert metric.scores({"y": LOGITS}, None, None).tolist() == [1.0, 3.0, 0.0]
    assert metric.drop(np.array([1.0]), np.array([3.0])) == 2.0


def test_the_direction_must_be_said_somewhere() -> None:
    with pytest.raises(UsageError, match=r"higher_is_better to True or False .*or give the direction, 'higher'"):
        load_metric(first_logit)


def test_two_directions_must_not_contradict() -> None:
    def metric(outputs: dict[str, np.ndarray], labels: None) -> np.ndarray:
        return outputs["y"][:, 0]

    metric.higher_is_better = True  # type: ignore[attr-defined]

    assert load_metric(metric, "higher").higher_is_better
    with pytest.raises(UsageError, match="higher is better; leave the direction out"):
        load_metric(metric, "lower")
    with pytest.raises(UsageError, match="for the metric kl, lower is better"):
        load_metric("kl", "higher")
    with pytest.raises(UsageError, match="'higher' or 'lower', got 'up'"):
        load_metric(metric, "up")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ([1.0, 2.0], r"expected 3 scores, got 2 in an array of shape \(2,\)"),
        (0.5, "expected 3 scores, got a single number; do not average"),
        ([[1.0], [1.0], [1.0]], r"expected 3 scores, got 3 in an array of shape \(3, 1\)"),
        ([1.0, math.nan, 2.0], "must return finite scores, got nan for sample 1 of 3"),
        ([1.0, 2.0, math.inf], "must return finite scores, got inf for sample 2 of 3"),
        (["a", "b", "c"], "must return numbers, got <U1"),
        (["1", "2", "3"], "must return numbers, got <U1"),
        ([1j, 2.0, 3.0], "must return numbers, got complex128"),
        ([1.0, 1e200, 2.0], "must return scores of at most 1e\\+150, got 1e\\+200 for sample 1 of 3"),
        (None, r"must return one score per sample, .* got nothing \(None\)"),
        ({"y": [1.0, 2.0, 3.0]}, "must return one score per sample, .* got a dict"),
        (np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0]), "a score for every sample, but some are masked"),
    ],
)
def test_a_wrong_result_is_named(result: Any, words: str) -> None:
    with pytest.raises(MetricError, match=words):
        returning(result).scores({"y": LOGITS}, None, None)


def test_the_count_of_samples_can_be_given() -> None:
    """For outputs whose first axis is not samples."""
    assert returning([1.0, 2.0]).scores({"y": LOGITS}, None, None, count=2).tolist() == [1.0, 2.0]


def test_a_metric_that_raises_is_named_with_its_error() -> None:
    def broken(outputs: dict[str, np.ndarray], labels: None) -> np.ndarray:
        return outputs["logits"]

    with pytest.raises(MetricError, match=r"test_metric:.*broken raised KeyError: 'logits'; it is called as"):
        load_metric(broken, "higher").scores({"y": LOGITS}, None, None)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_module_here:f", "cannot import 'no_such_module_here' .*ModuleNotFoundError"),
        ("math:no_such", "module 'math' has no 'no_such'"),
        ("math:pi", "'math:pi' must be a function, but is a float"),
        ("my_metric_b:f", "cannot import 'my_metric_b' .*ZeroDivisionError"),
        ("my_metric_c:f", "cannot import 'my_metric_c' .*SystemExit"),
    ],
)
def test_a_metric_that_cannot_be_imported_says_why(module: Callable[[str, str], None], name: str, words: str) -> None:
    module("my_metric_b", "1 / 0\n")
    module("my_metric_c", "raise SystemExit(1)\n")
    with pytest.raises(MetricError, match=words):
        load_metric(name)


def test_an_unknown_name_lists_the_metrics() -> None:
    with pytest.raises(UsageError, match=r"one of top1, agreement, .* recall@K, or module:function, got 'acc'"):
        load_metric("acc")
    with pytest.raises(UsageError, match=r"a name, a function, or an object with .* got int"):
        load_metric(3)  # type: ignore[arg-type]


def test_the_fingerprint_follows_source_and_direction(module: Callable[[str, str], None]) -> None:
    module("my_metric_d", "def f(outputs, labels):\n    return labels\n")
    module("my_metric_e", "def f(outputs, labels):\n    return labels + 1\n")
    d, e = (load_metric(f"my_metric_{letter}:f", "higher").fingerprint for letter in "de")

    assert d == load_metric("my_metric_d:f", "higher").fingerprint
    assert len({d, e, load_metric("my_metric_d:f", "lower").fingerprint}) == 3
    assert len({load_metric(name).fingerprint for name in BUILT_IN}) == len(BUILT_IN)


def test_a_function_without_source_still_has_a_fingerprint() -> None:
    assert load_metric(math.hypot, "higher").fingerprint != load_metric(math.dist, "higher").fingerprint


@pytest.mark.parametrize(
    ("wish", "has_labels", "expected"),
    [(None, True, "top1"), (None, False, "agreement"), ("kl", True, "kl"), ("top1", True, "top1")],
)
def test_the_metric_chosen(wish: str | None, has_labels: bool, expected: str) -> None:
    assert choose_metric(wish, has_labels).name == expected


def test_labels_are_asked_for_where_the_metric_needs_them() -> None:
    with pytest.raises(UsageError, match=r"top1 needs labels, .* choose agreement, cosine, kl or sqnr"):
        choose_metric("top1", has_labels=False)


def test_a_metric_passes_through() -> None:
    metric = load_metric("kl")

    assert load_metric(metric) is metric


@pytest.mark.parametrize("metric", FIDELITY)
def test_a_reference_is_asked_for(metric: str) -> None:
    with pytest.raises(MetricError, match="compares with FP32's outputs, but was given none"):
        load_metric(metric).scores({"y": LOGITS}, None, None)


@pytest.mark.parametrize(
    ("metric", "value", "words"),
    [
        ("top1", 0.78, "78.00 %"),
        ("agreement", 1.0, "100.00 %"),
        ("kl", 0.01234, "0.01234 nats"),
        ("cosine", 0.9987, "0.9987"),
    ],
)
def test_scores_in_words(metric: str, value: float, words: str) -> None:
    assert load_metric(metric).describe(value) == words
